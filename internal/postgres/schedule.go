package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
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

// Dates implements engine.Schedules.
func (b *Backend) Dates(ctx context.Context, dates []engine.LogicalDate) ([]engine.DateState, error) {
	states := make([]engine.DateState, len(dates))
	if len(dates) == 0 {
		return states, nil
	}
	type key struct {
		dag  string
		date int64
	}
	var params db.ListKnownDatesParams
	earliest := dates[0].Date
	for _, date := range dates {
		params.DagIds, params.LogicalDates = append(params.DagIds, date.DAG), append(params.LogicalDates, date.Date)
		if date.Date.Before(earliest) {
			earliest = date.Date
		}
	}
	params.Least = db.UUID(firstRunFor(earliest))
	rows, err := b.queries.ListKnownDates(ctx, b.on(b.pool), params)
	if err != nil {
		return nil, fmt.Errorf("look for runs of logical dates: %w", interpretError(err))
	}
	known := make(map[key]bool, len(rows)) // whether it has succeeded
	for _, row := range rows {
		at := key{row.DagID, row.LogicalDate.UnixMicro()}
		known[at] = known[at] || row.Succeeded
	}
	for i, date := range dates {
		var found bool
		if states[i].Succeeded, found = known[key{date.DAG, date.Date.UnixMicro()}]; found {
			states[i].Latest = date.Date
			continue
		}
		latest, err := b.queries.FindLatestDate(ctx, b.on(b.pool), db.FindLatestDateParams{DagID: date.DAG, Before: date.Date})
		if err != nil {
			return nil, fmt.Errorf("look for the run before a logical date of %s: %w", date.DAG, interpretError(err))
		}
		if latest.Year() > 1 {
			states[i].Latest = latest.UTC()
		}
	}
	return states, nil
}

// datesAhead is how much earlier than its logical date a run may have been made: clocks differ.
const datesAhead = 24 * time.Hour

// firstRunFor is the smallest id that a run for the date may have.
func firstRunFor(date time.Time) workflow.RunID {
	at := date.Add(-datesAhead)
	if at.Before(time.UnixMilli(0)) {
		at = time.UnixMilli(0)
	}
	return workflow.FirstRunID(at)
}
