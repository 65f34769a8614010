package memory

import (
	"context"
	"fmt"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Cancel implements engine.Submitter.
func (b *Backend) Cancel(ctx context.Context, id workflow.RunID, actor string) error {
	if err := b.lock(ctx); err != nil {
		return fmt.Errorf("cancel run %s: %w", id, err)
	}
	defer b.mutex.Unlock()
	found, ok := b.runs[id]
	switch {
	case !ok:
		return b.goneOrUnknown(id)
	case found.state.Status.Ended():
		return found.hasEnded()
	}
	b.send(id.Bucket(), letter{Mail: engine.Mail{Kind: engine.MailCancel, Run: id, Actor: actor}})
	return nil
}

// Command implements engine.Submitter.
func (b *Backend) Command(ctx context.Context, id workflow.RunID, command engine.Command) error {
	if err := b.lock(ctx); err != nil {
		return fmt.Errorf("command run %s: %w", id, err)
	}
	defer b.mutex.Unlock()
	found, ok := b.runs[id]
	switch {
	case !ok:
		return b.goneOrUnknown(id)
	case found.state.Status.Ended() && !command.Kind.OfEnded():
		return found.hasEnded()
	case ofNode(command.Kind) && !found.has(command.Node):
		return fmt.Errorf("task run %s: %w", workflow.TaskRunID(id, command.Node), engine.ErrNotFound)
	}
	b.send(id.Bucket(), letter{Mail: engine.Mail{Kind: engine.MailCommand, Run: id, Command: &command}})
	return nil
}

// goneOrUnknown is the error of a run that is not there.
func (b *Backend) goneOrUnknown(id workflow.RunID) error {
	if id.Time().Before(b.forgotten) {
		return fmt.Errorf("run %s %w: it is older than what retention keeps", id, engine.ErrGone)
	}
	return &engine.UnknownRunError{ID: id.String()}
}

// ofNode tells whether what is asked is asked of one task run.
func ofNode(kind engine.CommandKind) bool {
	return kind != engine.CommandPause && kind != engine.CommandResume
}

func (r *run) hasEnded() error {
	return fmt.Errorf("run %s %w: it is %s", r.publicName(), engine.ErrEnded, r.state.Status)
}
