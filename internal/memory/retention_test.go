package memory_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Runs that ended before the retention are forgotten, with their names; runs that live are kept however old they are.
func TestRetention(t *testing.T) {
	t.Parallel()
	var passed atomic.Int64
	began := time.Now()
	backend := memory.New(memory.Options{Clock: func() time.Time { return began.Add(time.Duration(passed.Load())) }})
	t.Cleanup(backend.Close)
	plan := &workflow.Plan{Nodes: []workflow.Node{{Name: "a"}}, Specs: []*workflow.TaskSpec{{TaskID: "a", Queue: "default", Priority: 2}}}
	submission := func(name string) engine.Submission {
		return engine.Submission{Name: name, IdempotencyKey: name, Task: "a", Plan: plan}
	}
	submitted, err := backend.Submit(t.Context(), []engine.Submission{submission("ended"), submission("live")})
	if err != nil {
		t.Fatal(err)
	}
	writers, err := backend.OpenWriters(t.Context(), "test", 1)
	if err != nil {
		t.Fatal(err)
	}
	writer := writers[0]
	runs, err := writer.LoadRuns(t.Context(), []workflow.RunID{submitted[0].ID})
	if err != nil || len(runs) != 1 {
		t.Fatalf("loaded are %v, %v", runs, err)
	}
	change, _ := workflow.Advance(runs[0], writer.Now(), []workflow.Event{{Kind: workflow.EventCancel}}, workflow.DefaultLimits)
	if _, err := writer.Commit(t.Context(), &engine.Commit{At: change.At, Changes: []*workflow.Change{change}}); err != nil {
		t.Fatal(err)
	}
	passed.Store(int64(31 * 24 * time.Hour))
	if err := backend.StartJobs(t.Context(), &engine.Jobs{}, engine.Retention{Days: 30}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := backend.FindRun(t.Context(), "ended"); errors.Is(err, engine.ErrNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the run that ended is never forgotten")
		}
	}
	if _, err := backend.FindRun(t.Context(), "live"); err != nil {
		t.Errorf("the run that lives is gone: %v", err)
	}
	again, err := backend.Submit(t.Context(), []engine.Submission{submission("ended")})
	if err != nil || again[0].Existing {
		t.Errorf("the name of a forgotten run can't be used: %+v, %v", again, err)
	}
}
