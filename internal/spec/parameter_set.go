package spec

import (
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// parameterSetDraft is a parameter set while it is read.
type parameterSetDraft struct {
	workflow.ParameterSet
	at places
}

var parameterSetFields = []field[parameterSetDraft]{
	{
		name: "id", required: true, form: idForm(), about: "The unique name of the parameter set: 1 to 200 of the characters A-Z a-z 0-9 _ . -",
		read: func(v value, s *parameterSetDraft) { s.at.id = v.place(); s.ID = v.id() },
	},
	{
		name: "description", form: textForm(), about: "What the parameter set is for.",
		read: func(v value, s *parameterSetDraft) { s.Description, _ = v.text() },
	},
	{
		name: "parameters", form: namedForm(parameterPattern, valueForm()), about: "Values by the names of parameters.",
		read: func(v value, s *parameterSetDraft) {
			s.Parameters = v.namedValues(value.hidden) // some task may hold one for sensitive
		},
	},
	{
		name: "tags", form: labelsForm(), about: "Labels, for people and for search.",
		read: func(v value, s *parameterSetDraft) { s.Tags = v.labels() },
	},
}

func readParameterSet(v value) Definition {
	var draft parameterSetDraft
	given, ok := readFields(v, "parameter set", parameterSetFields, &draft)
	if ok && !slices.Contains(given, "id") {
		v.problem("this parameter set has no id")
	}
	return Definition{Kind: KindParameterSet, ID: draft.ID, ParameterSet: &draft.ParameterSet, at: &draft.at}
}
