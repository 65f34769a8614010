package workflow

import (
	"encoding/json"
	"fmt"
	"time"
)

// TriggerRule says which ends of its parents let a task start. A skipped parent counts as absent, one
// that was cancelled or is upstream_failed as failed; a task of which no parent is left is skipped.
type TriggerRule string

// The trigger rules. The empty rule is RuleAllSuccess.
const (
	RuleAllSuccess TriggerRule = "all_success" // all succeeded
	RuleAllDone    TriggerRule = "all_done"    // all ended, however
	RuleOneSuccess TriggerRule = "one_success" // one succeeded; the others are not waited for
	RuleOneFailed  TriggerRule = "one_failed"  // one failed; the others are not waited for
	RuleNoneFailed TriggerRule = "none_failed" // all ended, and none failed
	RuleAllFailed  TriggerRule = "all_failed"  // all failed
)

// TriggerRules are all of them, the default first.
var TriggerRules = []TriggerRule{RuleAllSuccess, RuleAllDone, RuleOneSuccess, RuleOneFailed, RuleNoneFailed, RuleAllFailed}

// handles tells whether a task with this rule that started has dealt with the failure of a parent.
func (r TriggerRule) handles() bool {
	return r == RuleAllDone || r == RuleOneFailed || r == RuleAllFailed
}

// Approval lets a task wait for a person before it is queued.
type Approval struct {
	// Roles are those whose members may decide; empty for all.
	Roles   []string `json:"roles,omitempty"`
	Message string   `json:"message,omitempty"`
	// TimeoutSeconds is how long it waits; then the task fails. 0 waits for ever.
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty"`
}

// Git says which commit a task finds in its working directory.
type Git struct {
	// Repository is a URL, git@HOST:PATH, or an absolute path of the agent.
	Repository string `json:"repository"`
	// Ref is a branch, a tag or a commit; empty for the remote's HEAD.
	Ref string `json:"ref,omitempty"`
	// Path is the folder in the repository where the command starts; empty for its root.
	Path string `json:"path,omitempty"`
	// Environment names one of the agent's; empty for none.
	Environment string `json:"environment,omitempty"`
}

// WithGitRef is the specification with another revision; the same one where it has no repository, or ref is empty.
func (s *TaskSpec) WithGitRef(ref string) *TaskSpec {
	if s.Git == nil || ref == "" {
		return s
	}
	changed, git := *s, *s.Git
	git.Ref = ref
	changed.Git = &git
	return &changed
}

// ForEach makes a task run once for each item. What a user wrote has Items or a Reference.
type ForEach struct {
	Items []Value `json:"items,omitempty"`
	// Reference is a value's text with one ${…}, which gives a JSON list.
	Reference string `json:"reference,omitempty"`
	// Template is, once a reference has given the items, the specification that it stood in: the next iteration
	// begins with it. It is a Hash, as text.
	Template string `json:"template,omitempty"`
}

// Item is what one of the task runs of a ForEach is for.
type Item struct {
	Value Value `json:"value"`
	Index int   `json:"index"`
}

// ParameterSet is a named set of values for parameters.
type ParameterSet struct {
	ID          string           `json:"id"`
	Description string           `json:"description,omitempty"`
	Parameters  map[string]Value `json:"parameters,omitempty"`
	Tags        []string         `json:"tags,omitempty"`
}

// DAGGroup is a DAG inside another: its tasks are inlined as ID/task.
type DAGGroup struct {
	ID string `json:"id"`
	// Dependencies are ids of other groups of the same DAG.
	Dependencies []string `json:"dependencies,omitempty"`
}

// Schedule says when a DAG runs by itself.
type Schedule struct {
	// Cron has five fields, or is one of @hourly, @daily and so on.
	Cron string `json:"cron"`
	// Timezone is an IANA name; empty for UTC.
	Timezone string `json:"timezone,omitempty"`
	// StartDate and EndDate bound the logical dates, both included; zero for none.
	StartDate time.Time `json:"start_date,omitzero"`
	EndDate   time.Time `json:"end_date,omitzero"`
	// Catchup makes a run for each time that was missed, not for the latest alone.
	Catchup bool `json:"catchup,omitempty"`
	// DependsOnPast lets a run wait until that of the former logical date succeeded.
	DependsOnPast bool `json:"depends_on_past,omitempty"`
}

// OnFailure says what becomes of a run's other tasks when one failed.
type OnFailure string

// The ways to go on after a failure. The empty one is OnFailureContinue.
const (
	OnFailureContinue OnFailure = "continue" // what does not depend on it goes on
	OnFailureStop     OnFailure = "stop"     // what runs ends; nothing else starts
)

// Check is what a value of a parameter must obey.
type Check struct {
	Required bool    `json:"required,omitempty"`
	Options  []Value `json:"options,omitempty"`
	// Validation is a regular expression that the whole value must match, as text.
	Validation string `json:"validation,omitempty"`
	// Sensitive values are shown nowhere.
	Sensitive bool `json:"sensitive,omitempty"`
}

// IsZero tells that everything goes.
func (c *Check) IsZero() bool {
	return !c.Required && len(c.Options) == 0 && c.Validation == "" && !c.Sensitive
}

