package spec

import (
	"bytes"
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
	// Broken tells that its own text has problems. Kind, ID and File of a broken definition let others know that
	// there is one; what else could be read of it is checked, so that all problems are told at once, and no more.
	Broken bool
	// Reason is what is wrong with a broken definition, for people who want to use it; it may be empty.
	Reason string

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
	references   []reference      // in values
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
	if d.Broken {
		content = brokenDefinition{d.Reason, d.ID}
	}
	body, err := json.Marshal(content)
	if err != nil {
		panic(fmt.Sprintf("encode %s %s: %v", d.Kind, d.ID, err)) // only invalid JSON in a Value could do this; they are checked when made
	}
	return body
}

// brokenDefinition is what is stored of a broken definition: enough for who wants to use it to be told why not.
// No other body begins with its first field.
type brokenDefinition struct {
	Broken string `json:"broken"`
	ID     string `json:"id"`
}

var brokenBody = []byte(`{"broken":`)

// IsBroken tells whether a body is what Encode gives of a broken definition.
func IsBroken(body []byte) bool { return bytes.HasPrefix(body, brokenBody) }

// brokenMessage says that the definition cannot be used, and why.
func (d *Definition) brokenMessage() string {
	if d.Reason == "" {
		return fmt.Sprintf("the definition of %s %q has problems", d.Kind.noun(), d.ID)
	}
	return fmt.Sprintf("%s %q cannot be used, since its definition has a problem: %s", d.Kind.noun(), d.ID, d.Reason)
}

// Decode is the inverse of Encode, but for the definition's place in a file.
func Decode(kind Kind, body []byte) (Definition, error) {
	definition := Definition{Kind: kind}
	var err error
	if IsBroken(body) {
		var broken brokenDefinition
		err = json.Unmarshal(body, &broken)
		definition.ID, definition.Reason, definition.Broken = broken.ID, broken.Broken, true
		return definition.valid(err)
	}
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
	return definition.valid(err)
}

// valid is the definition as Decode gives it after an error of reading it, or none.
func (d Definition) valid(err error) (Definition, error) {
	if err != nil {
		return Definition{}, fmt.Errorf("decode a %s: %w", d.Kind.noun(), err)
	}
	if !workflow.ValidID(d.ID) {
		return Definition{}, fmt.Errorf("decode a %s: %q is no valid id", d.Kind.noun(), d.ID)
	}
	return d, nil
}
