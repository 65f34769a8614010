package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// Publish implements engine.Definitions.
func (b *Backend) Publish(ctx context.Context, definitions []engine.Definition, _ string) (revision int64, changed bool, err error) {
	if err := b.lock(ctx); err != nil {
		return 0, false, fmt.Errorf("publish definitions: %w", err)
	}
	defer b.mutex.Unlock()
	published := make([]engine.Definition, len(definitions))
	for index, definition := range definitions {
		published[index] = engine.Definition{Kind: definition.Kind, ID: definition.ID, Body: slices.Clone(definition.Body)}
	}
	slices.SortFunc(published, func(one, other engine.Definition) int {
		return cmp.Or(cmp.Compare(one.Kind, other.Kind), cmp.Compare(one.ID, other.ID))
	})
	same := func(one, other engine.Definition) bool {
		return one.Kind == other.Kind && one.ID == other.ID && bytes.Equal(one.Body, other.Body)
	}
	if slices.EqualFunc(published, b.definitions(int64(len(b.revisions))), same) {
		return int64(len(b.revisions)), false, nil
	}
	b.revisions = append(b.revisions, published)
	return int64(len(b.revisions)), true, nil
}

// Revision implements engine.Definitions.
func (b *Backend) Revision(ctx context.Context) (int64, error) {
	if err := b.lock(ctx); err != nil {
		return 0, fmt.Errorf("read the revision of the definitions: %w", err)
	}
	defer b.mutex.Unlock()
	return int64(len(b.revisions)), nil
}

// LoadDefinitions implements engine.Definitions.
func (b *Backend) LoadDefinitions(ctx context.Context, revision int64) ([]engine.Definition, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("load the definitions: %w", err)
	}
	defer b.mutex.Unlock()
	return slices.Clone(b.definitions(revision)), nil
}

// definitions are those of a revision; there are none before the first.
func (b *Backend) definitions(revision int64) []engine.Definition {
	if revision < 1 || len(b.revisions) == 0 {
		return nil
	}
	return b.revisions[min(revision, int64(len(b.revisions)))-1]
}
