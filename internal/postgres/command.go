package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Cancel implements engine.Submitter.
func (b *Backend) Cancel(ctx context.Context, run workflow.RunID, actor string) error {
	view, err := b.FindRun(ctx, run.String())
	if err != nil {
		return err
	}
	if view.Status.Ended() {
		return ended(&view)
	}
	if err := b.tell(ctx, run, db.InsertMailParams{Kind: int16(engine.MailCancel), Actor: &actor}); err != nil {
		return fmt.Errorf("cancel run %s: %w", view.Name, err)
	}
	return nil
}

// Command implements engine.Submitter.
func (b *Backend) Command(ctx context.Context, run workflow.RunID, command engine.Command) error {
	view, err := b.FindRun(ctx, run.String())
	switch {
	case err != nil:
		return err
	case view.Status.Ended() && !command.Kind.OfEnded():
		return ended(&view)
	}
	ofRun := command.Kind == engine.CommandPause || command.Kind == engine.CommandResume
	if !ofRun && (command.Node < 0 || int(command.Node) >= view.TaskCount) {
		return fmt.Errorf("task run %s %w: run %s has %d, from 0", workflow.TaskRunID(run, command.Node), engine.ErrNotFound, view.Name, view.TaskCount)
	}
	if view.Status.Ended() {
		has, err := b.queries.HasTaskRuns(ctx, b.on(b.pool), db.UUID(run))
		if err != nil {
			return fmt.Errorf("look for the task runs of run %s: %w", view.Name, interpretError(err))
		}
		if !has {
			return gone(view.Name)
		}
	}
	body, err := json.Marshal(command)
	if err != nil {
		return fmt.Errorf("encode the command: %w", err)
	}
	if err := b.tell(ctx, run, db.InsertMailParams{Kind: int16(engine.MailCommand), Body: body}); err != nil {
		return fmt.Errorf("command run %s: %w", view.Name, err)
	}
	return nil
}

func ended(run *engine.RunView) error {
	return fmt.Errorf("run %s %w: it is %s", run.Name, engine.ErrEnded, run.Status)
}

func gone(run string) error {
	return fmt.Errorf("run %s %w: retention has dropped it, or what is needed of it; start a new run", run, engine.ErrGone)
}

// tell puts a message about a run into its bucket's mailbox.
func (b *Backend) tell(ctx context.Context, run workflow.RunID, mail db.InsertMailParams) error {
	id := db.UUID(run)
	mail.RunID, mail.Bucket = &id, int16(run.Bucket()) //nolint:gosec // 12 bits
	if err := b.queries.InsertMail(ctx, b.on(b.pool), mail); err != nil {
		return interpretError(err)
	}
	b.bell.ringMail(run.Bucket())
	return nil
}

// settingDropped is the time before which retention has dropped runs, in RFC 3339.
const settingDropped = "dropped_before"

// goneOrUnknown tells whether a run that can't be found is of a time of which retention dropped the runs.
func (b *Backend) goneOrUnknown(ctx context.Context, run workflow.RunID, unknown error) error {
	setting, err := b.queries.GetSetting(ctx, b.on(b.pool), settingDropped)
	if errors.Is(err, pgx.ErrNoRows) {
		return unknown
	}
	if err != nil {
		return fmt.Errorf("read what retention has dropped: %w", interpretError(err))
	}
	if dropped, err := time.Parse(time.RFC3339, setting); err == nil && run.Time().Before(dropped) {
		return gone(run.String())
	}
	return unknown
}
