package backendtest

import (
	"errors"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var commitTests = []test{
	{name: "states, deliveries and answered mail are stored together", run: func(w *world) {
		run := w.start(planOf("a", "b: a", "c: a"))
		w.must(w.backend.Cancel(w.ctx, run.ID, "ann"), "cancel")
		mail := w.mailOf(engine.MailCancel)
		w.advance(run, []engine.MailKey{mail.Key}, w.completed(member(run, 0)))
		if err := difference(run, w.load(run.ID)); err != nil {
			w.Fatalf("the stored run differs: %v", err)
		}
		if deliveries := w.dispatched(); len(deliveries) != 3 {
			w.Fatalf("the queue holds %+v", deliveries)
		}
		w.must(w.writer.Recover(w.ctx), "recover")
		if left := w.mail(); len(left) > 0 {
			w.Fatalf("answered mail is there: %+v", left)
		}
	}},
	{name: "an empty commit is a commit", run: func(w *world) {
		w.open()
		w.commit(&engine.Commit{})
		w.commit(&engine.Commit{})
	}},
	{name: "whatever happens to a run, it is loaded as it was committed", run: storedEqualsLive},
	{name: "the end of a run is seen with its counts and times", run: func(w *world) {
		run := w.start(planOf("a", "b", "c: b"))
		w.advance(run, nil, w.completed(member(run, 0)), w.failed(member(run, 1), 3))
		view := w.view(run.ID)
		if view.Status != workflow.RunFailed || view.TaskCount != 3 || view.CompletedTasks != 1 || view.FailedTasks != 1 ||
			view.StartTime.IsZero() || view.EndTime.Before(view.StartTime) || !view.CancelTime.IsZero() {
			w.Fatalf("the run is seen as %+v", view)
		}
		ids, err := w.writer.LiveRuns(w.ctx, workflow.RunID{}, 10)
		w.must(err, "list live runs")
		if len(ids) > 0 {
			w.Fatalf("live are %v", ids)
		}
	}},
	{name: "what can't be stored is refused, and nothing of the commit is stored", run: refusals},
	{name: "what ended before it started, by a clock that was set back, ended when it started", run: func(w *world) {
		plan := planOf("a", "b")
		plan.Specs[1].Retries = workflow.Retries{Count: 1}
		run := w.start(plan)
		completed, failed := w.completed(member(run, 0)), w.failed(member(run, 1), 1)
		completed.Result.EndTime = completed.Result.StartTime.Add(-time.Second)
		failed.Result.EndTime = failed.Result.StartTime.Add(-time.Second)
		w.advance(run, nil, completed, failed)
		if task := w.tasks(run.ID)[0]; !sameTime(task.EndTime, completed.Result.StartTime) || !sameTime(task.StartTime, completed.Result.StartTime) {
			w.Fatalf("the task run is seen as %+v", task)
		}
	}},
	{name: "a run that can't be committed is failed with the reason, and its mail is kept aside", run: func(w *world) {
		bad, good := w.start(planOf("a", "b: a")), w.start(planOf("a"))
		plan := planOf("r")
		plan.Specs[0].Retries = workflow.Retries{Count: 1, DelaySeconds: 0.01}
		waiting := w.start(plan)
		w.advance(waiting, nil, w.failed(member(waiting, 0), 1))
		w.must(w.backend.Cancel(w.ctx, bad.ID, "ann"), "cancel")
		mail := w.mailOf(engine.MailCancel)
		change := w.decide(good, w.completed(member(good, 0)))
		w.commit(&engine.Commit{
			Changes: []*workflow.Change{change},
			Refused: []engine.RefusedRun{
				{ID: bad.ID, Reason: "it can't be stored", Mail: []engine.MailKey{mail.Key}},
				{ID: waiting.ID, Reason: "nor this"},
			},
		})
		if view := w.view(good.ID); view.Status != workflow.RunCompleted {
			w.Errorf("the other run is %s", view.Status)
		}
		view := w.view(bad.ID)
		if view.Status != workflow.RunFailed || view.Reason != "it can't be stored" || view.EndTime.IsZero() {
			w.Errorf("the refused run is seen as %+v", view)
		}
		for _, task := range w.tasks(bad.ID) {
			if !task.Status.Ended() || task.Status == workflow.TaskCompleted || task.Cause != workflow.CauseRefused {
				w.Errorf("its task run %s is %s because of %q", task.Name, task.Status, task.Cause)
			}
		}
		runs, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{bad.ID, waiting.ID})
		w.must(err, "load runs")
		if len(runs) > 0 {
			w.Errorf("it is loaded: %+v", runs)
		}
		if due := w.tick().Due; len(due) > 0 {
			w.Errorf("it has timers: %+v", due)
		}
		w.must(w.writer.Recover(w.ctx), "recover")
		if left := w.mail(); len(left) > 0 {
			w.Errorf("its mail is there: %+v", left)
		}
	}},
	{name: "a commit answers with the mail that has come", run: func(w *world) {
		run := w.start(planOf("a"))
		w.must(w.backend.Cancel(w.ctx, run.ID, "ann"), "cancel")
		result := w.commit(&engine.Commit{ReadMail: 10})
		if len(result.Mail) != 1 || result.Mail[0].Kind != engine.MailCancel || result.Mail[0].Run != run.ID {
			w.Fatalf("the mail is %+v", result.Mail)
		}
		if again := w.mail(); len(again) > 0 {
			w.Fatalf("it is given again: %+v", again)
		}
	}},
}

