package spec

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	maxDepth     = 100              // of values in values
	nodeCost     = 16               // bytes that a node counts for, beside its text
	maxExpansion = MaxFileBytes     // bytes that all aliases of a file may stand for
	maxProblems  = 1000             // that are told of one file
	maxSeconds   = 10 * 365 * 86400 // of any time-out or delay: ten years
	maxText      = 1 << 20          // bytes of one text
	maxLabel     = 1000             // bytes of a name or a label
)

const (
	parameterPattern = `^[A-Za-z_][A-Za-z0-9_.-]{0,199}$`
	envPattern       = `^[A-Za-z_][A-Za-z0-9_]*$`
)

var (
	parameterName = regexp.MustCompile(parameterPattern)
	envName       = regexp.MustCompile(envPattern)
)

// reader holds what the reading of one file has come to.
type reader struct {
	file      string
	defaults  Defaults
	expansion int // bytes that aliases may yet stand for
	problems  []Problem
	stopped   bool // what remains of the file is not to be read

	before     int32       // lines of the file before the text in which YAML is looked for now
	references []reference // of the definition that is read now
}

func (r *reader) problem(at place, format string, arguments ...any) {
	switch {
	case r.stopped:
		return
	case len(r.problems) == maxProblems:
		r.stopped = true
		format, arguments = "more than %d problems: the rest of the file was not checked", []any{maxProblems}
	}
	r.problems = append(r.problems, Problem{
		File: r.file, Line: max(1, int(at.line)), Column: max(1, int(at.column)),
		Message: fmt.Sprintf(format, arguments...),
	})
}

// hint adds a hint to the newest problem.
func (r *reader) hint(text string) {
	if !r.stopped {
		r.problems[len(r.problems)-1].Hint = text
	}
}

// place is a position in a file, counted from 1; the zero place is none.
type place struct{ line, column int32 }

func placeOf(node *yaml.Node) place {
	return place{int32(node.Line), int32(node.Column)} //nolint:gosec // files are bounded
}

// value is a node on its way to become a field: it knows what it is called and
// tells its own problems. Its methods give the zero value after telling one.
type value struct {
	reader  *reader
	node    *yaml.Node // never an alias
	what    string     // what messages call it
	depth   int
	aliased bool // it is, or is part of, what an alias stands for
	secret  bool // no message may show what is in it
}

// child is a node inside the value. It follows an alias, and stops the reader
// where a file is too deep (an anchor that holds itself is) or its aliases
// stand for too much.
func (v value) child(node *yaml.Node, what string) value {
	child := value{v.reader, node, what, v.depth + 1, v.aliased, v.secret}
	if node.Kind == yaml.AliasNode {
		child.node, child.aliased = node.Alias, true
	}
	switch {
	case child.depth > maxDepth:
		v.reader.problem(placeOf(node), "more than %d levels of values in values", maxDepth)
		v.reader.stopped = true
	case child.aliased:
		v.reader.expansion += nodeCost + len(child.node.Value)
		if v.reader.expansion > maxExpansion {
			v.reader.problem(placeOf(node), "the aliases in this file stand for more than %d MiB", maxExpansion>>20)
			v.reader.stopped = true
		}
	}
	return child
}

func (v value) place() place { return placeOf(v.node) }

func (v value) problem(format string, arguments ...any) {
	v.reader.problem(v.place(), format, arguments...)
}

// wrong tells that the value is not of the wanted type.
func (v value) wrong(wanted string) {
	v.problem("%s must be %s, not %s", v.what, wanted, v.describe())
}

func (v value) describe() string {
	switch v.node.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	default: // a scalar
	}
	found, _ := scalarOf(v.node)
	if v.secret && found != nullScalar {
		return secretNouns[found]
	}
	switch found {
	case nullScalar:
		return "empty"
	case textScalar:
		return "the text " + quote(v.node.Value)
	case mistaggedScalar:
		return quote(v.node.Value) + " with the tag " + v.node.Tag
	default:
		return cut(v.node.Value)
	}
}

// secretNouns describe scalars that must not be shown.
var secretNouns = map[scalarType]string{
	textScalar: "text", boolScalar: "true or false", numberScalar: "a number", unwritableScalar: "a number", mistaggedScalar: "a value with another tag",
}

func quote(text string) string { return strconv.Quote(cut(text)) }

