package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// settingDeclared is what the servers declared last, as JSON.
const settingDeclared = "declared"

// Declare implements engine.Declarations.
func (b *Backend) Declare(ctx context.Context, declared engine.Declared) error {
	value, err := json.Marshal(declared)
	if err != nil {
		return fmt.Errorf("encode what is declared: %w", err)
	}
	if err := b.queries.SetSetting(ctx, b.on(b.pool), db.SetSettingParams{Name: settingDeclared, Value: string(value)}); err != nil {
		return fmt.Errorf("declare queues: %w", interpretError(err))
	}
	return nil
}

// Declared implements engine.Declarations.
func (b *Backend) Declared(ctx context.Context) (declared engine.Declared, err error) {
	value, err := b.queries.GetSetting(ctx, b.on(b.pool), settingDeclared)
	if errors.Is(err, pgx.ErrNoRows) {
		return declared, nil
	}
	if err != nil {
		return declared, fmt.Errorf("read what is declared: %w", interpretError(err))
	}
	if err := json.Unmarshal([]byte(value), &declared); err != nil {
		return declared, fmt.Errorf("read what is declared: %w", err)
	}
	return declared, nil
}
