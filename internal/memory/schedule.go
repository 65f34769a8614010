package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// dagDate is a logical date of a DAG, in microseconds.
type dagDate struct {
	dag  string
	date int64
}

func dateOf(dag string, date time.Time) dagDate { return dagDate{dag, date.UnixMicro()} }

// ScheduleStates implements engine.Schedules.
func (b *Backend) ScheduleStates(ctx context.Context) ([]engine.ScheduleState, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("read how far schedules were carried out: %w", err)
	}
	defer b.mutex.Unlock()
	states := make([]engine.ScheduleState, 0, len(b.schedules))
	for dag, last := range b.schedules {
		states = append(states, engine.ScheduleState{DAG: dag, LastDate: last})
	}
	slices.SortFunc(states, func(one, other engine.ScheduleState) int { return cmp.Compare(one.DAG, other.DAG) })
	return states, nil
}

// SetScheduleStates implements engine.Schedules.
func (b *Backend) SetScheduleStates(ctx context.Context, states []engine.ScheduleState) error {
	if err := b.lock(ctx); err != nil {
		return fmt.Errorf("note how far schedules were carried out: %w", err)
	}
	defer b.mutex.Unlock()
	for _, state := range states {
		if last, known := b.schedules[state.DAG]; !known || state.LastDate.After(last) {
			b.schedules[state.DAG] = state.LastDate.UTC()
		}
	}
	return nil
}

// DateSucceeded implements engine.Schedules.
func (b *Backend) DateSucceeded(ctx context.Context, dag string, date time.Time) (bool, error) {
	if err := b.lock(ctx); err != nil {
		return false, fmt.Errorf("look for a run of the DAG %s for %v: %w", dag, date, err)
	}
	defer b.mutex.Unlock()
	return b.succeeded[dateOf(dag, date)], nil
}
