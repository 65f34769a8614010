package api

import (
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// RunQuery says which runs to list. Zero fields do not filter.
type RunQuery struct {
	Status       []workflow.RunStatus
	DAGID        string    // of the DAG, or of the task for a run by outcome
	Since, Until time.Time // of the run's creation: since included, until not
	Limit        int       // 1 to MaxLimit; DefaultLimit when 0
	Offset       int
}

// RunList is a page of runs, newest first.
type RunList struct {
	Runs []Run `json:"runs"`
	// Total is the number of runs that fit the query, whatever the page.
	Total int `json:"total"`
	// TotalExact is false when Total only is a lower bound.
	TotalExact bool `json:"total_exact"`
	Limit      int  `json:"limit"`
	Offset     int  `json:"offset"`
}

// Include says what Service.Run adds to a run.
type Include struct {
	Tasks bool
	// Logs adds the end of each task run's log; it implies Tasks.
	Logs bool
}

// Run is a run.
type Run struct {
	// RunID is the custom id where there is one, else the UUID.
	RunID    string `json:"run_id"`
	DAGRunID string `json:"dag_run_id"` // the same as RunID
	// DAGID is the DAG's id, or the task's for a run by outcome.
	DAGID     string             `json:"dag_id"`
	ByOutcome bool               `json:"by_outcome"`
	Context   string             `json:"context,omitempty"`
	Status    workflow.RunStatus `json:"status"`
	Reason    string             `json:"reason,omitempty"`
	// WaitsFor says what a run that is pending for more than a moment waits for; only where one run was asked for.
	WaitsFor string `json:"waits_for,omitempty"`
	Actor    string `json:"actor,omitempty"`
	Cause    string `json:"cause,omitempty"`
	// The times, left out where there is none yet.
	CreatedTime time.Time `json:"created_time,omitzero"`
	StartTime   time.Time `json:"start_time,omitzero"`
	EndTime     time.Time `json:"end_time,omitzero"`
	CancelTime  time.Time `json:"cancel_time,omitzero"`
	// DurationSeconds is from start to end; left out before the end.
	DurationSeconds *float64 `json:"duration_seconds,omitempty"`
	TaskCount       int      `json:"task_count"`
	CompletedTasks  int      `json:"completed_tasks"`
	FailedTasks     int      `json:"failed_tasks"`
	// LogicalDate is the time that a scheduled run or one of a backfill is for.
	LogicalDate time.Time `json:"logical_date,omitzero"`
	// RerunOf is the run that it repeats: its custom id where there is one.
	RerunOf string `json:"rerun_of,omitempty"`
	Tasks   []Task `json:"tasks,omitempty"`
}

// Task is a task run.
type Task struct {
	// ID is the name in the run, unique there; TaskID is the id of its definition.
	ID         string              `json:"id"`
	TaskID     string              `json:"task_id"`
	TaskRunID  string              `json:"task_run_id"`
	Status     workflow.TaskStatus `json:"status"`
	Queue      string              `json:"queue"`
	Priority   int                 `json:"priority"`
	QueuedTime time.Time           `json:"queued_time,omitzero"`
	StartTime  time.Time           `json:"start_time,omitzero"`
	EndTime    time.Time           `json:"end_time,omitzero"`
	// DurationSeconds is from start to end; left out before the end.
	DurationSeconds *float64 `json:"duration_seconds,omitempty"`
	Attempt         int      `json:"attempt"` // 0 before it was first queued
	AgentID         string   `json:"agent_id,omitempty"`
	ExitCode        *int32   `json:"exit_code,omitempty"`
	// Cause says in a word why it failed, was cancelled, never ran or waits, Error in a sentence.
	Cause string `json:"cause,omitempty"`
	Error string `json:"error,omitempty"`
	// WaitsFor says which agent a task run waits for that is in the queue, where no live one could run it.
	WaitsFor string `json:"waits_for,omitempty"`
	// Message is for the person whose approval it waits for.
	Message string `json:"message,omitempty"`
	// Logs is the end of the log, when it was asked for.
	Logs []LogEntry `json:"logs,omitempty"`
}

// Graph is the graph of a run.
type Graph struct {
	Nodes []GraphNode `json:"nodes"`
	Edges []GraphEdge `json:"edges"`
}

// GraphNode is a task of the graph.
type GraphNode struct {
	ID     string              `json:"id"`
	TaskID string              `json:"task_id"`
	Status workflow.TaskStatus `json:"status"`
}

// GraphEdge says that the task To waits for the task From.
type GraphEdge struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Cancelled is the answer when a run was asked to be cancelled.
type Cancelled struct {
	Success    bool               `json:"success"`
	RunID      string             `json:"run_id"`
	DAGRunID   string             `json:"dag_run_id"` // the same as RunID
	Status     workflow.RunStatus `json:"status"`
	CancelTime time.Time          `json:"cancel_time,omitzero"`
	EndTime    time.Time          `json:"end_time,omitzero"`
}

func runOf(view *engine.RunView) Run {
	return Run{
		RunID: view.Name, DAGRunID: view.Name, DAGID: view.DAG, ByOutcome: view.ByOutcome, Context: view.Context,
		Status: view.Status, Reason: view.Reason, Actor: view.Actor, Cause: view.Cause,
		CreatedTime: utc(view.CreatedAt), StartTime: utc(view.StartTime), EndTime: utc(view.EndTime), CancelTime: utc(view.CancelTime),
		DurationSeconds: duration(view.StartTime, view.EndTime),
		TaskCount:       view.TaskCount, CompletedTasks: view.CompletedTasks, FailedTasks: view.FailedTasks,
		LogicalDate: utc(view.LogicalDate), RerunOf: view.RerunOfName,
	}
}

func taskOf(run workflow.RunID, view *engine.TaskRunView) Task {
	return Task{
		ID: view.Name, TaskID: view.TaskID, TaskRunID: workflow.TaskRunID(run, view.Node), Status: view.Status,
		Queue: view.Queue, Priority: view.Priority,
		QueuedTime: utc(view.QueuedTime), StartTime: utc(view.StartTime), EndTime: utc(view.EndTime),
		DurationSeconds: duration(view.StartTime, view.EndTime),
		Attempt:         view.Attempt, AgentID: view.AgentID, ExitCode: view.ExitCode,
		Cause: view.Cause.String(), Error: view.Reason,
	}
}

// utc leaves a zero time zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

func duration(start, end time.Time) *float64 {
	if start.IsZero() || end.IsZero() {
		return nil
	}
	value := seconds(end.Sub(start))
	return &value
}
