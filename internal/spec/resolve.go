package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// scope resolves the values of one task.
type scope struct {
	spec    *workflow.TaskSpec
	values  *workflow.RunValues
	lookups Lookups
	// exists tells whether there is a task of this name. Where it is given, the run is being made: what can't
	// be told yet is left, and only checked.
	exists func(name string) bool
	// near gives the names of tasks that are like one that does not exist. It goes with exists.
	near func(name string) []string

	bindings map[string]*binding
	stack    []*binding // under way
	outputs  map[string]workflow.Value
	asked    bool     // for outputs
	secrets  []string // that were looked up
}

// noValues stands for those of a run without any.
var noValues workflow.RunValues

func newScope(spec *workflow.TaskSpec, values *workflow.RunValues, lookups Lookups) *scope {
	if values == nil {
		values = &noValues
	}
	size := len(values.Variables) + len(spec.Variables) + len(spec.Parameters) + len(spec.Env) + len(values.Env)
	s := &scope{spec: spec, values: values, lookups: lookups, bindings: make(map[string]*binding, size)}
	s.bind()
	return s
}

// resolveAll resolves all values, in the order of their names.
func (s *scope) resolveAll() error {
	plain := true
	for _, b := range s.bindings {
		if b.state == asWritten && !hasReference(b.value) {
			b.state = resolved
		}
		plain = plain && b.state == resolved
	}
	if plain {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.bindings)) {
		if err := s.resolve(s.bindings[name]); err != nil {
			return err
		}
	}
	return nil
}

// maxReferences bounds the values that refer to each other in a row: each takes some stack.
const maxReferences = 1000

// resolve resolves one value, and those that it refers to.
func (s *scope) resolve(b *binding) error {
	switch b.state {
	case resolved:
		return nil
	case underWay:
		return s.cycle(b)
	case asWritten:
	}
	if !hasReference(b.value) {
		b.state = resolved
		return nil
	}
	if len(s.stack) == maxReferences {
		return fmt.Errorf("the value of %s refers to others, and they to others, over more than %d steps, at %s: use fewer",
			quote(s.stack[0].name), maxReferences, quote(b.name))
	}
	b.state = underWay
	s.stack = append(s.stack, b)
	content, err := decodeValue(b.value)
	if err != nil {
		return fmt.Errorf("the value of %s is not JSON", quote(b.name))
	}
	if content, err = s.content(b, content); err != nil {
		return err
	}
	if !b.later {
		text, err := json.Marshal(content)
		if err != nil {
			return fmt.Errorf("the value of %s cannot be written as JSON", quote(b.name))
		}
		b.value = workflow.Value(text)
	}
	s.stack = s.stack[:len(s.stack)-1]
	b.state = resolved
	return nil
}

// cycle is the error of values that refer to each other in a circle, which b closes.
func (s *scope) cycle(b *binding) error {
	var path strings.Builder
	for _, member := range s.stack[slices.Index(s.stack, b):] {
		path.WriteString(member.name)
		path.WriteString(" -> ")
	}
	return fmt.Errorf("%w: %s%s", errValueCycle, path.String(), b.name)
}

var errValueCycle = errors.New("values refer to each other in a cycle")

// content resolves the references in decoded JSON. What a reference stands for is in the result as json.RawMessage.
func (s *scope) content(b *binding, content any) (any, error) {
	switch content := content.(type) {
	case string:
		return s.text(b, content)
	case []any:
		for i := range content {
			item, err := s.content(b, content[i])
			if err != nil {
				return nil, err
			}
			content[i] = item
		}
		return content, nil
	case map[string]any:
		replaced := make(map[string]any, len(content))
		for _, key := range slices.Sorted(maps.Keys(content)) {
			name, err := s.key(b, key)
			if err != nil {
				return nil, err
			}
			if replaced[name], err = s.content(b, content[key]); err != nil {
				return nil, err
			}
		}
		if len(replaced) < len(content) {
			return nil, fmt.Errorf("two keys in the value of %s become the same", quote(b.name))
		}
		return replaced, nil
	default:
		return content, nil
	}
}

func (s *scope) key(b *binding, key string) (string, error) {
	if !hasReference(key) {
		return key, nil
	}
	name, err := s.text(b, key)
	switch name := name.(type) {
	case json.RawMessage:
		return workflow.Value(name).Env(), err
	case string:
		return name, err
	default:
		return key, err // it is not known yet
	}
}

