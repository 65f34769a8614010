package backendtest

import (
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var waitingTests = []test{
	{name: "an approval that is waited for is restored", run: func(w *world) {
		run := w.start(approving(planOf("ask", "b: ask"), 0, 0))
		if task := w.tasks(run.ID)[0]; task.Status != workflow.TaskWaiting || task.Cause != workflow.CauseApproval || task.Attempt != 1 || task.QueuedTime.IsZero() {
			w.Errorf("the task run is seen as %+v", task)
		}
		w.wantNames(w.claim(w.agent("one"), 9, 0), "")
		w.takeOver()
		run = w.wantStored(run)
		if run.Nodes[0].Cause != workflow.CauseApproval {
			w.Fatalf("it waits because of %q", run.Nodes[0].Cause)
		}
		w.advance(run, nil, asked(workflow.EventApprove, 0))
		w.wantStored(run)
		w.wantNames(w.claim(w.agent("two"), 9, 0), "ask")
	}},
	{name: "a rejected task run failed without having started", run: func(w *world) {
		run := w.start(approving(planOf("ask", "b: ask"), 0, 0))
		w.advance(run, nil, asked(workflow.EventReject, 0))
		if task := w.tasks(run.ID)[0]; task.Status != workflow.TaskFailed || task.Cause != workflow.CauseRejected || task.Reason != "rejected by ann" || !task.StartTime.IsZero() {
			w.Errorf("the task run is seen as %+v", task)
		}
		run = w.wantStored(run)
		w.advance(run, nil, asked(workflow.EventRetry, 0)) // it was rejected at its first attempt; the second is queued
		w.wantStored(run)
	}},
	{name: "the time for an approval is a timer", run: func(w *world) {
		run := w.start(approving(planOf("soon", "late", "never"), 0.3, 0, 1))
		w.wantDue(run, 0, workflow.TimerApproval)
		w.advance(run, nil, workflow.Event{Kind: workflow.EventTimer, Node: 0, Timer: workflow.TimerApproval})
		if task := w.tasks(run.ID)[0]; task.Status != workflow.TaskFailed || task.Cause != workflow.CauseTimeout {
			w.Errorf("the task run is seen as %+v", task)
		}
		w.wantStored(run)
	}},
	{name: "an approval drops its timer", run: func(w *world) {
		run := w.start(approving(planOf("ask"), 0.01, 0))
		w.wantDue(run, 0, workflow.TimerApproval)
		w.advance(run, nil, asked(workflow.EventApprove, 0))
		if due := w.tick().Due; len(due) > 0 {
			w.Fatalf("due are %+v", due)
		}
	}},
	{name: "the time-out of a run is a timer of the run", run: func(w *world) {
		of := submission(planOf("a", "b: a"))
		of.Options.TimeoutSeconds = 0.3
		run := w.startOf(of)
		w.wantDue(run, workflow.RunNode, workflow.TimerRun)
		w.takeOver()
		run = w.wantStored(run)
		w.wantDue(run, workflow.RunNode, workflow.TimerRun)
		w.advance(run, nil, workflow.Event{Kind: workflow.EventTimer, Node: workflow.RunNode, Timer: workflow.TimerRun})
		run = w.wantStored(run)
		if run.Stop != workflow.CauseRunTimeout {
			w.Fatalf("the run stops because of %q", run.Stop)
		}
		if due := w.tick().Due; len(due) > 0 {
			w.Fatalf("due are %+v", due)
		}
		w.advance(run, nil, workflow.Event{Kind: workflow.EventWithdraw, Node: 0, Attempt: 1, Delivery: 1})
		if view := w.view(run.ID); view.Status != workflow.RunFailed || view.Reason != "it came to its timeout_seconds, 300ms" || !view.CancelTime.IsZero() {
			w.Errorf("the run is seen as %+v", view)
		}
		if task := w.tasks(run.ID)[1]; task.Status != workflow.TaskCancelled || task.Cause != workflow.CauseRunTimeout {
			w.Errorf("a task run is seen as %+v", task)
		}
	}},
	{name: "a run that ends drops its timer, and gets another when it lives again", run: func(w *world) {
		of := submission(planOf("a"))
		of.Options.TimeoutSeconds = 0.01
		run := w.startOf(of)
		w.advance(run, nil, w.failed(member(run, 0), 1))
		if due := w.tick().Due; len(due) > 0 {
			w.Fatalf("due are %+v", due)
		}
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		w.wantDue(run, workflow.RunNode, workflow.TimerRun)
	}},
	{name: "a pause is stored, with what waits because of it", run: func(w *world) {
		plan := planOf("a", "b", "c: a", "d: b")
		plan.Specs[0].Retries = workflow.Retries{Count: 1, DelaySeconds: 1000}
		run := w.start(plan)
		change := w.advance(run, nil, asked(workflow.EventPause, workflow.RunNode))
		if len(change.Hold) != 2 {
			w.Fatalf("held back are %v", change.Hold)
		}
		withdrawn := w.commit(&engine.Commit{Withdraw: []workflow.RunID{run.ID}}).Withdrawn
		if len(withdrawn) != 2 {
			w.Fatalf("withdrawn is %+v", withdrawn)
		}
		w.advance(run, nil, workflow.Event{Kind: workflow.EventWithdraw, Node: 1, Attempt: 1, Delivery: 1}, w.failed(member(run, 0), 1))
		if view := w.view(run.ID); view.Status != workflow.RunPaused {
			w.Errorf("the run is seen as %+v", view)
		}
		w.wantListed(run.ID, workflow.RunPaused, true)
		w.wantListed(run.ID, workflow.RunRunning, false)
		if tasks := w.tasks(run.ID); tasks[1].Status != workflow.TaskWaiting || tasks[1].Cause != workflow.CausePaused ||
			tasks[0].Status != workflow.TaskWaiting || tasks[0].Cause != workflow.CauseNone {
			w.Errorf("the task runs are seen as %+v", tasks)
		}
		w.takeOver()
		run = w.wantStored(run)
		w.advance(run, nil, asked(workflow.EventResume, workflow.RunNode))
		w.wantStatuses(run.ID, "a waiting, b queued, c pending, d pending")
		w.wantListed(run.ID, workflow.RunRunning, true)
		run = w.wantStored(run)
		w.wantNames(w.claim(w.agent("one"), 9, 0), "b")
		w.advance(run, nil, w.completed(current(run, 1)))
		w.wantStored(run)
	}},
	{name: "why a run stops early is stored", run: func(w *world) {
		of := submission(planOf("a", "b", "c: b"))
		of.Options.OnFailure = workflow.OnFailureStop
		run := w.startOf(of)
		w.advance(run, nil, w.failed(member(run, 0), 1))
		w.takeOver()
		run = w.wantStored(run)
		if run.Stop != workflow.CauseStopped {
			w.Fatalf("it stops because of %q", run.Stop)
		}
		w.advance(run, nil, w.completed(member(run, 1)))
		w.wantStatuses(run.ID, "a failed, b completed, c cancelled")
		if view := w.view(run.ID); view.Status != workflow.RunFailed {
			w.Errorf("the run is seen as %+v", view)
		}
	}},
}

// approving lets nodes of a plan wait for an approval, for so many seconds.
func approving(plan *workflow.Plan, seconds float64, nodes ...int) *workflow.Plan {
	for index, node := range nodes {
		limit := seconds
		if index > 0 {
			limit = 1000
		}
		plan.Specs[node].Approval = &workflow.Approval{Message: "go on?", TimeoutSeconds: limit}
	}
	return plan
}

// wantDue waits for a timer of the run.
func (w *world) wantDue(run *workflow.Run, node int32, kind workflow.TimerKind) {
	w.Helper()
	var due []engine.DueTimer
	w.eventually("a timer is due", func() bool {
		due = w.tick().Due
		return len(due) > 0
	})
	if len(due) != 1 || due[0].Run != run.ID || due[0].Node != node || due[0].Kind != kind || due[0].Due.Sub(w.now()) > time.Second {
		w.Fatalf("due are %+v", due)
	}
}
