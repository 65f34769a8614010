package engine

import (
	"context"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Reader reads for people and the API. It may lag behind, and no decision rests on it.
type Reader interface {
	// FindRun gives the run with the given custom id or UUID. Errors: an *UnknownRunError;
	// ErrGone for a UUID of a time of which retention has dropped the runs.
	FindRun(ctx context.Context, id string) (RunView, error)
	// Runs lists runs, newest first.
	Runs(ctx context.Context, filter RunFilter) (RunList, error)
	// Outcomes lists the newest runs by outcome that were made since a time, newest first, at most limit.
	Outcomes(ctx context.Context, since time.Time, limit int) ([]RunView, error)
	// TaskRun gives one task run. Error: ErrNotFound.
	TaskRun(ctx context.Context, run workflow.RunID, node int32) (TaskRunView, error)
	// TaskRuns lists the task runs of a run by node, those that are pending too.
	TaskRuns(ctx context.Context, run workflow.RunID) ([]TaskRunView, error)
	// Needs gives what the queued task runs of a run need of an agent, by node, beside its queue: those that have requires
	// or resources.
	Needs(ctx context.Context, run workflow.RunID) (map[int32]Class, error)
	// Plan gives the graph of a run.
	Plan(ctx context.Context, run workflow.RunID) ([]PlanNode, error)
	// Events lists what happened to a run, in order.
	Events(ctx context.Context, run workflow.RunID) ([]EventView, error)
	// Pending gives what a run needs in order to begin.
	Pending(ctx context.Context, run workflow.RunID) (PendingView, error)
	// Given gives the values that the run was made with, the sensitive ones too: for a rerun, not for people.
	Given(ctx context.Context, run workflow.RunID) (*workflow.RunValues, error)
	// Updates gives what evaluation points of the run changed in its values, in order. Those are left out of which it is not
	// known what point they are of, because they were stored by an earlier version.
	Updates(ctx context.Context, run workflow.RunID) ([]workflow.PointUpdate, error)
	// Logs gives chunks of a task run's log after the given place, in order, at most limit.
	Logs(ctx context.Context, run workflow.RunID, node int32, after LogPlace, limit int) ([]LogChunk, error)
	// Queues lists the queues that hold or held tasks.
	Queues(ctx context.Context) ([]QueueView, error)
	// Agents lists the agents that live, and those that died in the last day.
	Agents(ctx context.Context) ([]AgentView, error)
}

// LogPlace is a place in the log of a task run.
type LogPlace struct {
	Attempt uint16
	Seq     int32
}

// RunFilter says which runs to list. Zero fields do not filter.
type RunFilter struct {
	Status       []workflow.RunStatus
	DAG          string
	Since, Until time.Time
	Limit        int // 100 when 0
	Offset       int
}

// RunList is a part of a list of runs.
type RunList struct {
	Runs []RunView
	// Total is the number of runs that fit the filter, exact up to 10,000.
	Total      int
	TotalExact bool
}

// RunView is a run as people see it.
type RunView struct {
	ID workflow.RunID
	// Name is the id to the outside: the custom one where there is one.
	Name string
	// DAG is the DAG's id, or the outcome's task id for a run by outcome.
	DAG       string
	ByOutcome bool
	Context   string
	Status    workflow.RunStatus
	// The times; zero when there is none yet.
	CreatedAt, StartTime, EndTime, CancelTime time.Time
	TaskCount, CompletedTasks, FailedTasks    int
	Reason                                    string
	Actor, Cause                              string
	Revision                                  int64
	// LogicalDate is the time that it was scheduled for; zero for none.
	LogicalDate time.Time
	// RerunOf is the run that it repeats; zero for none. RerunOfName is its id to the outside, or its UUID once retention has
	// dropped it; empty for none.
	RerunOf     workflow.RunID
	RerunOfName string
	// Request is what was asked for; nil for a run that an earlier version stored.
	Request *Request
}

// PendingView is what a run needs in order to begin.
type PendingView struct {
	// Orchestrated tells that an orchestrator lives, as far as the backend knows.
	Orchestrated bool
	// Groups and After are those of its options.
	Groups []workflow.RunGroup
	After  time.Time
}

// TaskRunView is a task run as people see it.
type TaskRunView struct {
	Node     int32
	Name     string
	TaskID   string
	Queue    string
	Priority int
	Status   workflow.TaskStatus
	Attempt  int
	// The times; zero when there is none yet.
	QueuedTime, StartTime, EndTime time.Time
	ExitCode                       *int32
	AgentID                        string
	Cause                          workflow.Cause
	Reason                         string
}

// PlanNode is a node of a run's graph.
type PlanNode struct {
	Node         int32
	Name         string
	TaskID       string
	Dependencies []int32
}

// EventView is something that happened to a run or to one of its task runs.
type EventView struct {
	At time.Time
	// Kind is a status that was reached ("queued", "completed"), or what was done ("cancel", "approve", "evaluate").
	Kind string
	// Node is workflow.RunNode for the run itself.
	Node    int32
	Name    string // of the node
	Attempt int
	Cause   workflow.Cause
	Actor   string
	Reason  string
	Detail  workflow.Value // JSON; empty for none
}

// QueueView is a queue as people see it.
type QueueView struct {
	Name string
	// Depth counts the tasks that wait: in the queue and in a writer's memory.
	Depth   int
	Running int
	// Oldest is when the oldest of them was queued; zero when nothing waits.
	Oldest    time.Time
	Consumers int
}

// AgentView is an agent as people see it.
type AgentView struct {
	ID            string
	Incarnation   int64
	Status        string // "live", "stopped", "lost"
	Queues, Tags  []string
	Slots         int
	Resources     workflow.Resources
	Running       int
	Version       string
	RegisteredAt  time.Time
	LastHeartbeat time.Time
}
