package main

import (
	"context"
	"maps"
	"slices"

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
