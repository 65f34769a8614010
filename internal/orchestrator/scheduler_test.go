package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/schedule"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// timetable is a planner of DAGs with one task.
type timetable struct {
	mutex    sync.Mutex
	dags     []ScheduledDAG
	revision int64
	broken   map[string]bool // can't be planned
	away     error           // of planning the DAG "flaky"
	planned  map[string]*engine.Submission
}

// former is the date that a run waits for.
func (t *timetable) former(dag string, date time.Time) time.Time {
	if planned := t.planned[dag+date.UTC().Format(time.RFC3339)]; planned != nil {
		return planned.Options.After
	}
	return time.Time{}
}

func (t *timetable) Scheduled(context.Context) ([]ScheduledDAG, int64, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.dags, t.revision, nil
}

func (t *timetable) PlanDate(_ context.Context, dag string, date time.Time) (*engine.Submission, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.broken[dag] {
		return nil, fmt.Errorf("%w: it is broken", ErrUnplannable)
	}
	if t.away != nil && dag == "flaky" {
		return nil, t.away
	}
	if t.planned == nil {
		t.planned = map[string]*engine.Submission{}
	}
	key := dag + date.UTC().Format(time.RFC3339)
	planned := &engine.Submission{
		DAG: dag, Plan: planOf("a"), Pin: "dag/" + dag, IdempotencyKey: "date/" + dag + "/" + date.UTC().Format(time.RFC3339),
		Options: workflow.RunOptions{LogicalDate: date}, Actor: "schedule", Cause: "schedule", Revision: t.revision,
	}
	if t.planned[key] == nil { // who comes later is told that there is the run
		t.planned[key] = planned
	}
	return planned, nil
}

// clockwork is a backend, with a scheduler whose clock the test sets.
type clockwork struct {
	*testing.T
	now     time.Time
	backend *memory.Backend
	table   *timetable
}

func newClockwork(t *testing.T, now time.Time, dags ...ScheduledDAG) *clockwork {
	t.Helper()
	c := &clockwork{T: t, now: now, table: &timetable{dags: dags, revision: 1}}
	c.backend = memory.New(memory.Options{Clock: func() time.Time { return c.now }})
	return c
}

func (c *clockwork) scheduler() *Scheduler {
	return &Scheduler{Backend: c.backend, Planner: c.table, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return c.now }}
}

// until lets time pass, as the scheduler wants to be woken.
func (c *clockwork) until(s *Scheduler, end time.Time) {
	c.Helper()
	for {
		next, err := s.Turn(c.Context())
		if err != nil {
			c.Fatal(err)
		}
		if next.After(end) {
			c.now = end
			return
		}
		if next.After(c.now) { // else there is more to do at once
			c.now = next
		}
	}
}

// dates are the logical dates that have runs, in order.
func (c *clockwork) dates(dag string) []time.Time {
	c.Helper()
	var dates []time.Time
	for offset := 0; ; offset += 1000 {
		list, err := c.backend.Runs(c.Context(), engine.RunFilter{DAG: dag, Limit: 1000, Offset: offset})
		if err != nil {
			c.Fatal(err)
		}
		for i := range list.Runs {
			dates = append(dates, list.Runs[i].LogicalDate)
		}
		if len(list.Runs) < 1000 {
			break
		}
	}
	slices.SortFunc(dates, time.Time.Compare)
	return dates
}

func (c *clockwork) expect(dag string, want ...time.Time) {
	c.Helper()
	if got := c.dates(dag); !slices.EqualFunc(got, want, time.Time.Equal) {
		c.Errorf("DAG %s has runs for %v, not %v", dag, got, want)
	}
}

func scheduled(id, cron string, change ...func(*workflow.Schedule)) ScheduledDAG {
	rule := &workflow.Schedule{Cron: cron}
	for _, c := range change {
		c(rule)
	}
	return ScheduledDAG{ID: id, Schedule: rule}
}

var newYear = time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)

func hour(number int) time.Time {
	return newYear.Truncate(time.Hour).Add(time.Duration(number) * time.Hour)
}

func TestSchedulesRunWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	c := newClockwork(t, newYear, scheduled("hourly", "@hourly"), scheduled("noon", "0 12 * * *"))
	s := c.scheduler()
	c.until(s, newYear.Add(3*time.Hour))
	c.expect("hourly", hour(1), hour(2), hour(3))
	c.expect("noon")
	c.until(s, newYear.Add(12*time.Hour))
	c.expect("noon", hour(12))
}

