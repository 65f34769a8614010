package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	"github.com/cyclonetix/cyclonetix/internal/orchestrator"
)

// planner makes the runs of schedules for the orchestrator.
type planner struct {
	*api.Direct

	language *language.Language
}

var (
	_ orchestrator.Planner  = planner{}
	_ orchestrator.Language = (*language.Language)(nil)
)

func newPlanner(backend engine.Backend, known *language.Language) planner {
	return planner{api.NewDirect(backend, api.DirectOptions{
		Actor: "scheduler", Cause: "schedule", Version: programVersion(), Language: known,
	}), known}
}

// PlanDate implements orchestrator.Planner.
func (p planner) PlanDate(ctx context.Context, dag string, date time.Time) (*engine.Submission, error) {
	submission, err := p.Direct.PlanDate(ctx, dag, date)
	if known, ok := errors.AsType[*api.Error](err); ok && isFinal(known.Status) {
		return nil, fmt.Errorf("%w: %w", orchestrator.ErrUnplannable, err)
	}
	return submission, err //nolint:wrapcheck // it says what it did
}

// isFinal tells of the status of an error whether the same request would be refused again.
func isFinal(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

// Scheduled implements orchestrator.Planner.
func (p planner) Scheduled(ctx context.Context) ([]orchestrator.ScheduledDAG, int64, error) {
	schedules, revision, err := p.language.Schedules(ctx)
	if err != nil {
		return nil, 0, err
	}
	dags := make([]orchestrator.ScheduledDAG, 0, len(schedules))
	for _, id := range slices.Sorted(maps.Keys(schedules)) {
		dags = append(dags, orchestrator.ScheduledDAG{ID: id, Schedule: schedules[id]})
	}
	return dags, revision, nil
}
