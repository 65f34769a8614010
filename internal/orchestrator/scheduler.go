package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/schedule"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// ScheduledDAG is a DAG that runs by itself.
type ScheduledDAG struct {
	ID       string
	Schedule *workflow.Schedule
}

// Planner makes the runs of schedules, by the current definitions.
type Planner interface {
	// Scheduled gives the DAGs that have a schedule, with the revision of the definitions that say so.
	Scheduled(ctx context.Context) (dags []ScheduledDAG, revision int64, err error)
	// PlanDate makes a run of a DAG for a logical date. Errors: ErrUnplannable; others pass, and it is asked again.
	PlanDate(ctx context.Context, dag string, date time.Time) (*engine.Submission, error)
}

// ErrUnplannable says that a DAG can't be run as it is defined: the date gets no run.
var ErrUnplannable = errors.New("can't be planned")

// Scheduler starts the runs of schedules when they are due. Any number may run at once: each run has an idempotency key made
// of its DAG and its logical date, so that there is one, and how far a schedule was carried out is only ever taken on.
type Scheduler struct {
	Backend engine.Backend
	Planner Planner
	Logger  *slog.Logger
	// Now is the clock: the database's.
	Now func() time.Time

	revision int64
	plans    map[string]*schedulePlan
	loadedAt time.Time
}

// schedulePlan is one schedule, and how far it was carried out.
type schedulePlan struct {
	id       string
	rule     *workflow.Schedule
	schedule schedule.Schedule
	last     time.Time // the newest logical date that is done with; zero for none
	ran      time.Time // the newest one that has a run, where runs wait for the one before; zero for none
	next     time.Time // when something is to be done; zero for never
}

const (
	// reloadEvery is how often definitions are looked at that somebody else published.
	reloadEvery = 15 * time.Second
	// mostDates bounds the runs of one schedule that are made at once, and submitBatch those that are submitted at once.
	mostDates   = 100
	submitBatch = 500
)

