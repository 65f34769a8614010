package api

import (
	"context"
	"time"
)

// Service starts runs, shows them, and controls them. It is safe for concurrent use.
//
// A run is named by its custom id or its UUID, a task run by its task_run_id. Times in answers are
// in UTC. Errors are an *Error where the caller can do something about them.
type Service interface {
	// ScheduleTask starts a run of a task and all that it depends on.
	ScheduleTask(ctx context.Context, request *ScheduleTask) (*Scheduled, error)
	// ScheduleDAG starts a run of a DAG.
	ScheduleDAG(ctx context.Context, request *ScheduleDAG) (*Scheduled, error)
	// Plan tells what scheduling would run. It starts nothing.
	Plan(ctx context.Context, request *PlanRequest) (*Plan, error)

	// Runs lists runs, newest first.
	Runs(ctx context.Context, query *RunQuery) (*RunList, error)
	// Run gives a run, with what include asks for.
	Run(ctx context.Context, run string, include Include) (*Run, error)
	// Graph gives the tasks of a run with their states and dependencies.
	Graph(ctx context.Context, run string) (*Graph, error)
	// Logs gives a part of the log of a task run.
	Logs(ctx context.Context, taskRun string, query *LogQuery) (*Logs, error)
	// FollowLogs gives the log of a task run as it grows, until the task run has ended or the
	// context ends. An error of emit ends it, and is returned as it is.
	FollowLogs(ctx context.Context, taskRun string, query *LogQuery, emit func(LogEntry) error) error
	// CancelRun asks for a run to be cancelled, and answers within a second with the status that
	// it has then: cancelled when it could end so fast, else running with a cancel time.
	CancelRun(ctx context.Context, run string) (*Cancelled, error)

	// ControlRun pauses or resumes a run, and answers within a second with the status that it has then. What is so
	// already is no error; what cannot be done is a conflict.
	ControlRun(ctx context.Context, run string, action RunAction) (*ControlledRun, error)
	// ControlTask does something with a task run, and answers within a second with the status that it has then.
	// What cannot be done is a conflict.
	ControlTask(ctx context.Context, taskRun string, action TaskAction) (*ControlledTask, error)
	// Events gives what happened to a run, in order.
	Events(ctx context.Context, run string, query *EventQuery) (*EventList, error)
	// Rerun starts a run that repeats one which has ended, by today's definitions.
	Rerun(ctx context.Context, run string, request *Rerun) (*Scheduled, error)
	// Backfill starts a run of a DAG for each of its scheduled times in a range, but where there is one already.
	Backfill(ctx context.Context, request *Backfill) (*Backfilled, error)

	// Tasks lists task definitions by id.
	Tasks(ctx context.Context, query *DefinitionQuery) (*TaskList, error)
	// DAGs lists DAG definitions by id.
	DAGs(ctx context.Context, query *DefinitionQuery) (*DAGList, error)
	// Contexts lists contexts by id.
	Contexts(ctx context.Context, query *DefinitionQuery) (*ContextList, error)
	// ParameterSets lists parameter sets by id.
	ParameterSets(ctx context.Context, query *DefinitionQuery) (*ParameterSetList, error)
	// Health tells whether the service and its backend work. What does not work is in the answer,
	// not an error.
	Health(ctx context.Context) (*Health, error)
}

// Health says how the service is.
type Health struct {
	Status  string `json:"status"` // "ok", or "unavailable"
	Version string `json:"version"`
	Backend string `json:"backend"` // "ok", or what is wrong
}

// The values of Health.Status.
const (
	HealthOK          = "ok"
	HealthUnavailable = "unavailable"
)

// The bounds of a page of a list.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// seconds is a duration as the API gives it, in seconds with milliseconds.
func seconds(d time.Duration) float64 {
	return float64(d.Milliseconds()) / 1000
}
