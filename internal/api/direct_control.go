package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// ControlRun implements Service.
func (d *Direct) ControlRun(ctx context.Context, id string, action RunAction) (*ControlledRun, error) {
	if !slices.Contains(RunActions, action) {
		return nil, notFound(fmt.Sprintf("nothing called %q can be done with a run", action), "")
	}
	wait, stop := context.WithTimeout(ctx, answerWait)
	defer stop()
	view, err := d.backend.FindRun(ctx, id)
	if err != nil {
		return nil, d.explain(ctx, "find run "+id, err)
	}
	// One that was just submitted begins in a moment.
	begun := func(view *engine.RunView) bool {
		return view.Status != workflow.RunPending || !view.CancelTime.IsZero()
	}
	if view, err = d.until(wait, view, begun); err != nil {
		return nil, d.explain(ctx, "see how run "+id+" begins", err)
	}
	kind, wanted := engine.CommandPause, workflow.RunPaused
	if action == ActionResume {
		kind, wanted = engine.CommandResume, workflow.RunRunning
	}
	switch {
	case view.Status.Ended():
		return nil, conflict(view.Status, fmt.Sprintf("run %q has ended already: it is %s", id, view.Status), "")
	case !view.CancelTime.IsZero():
		return nil, conflict(view.Status, fmt.Sprintf("run %q is being cancelled", id), "")
	case view.Status == workflow.RunPending:
		return nil, conflict(view.Status, fmt.Sprintf("run %q has not begun yet", id), fmt.Sprintf("try again when it runs; `cyclonetix cancel-run %s` ends it", id))
	case view.Status != wanted:
		err = d.backend.Command(ctx, view.ID, engine.Command{Kind: kind, Node: workflow.RunNode, Actor: d.options.Actor})
		if err == nil || errors.Is(err, engine.ErrEnded) {
			before := view.Status
			view, err = d.until(wait, view, func(view *engine.RunView) bool { return view.Status != before })
		}
		if err != nil {
			return nil, d.explain(ctx, fmt.Sprintf("%s run %s", action, id), err)
		}
	}
	if view.Status.Ended() && action == ActionPause {
		return nil, conflict(view.Status, fmt.Sprintf("run %q has ended meanwhile: it is %s", id, view.Status), "")
	}
	return &ControlledRun{Success: true, RunID: view.Name, DAGRunID: view.Name, Status: view.Status}, nil
}

var taskCommands = map[TaskAction]engine.CommandKind{
	ActionApprove: engine.CommandApprove, ActionReject: engine.CommandReject, ActionRetry: engine.CommandRetry, ActionSkip: engine.CommandSkip,
}

// ControlTask implements Service.
func (d *Direct) ControlTask(ctx context.Context, id string, action TaskAction) (*ControlledTask, error) {
	kind, known := taskCommands[action]
	if !known {
		return nil, notFound(fmt.Sprintf("nothing called %q can be done with a task run", action), "")
	}
	runID, node, err := parseTaskRun(id)
	if err != nil {
		return nil, err
	}
	view, err := d.backend.FindRun(ctx, runID.String())
	if err != nil {
		return nil, d.explain(ctx, "find task run "+id, err)
	}
	task, err := d.taskRun(ctx, runID, node)
	if err != nil {
		return nil, d.explain(ctx, "find task run "+id, err)
	}
	if action != ActionSkip || task.Status != workflow.TaskSkipped { // else it is so already
		if err := refuse(&view, task, action); err != nil {
			return nil, err
		}
		err = d.backend.Command(ctx, runID, engine.Command{Kind: kind, Node: node, Actor: d.options.Actor})
		if errors.Is(err, engine.ErrEnded) {
			return nil, conflict(view.Status, fmt.Sprintf("run %q has ended meanwhile", view.Name), "")
		}
		if err == nil {
			task, err = d.untilMoved(ctx, runID, task)
		}
		if err == nil && action == ActionSkip && task.Status != workflow.TaskSkipped {
			return nil, d.notSkipped(ctx, &view, task)
		}
		if err == nil {
			view, err = d.backend.FindRun(ctx, runID.String())
		}
		if err != nil {
			return nil, d.explain(ctx, fmt.Sprintf("%s task run %s", action, id), err)
		}
	}
	return &ControlledTask{
		Success: true, RunID: view.Name, DAGRunID: view.Name, ID: task.Name, TaskRunID: id, Status: task.Status, RunStatus: view.Status,
	}, nil
}

