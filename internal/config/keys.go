package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// key is one setting, or in a list of tables one field.
type key struct {
	path     string // agent.concurrency; in a list of tables git.auth.credentials[].domain
	kind     kind
	typ      reflect.Type
	index    []int // of the field in its table
	preset   string
	usage    string
	min, max *int
	oneof    []string
	check    func(string) error
	secret   bool
	noEffect bool
	alias    string
	scalar   bool
	fields   *section // of the tables in a list
}

type kind int

const (
	text kind = iota
	number
	truth
	list   // of texts
	tables // a list of tables; only a file can set it
	lists  // names with a list of texts each; only a file can set it
)

// environmentName is the name of the variable for a key.
func environmentName(path string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// flagName is the name of the flag for a key.
func flagName(path string) string { return strings.NewReplacer(".", "-", "_", "-").Replace(path) }

// plain says whether environment and flags can set the key.
func (k *key) plain() bool { return k.kind != tables && k.kind != lists }

// section is a table of the file: a name leads to a key or to a further section.
type section struct {
	path     string
	keys     map[string]*key
	sections map[string]*section
	index    []int // of the field in the table above, in a list of tables
}

// names are the names in the section, sorted.
func (s *section) names() []string {
	var names []string
	for name := range s.keys {
		names = append(names, name)
	}
	for name := range s.sections {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// schema is the tree of Config, and its keys in order of declaration.
var schema, allKeys = func() (*section, []*key) {
	var keys []*key
	root := describe(reflect.TypeFor[Config](), "", &keys)
	for _, k := range keys {
		if k.alias != "" {
			parent, name, _ := strings.Cut(k.alias, ".")
			root.sections[parent].keys[name] = k
		}
	}
	return root, keys
}()

// describe reads the fields and tags of a struct.
func describe(t reflect.Type, path string, keys *[]*key) *section {
	s := &section{path: path, keys: map[string]*key{}, sections: map[string]*section{}}
	for field := range t.Fields() {
		name := field.Tag.Get("koanf")
		if name == "-" {
			continue
		}
		full := below(path, name)
		if field.Type.Kind() == reflect.Struct {
			s.sections[name] = describe(field.Type, full, keys)
			s.sections[name].index = field.Index
			continue
		}
		k := newKey(field, full)
		s.keys[name] = k
		*keys = append(*keys, k)
	}
	return s
}

func newKey(field reflect.StructField, path string) *key {
	tag := field.Tag
	k := &key{
		path: path, typ: field.Type, index: field.Index, preset: tag.Get("default"), usage: tag.Get("usage"),
		min: bound(tag, "min"), max: bound(tag, "max"),
		secret: tag.Get("secret") == "true", noEffect: tag.Get("effect") == "none",
		alias: tag.Get("alias"), scalar: tag.Get("scalar") == "true",
	}
	if values, ok := tag.Lookup("oneof"); ok {
		k.oneof = strings.Split(values, ",")
	}
	if name := tag.Get("check"); name != "" {
		if k.check = checks[name]; k.check == nil {
			panic(fmt.Sprintf("%s: no check is called %q", path, name))
		}
	}
	switch t := field.Type; {
	case t.Kind() == reflect.String:
		k.kind = text
	case t.Kind() == reflect.Int:
		k.kind = number
	case t.Kind() == reflect.Bool:
		k.kind = truth
	case t == reflect.TypeFor[[]string]():
		k.kind = list
	case t == reflect.TypeFor[map[string][]string]():
		k.kind = lists
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		k.kind = tables
		k.fields = describe(t.Elem(), path+"[]", new([]*key)) // not keys of their own
	default:
		panic(fmt.Sprintf("%s: no kind of key has the type %s", path, t))
	}
	return k
}

func bound(tag reflect.StructTag, name string) *int {
	value, ok := tag.Lookup(name)
	if !ok {
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		panic(fmt.Sprintf("tag %s: %v", name, err))
	}
	return &n
}