func cut(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	end := most
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// null tells whether nothing was given. A field without a value is like one that is not there.
func (v value) null() bool {
	if v.node.Kind != yaml.ScalarNode {
		return false
	}
	found, _ := scalarOf(v.node)
	return found == nullScalar
}

func (v value) isMap() bool  { return v.node.Kind == yaml.MappingNode }
func (v value) isList() bool { return v.node.Kind == yaml.SequenceNode }

// isText tells whether YAML, too, sees a text in it.
func (v value) isText() bool {
	if v.node.Kind != yaml.ScalarNode {
		return false
	}
	found, _ := scalarOf(v.node)
	return found == textScalar
}

// text is the value as it was written, whatever type YAML would see in it. It
// reports whether there is one.
func (v value) text() (string, bool) {
	if v.node.Kind != yaml.ScalarNode {
		v.wrong("text")
		return "", false
	}
	if found, _ := scalarOf(v.node); found == nullScalar || found == mistaggedScalar {
		v.wrong("text")
		return "", false
	}
	switch {
	case strings.IndexByte(v.node.Value, 0) >= 0:
		v.problem("%s holds a NUL character", v.what)
		return "", false
	case len(v.node.Value) > maxText:
		v.problem("%s has more than %d MiB", v.what, maxText>>20)
		return "", false
	}
	return v.node.Value, true
}

// label is a text that people read in a line; it may be empty.
func (v value) label() (string, bool) {
	text, ok := v.text()
	if ok && len(text) > maxLabel {
		v.problem("%s has more than %d bytes", v.what, maxLabel)
		return "", false
	}
	return text, ok
}

// choice is a text that is one of a few.
func choice[T ~string](v value, choices []T) T {
	text, ok := v.text()
	if !ok || slices.Contains(choices, T(text)) {
		return T(text)
	}
	names := make([]string, len(choices))
	for i, one := range choices {
		names[i] = string(one)
	}
	v.problem("%s %s is none of %s%s", v.what, quote(text), strings.Join(names, ", "), didYouMean(nearest.Names(text, slices.Values(names))))
	return ""
}

// id is a text that may be an id.
func (v value) id() string {
	text, ok := v.text()
	if ok && !workflow.ValidID(text) {
		v.problem("%s %s is not valid: it takes 1 to 200 of the characters A-Z a-z 0-9 _ . -", v.what, quote(text))
		return ""
	}
	return text
}

// flag is a boolean.
func (v value) flag() bool {
	if v.node.Kind == yaml.ScalarNode {
		if found, text := scalarOf(v.node); found == boolScalar {
			return text == "true"
		}
	}
	v.wrong("true or false")
	return false
}

// integer is a whole number within bounds.
func (v value) integer(least, most int) int {
	found, text := textScalar, ""
	if v.node.Kind == yaml.ScalarNode {
		found, text = scalarOf(v.node)
	}
	if found != numberScalar || strings.ContainsAny(text, ".eE") {
		v.wrong("a whole number")
		return 0
	}
	number, err := strconv.Atoi(text)
	if err != nil || number < least || number > most {
		v.problem("%s must be from %d to %d, not %s", v.what, least, most, cut(text))
		return 0
	}
	return number
}

// seconds is a span of time: a number, not negative, with a fraction or without.
func (v value) seconds() float64 {
	found, text := textScalar, ""
	if v.node.Kind == yaml.ScalarNode {
		found, text = scalarOf(v.node)
	}
	if found != numberScalar {
		v.wrong("a number of seconds")
		return 0
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || number < 0 || number > maxSeconds {
		v.problem("%s must be from 0 to %d seconds, not %s", v.what, maxSeconds, cut(text))
		return 0
	}
	return math.Abs(number) // -0 is 0
}

// cores is a number of processor cores.
func (v value) cores() workflow.Cores {
	found, text := textScalar, ""
	if v.node.Kind == yaml.ScalarNode {
		found, text = scalarOf(v.node)
	}
	if found != numberScalar {
		v.wrong("a number of cores")
		return 0
	}
	number, err := strconv.ParseFloat(text, 64)
	switch cores := workflow.Cores(math.Round(number * float64(workflow.Core))); {
	case err != nil || number < 0 || number > workflow.MaxCores:
		v.problem("%s must be from 0 to %d cores, not %s", v.what, workflow.MaxCores, cut(text))
		return 0
	case float64(cores)/float64(workflow.Core) != number:
		v.problem("%s must have at most three digits after the point, not %s", v.what, cut(text))
		return 0
	default:
		return cores
	}
}

// items calls read for each value of a list.
func (v value) items(read func(item value)) {
	if v.node.Kind != yaml.SequenceNode {
		v.wrong("a list")
		return
	}
	for _, node := range v.node.Content {
		item := v.child(node, v.what)
		if v.reader.stopped {
			return
		}
		read(item)
	}
}

// labels is a list of texts that are not empty.
func (v value) labels() (labels []string) {
	v.items(func(item value) {
		item.what = "an item of " + v.what
		label, ok := item.label()
		if ok && label == "" {
			item.problem("%s is empty", item.what)
		}
		labels = append(labels, label)
	})
	return labels
}

// entries calls read for each key of a map with its value, and tells keys that
// are given twice. A merge ("<<: *defaults") adds what the map itself does not
// give. It reports whether the value is a map at all.
func (v value) entries(read func(name string, key, item value)) bool {
	if !v.isMap() {
		v.wrong("a map")
		return false
	}
	v.merge(nil, read)
	return true
}

// merge reads a map but for the keys in taken, and adds its own to them.
func (v value) merge(taken map[string]place, read func(name string, key, item value)) {
	own := make(map[string]place, len(v.node.Content)/2)
	if taken == nil {
		taken = own
	}
	var merges []value
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.child(v.node.Content[i], "a key")
		item := v.child(v.node.Content[i+1], "")
		if v.reader.stopped {
			return
		}
		name, ok := key.text()
		if !ok {
			continue
		}
		if first, ok := own[name]; ok {
			shown := quote(name)
			if v.secret {
				shown = "a key"
			}
			key.problem("%s is given twice: first on line %d, column %d", shown, first.line, first.column)
			continue
		}
		_, skip := taken[name]
		own[name], taken[name] = key.place(), key.place()
		if item.what = showName(name); v.secret {
			item.what = v.what
		}
		switch {
		case name == "<<" && key.node.Style&quotedStyles == 0:
			merges = append(merges, item)
		case !skip:
			read(name, key, item)
		}
	}
	for _, source := range merges {
		source.mergeInto(taken, read)
	}
}

// mergeInto reads what a merge names: a map, or a list of maps of which the first wins.
func (v value) mergeInto(taken map[string]place, read func(name string, key, item value)) {
	switch v.node.Kind {
	case yaml.MappingNode:
		v.merge(taken, read)
	case yaml.SequenceNode:
		v.items(func(source value) {
			if !source.isMap() {
				source.wrong("a map")
				return
			}
			source.merge(taken, read)
		})
	default:
		v.wrong("a map or a list of maps")
	}
}

// showName shows a name as it is where it can be mistaken for nothing else.
func showName(name string) string {
	if workflow.ValidID(name) {
		return name
	}
	return quote(name)
}

// json is the value of a parameter or a variable. It is "null" where there is none.
func (v value) json() workflow.Value {
	var text strings.Builder
	v.writeJSON(&text)
	return workflow.Value(text.String())
}

func (v value) writeJSON(out *strings.Builder) {
	switch v.node.Kind {
	case yaml.MappingNode:
		out.WriteByte('{')
		first := true
		v.entries(func(name string, key, item value) {
			if !first {
				out.WriteByte(',')
			}
			first = false
			key.checkText(name)
			out.WriteString(string(workflow.StringValue(name)))
			out.WriteByte(':')
			item.writeJSON(out)
		})
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		first := true
		v.items(func(item value) {
			if !first {
				out.WriteByte(',')
			}
			first = false
			item.writeJSON(out)
		})
		out.WriteByte(']')
	default:
		out.WriteString(v.scalarJSON())
	}
}

func (v value) scalarJSON() string {
	found, text := scalarOf(v.node)
	switch found {
	case nullScalar, boolScalar, numberScalar:
		return text
	case unwritableScalar:
		shown := " " + cut(v.node.Value)
		if v.secret {
			shown = ""
		}
		v.problem("the number%s cannot be kept exactly", shown)
		v.reader.hint("put it in quotes to have it as text")
		return "null"
	default:
		text, ok := v.text()
		if ok {
			v.checkText(text)
		}
		return string(workflow.StringValue(text))
	}
}

// checkText notes the references in a text, and tells of one that does not end.
func (v value) checkText(text string) {
	for hasReference(text) {
		_, name, after, found, err := cutReference(text)
		if err != nil {
			v.problem("%s: %v", v.what, err)
			v.reader.hint("write $${ for a literal ${")
			return
		}
		if !found {
			return
		}
		v.reader.references = append(v.reader.references, reference{name: name, what: v.what, at: v.place()})
		text = after
	}
}

// checkName tells where a map's key is no name for a parameter or variable.
func (v value) checkName(name string) {
	if !parameterName.MatchString(name) {
		v.problem("%s is no valid name: it takes letters, digits, _ . and -, and begins with a letter or _", quote(name))
	}
}

// variables is a map of names to values of any type. A null is a value here.
func (v value) variables() map[string]workflow.Value {
	return v.namedValues(func(item value) value { return item })
}

// namedValues is a map of names to values, each of which goes through prepare first.
func (v value) namedValues(prepare func(value) value) map[string]workflow.Value {
	variables := make(map[string]workflow.Value)
	v.entries(func(name string, key, item value) {
		key.checkName(name)
		variables[name] = prepare(item).json()
	})
	return orNil(variables)
}

// hidden is the value as one of which no message shows what is in it.
func (v value) hidden() value {
	v.secret = true
	return v
}

// environment is a map of names of the environment to texts.
func (v value) environment() map[string]string {
	environment := make(map[string]string)
	v.entries(func(name string, key, item value) {
		if !envName.MatchString(name) {
			key.problem("%s is no valid name of an environment variable: it takes letters, digits and _, and begins with no digit", quote(name))
		}
		text, ok := item.text()
		if ok {
			item.checkText(text)
		}
		environment[name] = text
	})
	return orNil(environment)
}

func orNil[V any](entries map[string]V) map[string]V {
	if len(entries) == 0 {
		return nil
	}
	return entries
}
