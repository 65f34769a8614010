package backendtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var eventTests = []test{
	{name: "every transition is an event, in order, with its attempt and cause", run: func(w *world) {
		plan := planOf("a", "b: a", "c: b")
		plan.Specs[0].Retries = workflow.Retries{Count: 1}
		run := w.start(plan)
		w.passes(run, w.failed(member(run, 0), 3))
		w.passes(run, w.completed(current(run, 0)))
		failed := w.failed(current(run, 1), 1)
		failed.Result.Reason = "it went wrong"
		w.passes(run, failed)
		w.wantEvents(run.ID, workflow.RunNode, "pending by ann", "running", "failed")
		w.wantEvents(run.ID, 0, "a 1 queued", "a 1 running", "a 1 failed: exit", "a 2 queued", "a 2 running", "a 2 completed")
		w.wantEvents(run.ID, 1, "b 1 queued", "b 1 running", "b 1 failed: exit, it went wrong")
		w.wantEvents(run.ID, 2, "c 0 upstream_failed: upstream")
		w.takeOver()
		w.wantEvents(run.ID, 1, "b 1 queued", "b 1 running", "b 1 failed: exit, it went wrong")
	}},
	{name: "a claimed task run is running in the events, too", run: func(w *world) {
		run := w.start(planOf("a"))
		w.pass()
		w.claim(w.agent("one"), 1, 0)
		w.wantEvents(run.ID, 0, "a 1 queued", "a 1 running")
	}},
	{name: "who did something is in the events", run: func(w *world) {
		run := w.start(approving(planOf("ask", "other", "b: ask"), 0, 0, 1))
		w.passes(run, asked(workflow.EventPause, workflow.RunNode))
		w.passes(run, asked(workflow.EventResume, workflow.RunNode))
		w.passes(run, asked(workflow.EventApprove, 0))
		w.passes(run, asked(workflow.EventReject, 1))
		w.passes(run, asked(workflow.EventSkip, 2))
		w.passes(run, workflow.Event{Kind: workflow.EventCancel, Actor: "ben"})
		w.wantEvents(run.ID, workflow.RunNode, "pending by ann", "running", "pause by ann", "resume by ann", "cancel by ben")
		w.wantEvents(run.ID, 0, "ask 1 waiting: approval", "approve by ann", "ask 1 queued")
		w.wantEvents(run.ID, 1, "other 1 waiting: approval", "reject by ann", "other 1 failed: rejected, rejected by ann")
		w.wantEvents(run.ID, 2, "skip by ann", "b 0 skipped: skip, skipped by ann")
		for _, event := range w.events(run.ID) {
			if node := event.Node; node >= 0 && event.Name != []string{"ask", "other", "b"}[node] {
				w.Errorf("the event is %+v", event)
			}
		}
	}},
	{name: "what evaluation points said is in the events", run: func(w *world) {
		run := w.start(deciding(planOf("choose", "left: choose", "right: choose"), 0))
		evaluation := choosing("right")
		evaluation.Metadata = `{"score":0.93,"why":["a","b"]}`
		event := w.evaluated(run, 0, evaluation)
		w.passes(run, event)
		w.wantEvents(run.ID, 1, "left 0 skipped: not_chosen")
		w.wantEvents(run.ID, 0, "choose 1 queued", "choose 1 running", "choose 1 completed", "evaluate "+string(evaluation.Metadata))
	}},
	{name: "things that happen at one instant are all kept", run: func(w *world) {
		run := w.start(approving(planOf("a", "b", "c"), 0, 0, 1, 2))
		w.passes(run, asked(workflow.EventApprove, 0), asked(workflow.EventApprove, 1), asked(workflow.EventReject, 2),
			asked(workflow.EventPause, workflow.RunNode), asked(workflow.EventResume, workflow.RunNode))
		counts := map[string]int{}
		for _, event := range w.events(run.ID) {
			counts[event.Kind]++
		}
		if counts["approve"] != 2 || counts["reject"] != 1 || counts["pause"] != 1 || counts["resume"] != 1 {
			w.Fatalf("the events are %v", counts)
		}
	}},
	{name: "a retry and what went before it is in the events", run: func(w *world) {
		run := w.start(planOf("a"))
		w.passes(run, w.failed(member(run, 0), 1))
		w.passes(run, asked(workflow.EventRetry, 0))
		w.passes(run, w.completed(current(run, 0)))
		w.wantEvents(run.ID, 0, "a 1 queued", "a 1 running", "a 1 failed: exit", "retry by ann", "a 2 queued", "a 2 running", "a 2 completed")
	}},
	{name: "what waits is in the events", run: func(w *world) {
		plan := planOf("a", "b")
		plan.Specs[0].Retries = workflow.Retries{Count: 1, DelaySeconds: 1000}
		run := w.start(plan)
		w.passes(run, w.failed(member(run, 0), 1))
		w.passes(run, asked(workflow.EventPause, workflow.RunNode))
		w.passes(run, workflow.Event{Kind: workflow.EventWithdraw, Node: 1, Attempt: 1, Delivery: 1})
		w.passes(run, asked(workflow.EventResume, workflow.RunNode))
		w.wantEvents(run.ID, 0, "a 1 queued", "a 1 running", "a 1 failed: exit", "a 1 waiting")
		w.wantInEvents(run.ID, 1, "b 1 waiting: paused", "b 1 queued")
	}},
	{name: "the events of an unknown run are an error that names it", run: func(w *world) {
		id := workflow.NewRunID(w.open().Now(), 1)
		if _, err := w.backend.Events(w.ctx, id); !errors.Is(err, engine.ErrNotFound) || !strings.Contains(err.Error(), id.String()) {
			w.Fatalf("they give %v", err)
		}
	}},
}

