package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Pending implements engine.Reader.
func (b *Backend) Pending(ctx context.Context, run workflow.RunID) (engine.PendingView, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	row, err := b.queries.GetPending(ctx, b.on(b.pool), db.UUID(run))
	if errors.Is(err, pgx.ErrNoRows) {
		return engine.PendingView{}, b.goneOrUnknown(ctx, run, &engine.UnknownRunError{ID: run.String()})
	}
	if err != nil {
		return engine.PendingView{}, fmt.Errorf("read what run %s waits for: %w", run, interpretError(err))
	}
	var options workflow.RunOptions
	if len(row.Options) > 0 {
		if err := json.Unmarshal(row.Options, &options); err != nil {
			return engine.PendingView{}, &engine.BrokenRunError{ID: run, Err: err}
		}
	}
	return engine.PendingView{Orchestrated: row.Orchestrated, Groups: options.Groups, After: options.After}, nil
}
