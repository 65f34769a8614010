package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// declaration is what a server declares.
type declaration struct {
	engine.Declaration

	at time.Time // when it did so last
}

// Declare implements engine.Declarations.
func (b *Backend) Declare(ctx context.Context, server string, declared engine.Declared) error {
	if err := b.lock(ctx); err != nil {
		return fmt.Errorf("declare queues: %w", err)
	}
	defer b.mutex.Unlock()
	now := b.now()
	next := declaration{engine.Declaration{Declared: declared, ChangedAt: now}, now}
	next.Queues = slices.Clone(declared.Queues)
	before, known := b.declared[server]
	if known && before.DefaultContext == next.DefaultContext && slices.Equal(before.Queues, next.Queues) {
		next.ChangedAt = before.ChangedAt
	}
	b.declared[server] = next
	return nil
}

// Declared implements engine.Declarations.
func (b *Backend) Declared(ctx context.Context) (engine.Declared, error) {
	if err := b.lock(ctx); err != nil {
		return engine.Declared{}, fmt.Errorf("read what is declared: %w", err)
	}
	defer b.mutex.Unlock()
	var newest time.Time
	for _, one := range b.declared {
		if one.at.After(newest) {
			newest = one.at
		}
	}
	var declarations []engine.Declaration
	for _, one := range b.declared {
		if !one.at.Before(newest.Add(-engine.DeclaredFor)) {
			declarations = append(declarations, one.Declaration)
		}
	}
	return engine.Together(declarations), nil
}
