package memory_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/backendtest"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// A run that retention has dropped can't be reopened, and who asks is told why.
func TestGone(t *testing.T) {
	t.Parallel()
	var passed atomic.Int64
	began := time.Now()
	backend := memory.New(memory.Options{Clock: func() time.Time { return began.Add(time.Duration(passed.Load())) }})
	t.Cleanup(backend.Close)
	backendtest.RunGone(t, backend, func(run workflow.RunID) {
		passed.Store(int64(31 * 24 * time.Hour))
		if err := backend.StartJobs(t.Context(), &engine.Jobs{}, engine.Retention{Days: 30}); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, err := backend.FindRun(t.Context(), run.String()); errors.Is(err, engine.ErrGone) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the run is never forgotten")
			}
		}
	})
}
