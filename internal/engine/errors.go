package engine

import (
	"errors"
	"fmt"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: there is no such run, task run or definition.
	ErrNotFound = errors.New("not found")
	// ErrNameTaken: a custom run id or an idempotency key is used already.
	ErrNameTaken = errors.New("already used")
	// ErrEnded: the run has ended, so it can't be changed any more.
	ErrEnded = errors.New("has ended")
	// ErrGone: retention has dropped what would be needed.
	ErrGone = errors.New("is gone")
	// ErrFenced: this writer was declared dead or its memory is not what is stored; it
	// must throw its memory away and open a new writer, or reload.
	ErrFenced = errors.New("writer is fenced")
	// ErrUncertain: the connection broke while committing; it may be committed or not.
	// The writer must call Recover and rebuild its memory.
	ErrUncertain = errors.New("commit is uncertain")
	// ErrRefused: the data itself can't be stored, however often it is tried.
	ErrRefused = errors.New("refused by the backend")
	// ErrOutdated: what the commit stands on is not current any more. It is not stored; ask anew, and try again.
	ErrOutdated = errors.New("outdated")
	// ErrAgentLost: this agent was declared dead; it must kill its tasks and register anew.
	ErrAgentLost = errors.New("agent was declared dead")
	// ErrWriterExists: another orchestrator owns the buckets and is alive.
	ErrWriterExists = errors.New("another orchestrator is running")
	// ErrTooManyPending: there are more unstarted runs than orchestrator.max_pending_submits.
	ErrTooManyPending = errors.New("too many pending runs")
	// ErrSchemaNewer: the database was migrated by a newer program.
	ErrSchemaNewer = errors.New("the schema is newer than this program")
)

// UnknownRunError says that there is no such run. It is an ErrNotFound.
type UnknownRunError struct{ ID string }

func (e *UnknownRunError) Error() string {
	return fmt.Sprintf("there is no run %q; list-runs shows those that there are", e.ID)
}

// BrokenRunError says that what is stored of a run can't be read. It is an ErrRefused.
type BrokenRunError struct {
	ID  workflow.RunID
	Err error
}

func (e *BrokenRunError) Error() string { return fmt.Sprintf("run %s is damaged: %v", e.ID, e.Err) }

// Is makes it an ErrRefused.
func (e *BrokenRunError) Is(target error) bool { return target == ErrRefused }

// Is makes it an ErrNotFound.
func (e *UnknownRunError) Is(target error) bool { return target == ErrNotFound }
