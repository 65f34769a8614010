package backendtest

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var jobTests = []test{
	{name: "a job is done after its change was committed, with its arguments", run: func(w *world) {
		done := make(chan string, 10)
		jobs := &engine.Jobs{}
		jobs.HandleJob("greet", func(_ context.Context, args []byte) error {
			done <- string(args)
			return nil
		})
		w.startJobs(jobs)
		run := w.start(planOf("a", "b"))
		refused := w.decide(run, w.completed(member(run, 0)))
		refused.Jobs = []workflow.Job{{Kind: "greet", Args: []byte(`"refused"`)}}
		refused.Tasks[0].Attempt = 7
		if _, err := w.writer.Commit(w.ctx, &engine.Commit{At: refused.At, Changes: []*workflow.Change{refused}}); !errors.Is(err, engine.ErrRefused) {
			w.Fatalf("the commit gives %v", err)
		}
		change := w.decide(run, w.completed(member(run, 0)))
		change.Jobs = []workflow.Job{{Kind: "greet", Args: []byte(`{"to":"ann"}`)}}
		w.commit(&engine.Commit{Changes: []*workflow.Change{change}})
		run.Apply(change)
		w.wantJob(done, `{"to":"ann"}`) // as JSON: a backend may write it in another form
	}},
	{name: "a job that fails is done again", run: func(w *world) {
		done := make(chan string, 10)
		var failures atomic.Int32
		jobs := &engine.Jobs{}
		jobs.HandleJob("fickle", func(context.Context, []byte) error {
			if failures.Add(1) == 1 {
				return errors.New("not yet")
			}
			done <- `"done"`
			return nil
		})
		w.startJobs(jobs)
		run := w.start(planOf("a"))
		change := w.decide(run, w.completed(member(run, 0)))
		change.Jobs = []workflow.Job{{Kind: "fickle", Args: []byte(`{}`)}}
		w.commit(&engine.Commit{Changes: []*workflow.Change{change}})
		w.wantJob(done, `"done"`)
	}},
	{name: "a periodic job is done at the start", run: func(w *world) {
		done := make(chan string, 10)
		jobs := &engine.Jobs{}
		jobs.HandleJob("sweep", func(context.Context, []byte) error {
			done <- `"swept"`
			return nil
		})
		jobs.Every(time.Hour, "sweep")
		w.startJobs(jobs)
		w.wantJob(done, `"swept"`)
	}},
}

// startJobs does jobs until the test ends.
func (w *world) startJobs(jobs *engine.Jobs) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	w.Cleanup(cancel)
	w.must(w.backend.StartJobs(ctx, jobs, engine.Retention{Days: 30}), "start the jobs")
}

func (w *world) wantJob(done <-chan string, want string) {
	w.Helper()
	select {
	case got := <-done:
		if !sameJSON(got, want) {
			w.Fatalf("the job has the arguments %s, should have %s", got, want)
		}
	case <-time.After(patience):
		w.Fatal("the job is not done")
	}
}

func sameJSON(one, other string) bool {
	var first, second any
	return json.Unmarshal([]byte(one), &first) == nil && json.Unmarshal([]byte(other), &second) == nil && reflect.DeepEqual(first, second)
}
