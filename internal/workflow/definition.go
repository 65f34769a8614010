package workflow

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// The default and the bounds of a task's priority: 1 runs first.
const (
	DefaultPriority = 2
	MaxPriority     = 4
)

// DefaultRetryDelaySeconds is the delay before a retry where a definition gives none.
const DefaultRetryDelaySeconds = 1

// DefaultQueue is the queue of a task that names none.
const DefaultQueue = "default"

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,200}$`)

// ValidID tells whether text may be the id of a definition or a custom run id.
func ValidID(text string) bool { return idPattern.MatchString(text) }

// ValidRunName tells whether text may be a custom run id: a valid id that is
// not in the form of a UUID.
func ValidRunName(text string) bool {
	if !ValidID(text) {
		return false
	}
	_, err := parseUUID(text)
	return err != nil
}

// Value is the value of a parameter or variable, as JSON text.
type Value string

// StringValue is the Value of a plain string.
func StringValue(text string) Value {
	encoded, _ := json.Marshal(text) //nolint:errchkjson // a string always encodes
	return Value(encoded)
}

// Env is the value as a command sees it in its environment: a string as it is,
// anything else as JSON.
func (v Value) Env() string {
	var text string
	if json.Unmarshal([]byte(v), &text) == nil && v != "null" {
		return text
	}
	return string(v)
}

// MarshalJSON gives the JSON text.
func (v Value) MarshalJSON() ([]byte, error) {
	if v == "" {
		return []byte("null"), nil
	}
	return []byte(v), nil
}

// UnmarshalJSON keeps the JSON text.
func (v *Value) UnmarshalJSON(text []byte) error {
	if !json.Valid(text) {
		return fmt.Errorf("value %q is not JSON", text)
	}
	*v = Value(text)
	return nil
}

// Parameter is the definition of one parameter of a task.
type Parameter struct {
	Description string `json:"description,omitempty"`
	// Default is the value when nothing else gives one; empty when there is none.
	Default Value `json:"default,omitempty"`
	Check
}

// Retries says how often and when a failed attempt is tried again.
type Retries struct {
	Count int `json:"count,omitempty"`
	// DelaySeconds is the time before the first retry; 0 is at once. A definition that does not
	// give it has DefaultRetryDelaySeconds here.
	DelaySeconds       float64 `json:"delay_seconds,omitempty"`
	ExponentialBackoff bool    `json:"exponential_backoff,omitempty"`
	// MaxDelaySeconds bounds the delay; 0 leaves it unbounded.
	MaxDelaySeconds float64 `json:"max_delay_seconds,omitempty"`
}

// Task is the definition of a task, as a user wrote it.
type Task struct {
	ID           string               `json:"id"`
	Name         string               `json:"name,omitempty"`
	Description  string               `json:"description,omitempty"`
	Command      string               `json:"command"`
	Dependencies []string             `json:"dependencies,omitempty"`
	Parameters   map[string]Parameter `json:"parameters,omitempty"`
	Queue        string               `json:"queue"`
	Tags         []string             `json:"tags,omitempty"`
	Requires     []string             `json:"requires,omitempty"`
	Priority     int                  `json:"priority"`
	// TimeoutSeconds bounds one attempt; 0 means the agent's default.
	TimeoutSeconds float64           `json:"timeout_seconds,omitempty"`
	Retries        Retries           `json:"retries,omitzero"`
	Resources      Resources         `json:"resources,omitzero"`
	Env            map[string]string `json:"env,omitempty"`
	// ParameterSets are ids, applied in order.
	ParameterSets   []string    `json:"parameter_sets,omitempty"`
	EvaluationPoint bool        `json:"evaluation_point,omitempty"`
	Approval        *Approval   `json:"approval,omitempty"`
	TriggerRule     TriggerRule `json:"trigger_rule,omitempty"`
	ForEach         *ForEach    `json:"for_each,omitempty"`
	// FreshForSeconds is how old a success may be that is reused in outcome scheduling; 0 for never.
	FreshForSeconds float64 `json:"fresh_for_seconds,omitempty"`
	Git             *Git    `json:"git,omitempty"`
}

// DAG is the definition of an explicit graph, as a user wrote it.
type DAG struct {
	ID          string           `json:"id"`
	Name        string           `json:"name,omitempty"`
	Description string           `json:"description,omitempty"`
	Tags        []string         `json:"tags,omitempty"`
	Tasks       []DAGTask        `json:"tasks"`
	Context     string           `json:"context,omitempty"`
	Variables   map[string]Value `json:"variables,omitempty"`
	DAGs        []DAGGroup       `json:"dags,omitempty"`
	Schedule    *Schedule        `json:"schedule,omitempty"`
	Triggers    *Triggers        `json:"triggers,omitempty"`
	// MaxActiveRuns, MaxParallel and TimeoutSeconds are 0 where there is no bound.
	MaxActiveRuns  int       `json:"max_active_runs,omitempty"`
	MaxParallel    int       `json:"max_parallel,omitempty"`
	TimeoutSeconds float64   `json:"timeout_seconds,omitempty"`
	OnFailure      OnFailure `json:"on_failure,omitempty"`
}

// Triggers say what starts a run of a DAG, beside people and its schedule. Each is nil or empty where it starts none.
type Triggers struct {
	FileArrival *FileArrival `json:"file_arrival,omitempty"`
	Webhook     *Webhook     `json:"webhook,omitempty"`
	// DAGCompleted are DAGs of which each run that completes starts one.
	DAGCompleted []string `json:"dag_completed,omitempty"`
}

// FileArrival starts a run for each file that comes to be in a folder.
type FileArrival struct {
	// Path is the folder: absolute, or below the server's working directory.
	Path string `json:"path"`
	// Pattern is the glob that names of files must match.
	Pattern string `json:"pattern"`
	// WaitSeconds is how long a file must have stayed as it is to count.
	WaitSeconds float64 `json:"wait_seconds"`
}

// Webhook starts a run for each call that is signed with the secret.
type Webhook struct {
	// Secret is a literal, or the reference ${env:NAME} or ${secret:NAME}. It is shown nowhere.
	Secret string `json:"secret"`
}

// DAGTask is one entry of a DAG's tasks: a reference to a task with what it
// overrides, or, with a command, a task of its own.
type DAGTask struct {
	ID string `json:"id"`
	// Overrides holds the fields that the entry gives, in the form of a Task;
	// Given names them, since a zero value may be given.
	Overrides Task     `json:"overrides"`
	Given     []string `json:"given,omitempty"`
}

// Context is a named set of variables for all tasks of a run.
type Context struct {
	ID          string           `json:"id"`
	Extends     string           `json:"extends,omitempty"`
	Description string           `json:"description,omitempty"`
	Variables   map[string]Value `json:"variables,omitempty"`
}