// Macros are what the macros of a run stand for. They are drawn once, when the run is made.
type Macros struct {
	// Time is that of ${DATE}, ${TIME} and ${DATETIME}, in UTC.
	Time time.Time `json:"time"`
	// LogicalDate is zero for a run that nobody scheduled for a time.
	LogicalDate time.Time `json:"logical_date,omitzero"`
	// Seed is what ${RANDOM:n} is derived from.
	Seed string `json:"seed"`
}

// ValueUpdate is what an evaluation point changed for the tasks that had not started.
type ValueUpdate struct {
	// Variables are the context_updates.
	Variables map[string]Value `json:"context_updates,omitempty"`
	// Parameters are by task id.
	Parameters map[string]map[string]Value `json:"parameters,omitempty"`
}

// IsZero tells that it changes nothing.
func (u *ValueUpdate) IsZero() bool { return len(u.Variables) == 0 && len(u.Parameters) == 0 }

// PointUpdate is what one evaluation point changed.
type PointUpdate struct {
	Node int32
	ValueUpdate
}

// FormerUpdate is what an evaluation point of an earlier run changed, whose work is kept.
type FormerUpdate struct {
	// Point is its name, without the iteration.
	Point string `json:"point"`
	ValueUpdate
}

// Evaluation is the result of an evaluation point.
type Evaluation struct {
	// NextTasks are the names that go on; Chosen tells that there is such a list, even an empty one.
	NextTasks []string
	Chosen    bool
	ValueUpdate
	// Metadata is a JSON object, or empty.
	Metadata Value
}

// NamesTasks tells that the names have to be looked up.
func (e *Evaluation) NamesTasks() bool { return e.Chosen || len(e.Parameters) > 0 }

type evaluationJSON struct {
	NextTasks  *[]string                   `json:"next_tasks,omitempty"`
	Parameters map[string]map[string]Value `json:"parameters,omitempty"`
	Variables  map[string]Value            `json:"context_updates,omitempty"`
	Metadata   Value                       `json:"metadata,omitempty"`
}

// MarshalJSON gives the form in which tasks write it.
func (e *Evaluation) MarshalJSON() ([]byte, error) {
	content := evaluationJSON{Parameters: e.Parameters, Variables: e.Variables, Metadata: e.Metadata}
	if e.Chosen {
		next := append([]string{}, e.NextTasks...)
		content.NextTasks = &next
	}
	return json.Marshal(&content) //nolint:wrapcheck // only invalid JSON in a Value
}

// UnmarshalJSON is the inverse of MarshalJSON. What a user wrote is checked more closely by who reads it.
func (e *Evaluation) UnmarshalJSON(text []byte) error {
	var content evaluationJSON
	if err := json.Unmarshal(text, &content); err != nil {
		return fmt.Errorf("evaluation result: %w", err)
	}
	*e = Evaluation{ValueUpdate: ValueUpdate{content.Variables, content.Parameters}, Metadata: content.Metadata}
	if content.NextTasks != nil {
		e.NextTasks, e.Chosen = *content.NextTasks, true
	}
	return nil
}

// RunOptions are the rules of a DAG that a run was started with. They are stored with it.
type RunOptions struct {
	// MaxParallel bounds the task runs that are dispatched and not ended; 0 for no bound.
	MaxParallel int `json:"max_parallel,omitempty"`
	// TimeoutSeconds bounds the whole run, from its start; 0 for no bound.
	TimeoutSeconds float64   `json:"timeout_seconds,omitempty"`
	OnFailure      OnFailure `json:"on_failure,omitempty"`
	// Groups are what the run takes a place in before it starts: its DAG, a backfill. All runs of a
	// group are in one bucket.
	Groups []RunGroup `json:"groups,omitempty"`
	// LogicalDate is the time that a scheduled run or one of a backfill is for.
	LogicalDate time.Time `json:"logical_date,omitzero"`
	// After is the former logical date, whose run must have succeeded before this one starts; zero for none.
	After time.Time `json:"after,omitzero"`
	// Priority is that of tasks which are added at run time; 0 for their own.
	Priority int `json:"priority,omitempty"`
	// GitRef is likewise the revision of those that have a repository; empty for their own.
	GitRef string `json:"git_ref,omitempty"`
	// Kept are task runs that end at once, because an earlier run did their work.
	Kept []KeptNode `json:"kept,omitempty"`
}

// IsZero tells that there are no rules.
func (o *RunOptions) IsZero() bool {
	return o.MaxParallel == 0 && o.TimeoutSeconds == 0 && (o.OnFailure == "" || o.OnFailure == OnFailureContinue) &&
		len(o.Groups) == 0 && o.Priority == 0 && o.GitRef == "" && o.LogicalDate.IsZero() && o.After.IsZero() && len(o.Kept) == 0
}

// RunGroup bounds how many of its runs are unfinished and not pending.
type RunGroup struct {
	Name      string `json:"name"`
	MaxActive int    `json:"max_active"`
}

// KeptNode is a node that an earlier run did the work of, or whose work nobody needs then.
type KeptNode struct {
	Node int32 `json:"node"`
	// From is the task run that did it; zero for a node that is skipped.
	From     RunID `json:"from,omitzero"`
	FromNode int32 `json:"from_node,omitempty"`
	// NotChosen tells that it is skipped because an evaluation point that is kept did not choose it.
	NotChosen bool `json:"not_chosen,omitempty"`
}