// Run starts what is due until the context ends. Refreshed signals that definitions were published in this process.
func (s *Scheduler) Run(ctx context.Context, refreshed <-chan struct{}) {
	delay := firstDelay
	for {
		next, err := s.Turn(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := min(max(0, next.Sub(s.Now())), reloadEvery)
		if err != nil {
			s.Logger.Warn("schedules can't be carried out now; trying again", "error", err, "delay", delay)
			pause, delay = delay, min(2*delay, lastDelay)
		} else {
			delay = firstDelay
		}
		select {
		case <-ctx.Done():
			return
		case <-refreshed:
			s.loadedAt = time.Time{}
		case <-time.After(pause):
		}
	}
}

// Turn starts all that is due, and says when to come again.
func (s *Scheduler) Turn(ctx context.Context) (next time.Time, err error) {
	now := s.Now()
	if s.plans == nil || now.Sub(s.loadedAt) >= reloadEvery || s.loadedAt.After(now) {
		if err := s.load(ctx, now); err != nil {
			return now, err
		}
		s.loadedAt = now
	}
	next = now.Add(reloadEvery)
	var due []*schedulePlan
	for _, plan := range s.plans {
		if !plan.next.IsZero() && !plan.next.After(now) {
			due = append(due, plan)
		}
	}
	slices.SortFunc(due, func(one, other *schedulePlan) int { return one.next.Compare(other.next) })
	if err := s.start(ctx, due, now); err != nil {
		return now, err
	}
	for _, plan := range s.plans {
		if !plan.next.IsZero() && plan.next.Before(next) {
			next = plan.next
		}
	}
	return next, nil
}

// load reads the schedules, and how far each was carried out. One that is seen for the first time and has no start begins now.
func (s *Scheduler) load(ctx context.Context, now time.Time) error {
	dags, revision, err := s.Planner.Scheduled(ctx)
	if err != nil {
		return fmt.Errorf("read the schedules: %w", err)
	}
	if s.plans != nil && revision == s.revision {
		return nil
	}
	states, err := s.Backend.ScheduleStates(ctx)
	if err != nil {
		return fmt.Errorf("read how far the schedules were carried out: %w", err)
	}
	last := make(map[string]time.Time, len(states))
	for _, state := range states {
		last[state.DAG] = state.LastDate
	}
	plans := make(map[string]*schedulePlan, len(dags))
	var first []engine.ScheduleState
	for _, dag := range dags {
		parsed, err := schedule.Parse(dag.Schedule.Cron, dag.Schedule.Timezone)
		if err != nil {
			s.Logger.Error("a schedule can't be read and is left out", "dag", dag.ID, "error", err)
			continue
		}
		plan := &schedulePlan{id: dag.ID, rule: dag.Schedule, schedule: parsed, last: last[dag.ID]}
		if plan.last.IsZero() && dag.Schedule.StartDate.IsZero() {
			plan.last = now
			first = append(first, engine.ScheduleState{DAG: dag.ID, LastDate: now})
		}
		plan.wait(now)
		plans[dag.ID] = plan
	}
	if err := s.findFormer(ctx, plans); err != nil {
		return err
	}
	if len(first) > 0 {
		if err := s.Backend.SetScheduleStates(ctx, first); err != nil {
			return fmt.Errorf("note that schedules begin: %w", err)
		}
	}
	s.plans, s.revision = plans, revision
	return nil
}

// findFormer finds the runs that the next ones have to wait for: a date that is done with may have been passed over.
func (s *Scheduler) findFormer(ctx context.Context, plans map[string]*schedulePlan) error {
	var asked []engine.LogicalDate
	for _, plan := range plans {
		if plan.rule.DependsOnPast && plan.isDate(plan.last) {
			asked = append(asked, engine.LogicalDate{DAG: plan.id, Date: plan.last})
		}
	}
	states, err := s.Backend.Dates(ctx, asked)
	if err != nil {
		return fmt.Errorf("look for the last runs of the schedules: %w", err)
	}
	for i, state := range states {
		if plan := plans[asked[i].DAG]; plan.isDate(state.Latest) {
			plan.ran = state.Latest
		}
	}
	return nil
}

// wait finds the time at which the schedule is to be looked at next.
func (p *schedulePlan) wait(now time.Time) {
	p.next = time.Time{}
	if len(p.missed(now, 1)) > 0 {
		p.next = now
		return
	}
	after := now
	if start := p.rule.StartDate; start.After(after) {
		after = start.Add(-time.Nanosecond) // the start itself counts
	}
	if next, ok := p.schedule.Next(after); ok && (p.rule.EndDate.IsZero() || !next.After(p.rule.EndDate)) {
		p.next = next
	}
}

func (p *schedulePlan) missed(now time.Time, most int) []time.Time {
	return schedule.Missed(p.schedule, p.rule.StartDate, p.rule.EndDate, p.last, now, p.rule.Catchup, most)
}

// scheduledRun is a run to be made, and the date that is done with once it is.
type scheduledRun struct {
	plan       *schedulePlan
	date       time.Time
	submission *engine.Submission // nil when it can't be planned
}

// start makes the runs that are due. A DAG that can't be planned now stops no other: the error comes when all else is done.
func (s *Scheduler) start(ctx context.Context, due []*schedulePlan, now time.Time) error {
	var runs []scheduledRun
	var failed error
	for _, plan := range due {
		for _, date := range plan.missed(now, mostDates) {
			submission, err := s.Planner.PlanDate(ctx, plan.id, date)
			if err != nil && !errors.Is(err, ErrUnplannable) {
				failed = errors.Join(failed, fmt.Errorf("plan the run of DAG %s for %v: %w", plan.id, date, err))
				break // its dates go in their order
			}
			if err != nil {
				s.Logger.Error("a scheduled run can't be planned; its date is passed over", "dag", plan.id, "logical_date", date, "error", err)
				submission = nil
			}
			runs = append(runs, scheduledRun{plan, date, submission})
		}
	}
	for len(runs) > 0 {
		batch := runs[:min(submitBatch, len(runs))]
		runs = runs[len(batch):]
		if err := s.submit(ctx, batch); err != nil {
			return err
		}
	}
	for _, plan := range due {
		plan.wait(now)
	}
	return failed
}

// isDate tells whether a time is one of the schedule's.
func (p *schedulePlan) isDate(at time.Time) bool {
	if at.IsZero() {
		return false
	}
	next, ok := p.schedule.Next(at.Add(-time.Nanosecond))
	return ok && next.Equal(at)
}

// submit makes runs, together where that is possible, and notes the dates that are done with.
func (s *Scheduler) submit(ctx context.Context, runs []scheduledRun) error {
	var submissions []engine.Submission
	ran := map[*schedulePlan]time.Time{}
	for i := range runs {
		plan, submission := runs[i].plan, runs[i].submission
		if submission == nil {
			continue
		}
		if plan.rule.DependsOnPast {
			if submission.Options.After = plan.ran; !ran[plan].IsZero() {
				submission.Options.After = ran[plan]
			}
			ran[plan] = runs[i].date
		}
		submissions = append(submissions, *submission)
	}
	_, err := s.Backend.Submit(ctx, submissions)
	unstorable := errors.Is(err, engine.ErrRefused) || errors.Is(err, engine.ErrNameTaken)
	switch {
	case err == nil:
	case unstorable && len(runs) == 1:
		s.Logger.Error("a scheduled run can't be stored; its date is passed over", "dag", runs[0].plan.id, "logical_date", runs[0].date, "error", err)
		clear(ran)
	case unstorable: // one of them is to blame: the others are made alone
		for i := range runs {
			if err := s.submit(ctx, runs[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	default:
		return fmt.Errorf("start scheduled runs: %w", err)
	}
	states := make([]engine.ScheduleState, len(runs))
	for i := range runs {
		states[i] = engine.ScheduleState{DAG: runs[i].plan.id, LastDate: runs[i].date}
	}
	if err := s.Backend.SetScheduleStates(ctx, states); err != nil {
		return fmt.Errorf("note which scheduled runs were started: %w", err)
	}
	for i := range runs {
		runs[i].plan.last = runs[i].date
	}
	for plan, date := range ran {
		plan.ran = date
	}
	return nil
}
