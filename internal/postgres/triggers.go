package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Listeners implements engine.Writer. The revision comes first: who is read after it may be newer, and then a commit that
// stands on the revision is refused.
func (w *Writer) Listeners(ctx context.Context) (engine.Listeners, error) {
	b := w.backend
	revision, err := b.Revision(ctx)
	if err != nil {
		return engine.Listeners{}, err
	}
	rows, err := b.queries.ListListeners(ctx, b.on(b.pool))
	if err != nil {
		return engine.Listeners{}, fmt.Errorf("read which DAGs others start: %w", interpretError(err))
	}
	listeners := engine.Listeners{Revision: revision}
	for _, row := range rows {
		listeners.Add(&engine.Definition{Kind: "dag", ID: row.ID, Body: row.Body})
	}
	return listeners, nil
}

// Arrivals implements engine.Arrivals.
func (b *Backend) Arrivals(ctx context.Context, dag string) ([]engine.Arrival, error) {
	rows, err := b.queries.ListFileArrivals(ctx, b.on(b.pool), dag)
	if err != nil {
		return nil, fmt.Errorf("read which files arrived for DAG %s: %w", dag, interpretError(err))
	}
	arrivals := make([]engine.Arrival, len(rows))
	for i, row := range rows {
		arrivals[i] = engine.Arrival{File: workflow.Hash(row.File), Size: row.Size, Modified: row.Modified}
	}
	return arrivals, nil
}

// NoteArrivals implements engine.Arrivals.
func (b *Backend) NoteArrivals(ctx context.Context, dag string, arrived []engine.Arrival, gone []workflow.Hash) error {
	added := db.WriteFileArrivalsParams{DagID: dag}
	for _, one := range arrived {
		added.Files, added.Sizes, added.Modifieds = append(added.Files, db.UUID(one.File)), append(added.Sizes, one.Size), append(added.Modifieds, one.Modified)
	}
	removed := db.DeleteFileArrivalsParams{DagID: dag}
	for _, file := range gone {
		removed.Files = append(removed.Files, db.UUID(file))
	}
	err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		if len(arrived) > 0 {
			if err := b.queries.WriteFileArrivals(ctx, b.on(tx), added); err != nil {
				return err //nolint:wrapcheck // wrapped below
			}
		}
		if len(gone) == 0 {
			return nil
		}
		return b.queries.DeleteFileArrivals(ctx, b.on(tx), removed)
	})
	if err != nil {
		return fmt.Errorf("note which files arrived for DAG %s: %w", dag, interpretError(err))
	}
	return nil
}
