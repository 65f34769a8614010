package spec

import (
	"maps"
	"slices"
)

// Form says what a value in a definition may look like, in the words of JSON
// Schema (draft 2020-12). It lets editors help; Parse has the last word, since
// a form can say nothing of what is in other fields or in other definitions.
type Form map[string]any

// FormOf is the form of one definition of a kind. It may be changed.
func FormOf(kind Kind) Form {
	switch kind {
	case KindTask:
		return mapForm(taskFields)
	case KindDAG:
		return mapForm(dagFields).with(Form{"anyOf": []Form{{"required": []string{"tasks"}}, {"required": []string{"dags"}}}})
	case KindContext:
		return mapForm(contextFields)
	default:
		return mapForm(parameterSetFields)
	}
}

// mapForm is the form of a map with the fields of a table. One without a value is like one that is not there.
func mapForm[T any](fields []field[T]) Form {
	properties, required := make(map[string]any), []string{}
	for i := range fields {
		known := &fields[i]
		form := maps.Clone(known.form)
		form["description"] = known.about
		if known.required {
			required = append(required, known.name)
		} else {
			form = form.orNull()
		}
		properties[known.name] = form
	}
	form := Form{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		form["required"] = required
	}
	return form
}

// orNull is the form with null beside what it allows.
func (f Form) orNull() Form {
	switch kind := f["type"].(type) {
	case string:
		f["type"] = []string{kind, "null"}
	case []string:
		f["type"] = append(slices.Clone(kind), "null")
	default:
		if choices, ok := f["anyOf"].([]Form); ok {
			f["anyOf"] = append(slices.Clone(choices), Form{"type": "null"})
		}
	}
	if choices, ok := f["enum"].([]any); ok {
		f["enum"] = append(slices.Clone(choices), nil)
	}
	return f
}

// with is the form with some more words.
func (f Form) with(words Form) Form {
	more := maps.Clone(f)
	maps.Copy(more, words)
	return more
}

// scalars are what a text may be written as.
var scalars = []string{"string", "number", "boolean"}

func textForm() Form  { return Form{"type": scalars, "maxLength": maxText} }
func labelForm() Form { return Form{"type": scalars, "maxLength": maxLabel} }
func flagForm() Form  { return Form{"type": "boolean"} }
func valueForm() Form { return Form{} }

func idForm() Form {
	return Form{"type": scalars, "pattern": `^[A-Za-z0-9_.-]{1,200}$`}
}

func integerForm(least, most int) Form {
	return Form{"type": "integer", "minimum": least, "maximum": most}
}

func secondsForm() Form {
	return Form{"type": "number", "minimum": 0, "maximum": maxSeconds}
}

func listForm(item Form) Form { return Form{"type": "array", "items": item} }

func labelsForm() Form { return listForm(labelForm().with(Form{"minLength": 1})) }

func eitherForm(choices ...Form) Form { return Form{"anyOf": choices} }

// namedForm is a map of names, which have a pattern, to values.
func namedForm(pattern string, item Form) Form {
	return Form{"type": "object", "propertyNames": Form{"pattern": pattern}, "additionalProperties": item}
}

func choiceForm[T ~string](choices []T) Form {
	names := make([]any, len(choices))
	for i, one := range choices {
		names[i] = string(one)
	}
	return Form{"enum": names}
}

// entryForm is the form of one of a DAG's tasks: a task's, of which the id alone is required.
func entryForm() Form {
	form := mapForm(taskFields)
	form["required"] = []string{"id"}
	properties := maps.Clone(form["properties"].(map[string]any)) //nolint:forcetypeassert // mapForm made it
	properties["id"] = variantForm().with(Form{"description": "The id of a task, or of a variant of one (TASK:PARAMETER_SET)."})
	properties["command"] = Form{
		"type": append(slices.Clone(scalars), "null"), "pattern": `\S`, "maxLength": maxText,
		"description": "The shell command of a task that is defined here.",
	}
	form["properties"] = properties
	return form
}

// variantForm is the form of a task's id with or without a parameter set.
func variantForm() Form {
	return Form{"type": scalars, "pattern": `^[A-Za-z0-9_.-]{1,200}(:[A-Za-z0-9_.-]{1,200})?$`}
}
