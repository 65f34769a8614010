package orchestrator

import (
	"context"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// pastGrace is how long a run waits for a former date that has no run: whoever makes runs for many dates, in several
// steps, may be about to make that one.
const pastGrace = time.Minute

// gate holds pending runs that wait for others: for a place in a group (max_active_runs, a backfill), or for
// the run of the former logical date to succeed. All runs of a group are in one bucket, so whoever owns it sees them all;
// but only once the takeover has looked at every live run.
type gate struct {
	active  map[string]int // by group
	inside  map[workflow.RunID][]workflow.RunGroup
	waiting []*waitingRun // oldest first
	known   map[workflow.RunID]*waitingRun
	// dates are those that waiting runs wait for.
	dates map[dateKey]*awaitedDate
	dirty bool
	// unsure tells that a date was looked for in vain and is to be looked for again.
	unsure bool
}

type waitingRun struct {
	id      workflow.RunID
	dag     string
	options workflow.RunOptions
	after   time.Time // the date that it waits for; zero for none
}

type dateKey struct {
	dag  string
	date int64 // microseconds
}

// awaitedDate is a date, and what is known of it.
type awaitedDate struct {
	engine.LogicalDate
	engine.DateState

	runs   int // that wait for it
	looked bool
}

// missing tells that there is known to be no run for the date.
func (d *awaitedDate) missing() bool {
	return d.looked && d.PassedOver(d.Date)
}

func newGate() *gate {
	return &gate{
		active: map[string]int{}, inside: map[workflow.RunID][]workflow.RunGroup{}, known: map[workflow.RunID]*waitingRun{},
		dates: map[dateKey]*awaitedDate{},
	}
}

// gated tells whether a run may have to wait for others.
func gated(run *workflow.Run) bool {
	return len(run.Options.Groups) > 0 || !run.Options.After.IsZero()
}

// add lets a pending run wait. In each group runs start in the order of their logical dates, then of their making.
func (g *gate) add(run *workflow.Run) {
	if !gated(run) || g.known[run.ID] != nil {
		return
	}
	added := &waitingRun{id: run.ID, dag: run.DAG, options: run.Options}
	g.known[run.ID], g.dirty = added, true
	place, _ := slices.BinarySearchFunc(g.waiting, added, compareWaiting)
	g.waiting = slices.Insert(g.waiting, place, added)
	g.await(added, run.Options.After)
}

func compareWaiting(one, other *waitingRun) int {
	if by := one.options.LogicalDate.Compare(other.options.LogicalDate); by != 0 {
		return by
	}
	return slices.Compare(one.id[:], other.id[:])
}

// await lets a run wait for another date; zero for none.
func (g *gate) await(run *waitingRun, date time.Time) {
	if !run.after.IsZero() {
		key := run.awaits()
		if g.dates[key].runs--; g.dates[key].runs == 0 {
			delete(g.dates, key)
		}
	}
	if run.after = date; date.IsZero() {
		return
	}
	key := run.awaits()
	if g.dates[key] == nil {
		g.dates[key] = &awaitedDate{LogicalDate: engine.LogicalDate{DAG: run.dag, Date: date}}
	}
	g.dates[key].runs++
}

func (r *waitingRun) awaits() dateKey { return dateKey{r.dag, r.after.UnixMicro()} }

// started counts a run that has its place.
func (g *gate) started(run *workflow.Run) { g.enter(run.ID, run.Options.Groups) }

func (g *gate) enter(id workflow.RunID, groups []workflow.RunGroup) {
	if len(groups) == 0 || g.inside[id] != nil {
		return
	}
	g.inside[id] = groups
	for _, group := range groups {
		g.active[group.Name]++
	}
}

// changed takes note of a committed change.
func (g *gate) changed(run *workflow.Run, before workflow.RunStatus, change *workflow.Change) {
	if change.Run == nil {
		return
	}
	if date := change.Run.LogicalDate; !date.IsZero() {
		if awaited := g.dates[dateKey{run.DAG, date.UnixMicro()}]; awaited != nil {
			awaited.Succeeded, g.dirty = true, true
		}
	}
	switch {
	case !gated(run):
	case run.Status.Ended():
		g.leave(run.ID)
	case before == workflow.RunPending || before.Ended():
		g.drop(run.ID)
		g.started(run)
	}
}

// leave forgets a run that has ended, or will by force: its place is free.
func (g *gate) leave(id workflow.RunID) {
	g.drop(id)
	groups := g.inside[id]
	delete(g.inside, id)
	for _, group := range groups {
		if g.active[group.Name]--; g.active[group.Name] == 0 {
			delete(g.active, group.Name)
		}
	}
	g.dirty = g.dirty || len(groups) > 0 && len(g.waiting) > 0
}

// drop forgets that a run waits.
func (g *gate) drop(id workflow.RunID) {
	run := g.known[id]
	if run == nil {
		return
	}
	delete(g.known, id)
	g.await(run, time.Time{})
	if place, found := slices.BinarySearchFunc(g.waiting, run, compareWaiting); found {
		g.waiting = slices.Delete(g.waiting, place, place+1)
	}
}

// allows tells whether the groups have room for the run, when so many places more are taken.
func (g *gate) allows(groups []workflow.RunGroup, taken map[string]int) bool {
	for _, group := range groups {
		if g.active[group.Name]+taken[group.Name] >= group.MaxActive {
			return false
		}
	}
	return true
}

// free gives the waiting runs that may start now.
func (g *gate) free() []*waitingRun {
	var free []*waitingRun
	taken := map[string]int{}
	for _, waiting := range g.waiting {
		if !waiting.after.IsZero() && !g.dates[waiting.awaits()].Succeeded || !g.allows(waiting.options.Groups, taken) {
			continue
		}
		free = append(free, waiting)
		for _, group := range waiting.options.Groups {
			taken[group.Name]++
		}
	}
	return free
}

// openGate starts the runs that no longer wait for others. Nothing can fail once a place is taken: it would be taken
// for ever.
func (l *loop) openGate(ctx context.Context) error {
	g := l.gate
	if !g.dirty || l.takeover != nil {
		return nil
	}
	if err := l.lookAtDates(ctx); err != nil {
		return err
	}
	free := g.free()
	ids := make([]workflow.RunID, len(free))
	for i, waiting := range free {
		ids[i] = waiting.id
	}
	if err := l.load(ctx, ids); err != nil {
		return err
	}
	g.dirty = false
	for _, waiting := range free {
		g.drop(waiting.id)
		if l.runs[waiting.id] == nil { // it is no more: another may have the place that was meant for it
			g.dirty = true
			continue
		}
		g.enter(waiting.id, waiting.options.Groups)
		l.deliver(waiting.id, workflow.Event{Kind: workflow.EventStart}, nil)
	}
	return nil
}

// lookAtDates finds out about the dates that runs wait for and of which nothing is known yet, all at once. Where
// a date has no run, for it was passed over, the newest one before it that has a run is waited for instead.
func (l *loop) lookAtDates(ctx context.Context) error {
	g := l.gate
	for {
		var asked []engine.LogicalDate
		var of []*awaitedDate
		for _, date := range g.dates {
			if !date.looked && !date.Succeeded {
				asked, of = append(asked, date.LogicalDate), append(of, date)
			}
		}
		if len(asked) == 0 {
			return nil
		}
		states, err := l.options.Schedules.Dates(ctx, asked)
		if err != nil {
			return err //nolint:wrapcheck // the backend says what it did
		}
		for i, date := range of {
			date.looked, date.DateState = true, states[i]
		}
		g.passOver(l.writer.Now())
	}
}

// passOver lets runs that wait for a date without a run wait for the one before it.
func (g *gate) passOver(now time.Time) {
	for _, waiting := range g.waiting {
		if waiting.after.IsZero() {
			continue
		}
		switch date := g.dates[waiting.awaits()]; {
		case !date.missing():
		case now.Sub(waiting.id.Time()) < pastGrace:
			g.unsure = true
		default:
			g.await(waiting, date.Latest)
		}
	}
}

// doubt looks again for the dates that were looked for in vain.
func (g *gate) doubt() {
	if !g.unsure {
		return
	}
	g.unsure, g.dirty = false, true
	for _, date := range g.dates {
		date.looked = date.looked && !date.missing()
	}
}
