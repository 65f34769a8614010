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
	{name: "id", read: func(v value, c *contextDraft) { c.at.id = v.place(); c.ID = v.id() }},
	{name: "extends", read: func(v value, c *contextDraft) { c.at.context = v.place(); c.Extends = v.id() }},
	{name: "description", read: func(v value, c *contextDraft) { c.Description, _ = v.text() }},
	{name: "variables", read: func(v value, c *contextDraft) { c.Variables = v.variables() }},
}

func readContext(v value) Definition {
	var draft contextDraft
	given, ok := readFields(v, "context", contextFields, &draft)
	if ok && !slices.Contains(given, "id") {
		v.problem("this context has no id")
	}
	return Definition{Kind: KindContext, ID: draft.ID, Context: &draft.Context, at: &draft.at}
}

// readParameterSet refuses what the next version will read.
func readParameterSet(v value) {
	v.problem("a parameter set is not supported by this version yet")
}