// pass waits until the clock has moved on.
func (w *world) pass() {
	w.Helper()
	began := w.now()
	w.eventually("time passes", func() bool { return w.now().After(began) })
}

// passes lets events happen to a run, later than all before.
func (w *world) passes(run *workflow.Run, events ...workflow.Event) {
	w.Helper()
	w.pass()
	for i := range events {
		if end := &events[i].Result.EndTime; !end.IsZero() {
			*end = w.now()
			events[i].Result.StartTime = *end
			w.pass()
		}
	}
	w.advance(run, nil, events...)
	w.pass()
}

// events are those of a run, of which the times never go back.
func (w *world) events(id workflow.RunID) []engine.EventView {
	w.Helper()
	events, err := w.backend.Events(w.ctx, id)
	w.must(err, "list the events")
	for index, event := range events {
		if event.At.IsZero() || index > 0 && event.At.Before(events[index-1].At.Truncate(1000)) {
			w.Errorf("event %d is of %v: %+v", index, event.At, events)
		}
	}
	return events
}

// eventTexts are the events of a node, as text: what was done as "kind by actor" or "kind detail", a
// transition of the run as "status", of a task run as "name attempt status: cause, reason".
func (w *world) eventTexts(id workflow.RunID, node int32) []string {
	w.Helper()
	var texts []string
	for _, event := range w.events(id) {
		if event.Node != node {
			continue
		}
		text := event.Kind
		_, isStatus := workflow.ParseTaskStatus(event.Kind)
		switch {
		case event.Actor != "":
			text += " by " + event.Actor
		case event.Detail != "":
			text += " " + string(event.Detail)
		case isStatus == nil && node >= 0:
			text = fmt.Sprintf("%s %d %s", event.Name, event.Attempt, event.Kind)
		}
		if event.Cause != workflow.CauseNone {
			text += ": " + event.Cause.String()
		}
		if event.Reason != "" {
			text += ", " + event.Reason
		}
		texts = append(texts, text)
	}
	return texts
}

func (w *world) wantEvents(id workflow.RunID, node int32, want ...string) {
	w.Helper()
	if got := w.eventTexts(id, node); !slices.Equal(got, want) {
		w.Errorf("the events of node %d are %q, should be %q", node, got, want)
	}
}

// wantInEvents looks for events among others, in order.
func (w *world) wantInEvents(id workflow.RunID, node int32, want ...string) {
	w.Helper()
	got := w.eventTexts(id, node)
	left := want
	for _, text := range got {
		if len(left) > 0 && text == left[0] {
			left = left[1:]
		}
	}
	if len(left) > 0 {
		w.Errorf("the events of node %d are %q, should hold %q", node, got, want)
	}
}