// untilMoved looks at a task run until it is no longer as it was, and gives what it saw last.
func (d *Direct) untilMoved(ctx context.Context, run workflow.RunID, before *engine.TaskRunView) (*engine.TaskRunView, error) {
	wait, stop := context.WithTimeout(ctx, answerWait)
	defer stop()
	task := before
	err := poll(wait, func() (bool, error) {
		seen, err := d.taskRun(wait, run, before.Node)
		if err != nil {
			return false, err
		}
		task = seen
		return task.Status != before.Status || task.Attempt != before.Attempt || task.Cause != before.Cause, nil
	})
	return task, err
}

// refuse is the error of what cannot be done with a task run as it is; nil when it can.
func refuse(run *engine.RunView, task *engine.TaskRunView, action TaskAction) error {
	says := func(message, hint string) error {
		return conflict(task.Status, fmt.Sprintf("task %q of run %q %s", task.Name, run.Name, message), hint)
	}
	is := "it is " + state(task.Status)
	ended := run.Status.Ended()
	switch {
	case !run.CancelTime.IsZero() && !ended:
		return conflict(run.Status, fmt.Sprintf("run %q is being cancelled", run.Name), "")
	case action == ActionApprove || action == ActionReject:
		if task.Status == workflow.TaskWaiting && task.Cause == workflow.CauseApproval {
			return nil
		}
		return says("does not wait for an approval: "+is, "")
	case task.Cause == workflow.CauseGroup:
		return says("only stands for its items", fmt.Sprintf("%s one of them, such as %s[0]", action, task.Name))
	case action == ActionRetry:
		switch {
		case task.Status == workflow.TaskSkipped:
			return says("was skipped, so there is nothing to try again", "")
		case !task.Status.Ended():
			return says("has not ended: "+is, "only a task that has ended is tried again")
		}
		return nil
	case task.Status == workflow.TaskRunning || task.Status == workflow.TaskQueued:
		return says("cannot be skipped any more: "+is, fmt.Sprintf("`cyclonetix cancel-run %s` ends the whole run", run.Name))
	case task.Status == workflow.TaskCompleted:
		return says("is completed: there is nothing to skip", "")
	}
	return nil
}

// notSkipped is the error of a skip that was ordered and changed nothing: a task that stands for its items, of which some
// run already, or one that came to something else meanwhile.
func (d *Direct) notSkipped(ctx context.Context, run *engine.RunView, task *engine.TaskRunView) error {
	message, hint := "was not skipped: it is "+state(task.Status), "try again"
	all, err := d.backend.TaskRuns(ctx, run.ID)
	if err != nil {
		return d.explain(ctx, "read the tasks of run "+run.Name, err)
	}
	if slices.ContainsFunc(all, func(one engine.TaskRunView) bool { return strings.HasPrefix(one.Name, task.Name+"[") }) {
		message += ", and items of it run or have run"
		hint = fmt.Sprintf("skip items that have not started, such as %s[0]; `cyclonetix cancel-run %s` ends the whole run", task.Name, run.Name)
	}
	return conflict(task.Status, fmt.Sprintf("task %q of run %q %s", task.Name, run.Name, message), hint)
}

// state is a status as a sentence has it.
func state(status workflow.TaskStatus) string { return strings.ReplaceAll(status.String(), "_", " ") }

// Events implements Service.
func (d *Direct) Events(ctx context.Context, id string, query *EventQuery) (*EventList, error) {
	limit, err := pageLimit(query.Limit, query.Offset)
	if err != nil {
		return nil, err
	}
	view, err := d.backend.FindRun(ctx, id)
	if err != nil {
		return nil, d.explain(ctx, "find run "+id, err)
	}
	all, err := d.backend.Events(ctx, view.ID)
	if err != nil {
		return nil, d.explain(ctx, "read the events of run "+id, err)
	}
	list := &EventList{Events: []Event{}, Total: len(all), Limit: limit, Offset: query.Offset}
	all = all[min(query.Offset, len(all)):]
	for i := range all[:min(limit, len(all))] {
		list.Events = append(list.Events, eventOf(view.ID, &all[i]))
	}
	return list, nil
}
