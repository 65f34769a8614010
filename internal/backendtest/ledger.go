package backendtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// ledger notes every commit that a backend stored, and what is wrong with them together.
type ledger struct {
	engine.Backend

	mutex sync.Mutex
	rows  map[taskRun]workflow.TaskChange
	runs  map[workflow.RunID]workflow.RunChange
	// out counts how often a member was put into the queue, less how often it was withdrawn.
	out   map[workflow.Member]int
	wrong []string
}

type taskRun struct {
	run  workflow.RunID
	node int32
}

func newLedger(backend engine.Backend) *ledger {
	return &ledger{Backend: backend, rows: map[taskRun]workflow.TaskChange{}, runs: map[workflow.RunID]workflow.RunChange{}, out: map[workflow.Member]int{}}
}

// OpenWriters implements engine.Backend.
func (l *ledger) OpenWriters(ctx context.Context, orchestrator string, most int) ([]engine.Writer, error) {
	writers, err := l.Backend.OpenWriters(ctx, orchestrator, most)
	for i, writer := range writers {
		writers[i] = &ledgerWriter{Writer: writer, ledger: l}
	}
	return writers, err //nolint:wrapcheck // a wrapper is not seen
}

type ledgerWriter struct {
	engine.Writer
	ledger *ledger
}

// Commit implements engine.Writer.
func (w *ledgerWriter) Commit(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	result, err := w.Writer.Commit(ctx, commit)
	if err == nil {
		w.ledger.note(commit, &result)
	}
	return result, err //nolint:wrapcheck // a wrapper is not seen
}

func (l *ledger) note(commit *engine.Commit, result *engine.CommitResult) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.noteQueue(commit, result)
	for _, change := range commit.Changes {
		l.noteRun(change)
		l.noteRevived(change)
		for index := range change.Tasks {
			l.noteTask(change, &change.Tasks[index])
		}
	}
}

// written is the number of task runs that have a row.
func (l *ledger) written() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return len(l.rows)
}

// noteQueue checks that a member is in the queue once.
func (l *ledger) noteQueue(commit *engine.Commit, result *engine.CommitResult) {
	for _, delivery := range result.Withdrawn {
		for _, member := range delivery.Members {
			l.out[member.Member]--
		}
	}
	for _, dispatch := range commit.Dispatches {
		for _, member := range dispatch.Members {
			l.out[member.Member]++
			if times := l.out[member.Member]; times != 1 {
				l.report("%+v is in the queue %d times", member.Member, times)
			}
		}
	}
}

func (l *ledger) report(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

func (l *ledger) noteRun(change *workflow.Change) {
	before := l.runs[change.ID]
	reopened := change.Run != nil && change.Run.Reopened
	if before.Status.Ended() != reopened && !change.Empty() {
		l.report("run %s is %s and is changed; that it is reopened is %v", change.ID, before.Status, reopened)
	}
	if change.Run != nil {
		resumed := before.Status == workflow.RunPaused && change.Run.Status == workflow.RunRunning
		if change.Run.Status < before.Status && !reopened && !resumed {
			l.report("run %s goes from %s to %s", change.ID, before.Status, change.Run.Status)
		}
		l.runs[change.ID] = *change.Run
	}
}

// noteRevived takes note of rows that go, and of those that may be written again though they ended.
func (l *ledger) noteRevived(change *workflow.Change) {
	for _, node := range change.Reset {
		key := taskRun{change.ID, node}
		if before := l.rows[key]; !before.Status.Ended() || before.Attempt > 0 {
			l.report("the row of %s goes, which is %s", workflow.TaskRunID(change.ID, node), before.Status)
		}
		delete(l.rows, key)
	}
	for _, node := range change.Retire {
		key := taskRun{change.ID, node}
		before := l.rows[key]
		if !before.Status.Ended() || before.Attempt == 0 {
			l.report("the row of %s is retired, which is %s", workflow.TaskRunID(change.ID, node), before.Status)
		}
		before.Status = workflow.TaskWaiting
		l.rows[key] = before
	}
}

func (l *ledger) noteTask(change *workflow.Change, row *workflow.TaskChange) {
	key := taskRun{change.ID, row.Node}
	before, exists := l.rows[key]
	name := workflow.TaskRunID(change.ID, row.Node)
	switch {
	case row.First == exists:
		l.report("%s: that this is its first row is said to be %v", name, row.First)
	case before.Status.Ended():
		l.report("%s goes from %s to %s", name, before.Status, row.Status)
	case row.Status == workflow.TaskQueued && before.Cause == workflow.CauseApproval && row.Attempt == before.Attempt: // it was approved
	case row.Status == workflow.TaskQueued && (row.Attempt < before.Attempt || row.Attempt == before.Attempt && row.Delivery <= before.Delivery):
		l.report("%s is queued as %d/%d after %d/%d", name, row.Attempt, row.Delivery, before.Attempt, before.Delivery)
	}
	l.rows[key] = *row
}
