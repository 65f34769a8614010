package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// jobLog notes which jobs ran.
type jobLog struct {
	mutex sync.Mutex
	ran   []string
}

func (l *jobLog) add(what string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.ran = append(l.ran, what)
}

func (l *jobLog) all() []string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return slices.Clone(l.ran)
}

func (w *world) startJobs(jobs *engine.Jobs, policy engine.Retention) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	w.Cleanup(cancel)
	w.must(w.backend.StartJobs(ctx, jobs, policy), "start jobs")
}

// River runs the backend's own jobs when it starts: partitions, retention, and clean-up.
func TestOwnJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.makeOld(40, false, "old")
	ahead := w.partitionNames("runs")
	last := ahead[len(ahead)-1]
	w.exec("DROP TABLE cyclonetix__state." + last)
	session := w.agent("one")
	w.must(session.Close(w.ctx), "close")
	w.exec("UPDATE cyclonetix__state.agents SET ended_at = now() - interval '1 year'")
	w.startJobs(&engine.Jobs{}, engine.Retention{Days: 30})
	w.eventually("the partition ahead is made", func() bool { return slices.Contains(w.partitionNames("runs"), last) })
	w.eventually("the old run is gone", func() bool {
		_, err := w.backend.FindRun(w.ctx, old.String())
		return errors.Is(err, engine.ErrGone)
	})
	w.eventually("the old agent is gone", func() bool { return ask[int](w, "SELECT count(*) FROM cyclonetix__state.agents") == 0 })
}

// A job is enqueued in the commit that causes it, or with it not at all.
func TestJobsOfACommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	commit := func(number int, jobs ...workflow.Job) error {
		_, err := w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Changes: []*workflow.Change{{
			ID: run.ID, Jobs: jobs, Attempts: []workflow.AttemptChange{{Node: 0, Attempt: uint16(number), Status: workflow.TaskFailed}}, //nolint:gosec // small
		}}})
		return err
	}
	stored := func() string {
		return ask[string](w, "SELECT (SELECT count(*) FROM cyclonetix__river.river_job) || ' ' || (SELECT count(*) FROM cyclonetix__state.attempts)")
	}
	w.must(commit(1, workflow.Job{Kind: "tell", Args: []byte(`{"n": 1}`)}, workflow.Job{Kind: "tell", Args: []byte(`{"n": 1}`)}), "commit")
	if got := stored(); got != "2 1" {
		t.Fatalf("jobs and attempts are %s", got)
	}
	// Those with a key are one while it waits, whatever their arguments.
	w.must(commit(2, workflow.Job{Kind: "tell", Key: "k", Args: []byte(`{"n": 2}`)}, workflow.Job{Kind: "tell", Key: "other", Args: []byte(`{"n": 2}`)}), "commit")
	w.must(commit(3, workflow.Job{Kind: "tell", Key: "k", Args: []byte(`{"n": 3}`)}, workflow.Job{Kind: "shout", Key: "k"}), "commit")
	if got := stored(); got != "5 3" {
		t.Fatalf("then jobs and attempts are %s", got)
	}
	// The content is refused, or the writer fenced: nothing is enqueued.
	if err := commit(3, workflow.Job{Kind: "tell"}); !errors.Is(err, engine.ErrRefused) {
		t.Errorf("an attempt twice: %v", err)
	}
	w.shift(5)
	if err := commit(4, workflow.Job{Kind: "tell"}); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("fenced: %v", err)
	}
	w.shift(-5)
	if got := stored(); got != "5 3" {
		t.Fatalf("after failures jobs and attempts are %s", got)
	}

	var log jobLog
	jobs := &engine.Jobs{}
	jobs.HandleJob("tell", func(_ context.Context, args []byte) error { log.add("tell " + string(args)); return nil })
	tries := 0
	jobs.HandleJob("shout", func(_ context.Context, args []byte) error {
		if tries++; tries == 1 {
			return errors.New("hoarse")
		}
		log.add(fmt.Sprintf("shout %q after %d", args, tries))
		return nil
	})
	w.startJobs(jobs, engine.Retention{})
	want := []string{`shout "" after 2`, `tell {"n": 1}`, `tell {"n": 1}`, `tell {"n": 2}`, `tell {"n": 2}`}
	w.eventually("all of them have run", func() bool { return len(log.all()) >= len(want) })
	got := log.all()
	slices.Sort(got)
	for i := range got {
		got[i] = compact(got[i])
		want[i] = compact(want[i])
	}
	if !slices.Equal(got, want) {
		t.Errorf("run were %q", got)
	}
	// And one that comes while they run.
	w.must(commit(4, workflow.Job{Kind: "tell", Key: "k", Args: []byte(`{"n":9}`)}), "commit")
	w.eventually("a job that was enqueued later has run", func() bool {
		return slices.Contains(log.all(), `tell {"n":9}`) || slices.Contains(log.all(), `tell {"n": 9}`)
	})
}

// compact takes the spaces out: arguments are stored as jsonb.
func compact(text string) string {
	return string(slices.DeleteFunc([]byte(text), func(b byte) bool { return b == ' ' }))
}

// A job that nobody here knows is left for a program that does.
func TestJobOfANewerProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	_, err := w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Changes: []*workflow.Change{{ID: run.ID, Jobs: []workflow.Job{{Kind: "future"}}}}})
	w.must(err, "commit")
	w.startJobs(&engine.Jobs{}, engine.Retention{})
	w.eventually("it waits", func() bool {
		return ask[int](w, "SELECT count(*) FROM cyclonetix__river.river_job WHERE state = 'scheduled' AND args->>'name' = 'future' AND scheduled_at > now() + interval '10 seconds'") == 1
	})
}

// Whoever is done with jobs has no connection of River left, and can begin anew.
func TestJobsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 2 {
		ctx, cancel := context.WithCancel(w.ctx)
		backend := w.open()
		w.must(backend.StartJobs(ctx, &engine.Jobs{}, engine.Retention{}), "start jobs")
		cancel()
		closed := make(chan struct{})
		go func() { backend.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("the backend can't be closed")
		}
	}
}