func TestMissedTimes(t *testing.T) {
	t.Parallel()
	all := func(rule *workflow.Schedule) { rule.Catchup = true }
	since := func(rule *workflow.Schedule) { rule.StartDate = hour(-2) }
	until := func(rule *workflow.Schedule) { rule.EndDate = hour(1) }
	c := newClockwork(t, newYear,
		scheduled("latest", "@hourly"), scheduled("all", "@hourly", all), scheduled("since", "@hourly", since),
		scheduled("all since", "@hourly", all, since), scheduled("until", "@hourly", all, until))
	c.until(c.scheduler(), newYear)
	c.expect("latest")
	c.expect("since", hour(0))
	c.expect("all since", hour(-2), hour(-1), hour(0))
	c.now = hour(3).Add(time.Minute) // nobody was there
	c.until(c.scheduler(), c.now)
	c.expect("latest", hour(3))
	c.expect("all", hour(1), hour(2), hour(3))
	c.expect("since", hour(0), hour(3))
	c.expect("all since", hour(-2), hour(-1), hour(0), hour(1), hour(2), hour(3))
	c.expect("until", hour(1))
	c.until(c.scheduler(), c.now)
	c.expect("latest", hour(3))
}

func TestCatchupOfManyDates(t *testing.T) {
	t.Parallel()
	c := newClockwork(t, newYear, scheduled("each", "* * * * *", func(rule *workflow.Schedule) { rule.Catchup, rule.StartDate = true, hour(-9) }))
	c.until(c.scheduler(), newYear)
	if got := c.dates("each"); len(got) != 9*60+1 || !got[0].Equal(hour(-9)) {
		t.Errorf("%d runs were made", len(got))
	}
}

func TestEachRunWaitsForTheFormer(t *testing.T) {
	t.Parallel()
	c := newClockwork(t, newYear, scheduled("chain", "@hourly", func(rule *workflow.Schedule) {
		rule.Catchup, rule.StartDate, rule.DependsOnPast = true, hour(-1), true
	}))
	c.until(c.scheduler(), hour(1))
	c.until(c.scheduler(), hour(2)) // another orchestrator
	c.expect("chain", hour(-1), hour(0), hour(1), hour(2))
	for number, former := range map[int]time.Time{-1: {}, 0: hour(-1), 1: hour(0), 2: hour(1)} {
		if got := c.table.former("chain", hour(number)); !got.Equal(former) {
			t.Errorf("the run of %v waits for that of %v, not %v", hour(number), got, former)
		}
	}
}

func TestDateIsNotLostWhenPlanningFailsForAMoment(t *testing.T) {
	t.Parallel()
	all := func(rule *workflow.Schedule) { rule.Catchup = true }
	c := newClockwork(t, newYear, scheduled("flaky", "@hourly", all), scheduled("good", "@hourly", all))
	s := c.scheduler()
	c.until(s, newYear)
	c.now, c.table.away = hour(2), errors.New("the backend does not answer")
	if _, err := s.Turn(c.Context()); !errors.Is(err, c.table.away) {
		t.Fatalf("the turn gives %v", err)
	}
	c.expect("flaky")
	c.expect("good", hour(1), hour(2))
	c.table.away = nil
	c.until(s, hour(3))
	c.expect("flaky", hour(1), hour(2), hour(3))
	c.expect("good", hour(1), hour(2), hour(3))
}

func TestDateThatWasPassedOverIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	c := newClockwork(t, newYear, scheduled("chain", "@hourly", func(rule *workflow.Schedule) {
		rule.Catchup, rule.StartDate, rule.DependsOnPast = true, hour(0), true
	}))
	s := c.scheduler()
	broken := func(is bool, end int) {
		c.table.broken = map[string]bool{"chain": is}
		c.until(s, hour(end))
	}
	broken(true, 1) // the first ones
	broken(false, 3)
	broken(true, 5)
	broken(false, 7)
	broken(true, 9)
	s = c.scheduler() // another orchestrator
	broken(false, 11)
	c.expect("chain", hour(2), hour(3), hour(6), hour(7), hour(10), hour(11))
	for number, former := range map[int]time.Time{2: {}, 3: hour(2), 6: hour(3), 7: hour(6), 10: hour(7), 11: hour(10)} {
		if got := c.table.former("chain", hour(number)); !got.Equal(former) {
			t.Errorf("the run of %v waits for that of %v, not %v", hour(number), got, former)
		}
	}
}

// refuser refuses submissions of a date.
type refuser struct {
	engine.Backend

	date time.Time
}