// text resolves the references in one text.
func (s *scope) text(b *binding, text string) (any, error) {
	if !hasReference(text) {
		return text, nil
	}
	var whole strings.Builder
	for first := true; ; first = false {
		before, reference, after, found, err := cutReference(text)
		if err != nil {
			return nil, fmt.Errorf("the value of %s: %w", quote(b.name), err)
		}
		whole.WriteString(before)
		if !found {
			return whole.String(), nil
		}
		value, known, err := s.reference(b, reference)
		if err != nil {
			return nil, err
		}
		if b.grown += len(value); b.grown > maxText {
			return nil, fmt.Errorf("the value of %s becomes longer than %d MiB", quote(b.name), maxText>>20)
		}
		b.later = b.later || !known
		if first && before == "" && after == "" {
			return json.RawMessage(value), nil
		}
		whole.WriteString(value.Env())
		text = after
	}
}

// reference gives what a reference in a value stands for; known is false when that can't be told yet.
func (s *scope) reference(b *binding, reference string) (value workflow.Value, known bool, err error) {
	kind, argument, _ := strings.Cut(reference, ":")
	switch {
	case strings.HasPrefix(reference, outputPrefix+".") || strings.HasPrefix(reference, outputPrefix+"["):
		value, known, err = s.output(reference)
	case kind == "env" && len(kind) < len(reference):
		value, known, err = s.agentVariable(argument)
	case kind == "secret" && len(kind) < len(reference):
		b.tainted = true
		value, known, err = s.secret(argument)
	case kind == "RANDOM" && len(kind) < len(reference):
		value, known, err = s.random(b, argument)
	default:
		return s.named(b, reference)
	}
	if err != nil {
		return null, false, s.fault(b, reference, err)
	}
	return value, known, nil
}

// fault is an error of a reference. What is in a sensitive value is not shown.
func (s *scope) fault(b *binding, reference string, err error) error {
	if b.sensitive {
		return fmt.Errorf("a reference in the sensitive value of %s: %w", quote(b.name), err)
	}
	return fmt.Errorf("%s in the value of %s: %w", cut(opening+reference+"}"), quote(b.name), err)
}

// named gives what a reference to another value, or to a macro without an argument, stands for.
func (s *scope) named(b *binding, name string) (value workflow.Value, known bool, err error) {
	other := s.bindings[name]
	text, macro, err := s.macro(name)
	if other != nil && (other != b || !macro) {
		if err := s.resolve(other); err != nil {
			return null, false, err
		}
		b.tainted = b.tainted || other.tainted
		return other.value, !other.later, nil
	}
	if err != nil {
		return null, false, s.fault(b, name, err)
	}
	if macro {
		return workflow.StringValue(text), text != "", nil
	}
	if b.sensitive {
		return null, false, fmt.Errorf("a reference in the sensitive value of %s is not known: write $${ for a literal ${", quote(b.name))
	}
	near := nearest.Names(name, func(yield func(string) bool) {
		for _, known := range slices.Concat(slices.Sorted(maps.Keys(s.bindings)), macroNames) {
			if known != b.name && !slices.Contains(gitKeys[:], known) && !yield(known) {
				return
			}
		}
	})
	hint := didYouMean(near)
	if hint == "" {
		hint = ": no value has this name; ${env:NAME} is the agent's own environment, $${ a literal ${"
	}
	return null, false, fmt.Errorf("unknown %s in the value of %s%s", cut(opening+name+"}"), quote(b.name), hint)
}

// macro gives what a macro stands for; an empty text is one that can't be told yet.
func (s *scope) macro(name string) (text string, ok bool, err error) {
	if name == macroRun {
		if s.lookups.Run == nil {
			return "", true, s.notYet()
		}
		_, text = s.lookups.Run()
		return text, true, nil
	}
	if name == macroLogical {
		text = LogicalDate(s.values)
		if text == "" {
			return "", true, errNoLogicalDate
		}
		return text, true, nil
	}
	if _, ok = timeMacro(name, time.Time{}); !ok {
		return "", false, nil
	}
	macros, err := s.macros()
	if macros == nil {
		return "", true, err
	}
	text, _ = timeMacro(name, macros.Time)
	return text, true, nil
}

// macros are the run's. A task that was added to a run without any takes what follows from the run's id; nil: not known yet.
func (s *scope) macros() (*workflow.Macros, error) {
	if s.values.Macros != nil {
		return s.values.Macros, nil
	}
	if s.lookups.Run == nil {
		return nil, s.notYet()
	}
	id, _ := s.lookups.Run()
	return &workflow.Macros{Time: id.Time(), Seed: id.String()}, nil
}

