package spec

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Definition is one task, DAG, context or parameter set. The one of Task, DAG, Context
// and ParameterSet that its Kind names is set; none of them may be changed.
type Definition struct {
	Kind         Kind
	ID           string
	Task         *workflow.Task
	DAG          *DAG
	Context      *workflow.Context
	ParameterSet *workflow.ParameterSet

	// File is where the definition was read; empty when it was not.
	File string
	// Broken tells that its own text has problems. Only Kind, ID and File of a
	// broken definition mean anything: they let others know that there is one.
	Broken bool

	at *places // in File; nil when it was not read from one
}

// places are the positions of what a catalog may find wrong in a definition.
type places struct {
	id           place
	queue        place
	approval     place
	git          place
	context      place   // of a DAG's context, of what a context extends
	dependencies []place // as many as the definition's
	sets         []place // of the parameter sets
	entries      []places
	groups       []places         // of DAGs in a DAG
	listens      []place          // of the DAGs whose runs start one
	parameters   map[string]place // of a DAG's entry
}

var noPlaces places

func (d *Definition) places() *places {
	if d.at == nil {
		return &noPlaces
	}
	return d.at
}

func (p *places) dependency(i int) place {
	if i < len(p.dependencies) {
		return p.dependencies[i]
	}
	return p.id
}

func (p *places) set(i int) place {
	if i < len(p.sets) {
		return p.sets[i]
	}
	return p.id
}

func (p *places) parameter(name string) place { return cmp.Or(p.parameters[name], p.id) }

func (p *places) listen(i int) place {
	if i >= 0 && i < len(p.listens) {
		return p.listens[i]
	}
	return p.id
}

func (p *places) group(i int) *places {
	if i < len(p.groups) {
		return &p.groups[i]
	}
	return &noPlaces
}

func (p *places) entry(i int) *places {
	if i < len(p.entries) {
		return &p.entries[i]
	}
	return &noPlaces
}

// Encode gives the stored form of the definition: JSON, the same bytes for the
// same definition. Numbers keep the digits that the user wrote, so it must be
// stored as text or bytes; jsonb would rewrite them.
func (d *Definition) Encode() []byte {
	var content any
	switch d.Kind {
	case KindTask:
		content = d.Task
	case KindDAG:
		content = d.DAG
	case KindContext:
		content = d.Context
	case KindParameterSet:
		content = d.ParameterSet
	default: // no such definition is read
	}
	body, err := json.Marshal(content)
	if err != nil {
		panic(fmt.Sprintf("encode %s %s: %v", d.Kind, d.ID, err)) // only invalid JSON in a Value could do this; they are checked when made
	}
	return body
}

// Decode is the inverse of Encode, but for the definition's place in a file.
func Decode(kind Kind, body []byte) (Definition, error) {
	definition := Definition{Kind: kind}
	var err error
	switch kind {
	case KindTask:
		definition.Task = new(workflow.Task)
		err = json.Unmarshal(body, definition.Task)
		definition.ID = definition.Task.ID
	case KindDAG:
		definition.DAG = new(DAG)
		err = json.Unmarshal(body, definition.DAG)
		definition.ID = definition.DAG.ID
	case KindContext:
		definition.Context = new(workflow.Context)
		err = json.Unmarshal(body, definition.Context)
		definition.ID = definition.Context.ID
	case KindParameterSet:
		definition.ParameterSet = new(workflow.ParameterSet)
		err = json.Unmarshal(body, definition.ParameterSet)
		definition.ID = definition.ParameterSet.ID
	default:
		return Definition{}, fmt.Errorf("decode a definition: unknown kind %q", kind)
	}
	if err != nil {
		return Definition{}, fmt.Errorf("decode a %s: %w", kind.noun(), err)
	}
	if !workflow.ValidID(definition.ID) {
		return Definition{}, fmt.Errorf("decode a %s: %q is no valid id", kind.noun(), definition.ID)
	}
	return definition, nil
}
