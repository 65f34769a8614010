package spec

import (
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// contextDraft is a context while it is read.
type contextDraft struct {
	workflow.Context
	at places
}

var contextFields = []field[contextDraft]{
	{
		name: "id", required: true, form: idForm(), about: "The unique name of the context: 1 to 200 of the characters A-Z a-z 0-9 _ . -",
		read: func(v value, c *contextDraft) { c.at.id = v.place(); c.ID = v.id() },
	},
	{
		name: "extends", form: idForm(), about: "The context whose variables stand under those of this one.",
		read: func(v value, c *contextDraft) { c.at.context = v.place(); c.Extends = v.id() },
	},
	{
		name: "description", form: textForm(), about: "What the context is for.",
		read: func(v value, c *contextDraft) { c.Description, _ = v.text() },
	},
	{
		name: "variables", form: namedForm(parameterPattern, valueForm()), about: "Values that all tasks of a run see as environment variables.",
		read: func(v value, c *contextDraft) { c.Variables = v.variables() },
	},
}

func readContext(v value) Definition {
	var draft contextDraft
	given, ok := readFields(v, "context", contextFields, &draft)
	if ok && !slices.Contains(given, "id") {
		v.problem("this context has no id")
	}
	return Definition{Kind: KindContext, ID: draft.ID, Context: &draft.Context, at: &draft.at}
}
