package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// Declare implements engine.Declarations.
func (b *Backend) Declare(ctx context.Context, declared engine.Declared) error {
	if err := b.lock(ctx); err != nil {
		return fmt.Errorf("declare queues: %w", err)
	}
	defer b.mutex.Unlock()
	declared.Queues = slices.Clone(declared.Queues)
	b.declared = declared
	return nil
}

// Declared implements engine.Declarations.
func (b *Backend) Declared(ctx context.Context) (engine.Declared, error) {
	if err := b.lock(ctx); err != nil {
		return engine.Declared{}, fmt.Errorf("read what is declared: %w", err)
	}
	defer b.mutex.Unlock()
	declared := b.declared
	declared.Queues = slices.Clone(declared.Queues)
	return declared, nil
}
