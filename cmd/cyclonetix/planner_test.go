package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/orchestrator"
)

// failing is a backend whose definitions can't be read.
type failing struct {
	engine.Backend

	err error
}

func (f *failing) Revision(ctx context.Context) (int64, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Backend.Revision(ctx) //nolint:wrapcheck // a wrapper is not seen
}

// A date is passed over only where the definitions are to blame.
func TestPlannerTellsWhatPasses(t *testing.T) {
	t.Parallel()
	backend := &failing{Backend: memory.New(memory.Options{})}
	plan := newPlanner(backend, language.New(backend)).PlanDate
	date := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	if _, err := plan(t.Context(), "nothing", date); !errors.Is(err, orchestrator.ErrUnplannable) {
		t.Errorf("a DAG that is not there gives %v", err)
	}
	for _, backend.err = range []error{errors.New("the network is down"), engine.ErrUncertain, engine.ErrTooManyPending, context.DeadlineExceeded} {
		if _, err := plan(t.Context(), "nothing", date); err == nil || errors.Is(err, orchestrator.ErrUnplannable) {
			t.Errorf("%v gives %v", backend.err, err)
		}
	}
}
