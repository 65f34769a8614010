package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

type timerKey struct {
	run  workflow.RunID
	node int32
	kind workflow.TimerKind
}

type backlogKey struct {
	queue    string
	priority int
}

// Commit implements engine.Writer: everything is checked, and then everything is stored.
func (w *Writer) Commit(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	b := w.backend
	if err := b.lock(ctx); err != nil {
		return engine.CommitResult{}, fmt.Errorf("commit: %w", err)
	}
	defer b.mutex.Unlock()
	if err := w.fence(); err != nil {
		return engine.CommitResult{}, fmt.Errorf("commit: %w", err)
	}
	if err := b.check(commit); err != nil {
		return engine.CommitResult{}, fmt.Errorf("commit: %w", err)
	}
	for _, change := range commit.Changes {
		b.store(change)
	}
	for _, refused := range commit.Refused {
		b.storeRefused(commit.At, refused)
		b.consume(refused.Mail)
	}
	for _, done := range commit.Remove {
		b.remove(done.ID)
	}
	for _, kill := range commit.Orders {
		b.order(kill)
	}
	var result engine.CommitResult
	result.Withdrawn = b.withdraw(commit.Withdraw)
	for index := range commit.Dispatches {
		result.Dispatched = append(result.Dispatched, b.dispatch(&commit.Dispatches[index], commit.At, w.ReplyTo(commit.Dispatches[index].Members[0].Run.Bucket())))
	}
	b.consume(commit.Mail)
	for _, waiting := range commit.Backlog {
		b.backlog[backlogKey{waiting.Queue, waiting.Priority}] = waiting
	}
	if commit.ReadMail > 0 {
		result.Mail = w.readMail(commit.ReadMail)
	}
	return result, nil
}

// store writes a change that was checked.
func (b *Backend) store(change *workflow.Change) {
	r := b.runs[change.ID]
	if r.tasks == nil && len(change.Tasks) > 0 {
		r.tasks = make([]workflow.TaskChange, len(r.plan.nodes))
		for number := range r.tasks {
			r.tasks[number].Node = int32(number) //nolint:gosec // a node number
		}
	}
	for _, attempt := range change.Attempts {
		if r.attempts == nil {
			r.attempts = map[int32][]workflow.AttemptChange{}
		}
		attempt.EndTime = inOrder(attempt.StartTime, attempt.EndTime)
		r.attempts[attempt.Node] = append(r.attempts[attempt.Node], attempt)
	}
	for _, row := range change.Tasks {
		if row.QueuedTime.IsZero() {
			row.QueuedTime = r.tasks[row.Node].QueuedTime
		}
		row.EndTime = inOrder(row.StartTime, row.EndTime)
		r.tasks[row.Node] = row
	}
	for _, timer := range change.DropTimers {
		delete(b.timers, timerKey{change.ID, timer.Node, timer.Kind})
	}
	for _, timer := range change.SetTimers {
		b.timers[timerKey{change.ID, timer.Node, timer.Kind}] = timer.Due
	}
	r.events = append(r.events, change.Events...)
	if change.Run != nil {
		r.state = *change.Run
		r.state.EndTime = inOrder(r.state.StartTime, r.state.EndTime)
		if r.state.Status.Ended() {
			delete(b.live, r.id)
		}
	}
	for _, job := range change.Jobs {
		b.jobs.add(job.Kind, job.Key, job.Args)
	}
}

// storeRefused fails a run whose change can't be stored.
func (b *Backend) storeRefused(at time.Time, refused engine.RefusedRun) {
	r, ok := b.runs[refused.ID]
	if !ok || r.state.Status.Ended() {
		return
	}
	if r.state.StartTime.IsZero() {
		r.state.StartTime = at
	}
	r.state.Status, r.state.EndTime, r.reason = workflow.RunFailed, inOrder(r.state.StartTime, at), refused.Reason
	delete(b.live, r.id)
	for number := range r.tasks {
		if row := &r.tasks[number]; row.Status != workflow.TaskPending && !row.Status.Ended() {
			row.Status, row.Cause, row.EndTime = workflow.TaskCancelled, workflow.CauseRefused, inOrder(row.StartTime, at)
		}
	}
	for key := range b.timers {
		if key.run == r.id {
			delete(b.timers, key)
		}
	}
}

// inOrder is the end of what began at start: not before it, though a clock may have been set back.
func inOrder(start, end time.Time) time.Time {
	if !end.IsZero() && end.Before(start) {
		return start
	}
	return end
}
