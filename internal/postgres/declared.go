package postgres

import (
	"context"
	"fmt"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// Declare implements engine.Declarations.
func (b *Backend) Declare(ctx context.Context, server string, declared engine.Declared) error {
	queues := declared.Queues
	if queues == nil {
		queues = []string{}
	}
	params := db.DeclareParams{Server: server, Queues: queues, DefaultContext: declared.DefaultContext}
	if err := b.queries.Declare(ctx, b.on(b.pool), params); err != nil {
		return fmt.Errorf("declare queues: %w", interpretError(err))
	}
	return nil
}

// Declared implements engine.Declarations.
func (b *Backend) Declared(ctx context.Context) (engine.Declared, error) {
	rows, err := b.queries.ListDeclarations(ctx, b.on(b.pool), engine.DeclaredFor.Seconds())
	if err != nil {
		return engine.Declared{}, fmt.Errorf("read what is declared: %w", interpretError(err))
	}
	declarations := make([]engine.Declaration, len(rows))
	for i, row := range rows {
		declarations[i] = engine.Declaration{
			Declared: engine.Declared{Queues: row.Queues, DefaultContext: row.DefaultContext}, ChangedAt: row.ChangedAt,
		}
	}
	return engine.Together(declarations), nil
}
