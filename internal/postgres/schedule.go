package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// ScheduleStates implements engine.Schedules.
func (b *Backend) ScheduleStates(ctx context.Context) ([]engine.ScheduleState, error) {
	rows, err := b.queries.ListSchedules(ctx, b.on(b.pool))
	if err != nil {
		return nil, fmt.Errorf("read the schedules: %w", interpretError(err))
	}
	states := make([]engine.ScheduleState, len(rows))
	for i, row := range rows {
		states[i] = engine.ScheduleState{DAG: row.DagID, LastDate: row.LastDate.UTC()}
	}
	return states, nil
}

// SetScheduleStates implements engine.Schedules.
func (b *Backend) SetScheduleStates(ctx context.Context, states []engine.ScheduleState) error {
	if len(states) == 0 {
		return nil
	}
	var rows db.WriteSchedulesParams
	for i := range states {
		rows.DagIds, rows.LastDates = append(rows.DagIds, states[i].DAG), append(rows.LastDates, states[i].LastDate)
	}
	if err := b.queries.WriteSchedules(ctx, b.on(b.pool), rows); err != nil {
		return fmt.Errorf("take schedules on: %w", interpretError(err))
	}
	return nil
}

// DateSucceeded implements engine.Schedules.
func (b *Backend) DateSucceeded(ctx context.Context, dag string, date time.Time) (bool, error) {
	has, err := b.queries.HasDate(ctx, b.on(b.pool), db.HasDateParams{DagID: dag, LogicalDate: date})
	if err != nil {
		return false, fmt.Errorf("look for the logical date of %s: %w", dag, interpretError(err))
	}
	return has, nil
}