// refusals tries one impossible thing after the other, each beside things that are in order.
func refusals(w *world) {
	plan := planOf("a", "b: a", "c", "d", "e: d")
	plan.Specs[2].Retries = workflow.Retries{Count: 1}
	run := w.start(plan)
	other := w.start(planOf("x"))
	w.advance(run, nil, w.failed(member(run, 2), 1)) // c is at its second attempt
	w.advance(run, nil, w.completed(member(run, 3)))
	w.must(w.backend.Cancel(w.ctx, run.ID, "ann"), "cancel")
	key := w.mailOf(engine.MailCancel).Key
	before := len(w.dispatched())
	missing := key
	missing.ID += 1000

	at := w.now()
	end := workflow.TaskChange{
		Node: 0, Status: workflow.TaskCompleted, Attempt: 1, Delivery: 1, StartTime: at, EndTime: at, Agent: 1, ExitCode: new(int32(0)),
	}
	with := func(change func(*workflow.TaskChange)) workflow.TaskChange {
		changed := end
		change(&changed)
		return changed
	}
	for _, bad := range []struct {
		name   string
		change workflow.Change
		mail   []engine.MailKey
	}{
		{name: "a first row where there is one", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 0, Status: workflow.TaskQueued, First: true, Attempt: 1, Delivery: 1, QueuedTime: at},
		}}},
		{name: "an end of a task run that was never queued", change: workflow.Change{Tasks: []workflow.TaskChange{
			with(func(c *workflow.TaskChange) { c.Node = 1 }),
		}}},
		{name: "a next attempt of a task run that was never queued", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 1, Status: workflow.TaskQueued, Attempt: 2, Delivery: 1, QueuedTime: at},
		}}},
		{name: "the end of an earlier attempt", change: workflow.Change{Tasks: []workflow.TaskChange{
			with(func(c *workflow.TaskChange) { c.Node = 2 }),
		}}},
		{name: "the end of another delivery", change: workflow.Change{Tasks: []workflow.TaskChange{
			with(func(c *workflow.TaskChange) { c.Delivery = 2 }),
		}}},
		{name: "a second end", change: workflow.Change{Tasks: []workflow.TaskChange{
			with(func(c *workflow.TaskChange) { c.Node = 3 }),
		}}},
		{name: "a next attempt after the end", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 3, Status: workflow.TaskQueued, Attempt: 2, Delivery: 1, QueuedTime: at},
		}}},
		{name: "a completed task run that never started", change: workflow.Change{Tasks: []workflow.TaskChange{
			with(func(c *workflow.TaskChange) { c.StartTime = time.Time{} }),
		}}},
		{name: "a start by no agent", change: workflow.Change{Tasks: []workflow.TaskChange{
			with(func(c *workflow.TaskChange) { c.Agent = 0 }),
		}}},
		{name: "a task run that waits for what it depends on", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 0, Status: workflow.TaskWaiting, Attempt: 1, Delivery: 1, Cause: workflow.CauseUpstream},
		}}},
		{name: "a task run that waits for an approval before its first attempt", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 1, Status: workflow.TaskWaiting, First: true, Cause: workflow.CauseApproval},
		}}},
		{name: "a queued task run with a cause", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 0, Status: workflow.TaskQueued, Attempt: 1, Delivery: 2, QueuedTime: at, Cause: workflow.CausePaused},
		}}},
		{name: "a completed task run without an attempt and a reason for that", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 1, Status: workflow.TaskCompleted, First: true, EndTime: at},
		}}},
		{name: "a failed task run without an attempt and a reason for that", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 1, Status: workflow.TaskFailed, First: true, EndTime: at, Cause: workflow.CauseExit},
		}}},
		{name: "an attempt that was never queued", change: workflow.Change{Tasks: []workflow.TaskChange{
			{Node: 1, Status: workflow.TaskFailed, First: true, Attempt: 1, Delivery: 1, EndTime: at, Cause: workflow.CauseRejected},
		}}},
		{name: "a row that goes, and is not there", change: workflow.Change{Reset: []int32{1}}},
		{name: "a row that is retired, and is not there", change: workflow.Change{Retire: []int32{1}, Tasks: []workflow.TaskChange{
			{Node: 1, Status: workflow.TaskQueued, Attempt: 2, Delivery: 1, QueuedTime: at},
		}}},
		{name: "an attempt that is retired twice", change: workflow.Change{Retire: []int32{3, 3}, Tasks: []workflow.TaskChange{
			{Node: 3, Status: workflow.TaskQueued, Attempt: 2, Delivery: 1, QueuedTime: at},
		}}},
		{name: "an output that is no object", change: workflow.Change{Outputs: []workflow.Output{{Node: 3, Body: `[1]`}}}},
		{name: "a timer of the run that is of a node", change: workflow.Change{SetTimers: []workflow.Timer{{Node: 0, Kind: workflow.TimerRun, Due: at}}}},
		{name: "a timer of a node that is of the run", change: workflow.Change{SetTimers: []workflow.Timer{
			{Node: workflow.RunNode, Kind: workflow.TimerApproval, Due: at},
		}}},
		{name: "a version of the values that goes back", change: workflow.Change{Run: &workflow.RunChange{
			Status: workflow.RunRunning, StartTime: at, Total: 5, Completed: 1, Version: -1,
		}}},
		{name: "an attempt that is superseded twice", change: workflow.Change{Attempts: []workflow.AttemptChange{
			{Node: 2, Attempt: 1, Status: workflow.TaskFailed, Cause: workflow.CauseExit, StartTime: at, EndTime: at, Agent: 1},
		}}},
		{name: "more task runs that ended than there are", change: workflow.Change{Run: &workflow.RunChange{
			Status: workflow.RunRunning, StartTime: at, Total: 5, Completed: 6,
		}}},
		{name: "a run that ended without a time", change: workflow.Change{Run: &workflow.RunChange{
			Status: workflow.RunCompleted, StartTime: at, Total: 5,
		}}},
		{name: "a cancelled run that nobody cancelled", change: workflow.Change{Run: &workflow.RunChange{
			Status: workflow.RunCancelled, StartTime: at, EndTime: at, Total: 5,
		}}},
		{name: "an answer to a message that is not there", mail: []engine.MailKey{missing}},
	} {
		bad.change.ID, bad.change.At = run.ID, at
		good := w.decide(other, w.completed(member(other, 0)))
		commit := &engine.Commit{
			At: at, Changes: []*workflow.Change{good, &bad.change}, Mail: append([]engine.MailKey{key}, bad.mail...),
			Dispatches: w.dispatches(run, []workflow.Member{member(run, 0)}, 1),
		}
		if _, err := w.writer.Commit(w.ctx, commit); !errors.Is(err, engine.ErrRefused) {
			w.Fatalf("%s: the commit gives %v", bad.name, err)
		}
		if err := errors.Join(difference(run, w.load(run.ID)), difference(other, w.load(other.ID))); err != nil {
			w.Fatalf("%s: something was stored: %v", bad.name, err)
		}
		if now := len(w.dispatched()); now != before {
			w.Fatalf("%s: there are %d deliveries instead of %d", bad.name, now, before)
		}
	}
	// The writer goes on with what is in order.
	w.advance(other, []engine.MailKey{key}, w.completed(member(other, 0)))
	if view := w.view(other.ID); view.Status != workflow.RunCompleted {
		w.Fatalf("the other run is %s", view.Status)
	}
	w.advance(run, nil, workflow.Event{Kind: workflow.EventEnd, Node: 2, Attempt: 2, Delivery: 1, Result: w.result(workflow.Result{Status: workflow.TaskCompleted})})
}

// drawPlan draws a graph with retries.
func drawPlan(t *rapid.T) *workflow.Plan {
	count := rapid.IntRange(1, 9).Draw(t, "nodes")
	plan := &workflow.Plan{}
	for number := range count {
		name := fmt.Sprintf("t%d", number)
		node := workflow.Node{Name: name, Spec: int32(number)} //nolint:gosec // small
		for parent := range number {
			if rapid.IntRange(0, 3).Draw(t, "depends") == 0 {
				node.Dependencies = append(node.Dependencies, int32(parent)) //nolint:gosec // small
			}
		}
		plan.Nodes = append(plan.Nodes, node)
		plan.Specs = append(plan.Specs, &workflow.TaskSpec{
			TaskID: name, Command: "run " + name, Queue: rapid.SampledFrom([]string{"default", "other"}).Draw(t, "queue"),
			Priority: rapid.IntRange(1, workflow.MaxPriority).Draw(t, "priority"),
			Retries: workflow.Retries{
				Count:        rapid.IntRange(0, 2).Draw(t, "retries"),
				DelaySeconds: rapid.SampledFrom([]float64{0, 0.01}).Draw(t, "delay"),
			},
		})
	}
	return plan
}
