package orchestrator

import (
	"context"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// gate holds pending runs that wait for others: for a place in a group (max_active_runs, a backfill), or for
// the run of the former logical date to succeed. All runs of a group are in one bucket, so whoever owns it sees them all;
// but only once the takeover has looked at every live run.
type gate struct {
	active  map[string]int // by group
	inside  map[workflow.RunID][]workflow.RunGroup
	waiting []*waitingRun // oldest first
	known   map[workflow.RunID]bool
	// looked are dates that were looked for in the backend, or heard of here.
	succeeded map[dateKey]bool
	looked    map[dateKey]bool
	dirty     bool
}

type waitingRun struct {
	id      workflow.RunID
	dag     string
	options workflow.RunOptions
}

type dateKey struct {
	dag  string
	date int64 // microseconds
}

func newGate() *gate {
	return &gate{
		active: map[string]int{}, inside: map[workflow.RunID][]workflow.RunGroup{}, known: map[workflow.RunID]bool{},
		succeeded: map[dateKey]bool{}, looked: map[dateKey]bool{},
	}
}

// gated tells whether a run may have to wait for others.
func gated(run *workflow.Run) bool {
	return len(run.Options.Groups) > 0 || !run.Options.After.IsZero()
}

// add lets a pending run wait. In each group runs start in the order of their logical dates, then of their making.
func (g *gate) add(run *workflow.Run) {
	if !gated(run) || g.known[run.ID] {
		return
	}
	g.known[run.ID], g.dirty = true, true
	added := &waitingRun{run.ID, run.DAG, run.Options}
	place, _ := slices.BinarySearchFunc(g.waiting, added, compareWaiting)
	g.waiting = slices.Insert(g.waiting, place, added)
}

func compareWaiting(one, other *waitingRun) int {
	if by := one.options.LogicalDate.Compare(other.options.LogicalDate); by != 0 {
		return by
	}
	return slices.Compare(one.id[:], other.id[:])
}

// started counts a run that has its place.
func (g *gate) started(run *workflow.Run) {
	if len(run.Options.Groups) == 0 || g.inside[run.ID] != nil {
		return
	}
	g.inside[run.ID] = run.Options.Groups
	for _, group := range run.Options.Groups {
		g.active[group.Name]++
	}
}

// changed takes note of a committed change.
func (g *gate) changed(run *workflow.Run, before workflow.RunStatus, change *workflow.Change) {
	if change.Run == nil || !gated(run) && change.Run.LogicalDate.IsZero() {
		return
	}
	if date := change.Run.LogicalDate; !date.IsZero() {
		g.succeeded[dateKey{run.DAG, date.UnixMicro()}], g.dirty = true, true
	}
	switch {
	case run.Status.Ended():
		if groups, ok := g.inside[run.ID]; ok {
			delete(g.inside, run.ID)
			for _, group := range groups {
				g.active[group.Name]--
			}
		}
		g.drop(run.ID)
		g.dirty = true
	case before == workflow.RunPending || before.Ended():
		g.drop(run.ID)
		g.started(run)
	}
}

func (g *gate) drop(id workflow.RunID) {
	if g.known[id] {
		delete(g.known, id)
		g.waiting = slices.DeleteFunc(g.waiting, func(waiting *waitingRun) bool { return waiting.id == id })
	}
}

// allows tells whether the groups have room for the run.
func (g *gate) allows(groups []workflow.RunGroup) bool {
	for _, group := range groups {
		if g.active[group.Name] >= group.MaxActive {
			return false
		}
	}
	return true
}

// openGate starts the runs that no longer wait for others.
func (l *loop) openGate(ctx context.Context) error {
	g := l.gate
	if !g.dirty || l.takeover != nil {
		return nil
	}
	var open []workflow.RunID
	for _, waiting := range g.waiting {
		if !g.allows(waiting.options.Groups) {
			continue
		}
		if succeeded, err := l.dateSucceeded(ctx, waiting.dag, waiting.options.After); err != nil {
			return err
		} else if !succeeded {
			continue
		}
		open = append(open, waiting.id)
		g.inside[waiting.id] = waiting.options.Groups
		for _, group := range waiting.options.Groups {
			g.active[group.Name]++
		}
	}
	if err := l.load(ctx, open); err != nil {
		return err
	}
	for _, id := range open {
		g.drop(id)
		l.deliver(id, workflow.Event{Kind: workflow.EventStart}, nil)
	}
	g.dirty = false
	return nil
}

// dateSucceeded tells whether the run of a DAG's former logical date has succeeded.
func (l *loop) dateSucceeded(ctx context.Context, dag string, date time.Time) (bool, error) {
	if date.IsZero() {
		return true, nil
	}
	key := dateKey{dag, date.UnixMicro()}
	if !l.gate.succeeded[key] && !l.gate.looked[key] {
		succeeded, err := l.options.Schedules.DateSucceeded(ctx, dag, date)
		if err != nil {
			return false, err //nolint:wrapcheck // the backend says what it did
		}
		l.gate.looked[key], l.gate.succeeded[key] = true, succeeded
	}
	return l.gate.succeeded[key], nil
}
