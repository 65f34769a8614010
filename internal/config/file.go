package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const (
	maxFileSize = 1 << 20
	// maxNodes bounds the work for a file whose aliases multiply.
	maxNodes = 100_000
)

// layer is what one source sets.
type layer struct {
	values map[string]any   // by key
	places map[string]place // by key
	errors []Error
	broken map[string]bool // keys that it sets wrongly
}

func newLayer() *layer {
	return &layer{values: map[string]any{}, places: map[string]place{}, broken: map[string]bool{}}
}

func (l *layer) fail(k *key, e Error) {
	l.errors = append(l.errors, e)
	if k != nil {
		l.broken[k.path] = true
	}
}

// set takes a text for a key; show is the text to tell in an error.
func (l *layer) set(k *key, s, show string, at place) {
	if previous, ok := l.places[k.path]; ok {
		l.fail(k, at.errorf("%s is set twice: also at %s", k.path, previous))
		return
	}
	l.places[k.path] = at
	value, err := k.parse(s)
	if err != nil {
		l.fail(k, at.errorf("%s %v%s", k.path, err, k.but(show)))
		return
	}
	l.values[k.path] = value
}

// but tells a bad value, unless it may be secret.
func (k *key) but(show string) string {
	if k.secret || !k.plain() {
		return ""
	}
	return ", not " + quote(show)
}

// fileReader reads a file into a layer.
type fileReader struct {
	*layer
	name   string
	lookup func(string) (string, bool)
	nodes  int
}

// readFile reads the file called path; name is what its errors call it.
func readFile(path, name string, lookup func(string) (string, bool)) *layer {
	r := &fileReader{layer: newLayer(), name: name, lookup: lookup}
	content, err := readAtMost(path, maxFileSize)
	if err != nil {
		r.fail(nil, place{name: name}.errorf("%v", err))
		return r.layer
	}
	r.document(content)
	return r.layer
}

func readAtMost(path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", withoutPath(err))
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, size+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", withoutPath(err))
	}
	if int64(len(content)) > size {
		return nil, fmt.Errorf("is longer than %d MB, which no configuration is", size>>20)
	}
	return content, nil
}

// withoutPath is an error of the file system without the path, which the error's place tells.
func withoutPath(err error) error {
	if pathError, ok := errors.AsType[*os.PathError](err); ok {
		return pathError.Err
	}
	return err
}

func (r *fileReader) document(content []byte) {
	if at := badByte(content); at >= 0 {
		line := bytes.Count(content[:at], []byte("\n")) + 1
		column := utf8.RuneCount(content[bytes.LastIndexByte(content[:at], '\n')+1:at]) + 1
		r.fail(nil, place{r.name, line, column}.errorf("byte %#02x is no text", content[at]))
		return
	}
	var documents []yaml.Node
	if err := yaml.Load(content, &documents, yaml.WithAllDocuments()); err != nil {
		r.fail(nil, r.syntaxError(err))
		return
	}
	for i := range documents {
		node := &documents[i]
		if node.Kind == yaml.DocumentNode && len(node.Content) == 1 {
			node = node.Content[0]
		}
		if i > 0 {
			r.fail(nil, r.at(node).errorf("a second document: the configuration is one"))
			return
		}
		r.section(node, schema)
	}
}

