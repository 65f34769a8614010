package backendtest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var triggerTests = []test{
	{name: "who waits for runs of others is told by the current definitions", run: func(w *world) {
		w.open()
		w.wantListeners(map[string][]string{})
		w.publish(true, definition("dag", "a", `{"id":"a"}`), listener("b", "a"), listener("c", "a", "b"), definition("task", "d", `{"triggers":{"dag_completed":["a"]}}`))
		w.wantListeners(map[string][]string{"a": {"b", "c"}, "b": {"c"}})
		w.publish(true, definition("dag", "a", `{"id":"a"}`), listener("c", "b"), definition("dag", "b", `{"id":"b","triggers":{"webhook":{"secret":"x"}}}`))
		w.wantListeners(map[string][]string{"b": {"c"}})
		w.publish(true)
		w.wantListeners(map[string][]string{})
	}},
	{name: "a commit that stands on definitions which are not current is not stored", run: func(w *world) {
		run := w.start(planOf("a"))
		change := w.decide(run, w.completed(member(run, 0)))
		commit := func(revision int64) error {
			_, err := w.writer.Commit(w.ctx, &engine.Commit{At: change.At, Changes: []*workflow.Change{change}, Revision: &revision})
			return err //nolint:wrapcheck // the test looks at it
		}
		first := w.publish(true, listener("b", "a"))
		for _, revision := range []int64{first - 1, first + 1} {
			if err := commit(revision); !errors.Is(err, engine.ErrOutdated) || errors.Is(err, engine.ErrRefused) || errors.Is(err, engine.ErrUncertain) {
				w.Fatalf("the commit at revision %d gives %v", revision, err)
			}
		}
		if view := w.view(run.ID); view.Status != workflow.RunRunning {
			w.Fatalf("the run is %s", view.Status)
		}
		// The very same can be stored when it stands on what is current.
		w.must(commit(first), "commit")
		if view := w.view(run.ID); view.Status != workflow.RunCompleted {
			w.Fatalf("the run is %s", view.Status)
		}
	}},
	{name: "each run that completes is told once to each DAG that waits for it, whichever commit fails", run: func(w *world) {
		w.publish(true, listener("one", "dag"), listener("two", "dag", "other"), listener("three", "other"))
		var mutex sync.Mutex
		told := map[engine.DAGCompleted]int{}
		for range 2 { // two servers
			jobs := &engine.Jobs{}
			jobs.HandleJob(engine.JobDAGCompleted, func(_ context.Context, args []byte) error {
				var completed engine.DAGCompleted
				if err := json.Unmarshal(args, &completed); err != nil {
					w.Errorf("the arguments of the job are %s: %v", args, err)
				}
				mutex.Lock()
				defer mutex.Unlock()
				told[completed]++
				return nil
			})
			w.startJobs(jobs)
		}
		want := map[engine.DAGCompleted]int{}
		for number := range int32(4) {
			for _, fault := range []Fault{Before, Unknown, After} {
				p := newPlay(w, 1, &script{
					limits: workflow.DefaultLimits, agents: []engine.AgentInfo{{ID: "one", Slots: 4}},
					runs: []scriptedRun{
						{plan: planOf("a", "b: a"), nodes: make([]behaviour, 2), cancel: -1},
						{plan: planOf("a"), nodes: []behaviour{{failures: always}}, cancel: -1},
					},
				}, w.backend)
				var commits atomic.Int32
				p.plan = func(call string) Fault {
					if call == "Commit" && commits.Add(1) == number+1 {
						return fault
					}
					return None
				}
				p.run()
				for _, dag := range []string{"one", "two"} {
					want[engine.DAGCompleted{DAG: dag, Of: "dag", Run: p.ids[0]}] = 1
				}
			}
		}
		got := func() map[engine.DAGCompleted]int {
			mutex.Lock()
			defer mutex.Unlock()
			return maps.Clone(told)
		}
		w.eventually("all that completed is told", func() bool { return len(got()) >= len(want) })
		if told := got(); !maps.Equal(told, want) {
			w.Fatalf("told is %v, should be %v", told, want)
		}
	}},
	{name: "what started a run is kept, and is no reference", run: func(w *world) {
		of := submission(planOf("a"))
		of.Values.Trigger = &workflow.Trigger{Kind: workflow.TriggerWebhook, Body: "{\"a\": \"${secret:X} \u2028 <é>\"}"}
		run := w.startOf(of)
		given, err := w.backend.Given(w.ctx, run.ID)
		w.must(err, "read the values")
		claim, err := w.agent("one").Claim(w.ctx, 1, 0, workflow.Resources{})
		w.must(err, "claim")
		for _, values := range []*workflow.RunValues{given, claim.Deliveries[0].Tasks[0].Run.Values} {
			if values == nil || !reflect.DeepEqual(values.Trigger, of.Values.Trigger) {
				w.Errorf("the values are %+v", values)
			}
		}
	}},
	{name: "files that have runs are remembered until they are gone", run: func(w *world) {
		one, two := workflow.HashOf([]byte("one")), workflow.HashOf([]byte("two"))
		w.wantArrivals("a")
		note := func(dag string, arrived []engine.Arrival, gone ...workflow.Hash) {
			w.Helper()
			w.must(w.backend.NoteArrivals(w.ctx, dag, arrived, gone), "note arrivals")
		}
		note("a", nil)
		note("a", []engine.Arrival{{File: one, Size: 1, Modified: 2}, {File: two, Size: 0, Modified: -3}})
		note("b", []engine.Arrival{{File: one, Size: 5, Modified: 5}})
		w.wantArrivals("a", engine.Arrival{File: one, Size: 1, Modified: 2}, engine.Arrival{File: two, Size: 0, Modified: -3})
		note("a", []engine.Arrival{{File: one, Size: 1 << 50, Modified: 1 << 62}}, two, two)
		w.wantArrivals("a", engine.Arrival{File: one, Size: 1 << 50, Modified: 1 << 62})
		note("a", nil, one, two)
		w.wantArrivals("a")
		w.wantArrivals("b", engine.Arrival{File: one, Size: 5, Modified: 5})
	}},
}

// listener is a DAG that runs of others start.
func listener(id string, of ...string) engine.Definition {
	body, err := json.Marshal(map[string]any{"id": id, "triggers": map[string]any{"dag_completed": of}})
	if err != nil {
		panic(err)
	}
	return engine.Definition{Kind: "dag", ID: id, Body: body}
}

func (w *world) wantListeners(want map[string][]string) {
	w.Helper()
	listeners, err := w.writer.Listeners(w.ctx)
	w.must(err, "read who waits for runs of others")
	revision, err := w.backend.Revision(w.ctx)
	w.must(err, "read the revision")
	for _, dags := range listeners.Of {
		slices.Sort(dags)
	}
	if listeners.Revision != revision || !maps.EqualFunc(listeners.Of, want, slices.Equal) {
		w.Fatalf("who waits is %+v, should be %v of revision %d", listeners, want, revision)
	}
}

func (w *world) wantArrivals(dag string, want ...engine.Arrival) {
	w.Helper()
	got, err := w.backend.Arrivals(w.ctx, dag)
	w.must(err, "read the arrivals")
	byFile := func(all []engine.Arrival) map[workflow.Hash]engine.Arrival {
		files := map[workflow.Hash]engine.Arrival{}
		for _, one := range all {
			files[one.File] = one
		}
		return files
	}
	if len(got) != len(want) || !maps.Equal(byFile(got), byFile(want)) {
		w.Fatalf("the arrivals of %s are %+v, should be %+v", dag, got, want)
	}
}
