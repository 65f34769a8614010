package spec

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// parameterDraft is a parameter in its long form while it is read.
type parameterDraft struct {
	workflow.Parameter
	fixed workflow.Value
	at    place // of the default
}

var parameterFields = []field[parameterDraft]{
	{
		name: "default", form: valueForm(), about: "The value when nothing else gives one.",
		read: func(v value, p *parameterDraft) { p.at = v.place(); p.Default = v.hidden().json() },
	},
	{
		name: "value", form: valueForm(), about: "The same as default.",
		read: func(v value, p *parameterDraft) { p.at = v.place(); p.fixed = v.hidden().json() },
	},
	{
		name: "description", form: textForm(), about: "What the parameter is for.",
		read: func(v value, p *parameterDraft) { p.Description, _ = v.text() },
	},
	{
		name: "required", form: flagForm().with(Form{"default": false}), about: "Whether a run must have a value for it.",
		read: func(v value, p *parameterDraft) { p.Required = v.flag() },
	},
	{
		name: "options", form: listForm(valueForm()).with(Form{"minItems": 1}), about: "The values that it may have.",
		read: readOptions,
	},
	{
		name: "validation", form: Form{"type": scalars, "maxLength": maxLabel, "format": "regex"},
		about: "A regular expression (RE2) that the whole value must match, as the command sees it.",
		read: func(v value, p *parameterDraft) {
			p.Validation, _ = v.label()
			if _, err := compileValidation(p.Validation); err != nil {
				v.problem("validation %s is no regular expression: %v", quote(p.Validation), err)
			}
		},
	},
	{
		name: "sensitive", form: flagForm().with(Form{"default": false}), about: "Whether the value is shown nowhere.",
		read: func(v value, p *parameterDraft) { p.Sensitive = v.flag() },
	},
}

func parametersForm() Form {
	long := mapForm(parameterFields)
	return namedForm(parameterPattern, eitherForm(Form{"type": []string{"string", "number", "boolean", "null", "array"}}, long))
}

func readOptions(v value, p *parameterDraft) {
	v = v.hidden()
	v.items(func(item value) {
		item.what = "an option"
		if item.null() {
			item.problem("an option is empty")
		}
		p.Options = append(p.Options, item.json())
	})
	if v.isList() && len(v.node.Content) == 0 {
		v.problem("options are empty: no value could be given")
	}
}

func readParameters(v value, t *taskDraft) {
	parameters := make(map[string]workflow.Parameter)
	v.entries(func(name string, key, item value) {
		key.checkName(name)
		parameters[name] = readParameter(item)
		if t.entry {
			if t.at.parameters == nil {
				t.at.parameters = make(map[string]place)
			}
			t.at.parameters[name] = item.place()
		}
	})
	t.Parameters = orNil(parameters)
}

// readParameter reads one in its short or long form. No message shows its value, unless it is not sensitive for
// sure: another definition may say that it is.
func readParameter(item value) workflow.Parameter {
	if item.null() {
		return workflow.Parameter{}
	}
	if !item.isMap() {
		return workflow.Parameter{Default: item.hidden().json()}
	}
	var draft parameterDraft
	before, name, referred := len(item.reader.problems), item.what, len(item.reader.references)
	given, _ := readFields(item, "parameter", parameterFields, &draft)
	if len(given) == 0 && len(item.reader.problems) > before {
		item.reader.hint("to give a map as the value, write " + name + ": {default: {…}}")
	}
	for i := range item.reader.references[referred:] {
		inner := &item.reader.references[referred+i]
		inner.hidden, inner.what = draft.Sensitive, name
	}
	if draft.fixed != "" {
		if draft.Default != "" {
			item.problem("parameter %s has both a default and a value: give one", name)
		}
		draft.Default = draft.fixed
	}
	if len(item.reader.problems) == before {
		if text := breach(&draft.Check, draft.Default); text != "" {
			item.reader.problem(draft.at, "the default of parameter %s%s", name, text)
		}
	}
	return draft.Parameter
}

// compileValidation is the expression that a whole value must match.
func compileValidation(pattern string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(pattern); err != nil { // on its own: "a)(b" must not come through
		return nil, err //nolint:wrapcheck // it says it all
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// breach says what of a parameter's rules a value of a definition breaks: the end of a sentence whose subject is the
// value, or nothing. A value with references is looked at when they are resolved. A sensitive one is not shown.
func breach(check *workflow.Check, value workflow.Value) string {
	if value == "" || value == null || len(check.Options) == 0 && check.Validation == "" {
		return ""
	}
	if count, err := references(string(value)); count > 0 || err != nil {
		return ""
	}
	text := literal(value)
	shown := ", " + quote(text) + ","
	if check.Sensitive {
		shown = ""
	}
	options := make([]string, len(check.Options))
	for i, option := range check.Options {
		options[i] = literal(option)
	}
	switch {
	case len(options) > 0 && !slices.Contains(options, text) && check.Sensitive:
		return " is none of its options"
	case len(options) > 0 && !slices.Contains(options, text):
		return fmt.Sprintf("%s is none of its options (%s)%s", shown, cut(strings.Join(options, ", ")), didYouMean(nearest.Names(text, slices.Values(options))))
	case check.Validation != "":
		if pattern, err := compileValidation(check.Validation); err == nil && !pattern.MatchString(text) {
			return fmt.Sprintf("%s does not match its validation %s", shown, quote(check.Validation))
		}
	}
	return ""
}

// setBreach says which value of a parameter set breaks the rules of a task's parameters: the end of a sentence about
// the set, or nothing.
func setBreach(set *workflow.ParameterSet, parameters map[string]workflow.Parameter) string {
	for _, name := range slices.Sorted(maps.Keys(set.Parameters)) {
		parameter := parameters[name]
		if text := breach(&parameter.Check, set.Parameters[name]); text != "" {
			return fmt.Sprintf(", whose value of %s%s", name, text)
		}
	}
	return ""
}

// literal is a value without references as a command sees it.
func literal(value workflow.Value) string { return strings.ReplaceAll(value.Env(), "$${", "${") }

// mergeParameters lays the parameters that an entry of a DAG gives over those of its task. An entry may add rules to a
// parameter and change them, not take them away.
func mergeParameters(under, over map[string]workflow.Parameter) map[string]workflow.Parameter {
	merged := mergeMaps(under, nil)
	for name, parameter := range over {
		below := merged[name]
		below.Default = cmp.Or(parameter.Default, below.Default)
		below.Description = cmp.Or(parameter.Description, below.Description)
		below.Required = below.Required || parameter.Required
		below.Sensitive = below.Sensitive || parameter.Sensitive
		below.Validation = cmp.Or(parameter.Validation, below.Validation)
		if len(parameter.Options) > 0 {
			below.Options = parameter.Options
		}
		merged[name] = below
	}
	return merged
}
