package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Publish implements engine.Definitions.
func (b *Backend) Publish(ctx context.Context, definitions []engine.Definition, source string) (revision int64, changed bool, err error) {
	err = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		on := b.on(tx)
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", b.schema.key("definitions")); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		current, err := b.queries.ListDefinitionHashes(ctx, on)
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		gone, added := compareDefinitions(current, definitions)
		if len(gone.IDs) == 0 && len(added.IDs) == 0 {
			revision, err = b.queries.GetRevision(ctx, on)
			return err //nolint:wrapcheck // wrapped below
		}
		changed = true
		if revision, err = b.queries.InsertRevision(ctx, on, source); err != nil {
			return fmt.Errorf("make a revision: %w", err)
		}
		last := revision - 1
		gone.LastRevision, added.Revision = &last, revision
		if err := b.queries.CloseDefinitions(ctx, on, gone); err != nil {
			return fmt.Errorf("close the former: %w", err)
		}
		return b.queries.InsertDefinitions(ctx, on, added)
	})
	if err != nil {
		return 0, false, fmt.Errorf("publish definitions: %w", interpretError(err))
	}
	return revision, changed, nil
}

func compareDefinitions(current []db.ListDefinitionHashesRow, wanted []engine.Definition) (gone db.CloseDefinitionsParams, added db.InsertDefinitionsParams) {
	type key struct{ kind, id string }
	stored := make(map[key]db.UUID, len(current))
	for _, row := range current {
		stored[key{row.Kind, row.ID}] = row.Hash
	}
	for _, definition := range wanted {
		name := key{definition.Kind, definition.ID}
		hash := db.UUID(workflow.HashOf(definition.Body))
		known, ok := stored[name]
		delete(stored, name)
		if ok && known == hash {
			continue
		}
		if ok {
			gone.Kinds, gone.IDs = append(gone.Kinds, name.kind), append(gone.IDs, name.id)
		}
		added.Kinds, added.IDs = append(added.Kinds, name.kind), append(added.IDs, name.id)
		added.Hashes, added.Bodies = append(added.Hashes, hash), append(added.Bodies, string(definition.Body))
	}
	for name := range stored {
		gone.Kinds, gone.IDs = append(gone.Kinds, name.kind), append(gone.IDs, name.id)
	}
	return gone, added
}

// Revision implements engine.Definitions.
func (b *Backend) Revision(ctx context.Context) (int64, error) {
	revision, err := b.queries.GetRevision(ctx, b.on(b.pool))
	if err != nil {
		return 0, fmt.Errorf("read the revision of the definitions: %w", interpretError(err))
	}
	return revision, nil
}

// LoadDefinitions implements engine.Definitions.
func (b *Backend) LoadDefinitions(ctx context.Context, revision int64) ([]engine.Definition, error) {
	rows, err := b.queries.ListDefinitions(ctx, b.on(b.pool), revision)
	if err != nil {
		return nil, fmt.Errorf("load the definitions: %w", interpretError(err))
	}
	definitions := make([]engine.Definition, len(rows))
	for i, row := range rows {
		definitions[i] = engine.Definition{Kind: row.Kind, ID: row.ID, Body: row.Body}
	}
	return definitions, nil
}
