package orchestrator

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// publish makes DAGs the current definitions, each with those whose runs start it.
func (w *world) publish(listens map[string][]string) {
	w.Helper()
	var definitions []engine.Definition
	for id, of := range listens {
		body, err := json.Marshal(map[string]any{"id": id, "triggers": map[string]any{"dag_completed": of}})
		w.must(err, "encode a definition")
		definitions = append(definitions, engine.Definition{Kind: "dag", ID: id, Body: body})
	}
	_, _, err := w.backend.Publish(w.ctx, definitions, "test")
	w.must(err, "publish")
}

// told are the DAGs that were told of the end of a run.
func (w *world) told(run workflow.RunID) (dags []string) {
	w.Helper()
	for _, commit := range w.stored {
		for _, change := range commit.Changes {
			for _, job := range change.Jobs {
				var completed engine.DAGCompleted
				w.must(json.Unmarshal(job.Args, &completed), "read the job")
				if job.Kind != engine.JobDAGCompleted || completed.Of != "dag" || change.ID != completed.Run {
					w.Errorf("the job is %s %s", job.Kind, job.Args)
				}
				if completed.Run == run {
					dags = append(dags, completed.DAG)
				}
			}
		}
	}
	return dags
}

// TestCompletedRunsAreTold has definitions that were published right before runs end, and commits that fail.
func TestCompletedRunsAreTold(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	want := func(run workflow.RunID, dags ...string) {
		t.Helper()
		if diff := cmp.Diff(dags, w.told(run)); diff != "" {
			t.Errorf("told of %s: %s", w.view(run).Status, diff)
		}
	}
	end := func(status workflow.TaskStatus, before func()) workflow.RunID {
		t.Helper()
		run := w.submit(planOf("a"))[0]
		w.settle()
		members := h.claim(1)
		before()
		h.end(status, members...)
		for range 5 { // some of them may fail
			if err := w.turn(); err != nil && !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
		}
		w.settle()
		return run
	}
	nothing := func() {}
	want(end(workflow.TaskCompleted, nothing))
	want(end(workflow.TaskCompleted, func() { w.publish(map[string][]string{"b": {"dag"}, "c": {"other"}}) }), "b")
	want(end(workflow.TaskCompleted, nothing), "b")
	want(end(workflow.TaskFailed, nothing))
	want(end(workflow.TaskCompleted, func() { w.publish(map[string][]string{"c": {"dag"}}) }), "c")
	want(end(workflow.TaskCompleted, func() { w.publish(nil) }))

	// Between the decision and the commit, and while the commit fails in each way.
	listening := false
	for _, fault := range []error{nil, errInjected, errDoubt} {
		w.before = func(call string, _ *engine.Commit) error {
			if call == "Commit" && !listening {
				listening = true
				w.publish(map[string][]string{"d": {"dag"}})
				return fault
			}
			return nil
		}
		run := end(workflow.TaskCompleted, func() { w.publish(nil); listening = false })
		want(run, "d")
		w.before = nil
		w.after = once(errDoubt, func(call string, commit *engine.Commit) bool {
			return call == "Commit" && len(commit.Changes) > 0 && commit.Changes[0].Ends()
		})
		want(end(workflow.TaskCompleted, nothing), "d")
		w.after = nil
	}

	// While who waits can't be read, nothing is lost.
	failures := 0
	w.listeners = func() error {
		if failures++; failures < 3 {
			return fmt.Errorf("listeners: %w", errInjected)
		}
		return nil
	}
	want(end(workflow.TaskCompleted, func() { w.publish(map[string][]string{"e": {"dag"}}) }), "e")
	if failures != 3 {
		t.Errorf("who waits was read %d times", failures)
	}

	// A run that lives again and completes again is told again: it has its run already.
	run := end(workflow.TaskCompleted, nothing)
	w.command(run, engine.CommandRetry, 0)
	h.work()
	want(run, "e", "e")
	w.atRest()
}
