package api

import (
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Settings are what every way of starting a run takes.
type Settings struct {
	// Context is the id of the context for all tasks; empty for the default one.
	Context string `json:"context,omitempty"`
	// EnvVars are environment variables for all tasks, over everything but parameters.
	EnvVars map[string]string `json:"env_vars,omitempty"`
	// Parameters by name, for every task that declares it, or by "task.NAME", for that task.
	Parameters map[string]workflow.Value `json:"parameters,omitempty"`
	// ParameterSets are ids of sets whose values all tasks get that declare them. A later set wins, and Parameters
	// win over all.
	ParameterSets []string `json:"parameter_sets,omitempty"`
	// RunID is a custom id for the run; empty for none.
	RunID string `json:"run_id,omitempty"`
	// TimeoutSeconds bounds one attempt of the task that is asked for, or the whole run of a DAG. 0 is the agent's
	// default, or no bound; nil leaves it as it is defined.
	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty"`
	// Priority is that of all tasks, 1 to 4; nil leaves those that are defined.
	Priority *int `json:"priority,omitempty"`
	// MaxParallel bounds the tasks that run at once; 0 is no bound, nil leaves what is defined.
	MaxParallel *int `json:"max_parallel,omitempty"`
	// GitRef is the branch, tag or commit of all tasks that have a repository; nil leaves what is defined.
	GitRef *string `json:"git_ref,omitempty"`
	// IdempotencyKey makes the same request twice one run; empty for none. Over HTTP it is the
	// header Idempotency-Key.
	IdempotencyKey string `json:"-"`
}

// TaskSettings are what only a run by outcome takes. They mean the task that is asked for. Nil leaves what is defined.
type TaskSettings struct {
	Queue *string `json:"queue,omitempty"`
	// Retries is how often a failed attempt is tried again, RetryDelaySeconds the time before the first of them.
	Retries           *int     `json:"retries,omitempty"`
	RetryDelaySeconds *float64 `json:"retry_delay_seconds,omitempty"`
	// IgnoreDependencies leaves out all that the task depends on.
	IgnoreDependencies bool `json:"ignore_dependencies,omitempty"`
}

// ScheduleTask asks for a run of a task with its dependencies.
type ScheduleTask struct {
	// TaskID may name a variant, TASK:SET.
	TaskID string `json:"task_id"`
	Settings
	TaskSettings
}

// ScheduleDAG asks for a run of a DAG.
type ScheduleDAG struct {
	DAGID string `json:"dag_id"`
	Settings
}

// PlanRequest asks what scheduling the task or the DAG (one of both) would run.
type PlanRequest struct {
	TaskID string `json:"task_id,omitempty"`
	DAGID  string `json:"dag_id,omitempty"`
	Settings
	TaskSettings
}

// Scheduled is the answer when a run was started, and stored.
type Scheduled struct {
	Success  bool               `json:"success"`
	RunID    string             `json:"run_id"`
	DAGRunID string             `json:"dag_run_id"` // the same as RunID
	Status   workflow.RunStatus `json:"status"`
	// StartTime is when the run was made.
	StartTime time.Time `json:"start_time"`
	// Existing tells that the idempotency key was known, and this is the earlier run.
	Existing bool            `json:"existing,omitempty"`
	Tasks    []ScheduledTask `json:"tasks"`
}

// ScheduledTask is a task run of a run that was started.
type ScheduledTask struct {
	ID        string              `json:"id"`
	TaskRunID string              `json:"task_run_id"`
	Status    workflow.TaskStatus `json:"status"`
}

// Plan is what scheduling would run, in an order in which each task comes after all that it waits for.
type Plan struct {
	TaskID string     `json:"task_id,omitempty"`
	DAGID  string     `json:"dag_id,omitempty"`
	Tasks  []PlanTask `json:"tasks"`
}

// PlanTask is a task of a plan.
type PlanTask struct {
	ID       string `json:"id"`
	TaskID   string `json:"task_id"`
	Queue    string `json:"queue"`
	Priority int    `json:"priority"`
	// Kept tells that it would not run: an earlier success is fresh enough, or nobody needs its work then.
	Kept bool `json:"kept,omitempty"`
	// Level is the number of steps before it on the longest way from a task without dependencies.
	Level        int      `json:"level"`
	Dependencies []string `json:"dependencies"`
}