// badByte returns the place of the first NUL, or byte that is not UTF-8; -1 when there is none.
func badByte(content []byte) int {
	for i := 0; i < len(content); {
		c, size := utf8.DecodeRune(content[i:])
		if c == 0 || c == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return -1
}

func (r *fileReader) syntaxError(err error) Error {
	at := place{name: r.name}
	text := err.Error()
	if syntax, ok := errors.AsType[*yaml.LoadError](err); ok {
		text = syntax.Message
		if syntax.Mark.Line > 0 {
			at.line, at.column = syntax.Mark.Line, max(syntax.Mark.Column, 1)
		}
		if syntax.ContextMsg != "" {
			text += " " + syntax.ContextMsg
		}
		if syntax.ContextMark.Line > 0 {
			text += fmt.Sprintf(" (begun in line %d)", syntax.ContextMark.Line)
		}
	}
	return at.errorf("no YAML: %s", text)
}

func (r *fileReader) at(n *yaml.Node) place { return place{r.name, n.Line, n.Column} }

// resolve follows an alias, and counts. It returns nil when there is nothing to look at.
func (r *fileReader) resolve(n *yaml.Node) *yaml.Node {
	r.nodes++
	if r.nodes > maxNodes {
		if r.nodes == maxNodes+1 {
			r.fail(nil, r.at(n).errorf("too much: a configuration has at most %d values", maxNodes))
		}
		return nil
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return nil // as if it were not there
	}
	return n
}

// section reads a table of the file.
func (r *fileReader) section(n *yaml.Node, s *section) {
	r.pairs(n, s.path, s.path, s.names(), func(name, value *yaml.Node) bool {
		if sub := s.sections[name.Value]; sub != nil {
			r.section(value, sub)
		} else if k := s.keys[name.Value]; k != nil {
			r.key(value, k)
		} else {
			return false
		}
		return true
	})
}

// pairs goes through a table. One that take does not know is an error with the nearest known name.
func (r *fileReader) pairs(n *yaml.Node, path, what string, known []string, take func(name, value *yaml.Node) bool) {
	if n = r.resolve(n); n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		if what == "" {
			what = "the configuration"
		}
		r.fail(nil, r.at(n).errorf("%s must be a table of names and values", what))
		return
	}
	seen := map[string]place{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			r.fail(nil, r.at(name).errorf("a name must be a plain text"))
			continue
		}
		if before, ok := seen[name.Value]; ok {
			r.fail(nil, r.at(name).errorf("%s appears twice: also at %s", quote(name.Value), before))
			continue
		}
		seen[name.Value] = r.at(name)
		if take(name, value) {
			continue
		}
		full := below(path, name.Value)
		hint := ""
		if near := r.nearestKey(path, name.Value, known); near != "" {
			hint = " (did you mean " + near + "?)"
		}
		r.fail(nil, r.at(name).errorf("unknown key %s%s", quote(full), hint))
	}
}

// nearestKey looks for a name in the same table first, then everywhere. After a good many errors it
// does not look any more: what has so many is another kind of file.
func (r *fileReader) nearestKey(path, name string, known []string) string {
	if len(r.errors) > 100 {
		return ""
	}
	if near := nearestOf(name, known); near != "" {
		return below(path, near)
	}
	return nearestOf(below(path, name), keyPaths())
}

