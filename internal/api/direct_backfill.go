package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	"github.com/cyclonetix/cyclonetix/internal/schedule"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// backfillBatch is the number of runs that a backfill submits at once.
const backfillBatch = 200

// Backfill implements Service.
func (d *Direct) Backfill(ctx context.Context, request *Backfill) (*Backfilled, error) {
	if err := request.check(); err != nil {
		return nil, err
	}
	asked := &order{kind: spec.KindDAG, id: request.DAGID, settings: Settings{Context: request.Context}}
	catalog, revision, err := d.language.Current(ctx)
	if err == nil {
		asked.declared, err = d.backend.Declared(ctx)
	}
	if err != nil {
		return nil, d.explain(ctx, "plan "+asked.String(), err)
	}
	template, err := d.graph(asked, catalog)
	if err != nil {
		return nil, unplannable(asked, err)
	}
	if err := d.checkQueues(ctx, asked, template.Plan); err != nil {
		return nil, err
	}
	definition, err := catalog.Lookup(spec.KindDAG, request.DAGID)
	if err != nil {
		return nil, unplannable(asked, err)
	}
	dates, err := request.dates(definition.DAG.Schedule, d.backend.Now())
	if err != nil {
		return nil, err
	}
	template.Revision, template.Pin = revision, pin(request.DAGID)
	if request.MaxParallel > 0 {
		template.Options.Groups = append(template.Options.Groups, workflow.RunGroup{
			Name: "backfill/" + request.DAGID + "/" + request.StartDate + "/" + request.EndDate, MaxActive: request.MaxParallel,
		})
	}
	answer := &Backfilled{Success: true, DAGID: request.DAGID, Total: len(dates), Offset: request.Offset, Limit: request.Limit, Runs: []BackfillRun{}}
	begin, end := min(request.Offset, len(dates)), len(dates)
	if request.Limit > 0 {
		end = min(end, begin+request.Limit)
	}
	past := definition.DAG.Schedule != nil && definition.DAG.Schedule.DependsOnPast
	submissions := make([]engine.Submission, 0, backfillBatch)
	for i := begin; i < end; i++ {
		submission := *template
		asked.date = dates[i]
		submission.IdempotencyKey = language.DateKey(request.DAGID, dates[i])
		if err := d.fill(asked, catalog, &submission); err != nil {
			return nil, err
		}
		if past && i > 0 {
			submission.Options.After = dates[i-1]
		}
		if submissions = append(submissions, submission); len(submissions) == backfillBatch || i == end-1 {
			if answer.Runs, err = d.submitDates(ctx, submissions, answer.Runs); err != nil {
				return nil, d.explain(ctx, fmt.Sprintf("start a run of %s for %s", asked, dates[i].Format(time.RFC3339)), err)
			}
			submissions = submissions[:0]
		}
	}
	return answer, nil
}

// submitDates starts runs for dates, and adds them to those that there are.
func (d *Direct) submitDates(ctx context.Context, submissions []engine.Submission, runs []BackfillRun) ([]BackfillRun, error) {
	answers, err := d.backend.Submit(ctx, submissions)
	if err != nil {
		return nil, err
	}
	for i := range answers {
		run := BackfillRun{
			RunID: answers[i].Name, LogicalDate: utc(submissions[i].Options.LogicalDate), Existing: answers[i].Existing, Status: workflow.RunPending,
		}
		if run.Existing {
			view, err := d.backend.FindRun(ctx, answers[i].ID.String())
			if err != nil {
				return nil, err
			}
			run.Status = view.Status
		}
		runs = append(runs, run)
	}
	return runs, nil
}

func (b *Backfill) check() error {
	switch {
	case b.DAGID == "":
		return missing("dag_id")
	case b.StartDate == "":
		return missing("start_date")
	case b.EndDate == "":
		return missing("end_date")
	case b.MaxParallel < 0 || b.MaxParallel > maxParallel:
		return badField("max_parallel", fmt.Sprintf("%d is not from 0 (no bound) to %d", b.MaxParallel, maxParallel))
	case b.Offset < 0:
		return badField("offset", fmt.Sprintf("%d is below 0", b.Offset))
	case b.Limit < 0:
		return badField("limit", fmt.Sprintf("%d is below 0", b.Limit))
	}
	return nil
}

// dates are the logical dates in the range that have come, the earliest first.
func (b *Backfill) dates(when *workflow.Schedule, now time.Time) ([]time.Time, error) {
	rule, zone := workflow.Schedule{Cron: "@daily"}, time.UTC
	if when != nil {
		rule = *when
	}
	if rule.Timezone != "" {
		var err error
		if zone, err = time.LoadLocation(rule.Timezone); err != nil {
			return nil, fmt.Errorf("backfill DAG %s: %w", b.DAGID, err)
		}
	}
	parsed, err := schedule.Parse(rule.Cron, rule.Timezone)
	if err != nil {
		return nil, fmt.Errorf("backfill DAG %s: %w", b.DAGID, err)
	}
	start, _, err := readDate("start_date", b.StartDate, zone)
	if err != nil {
		return nil, err
	}
	end, day, err := readDate("end_date", b.EndDate, zone)
	if err != nil {
		return nil, err
	}
	if end.Before(start) {
		return nil, badRange("end_date", fmt.Sprintf("%s is before the start_date, %s", b.EndDate, b.StartDate))
	}
	if end.After(now) {
		return nil, badRange("end_date", b.EndDate+" is yet to come")
	}
	if day {
		end = end.AddDate(0, 0, 1).Add(-time.Second)
	}
	var dates []time.Time
	for date := range parsed.Between(start, minTime(end, now)) {
		if len(dates) == MaxBackfill {
			return nil, badRange("end_date", fmt.Sprintf("there are more than %d times up to %s: give a shorter range", MaxBackfill, b.EndDate))
		}
		dates = append(dates, date.UTC())
	}
	if len(dates) == 0 {
		return nil, badRange("end_date", fmt.Sprintf("nothing is scheduled from %s to %s", b.StartDate, b.EndDate))
	}
	return slices.Clip(dates), nil
}

// readDate reads a day, as its first moment in a zone, or a time.
func readDate(field, text string, zone *time.Location) (at time.Time, day bool, err error) {
	if at, err = time.ParseInLocation(time.DateOnly, text, zone); err == nil {
		day = true
	} else if at, err = time.Parse(time.RFC3339, text); err != nil {
		return at, false, badField(field, fmt.Sprintf("%q is no date: write 2026-01-31, or a time such as 2026-01-31T08:00:00Z", text))
	}
	if at.Year() < 1970 {
		return at, false, badRange(field, text+" is before 1970")
	}
	return at, day, nil
}

func minTime(one, other time.Time) time.Time {
	if other.Before(one) {
		return other
	}
	return one
}

// badRange is the error of dates that can be read, and make no range.
func badRange(field, message string) *Error {
	err := badField(field, message)
	err.Status, err.Code = http.StatusUnprocessableEntity, CodeInvalid
	return err
}