func (r *refuser) Submit(ctx context.Context, submissions []engine.Submission) ([]engine.Submitted, error) {
	for i := range submissions {
		if submissions[i].Options.LogicalDate.Equal(r.date) {
			return nil, fmt.Errorf("%w: a bad date", engine.ErrRefused)
		}
	}
	return r.Backend.Submit(ctx, submissions) //nolint:wrapcheck // a wrapper is not seen
}

func TestRefusedDateIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	c := newClockwork(t, newYear, scheduled("chain", "@hourly", func(rule *workflow.Schedule) {
		rule.Catchup, rule.StartDate, rule.DependsOnPast = true, hour(-3), true
	}))
	s := c.scheduler()
	s.Backend = &refuser{c.backend, hour(-1)}
	c.until(s, hour(0))
	c.expect("chain", hour(-3), hour(-2), hour(0))
	if got := c.table.former("chain", hour(0)); !got.Equal(hour(-2)) {
		t.Errorf("the run waits for that of %v", got)
	}
}

func TestChangedSchedules(t *testing.T) {
	t.Parallel()
	c := newClockwork(t, newYear, scheduled("dag", "@hourly"))
	s := c.scheduler()
	c.until(s, hour(1))
	c.table.dags, c.table.revision = []ScheduledDAG{scheduled("dag", "30 * * * *"), scheduled("new", "@hourly")}, 2
	c.until(s, hour(3))
	c.expect("dag", hour(1), hour(1).Add(30*time.Minute), hour(2).Add(30*time.Minute))
	c.expect("new", hour(2), hour(3))
	c.table.dags, c.table.revision = nil, 3
	c.until(s, hour(9))
	c.expect("new", hour(2), hour(3))
}

func TestDAGThatCannotBePlannedStopsNoOther(t *testing.T) {
	t.Parallel()
	c := newClockwork(t, newYear, scheduled("bad", "@hourly"), scheduled("good", "@hourly"), scheduled("nonsense", "x"))
	c.table.broken = map[string]bool{"bad": true}
	c.until(c.scheduler(), hour(2))
	c.expect("bad")
	c.expect("good", hour(1), hour(2))
}

// Over years, with summer time, restarts and two orchestrators that race for everything: one run for each logical date.
func TestOneRunForEachDate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		zone := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}).Draw(rt, "zone")
		cron := rapid.SampledFrom([]string{"30 2 * * *", "0 */6 * * *", "15 1 * * sun", "@monthly"}).Draw(rt, "cron")
		begin := time.Date(rapid.IntRange(2000, 2030).Draw(rt, "year"), time.Month(rapid.IntRange(1, 12).Draw(rt, "month")), 1, 7, 0, 0, 0, time.UTC)
		c := newClockwork(t, begin, scheduled("dag", cron, func(rule *workflow.Schedule) { rule.Timezone, rule.Catchup = zone, true }))
		schedulers := []*Scheduler{c.scheduler(), c.scheduler()}
		if _, err := schedulers[0].Turn(c.Context()); err != nil { // the schedule begins
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			c.now = c.now.Add(time.Duration(rapid.IntRange(1, 20*24*60).Draw(rt, "minutes")) * time.Minute)
			if rapid.IntRange(0, 5).Draw(rt, "restart") == 0 {
				schedulers[rapid.IntRange(0, 1).Draw(rt, "which")] = c.scheduler()
			}
			var racing sync.WaitGroup
			for _, s := range schedulers {
				racing.Go(func() {
					for next := c.now; !next.After(c.now); {
						var err error
						if next, err = s.Turn(c.Context()); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			racing.Wait()
		}
		parsed, err := schedule.Parse(cron, zone)
		if err != nil {
			rt.Fatal(err)
		}
		var want []time.Time
		for at := range parsed.Between(begin.Add(1), c.now) {
			want = append(want, at)
		}
		if got := c.dates("dag"); !slices.EqualFunc(got, want, time.Time.Equal) {
			rt.Fatalf("there are runs for\n%v, not for\n%v", got, want)
		}
	})
}

// BenchmarkManySchedules is the time in which 1,000 schedules that are due at once become runs.
func BenchmarkManySchedules(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		now := newYear
		table := &timetable{revision: 1}
		for number := range 1000 {
			table.dags = append(table.dags, scheduled(fmt.Sprintf("dag%d", number), "@hourly"))
		}
		backend := memory.New(memory.Options{Clock: func() time.Time { return now }})
		s := &Scheduler{Backend: backend, Planner: table, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
		if _, err := s.Turn(b.Context()); err != nil {
			b.Fatal(err)
		}
		now = hour(1)
		b.StartTimer()
		if _, err := s.Turn(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
