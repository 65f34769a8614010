package workflow

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// TaskSpec is all that an agent and a writer need to know of a task: its
// definition as it was when the run was planned. Values in it are unresolved.
type TaskSpec struct {
	TaskID   string   `json:"task_id"`
	Command  string   `json:"command"`
	Queue    string   `json:"queue"`
	Requires []string `json:"requires,omitempty"`
	Priority int      `json:"priority"`
	// TimeoutSeconds bounds one attempt; 0 means the agent's default.
	TimeoutSeconds float64           `json:"timeout_seconds,omitempty"`
	Retries        Retries           `json:"retries,omitzero"`
	Resources      Resources         `json:"resources,omitzero"`
	Parameters     map[string]Value  `json:"parameters,omitempty"`
	Env            map[string]string `json:"env,omitempty"`
	// Variant is the parameter set of the dependency that asked for the task; empty for none. Its values
	// are in Parameters already.
	Variant string `json:"variant,omitempty"`
	// Variables are those of the nested DAG that the task is of: over the run's, under Parameters.
	Variables map[string]Value `json:"variables,omitempty"`
	// Checks are what the values of parameters must obey, where that is anything.
	Checks          map[string]Check `json:"checks,omitempty"`
	EvaluationPoint bool             `json:"evaluation_point,omitempty"`
	Approval        *Approval        `json:"approval,omitempty"`
	TriggerRule     TriggerRule      `json:"trigger_rule,omitempty"`
	FreshForSeconds float64          `json:"fresh_for_seconds,omitempty"`
	// ForEach marks the node that stands for all items: it starts no process, and ends when the task runs
	// of its items have ended. They have an Item, and else the same specification.
	ForEach *ForEach `json:"for_each,omitempty"`
	Item    *Item    `json:"item,omitempty"`
	Git     *Git     `json:"git,omitempty"`
}

// Encode gives the stored form of the spec (JSON with sorted keys) and its hash.
func (s *TaskSpec) Encode() (body []byte, hash Hash) {
	body, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("encode the specification of task %s: %v", s.TaskID, err)) // only invalid JSON in a Value could do this; they are checked when made
	}
	return body, HashOf(body)
}

// Node is one vertex of a plan.
type Node struct {
	// Name is shown to people and unique in the plan: the task's id, with its
	// group, variant, item or iteration where it has one.
	Name string
	// Spec is the index of the node's specification in Plan.Specs.
	Spec int32
	// Dependencies are the numbers of the nodes that this one waits for, without duplicates.
	Dependencies []int32
}

// Plan is the graph of a run. A node's number is its index. Plans with the same
// content have the same hash and are stored once.
type Plan struct {
	Specs []*TaskSpec
	Nodes []Node
}

// Hash is the hash of the whole plan, given those of its specs.
func (p *Plan) Hash(specs []Hash) Hash {
	buffer := make([]byte, 0, 64*len(p.Nodes)+16*len(specs))
	for _, hash := range specs {
		buffer = append(buffer, hash[:]...)
	}
	for _, node := range p.Nodes {
		buffer = binary.AppendUvarint(buffer, uint64(len(node.Name)))
		buffer = append(buffer, node.Name...)
		buffer = binary.AppendUvarint(buffer, uint64(node.Spec)) //nolint:gosec // an index
		buffer = binary.AppendUvarint(buffer, uint64(len(node.Dependencies)))
		for _, parent := range node.Dependencies {
			buffer = binary.AppendUvarint(buffer, uint64(parent)) //nolint:gosec // an index
		}
	}
	return HashOf(buffer)
}

// RunValues are the values of one run that its tasks see beside those of their
// specs; a later field wins over an earlier one and over the spec where the
// order of the specification says so.
type RunValues struct {
	// Variables are those of the context and the DAG, resolved: under the spec's parameters.
	Variables map[string]Value `json:"variables,omitempty"`
	// Former are what evaluation points of the run that this one repeats changed, whose work is kept, in order: over the
	// spec's parameters and env.
	Former []FormerUpdate `json:"former_updates,omitempty"`
	// Updates are what evaluation points of this run changed, in order: over those.
	Updates []ValueUpdate `json:"-"`
	// Env is the environment given when scheduling: over all of these.
	Env map[string]string `json:"env,omitempty"`
	// Parameters are those given when scheduling, by task id, with those of parameter sets: over everything.
	Parameters map[string]map[string]Value `json:"parameters,omitempty"`
	// Sensitive are those of them that are shown nowhere. They are stored apart.
	Sensitive map[string]map[string]Value `json:"-"`
	// Macros is nil when no value has a macro.
	Macros *Macros `json:"macros,omitempty"`
	// Trigger is what started the run, where a trigger of its DAG did.
	Trigger *Trigger `json:"trigger,omitempty"`
}

// Trigger is what a trigger of a DAG knows of the run that it starts. It is data: no reference in it means anything.
type Trigger struct {
	Kind TriggerKind `json:"kind"`
	// DAG and Run are what has completed, the run by its id to the outside.
	DAG string `json:"dag,omitempty"`
	Run string `json:"run,omitempty"`
	// File is the absolute path of the file that arrived.
	File string `json:"file,omitempty"`
	// Body is that of the call of a webhook.
	Body string `json:"body,omitempty"`
}

// TriggerKind is the name of a kind of trigger, as definitions have it.
type TriggerKind string

// The kinds of triggers.
const (
	TriggerDAGCompleted TriggerKind = "dag_completed"
	TriggerWebhook      TriggerKind = "webhook"
	TriggerFileArrival  TriggerKind = "file_arrival"
)

// Env is what the tasks of the run see of it, as NAME=value.
func (t *Trigger) Env() []string {
	env := []string{"CYCLO_TRIGGER=" + string(t.Kind)}
	switch t.Kind {
	case TriggerDAGCompleted:
		env = append(env, "CYCLO_TRIGGER_DAG_ID="+t.DAG, "CYCLO_TRIGGER_RUN_ID="+t.Run)
	case TriggerWebhook:
		env = append(env, "CYCLO_TRIGGER_BODY="+t.Body)
	case TriggerFileArrival:
		env = append(env, "CYCLO_TRIGGER_FILE="+t.File)
	}
	return env
}

// IsZero tells whether there are no values.
func (v *RunValues) IsZero() bool {
	return len(v.Variables) == 0 && len(v.Parameters) == 0 && len(v.Env) == 0 && len(v.Updates) == 0 && len(v.Former) == 0 && len(v.Sensitive) == 0 && v.Macros == nil &&
		v.Trigger == nil
}
