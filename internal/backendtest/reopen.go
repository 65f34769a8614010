package backendtest

import (
	"errors"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var reopenTests = []test{
	{name: "a run that was reopened lives, and is listed as running", run: func(w *world) {
		run := w.startFailed()
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		if view := w.view(run.ID); view.Status != workflow.RunRunning || !view.EndTime.IsZero() || view.StartTime.IsZero() || view.FailedTasks != 0 {
			w.Errorf("the run is seen as %+v", view)
		}
		w.wantListed(run.ID, workflow.RunRunning, true)
		w.wantListed(run.ID, workflow.RunFailed, false)
		w.takeOver()
		ids, err := w.writer.LiveRuns(w.ctx, workflow.RunID{}, 10)
		w.must(err, "list live runs")
		if !slices.Equal(ids, []workflow.RunID{run.ID}) {
			w.Errorf("live are %v", ids)
		}
		run = w.wantStored(run)
		w.wantStatuses(run.ID, "a queued, b pending, c completed")
		w.wantNames(w.claim(w.agent("one"), 9, 0), "a") // the other deliveries were done with
	}},
	{name: "a run can end, live and end again", run: func(w *world) {
		run := w.startFailed()
		for range 3 {
			run = w.wantStored(run)
			w.advance(run, nil, asked(workflow.EventRetry, 0))
			w.advance(run, nil, w.failed(current(run, 0), 1))
			if view := w.view(run.ID); view.Status != workflow.RunFailed || view.EndTime.IsZero() || view.FailedTasks != 1 {
				w.Fatalf("the run is seen as %+v", view)
			}
			w.wantListed(run.ID, workflow.RunFailed, true)
			w.wantListed(run.ID, workflow.RunRunning, false)
		}
		run = w.wantStored(run)
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		w.advance(run, nil, w.completed(current(run, 0)))
		w.advance(run, nil, w.completed(current(run, 1)))
		if view := w.view(run.ID); view.Status != workflow.RunCompleted || view.CompletedTasks != 3 || view.FailedTasks != 0 {
			w.Fatalf("the run is seen as %+v", view)
		}
		if task := w.tasks(run.ID)[0]; task.Attempt != 5 {
			w.Fatalf("the task run is seen as %+v", task)
		}
		ids, err := w.writer.LiveRuns(w.ctx, workflow.RunID{}, 10)
		w.must(err, "list live runs")
		if len(ids) > 0 {
			w.Fatalf("live are %v", ids)
		}
	}},
	{name: "a row that is retired becomes an attempt, and counts as no retry", run: func(w *world) {
		plan := planOf("a")
		plan.Specs[0].Retries = workflow.Retries{Count: 2}
		run := w.start(plan)
		for range 3 {
			w.advance(run, nil, w.failed(current(run, 0), 1))
		}
		run = w.wantStored(run)
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		run = w.wantStored(run) // it has all its retries again
		for range 2 {
			w.advance(run, nil, w.failed(current(run, 0), 1))
			run = w.wantStored(run)
			if run.Status.Ended() {
				w.Fatalf("the run ended before its retries were used up")
			}
		}
		w.advance(run, nil, w.failed(current(run, 0), 1))
		if task := w.tasks(run.ID)[0]; task.Status != workflow.TaskFailed || task.Attempt != 6 {
			w.Fatalf("the task run is seen as %+v", task)
		}
		w.wantStored(run)
	}},
	{name: "an attempt that was superseded before its row is retired stays as it was", run: func(w *world) {
		plan := planOf("a")
		plan.Specs[0].Retries = workflow.Retries{Count: 1, DelaySeconds: 1000}
		run := w.start(plan)
		w.advance(run, nil, w.failed(member(run, 0), 1))
		w.advance(run, nil, asked(workflow.EventCancel, workflow.RunNode)) // while it waits for its retry
		run = w.wantStored(run)
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		run = w.wantStored(run)
		w.advance(run, nil, w.completed(current(run, 0)))
		if task := w.tasks(run.ID)[0]; task.Status != workflow.TaskCompleted || task.Attempt != 2 {
			w.Fatalf("the task run is seen as %+v", task)
		}
		w.wantStored(run)
	}},
	{name: "agents that died before a retired attempt are counted", run: func(w *world) {
		run := w.start(planOf("a"))
		lost := w.completed(current(run, 0))
		lost.Kind = workflow.EventLost
		w.advance(run, nil, lost)
		w.advance(run, nil, w.failed(current(run, 0), 1))
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		w.wantStored(run)
	}},
	{name: "what dealt with a failure waits for that task again, and runs again or is skipped", run: func(w *world) {
		plan := planOf("a", "b: a", "c: a")
		plan.Specs[1].TriggerRule, plan.Specs[2].TriggerRule = workflow.RuleOneFailed, workflow.RuleAllDone
		run := w.start(plan)
		w.advance(run, nil, w.failed(member(run, 0), 1))
		w.advance(run, nil, w.completed(member(run, 1)), w.failed(member(run, 2), 1))
		for attempt := uint16(2); attempt <= 3; attempt++ {
			run = w.wantStored(run)
			w.advance(run, nil, asked(workflow.EventRetry, 0))
			w.wantStatuses(run.ID, "a queued, b waiting, c waiting")
			for _, task := range w.tasks(run.ID)[1:] {
				if task.Cause != workflow.CauseTriggerRule || task.Attempt != int(attempt) || !task.EndTime.IsZero() {
					w.Errorf("a task run that waits again is seen as %+v", task)
				}
			}
			w.takeOver()
			run = w.wantStored(run)
			if attempt == 2 {
				w.advance(run, nil, w.failed(current(run, 0), 1))
				w.wantStatuses(run.ID, "a failed, b queued, c queued")
				run = w.wantStored(run)
				w.advance(run, nil, w.completed(current(run, 1)), w.failed(current(run, 2), 1))
			}
		}
		w.advance(run, nil, w.completed(current(run, 0)))
		w.wantStatuses(run.ID, "a completed, b skipped, c queued")
		run = w.wantStored(run)
		w.advance(run, nil, w.completed(current(run, 2)))
		if view := w.view(run.ID); view.Status != workflow.RunCompleted || view.CompletedTasks != 2 || view.FailedTasks != 0 {
			w.Errorf("the run is seen as %+v", view)
		}
		w.wantStored(run)
	}},
	{name: "rows that go leave their nodes pending", run: func(w *world) {
		run := w.startFailed()
		w.wantStatuses(run.ID, "a failed, b upstream_failed, c completed")
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		if task := w.tasks(run.ID)[1]; task.Status != workflow.TaskPending || task.Attempt != 0 || task.Cause != workflow.CauseNone || !task.EndTime.IsZero() {
			w.Errorf("a task run whose row went is seen as %+v", task)
		}
		run = w.wantStored(run)
		w.advance(run, nil, w.completed(current(run, 0)))
		w.wantStatuses(run.ID, "a completed, b queued, c completed")
		w.wantStored(run)
	}},
	{name: "a row that goes may be followed by another in the same commit", run: func(w *world) {
		run := w.startFailed()
		change := w.advance(run, nil, asked(workflow.EventSkip, 1))
		if !slices.Equal(change.Reset, []int32{1}) {
			w.Fatalf("the rows of %v go", change.Reset)
		}
		if task := w.tasks(run.ID)[1]; task.Status != workflow.TaskSkipped || task.Cause != workflow.CauseSkip || task.Reason != "skipped by ann" {
			w.Errorf("the skipped task run is seen as %+v", task)
		}
		w.wantStored(run)
	}},
	{name: "a task run that failed can be skipped, and what waited for it goes on", run: func(w *world) {
		plan := planOf("a", "b", "c: a b")
		run := w.start(plan)
		w.advance(run, nil, w.failed(member(run, 0), 1), w.completed(member(run, 1)))
		w.wantStatuses(run.ID, "a failed, b completed, c upstream_failed")
		w.advance(run, nil, asked(workflow.EventSkip, 0))
		w.wantStatuses(run.ID, "a skipped, b completed, c queued")
		run = w.wantStored(run)
		w.advance(run, nil, w.completed(current(run, 2)))
		if view := w.view(run.ID); view.Status != workflow.RunCompleted || view.CompletedTasks != 2 || view.FailedTasks != 0 {
			w.Fatalf("the run is seen as %+v", view)
		}
	}},
	{name: "a run may be reopened and end in one commit", run: func(w *world) {
		run := w.start(planOf("a"))
		w.advance(run, nil, w.failed(member(run, 0), 1))
		change := w.advance(run, nil, asked(workflow.EventSkip, 0))
		if change.Run == nil || !change.Run.Reopened || !change.Run.Status.Ended() {
			w.Fatalf("the change is %+v", change.Run)
		}
		if view := w.view(run.ID); view.Status != workflow.RunCompleted {
			w.Errorf("the run is seen as %+v", view)
		}
		ids, err := w.writer.LiveRuns(w.ctx, workflow.RunID{}, 10)
		w.must(err, "list live runs")
		if len(ids) > 0 {
			w.Errorf("live are %v", ids)
		}
		w.wantStored(run)
	}},
	{name: "a cancelled run can be reopened, and nobody has cancelled it then", run: func(w *world) {
		run := w.start(planOf("a", "b: a"))
		w.advance(run, nil, asked(workflow.EventCancel, 0))
		w.advance(run, nil, workflow.Event{Kind: workflow.EventWithdraw, Node: 0, Attempt: 1, Delivery: 1})
		w.wantStatuses(run.ID, "a cancelled, b cancelled")
		run = w.wantStored(run)
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		if view := w.view(run.ID); view.Status != workflow.RunRunning || !view.CancelTime.IsZero() {
			w.Errorf("the run is seen as %+v", view)
		}
		w.wantStatuses(run.ID, "a queued, b pending")
		w.wantStored(run)
	}},
	{name: "why a run ended early is forgotten when it lives again", run: func(w *world) {
		of := submission(planOf("a"))
		of.Options.TimeoutSeconds = 1000
		run := w.startOf(of)
		w.advance(run, nil, workflow.Event{Kind: workflow.EventTimer, Node: workflow.RunNode, Timer: workflow.TimerRun})
		w.advance(run, nil, workflow.Event{Kind: workflow.EventWithdraw, Node: 0, Attempt: 1, Delivery: 1})
		if view := w.view(run.ID); view.Status != workflow.RunFailed || view.Reason == "" {
			w.Fatalf("the run is seen as %+v", view)
		}
		run = w.wantStored(run)
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		if view := w.view(run.ID); view.Reason != "" {
			w.Errorf("the run is seen as %+v", view)
		}
		w.wantStored(run)
	}},
	{name: "a run that was refused can be reopened", run: func(w *world) {
		run := w.start(planOf("a", "b"))
		w.advance(run, nil, w.completed(member(run, 1)))
		w.commit(&engine.Commit{Refused: []engine.RefusedRun{{ID: run.ID, Reason: "it can't be stored"}}, Remove: w.keys(member(run, 0))})
		run, err := w.writer.LoadEnded(w.ctx, run.ID)
		w.must(err, "load the refused run")
		if run.Status != workflow.RunFailed || run.Nodes[0].Status != workflow.TaskCancelled {
			w.Fatalf("it is loaded as %s with %+v", run.Status, run.Nodes)
		}
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		if view := w.view(run.ID); view.Status != workflow.RunRunning || view.Reason != "" {
			w.Errorf("the run is seen as %+v", view)
		}
		w.wantStatuses(run.ID, "a queued, b completed")
		w.wantStored(run)
	}},
	{name: "only a run that has ended is loaded as one", run: func(w *world) {
		run := w.start(planOf("a"))
		pending := w.submit(submission(planOf("a")))[0].ID
		for _, id := range []workflow.RunID{run.ID, pending, workflow.NewRunID(w.now(), 1)} {
			if loaded, err := w.writer.LoadEnded(w.ctx, id); !errors.Is(err, engine.ErrNotFound) {
				w.Errorf("loading run %s gives %v, %v", id, loaded, err)
			}
		}
		w.advance(run, nil, w.completed(member(run, 0)))
		w.wantStored(run)
	}},
	{name: "a run that has ended changes only when it is reopened", run: func(w *world) {
		run := w.startFailed()
		change := w.decide(run, asked(workflow.EventRetry, 0))
		change.Run.Reopened = false
		if _, err := w.writer.Commit(w.ctx, &engine.Commit{At: change.At, Changes: []*workflow.Change{change}}); !errors.Is(err, engine.ErrRefused) {
			w.Fatalf("the commit gives %v", err)
		}
		w.wantStored(run)
		w.wantListed(run.ID, workflow.RunFailed, true)
	}},
}

// startFailed starts a run that ends as failed: b is behind a, which fails, and c completes. Nothing is left in the queue.
func (w *world) startFailed() *workflow.Run {
	w.Helper()
	run := w.start(planOf("a", "b: a", "c"))
	w.advance(run, nil, w.failed(member(run, 0), 1), w.completed(member(run, 2)))
	w.commit(&engine.Commit{Remove: w.keys(member(run, 0), member(run, 2))})
	if !run.Status.Ended() {
		w.Fatalf("the run is %s", run.Status)
	}
	return run
}

// wantListed looks for a run in the list of those with a status.
func (w *world) wantListed(id workflow.RunID, status workflow.RunStatus, want bool) {
	w.Helper()
	list, err := w.backend.Runs(w.ctx, engine.RunFilter{Status: []workflow.RunStatus{status}})
	w.must(err, "list runs")
	if got := slices.Contains(idsOf(list), id); got != want {
		w.Fatalf("that the run is listed as %s is %v", status, got)
	}
}
