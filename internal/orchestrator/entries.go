package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// entry is a run in memory.
type entry struct {
	run *workflow.Run
	// graph is the run's, or, while a change is being committed that lets it grow, the one it will have.
	graph *workflow.Graph
	// values is what deliveries tell of the run's values: those that it will have, like graph.
	values int32
	// events have come and are not committed; letters are the messages that they came in (nil for none).
	events  []workflow.Event
	letters []*letter
	queued  bool // in loop.work
	more    bool
	used    int64 // the turn in which something happened last
	// inFlight is the number of its members in the table or with agents.
	inFlight int
	queues   []*runQueue
	lanes    []*lane // of the graph's specifications
	// missing are members that were stored as queued and are in no delivery, by node. They are put into the queue
	// when all events that had come are accounted for: one of them may have been their end.
	missing []workflow.Member
}

// misses tells whether what is queued of the node is in no delivery, and does not wait either.
func (e *entry) misses(node int32) bool {
	place, found := slices.BinarySearchFunc(e.missing, node, func(member workflow.Member, node int32) int { return cmp.Compare(member.Node, node) })
	return found && e.holds(e.missing[place])
}

// holds tells whether the member is what is queued of its node.
func (e *entry) holds(member workflow.Member) bool {
	if int(member.Node) >= len(e.run.Nodes) {
		return false
	}
	state := &e.run.Nodes[member.Node]
	return state.Status == workflow.TaskQueued && state.Attempt == member.Attempt && state.Delivery == member.Delivery
}

func (l *loop) load(ctx context.Context, ids []workflow.RunID) error {
	for len(ids) > 0 {
		page := ids[:min(loadPage, len(ids))]
		ids = ids[len(page):]
		page = l.absent(page)
		if len(page) == 0 {
			continue
		}
		runs, err := l.writer.LoadRuns(ctx, page)
		if broken, ok := errors.AsType[*engine.BrokenRunError](err); ok {
			l.options.Logger.Error("a run can't be loaded and is failed", "run", broken.ID, "error", err)
			if err := l.withdrawStored(ctx, broken.ID); err != nil {
				return err
			}
			l.refused = append(l.refused, engine.RefusedRun{ID: broken.ID, Reason: reasonOf("it can't be loaded", broken.Err)})
			l.dropRefused()
			l.gate.leave(broken.ID)
			ids = append(page, ids...)
			continue
		}
		if err != nil {
			return err //nolint:wrapcheck // the backend says what it did
		}
		for _, run := range runs {
			l.adopt(run)
		}
	}
	return nil
}

// absent are those of the runs that may be loaded, once each: a run in memory twice would lose what waits there. One of
// another writer never is, whatever a message says.
func (l *loop) absent(ids []workflow.RunID) []workflow.RunID {
	absent := make([]workflow.RunID, 0, len(ids))
	for _, id := range ids {
		if !l.owned[id.Bucket()] {
			l.options.Logger.Error("a message on a run of another writer is left out", "run", id)
			continue
		}
		if l.runs[id] == nil && !l.isRefused(id) && !slices.Contains(absent, id) {
			absent = append(absent, id)
		}
	}
	return absent
}

// withdrawStored takes the members of a run that can't be loaded out of the queue.
func (l *loop) withdrawStored(ctx context.Context, id workflow.RunID) error {
	deliveries, err := l.writer.Dispatched(ctx)
	if err != nil {
		return err //nolint:wrapcheck // the backend says what it did
	}
	for i := range deliveries {
		for k := range deliveries[i].Members {
			if member := deliveries[i].Members[k].Member; member.Run == id {
				l.withdraw = append(l.withdraw, member)
			}
		}
	}
	return nil
}

// reasonOf is the reason of a run that is failed, in a form that every backend can store.
func reasonOf(what string, err error) string {
	return what + ": " + strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "\ufffd"), "\x00", "\ufffd")
}

// adopt takes a run that was stored into memory.
func (l *loop) adopt(run *workflow.Run) *entry {
	e := l.insert(run)
	if over := l.takeover; over != nil && !over.done[run.ID] {
		over.reconcile(l, e)
	} else {
		e.inFlight = len(run.Queued()) // it had left memory, which only runs do of which nothing waits there
	}
	switch run.Status {
	case workflow.RunRunning, workflow.RunPaused:
		// What a crash or an eviction cut off is found again from the states.
		e.more = true
		l.enqueue(e)
		l.gate.started(run)
	case workflow.RunPending:
		l.gate.add(run) // its submission was answered, so it waits for others; else that starts it
	case workflow.RunCompleted, workflow.RunFailed, workflow.RunCancelled:
	}
	return e
}

func (l *loop) insert(run *workflow.Run) *entry {
	e := &entry{run: run, graph: run.Graph, values: run.Values(), used: l.turns}
	l.runs[run.ID] = e
	l.nodes += len(run.Nodes)
	return e
}

func (l *loop) drop(e *entry) {
	if l.runs[e.run.ID] == e {
		delete(l.runs, e.run.ID)
		l.nodes -= len(e.run.Nodes)
	}
	delete(l.stale, e)
	for _, from := range e.letters {
		l.close(from)
	}
	e.events, e.letters, e.more = nil, nil, false
}

func (l *loop) enqueue(e *entry) {
	if !e.queued {
		e.queued = true
		l.work = append(l.work, e)
	}
}
