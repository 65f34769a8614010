package api

import (
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// RunAction is something that can be done with a run.
type RunAction string

// The actions on a run.
const (
	ActionPause  RunAction = "pause"  // nothing more starts; what runs goes on
	ActionResume RunAction = "resume" // a paused run goes on
)

// TaskAction is something that can be done with a task run.
type TaskAction string

// The actions on a task run.
const (
	ActionApprove TaskAction = "approve" // it waits for a person, and may start
	ActionReject  TaskAction = "reject"  // it waits for a person, and fails
	ActionRetry   TaskAction = "retry"   // it has ended, and runs again; a run that has ended lives again
	ActionSkip    TaskAction = "skip"    // it failed, or has not started, and counts as absent
)

// RunActions and TaskActions are all of them.
var (
	RunActions  = []RunAction{ActionPause, ActionResume}
	TaskActions = []TaskAction{ActionApprove, ActionReject, ActionRetry, ActionSkip}
)

// ControlledRun is the answer when something was asked of a run.
type ControlledRun struct {
	Success  bool               `json:"success"`
	RunID    string             `json:"run_id"`
	DAGRunID string             `json:"dag_run_id"` // the same as RunID
	Status   workflow.RunStatus `json:"status"`
}

// ControlledTask is the answer when something was asked of a task run.
type ControlledTask struct {
	Success   bool                `json:"success"`
	RunID     string              `json:"run_id"`
	DAGRunID  string              `json:"dag_run_id"` // the same as RunID
	ID        string              `json:"id"`
	TaskRunID string              `json:"task_run_id"`
	Status    workflow.TaskStatus `json:"status"`
	// RunStatus is the status of the run.
	RunStatus workflow.RunStatus `json:"run_status"`
}

// Rerun says what of a run that has ended is to run again. The zero value is all of it.
type Rerun struct {
	// FailedOnly keeps the task runs that completed, what was skipped because of them, and what evaluation points decided.
	FailedOnly bool `json:"failed_only,omitempty"`
	// FromTask runs the task of this name and all after it; what completed of the others is kept. For one that was added
	// while the run went on it is what added it.
	FromTask string `json:"from_task,omitempty"`
	// ResetParams drops what the run was given and asked for when it was scheduled, but for its context and whether a task
	// runs without its dependencies.
	ResetParams bool `json:"reset_params,omitempty"`
	// IdempotencyKey is as in Settings.
	IdempotencyKey string `json:"-"`
}

// EventQuery says which events to give.
type EventQuery struct {
	Limit  int // 1 to MaxLimit; 0 for DefaultLimit
	Offset int
}

// EventList is a page of what happened to a run, in order.
type EventList struct {
	Events []Event `json:"events"`
	Total  int     `json:"total"`
	Limit  int     `json:"limit"`
	Offset int     `json:"offset"`
}

// Event is something that happened to a run or to one of its task runs.
type Event struct {
	Time time.Time `json:"time"`
	// Event is a status that was reached ("queued", "completed"), or what was done ("cancel", "approve", "evaluate").
	Event string `json:"event"`
	// ID and TaskRunID name the task run; they are left out for the run itself.
	ID        string `json:"id,omitempty"`
	TaskRunID string `json:"task_run_id,omitempty"`
	Attempt   int    `json:"attempt,omitempty"`
	Cause     string `json:"cause,omitempty"`
	Actor     string `json:"actor,omitempty"`
	Reason    string `json:"reason,omitempty"`
	// Detail is what an evaluation point decided.
	Detail *workflow.Value `json:"detail,omitempty"`
}

func eventOf(run workflow.RunID, view *engine.EventView) Event {
	event := Event{
		Time: utc(view.At), Event: view.Kind, Attempt: view.Attempt, Cause: view.Cause.String(), Actor: view.Actor, Reason: view.Reason,
	}
	if view.Node != workflow.RunNode {
		event.ID, event.TaskRunID = view.Name, workflow.TaskRunID(run, view.Node)
	}
	if view.Detail != "" {
		event.Detail = &view.Detail
	}
	return event
}
