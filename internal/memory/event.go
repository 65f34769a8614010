package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// note keeps something that happened.
func (r *run) note(event engine.EventView) { r.events = append(r.events, event) }

// noteChange keeps what a change says of what happened: what was done comes before what followed.
func (r *run) noteChange(change *workflow.Change) {
	for _, done := range change.Events {
		r.note(engine.EventView{At: done.At, Kind: done.Kind, Node: done.Node, Actor: done.Actor, Detail: done.Detail, Attempt: int(r.attemptOf(done.Node))})
	}
	if change.Run != nil && r.state.StartTime.IsZero() {
		r.note(engine.EventView{At: change.Run.StartTime, Kind: workflow.RunRunning.String(), Node: workflow.RunNode})
	}
	for i := range change.Attempts {
		earlier := &change.Attempts[i]
		r.noteEnd(workflow.TaskChange{
			Node: earlier.Node, Status: earlier.Status, Attempt: earlier.Attempt, StartTime: earlier.StartTime, EndTime: earlier.EndTime,
			Cause: earlier.Cause, Reason: earlier.Reason,
		})
	}
	for _, row := range change.Tasks {
		switch {
		case row.Status.Ended():
			r.noteEnd(row)
		case row.Status == workflow.TaskQueued:
			r.noteTask(row.QueuedTime, row.Status, &row)
		default:
			r.noteTask(change.At, row.Status, &row)
		}
	}
	if change.Ends() {
		r.note(engine.EventView{At: change.Run.EndTime, Kind: change.Run.Status.String(), Node: workflow.RunNode, Reason: change.Run.Reason})
	}
}

func (r *run) attemptOf(node int32) uint16 {
	if !r.has(node) {
		return 0
	}
	return r.row(node).Attempt
}

func (r *run) noteEnd(row workflow.TaskChange) {
	if !row.StartTime.IsZero() {
		r.noteTask(row.StartTime, workflow.TaskRunning, &workflow.TaskChange{Node: row.Node, Attempt: row.Attempt})
	}
	r.noteTask(inOrder(row.StartTime, row.EndTime), row.Status, &row)
}

func (r *run) noteTask(at time.Time, status workflow.TaskStatus, row *workflow.TaskChange) {
	r.note(engine.EventView{At: at, Kind: status.String(), Node: row.Node, Attempt: int(row.Attempt), Cause: row.Cause, Reason: row.Reason})
}

// Events implements engine.Reader.
func (b *Backend) Events(ctx context.Context, id workflow.RunID) ([]engine.EventView, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("list the events of run %s: %w", id, err)
	}
	defer b.mutex.Unlock()
	r, err := b.stored(id)
	if err != nil {
		return nil, err
	}
	events := slices.Clone(r.events)
	holders := b.holders()
	for _, row := range r.tasks {
		member := workflow.Member{Run: id, Node: row.Node, Attempt: row.Attempt, Delivery: row.Delivery}
		if held, ok := holders[member]; ok && row.Status == workflow.TaskQueued {
			events = append(events, engine.EventView{At: held.claimedAt, Kind: workflow.TaskRunning.String(), Node: row.Node, Attempt: int(row.Attempt)})
		}
	}
	for i := range events {
		if r.has(events[i].Node) {
			events[i].Name = r.nodes[events[i].Node].Name
		}
	}
	slices.SortStableFunc(events, func(one, other engine.EventView) int {
		return one.At.Truncate(time.Microsecond).Compare(other.At.Truncate(time.Microsecond))
	})
	return events, nil
}
