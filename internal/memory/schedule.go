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

// Dates implements engine.Schedules.
func (b *Backend) Dates(ctx context.Context, dates []engine.LogicalDate) ([]engine.DateState, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("look for runs of logical dates: %w", err)
	}
	defer b.mutex.Unlock()
	states := make([]engine.DateState, len(dates))
	asked := map[string][]int{} // places, by DAG
	for i, date := range dates {
		states[i].Succeeded = b.succeeded[dateOf(date.DAG, date.Date)]
		asked[date.DAG] = append(asked[date.DAG], i)
	}
	see := func(dag string, date time.Time) {
		for _, i := range asked[dag] {
			if date.After(states[i].Latest) && !date.After(dates[i].Date) {
				states[i].Latest = date
			}
		}
	}
	for known := range b.succeeded {
		see(known.dag, time.UnixMicro(known.date).UTC())
	}
	for _, r := range b.runs {
		if date := r.options.LogicalDate; !date.IsZero() {
			see(r.dag, date.Truncate(time.Microsecond).UTC())
		}
	}
	return states, nil
}