var errNotHere = errors.New("only the agent that runs the task can tell it")

// notYet is the error of what has no lookup; when the run is made, none.
func (s *scope) notYet() error {
	if s.exists != nil {
		return nil
	}
	return errNotHere
}

// random gives a text that is the same wherever this value is used.
func (s *scope) random(b *binding, argument string) (workflow.Value, bool, error) {
	length, err := randomLength(argument)
	if err != nil {
		return null, false, err
	}
	macros, err := s.macros()
	if macros == nil {
		return null, false, err
	}
	owner := ""
	switch b.layer {
	case groupVariables:
		owner = groupPrefix(s.spec)
	case taskParameters, taskEnv, itemValues, gitTexts:
		owner = s.spec.TaskID + ":" + s.spec.Variant
	case runVariables, updatedVariables, updatedParameters, givenEnv, givenParameters:
	}
	b.randoms++
	place := fmt.Sprintf("%s\x00%s\x00%d", owner, b.name, b.randoms)
	return workflow.StringValue(randomText(macros.Seed, place, length)), true, nil
}

// SecretVariables begins the names of the agent's variables that hold secrets, which are to be had as such alone.
const SecretVariables = "CYCLO_SECRET_" //nolint:gosec // a name

func (s *scope) agentVariable(name string) (workflow.Value, bool, error) {
	switch {
	case !envName.MatchString(name):
		return null, false, errors.New("this is no name of an environment variable")
	case strings.HasPrefix(name, SecretVariables):
		return null, false, errors.New("secrets are named as ${secret:NAME}")
	case s.lookups.Env == nil:
		return null, false, s.notYet()
	}
	text, ok := s.lookups.Env(name)
	if !ok {
		return null, false, fmt.Errorf("the agent has no environment variable %s", name)
	}
	return workflow.StringValue(text), true, nil
}

func (s *scope) secret(name string) (workflow.Value, bool, error) {
	switch {
	case !workflow.ValidID(name):
		return null, false, errors.New("a secret is named with 1 to 200 of the characters A-Z a-z 0-9 _ . -")
	case s.lookups.Secret == nil:
		return null, false, s.notYet()
	}
	text, err := s.lookups.Secret(name)
	if err != nil {
		return null, false, err
	}
	s.secrets = append(s.secrets, text)
	return workflow.StringValue(text), true, nil
}

// LogicalDate is the time that the run is for (RFC 3339); empty for a run that is for none.
func LogicalDate(values *workflow.RunValues) string {
	if values == nil || values.Macros == nil || values.Macros.LogicalDate.IsZero() {
		return ""
	}
	return values.Macros.LogicalDate.Format(time.RFC3339Nano)
}

// decodeValue reads JSON. Numbers keep their digits.
func decodeValue(value workflow.Value) (content any, err error) {
	decoder := json.NewDecoder(strings.NewReader(string(value)))
	decoder.UseNumber()
	if err := decoder.Decode(&content); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it was
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return content, nil
}

// reveal gives the sensitive texts: secrets, and the values of sensitive parameters with the texts and numbers in them.
func (s *scope) reveal() []string {
	texts := s.secrets
	for _, b := range s.bindings {
		if b.sensitive && b.value != null {
			texts = append(texts, b.value.Env())
			if content, err := decodeValue(b.value); err == nil {
				texts = appendLeaves(texts, content)
			}
		}
	}
	for _, text := range slices.Clone(texts) { // as its lines stand in the JSON of other values
		for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
			quoted := string(workflow.StringValue(strings.TrimSpace(line)))
			if quoted = quoted[1 : len(quoted)-1]; quoted != line {
				texts = append(texts, quoted, unescapeHTML.Replace(quoted))
			}
		}
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if len(texts) > 0 && texts[0] == "" {
		texts = texts[1:]
	}
	return texts
}

// unescapeHTML makes what encoding/json wrote what other programs write.
var unescapeHTML = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&", `\u2028`, "\u2028", `\u2029`, "\u2029")

func appendLeaves(texts []string, content any) []string {
	switch content := content.(type) {
	case string:
		texts = append(texts, content)
	case json.Number:
		texts = append(texts, content.String())
	case []any:
		for _, item := range content {
			texts = appendLeaves(texts, item)
		}
	case map[string]any:
		for _, item := range content {
			texts = appendLeaves(texts, item)
		}
	}
	return texts
}