func below(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func keyPaths() []string {
	var paths []string
	for _, k := range allKeys {
		paths = append(paths, k.path)
	}
	return paths
}

// key reads the value of a key.
func (r *fileReader) key(n *yaml.Node, k *key) {
	at := r.at(n)
	if n = r.resolve(n); n == nil {
		return
	}
	if before, ok := r.places[k.path]; ok {
		r.fail(k, at.errorf("%s is set twice, by its old name %s too: also at %s", k.path, k.alias, before))
		return
	}
	value, ok := r.value(n, k)
	r.places[k.path] = at
	if ok {
		r.values[k.path] = value
	}
}

// value reads a value of the key's type; what is wrong with it was told when it is not ok.
func (r *fileReader) value(n *yaml.Node, k *key) (value any, ok bool) {
	switch {
	case k.kind == tables:
		return r.tables(n, k)
	case k.kind == lists:
		return r.lists(n, k)
	case k.kind == list && n.Kind == yaml.SequenceNode:
		entries, ok := r.entries(n, k)
		if !ok {
			return nil, false
		}
		parsed, err := k.parseList(entries)
		if err != nil {
			r.fail(k, r.at(n).errorf("%s %v", k.path, err))
			return nil, false
		}
		return parsed, true
	case n.Kind != yaml.ScalarNode:
		want := map[kind]string{text: "a text", number: "an integer", truth: "true or false", list: "a list"}[k.kind]
		r.fail(k, r.at(n).errorf("%s must be %s", k.path, want))
		return nil, false
	}
	s, ok := r.scalar(n, k)
	if !ok {
		return nil, false
	}
	value, err := k.parse(s)
	if err != nil {
		r.fail(k, r.at(n).errorf("%s %v%s", k.path, err, k.but(n.Value)))
		return nil, false
	}
	return value, true
}

// scalar reads a plain value as text, with its variables.
func (r *fileReader) scalar(n *yaml.Node, k *key) (string, bool) {
	s, err := expand(n.Value, r.lookup)
	if err != nil {
		r.fail(k, r.at(n).errorf("%s %v", k.path, err))
		return "", false
	}
	return s, true
}

// entries reads a list of texts.
func (r *fileReader) entries(n *yaml.Node, k *key) ([]string, bool) {
	entries, good := []string{}, true
	for _, item := range n.Content {
		item = r.resolve(item)
		if item == nil || item.Kind != yaml.ScalarNode {
			r.fail(k, r.at(n).errorf("%s must be a list of texts", k.path))
			return nil, false
		}
		s, ok := r.scalar(item, k)
		entries, good = append(entries, s), good && ok
	}
	return entries, good
}

// lists reads names with a list of texts each.
func (r *fileReader) lists(n *yaml.Node, k *key) (any, bool) {
	all, good := map[string][]string{}, true
	r.pairs(n, k.path, k.path, nil, func(name, value *yaml.Node) bool {
		value = r.resolve(value)
		if value == nil || value.Kind != yaml.SequenceNode {
			r.fail(k, r.at(name).errorf("%s: the value of %s must be a list of texts", k.path, quote(name.Value)))
			good = false
			return true
		}
		entries, ok := r.entries(value, k)
		all[name.Value], good = entries, good && ok
		return true
	})
	return all, good && !r.broken[k.path]
}

// tables reads a list of tables into the structs of its type.
func (r *fileReader) tables(n *yaml.Node, k *key) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		r.fail(k, r.at(n).errorf("%s must be a list of tables", k.path))
		return nil, false
	}
	all, before := reflect.MakeSlice(k.typ, 0, len(n.Content)), len(r.errors)
	for _, item := range n.Content {
		entry := reflect.New(k.typ.Elem()).Elem()
		r.fill(entry, item, k.fields)
		all = reflect.Append(all, entry)
	}
	if len(r.errors) > before {
		r.broken[k.path] = true
		return nil, false
	}
	return all.Interface(), true
}

// fill reads a table into a struct.
func (r *fileReader) fill(into reflect.Value, n *yaml.Node, s *section) {
	if n = r.resolve(n); n == nil {
		return
	}
	if scalar := s.scalarField(); scalar != nil && n.Kind == yaml.ScalarNode {
		if value, ok := r.value(n, scalar); ok {
			into.FieldByIndex(scalar.index).Set(reflect.ValueOf(value))
		}
		return
	}
	r.pairs(n, s.path, s.path, s.names(), func(name, value *yaml.Node) bool {
		if sub := s.sections[name.Value]; sub != nil {
			r.fill(into.FieldByIndex(sub.index), value, sub)
			return true
		}
		k := s.keys[name.Value]
		if k == nil {
			return false
		}
		if value = r.resolve(value); value == nil {
			return true
		}
		if parsed, ok := r.value(value, k); ok {
			into.FieldByIndex(k.index).Set(reflect.ValueOf(parsed))
		}
		return true
	})
}

func (s *section) scalarField() *key {
	for _, k := range s.keys {
		if k.scalar {
			return k
		}
	}
	return nil
}
