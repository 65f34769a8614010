package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Listeners implements engine.Writer.
func (w *Writer) Listeners(ctx context.Context) (engine.Listeners, error) {
	b := w.backend
	if err := b.lock(ctx); err != nil {
		return engine.Listeners{}, fmt.Errorf("read which DAGs others start: %w", err)
	}
	defer b.mutex.Unlock()
	listeners := engine.Listeners{Revision: int64(len(b.revisions))}
	for _, definition := range b.definitions(listeners.Revision) {
		if definition.Kind == "dag" {
			listeners.Add(&definition)
		}
	}
	return listeners, nil
}

// Arrivals implements engine.Arrivals.
func (b *Backend) Arrivals(ctx context.Context, dag string) ([]engine.Arrival, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("read which files arrived for DAG %s: %w", dag, err)
	}
	defer b.mutex.Unlock()
	return slices.Collect(maps.Values(b.arrivals[dag])), nil
}

// NoteArrivals implements engine.Arrivals.
func (b *Backend) NoteArrivals(ctx context.Context, dag string, arrived []engine.Arrival, gone []workflow.Hash) error {
	if err := b.lock(ctx); err != nil {
		return fmt.Errorf("note which files arrived for DAG %s: %w", dag, err)
	}
	defer b.mutex.Unlock()
	if b.arrivals[dag] == nil {
		b.arrivals[dag] = map[workflow.Hash]engine.Arrival{}
	}
	for _, one := range arrived {
		b.arrivals[dag][one.File] = one
	}
	for _, file := range gone {
		delete(b.arrivals[dag], file)
	}
	return nil
}
