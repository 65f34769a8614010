package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// classCache knows the numbers of the classes.
type classCache struct {
	mutex   sync.Mutex
	numbers map[engine.Class]int32
	classes map[int32]engine.Class
}

// classNumbers gives the numbers of the dispatches' classes, new ones too.
func (b *Backend) classNumbers(ctx context.Context, dispatches []engine.Dispatch) ([]int32, error) {
	numbers := make([]int32, len(dispatches))
	b.classes.mutex.Lock()
	defer b.classes.mutex.Unlock()
	if b.classes.numbers == nil {
		b.classes.numbers, b.classes.classes = map[engine.Class]int32{}, map[int32]engine.Class{}
	}
	for i := range dispatches {
		class := dispatches[i].Class
		number, ok := b.classes.numbers[class]
		if !ok {
			var err error
			number, err = b.queries.EnsureClass(ctx, b.on(b.pool), db.EnsureClassParams{Queue: class.Queue, Requires: splitTags(class.Requires)})
			if errors.Is(err, pgx.ErrNoRows) {
				// Somebody else made it at the same time, after this statement's snapshot.
				number, err = b.queries.EnsureClass(ctx, b.on(b.pool), db.EnsureClassParams{Queue: class.Queue, Requires: splitTags(class.Requires)})
			}
			if err != nil {
				return nil, fmt.Errorf("make the class of queue %s: %w", class.Queue, interpretError(err))
			}
			b.classes.numbers[class], b.classes.classes[number] = number, class
		}
		numbers[i] = number
	}
	return numbers, nil
}

func (b *Backend) classByID(ctx context.Context, number int32) (engine.Class, error) {
	b.classes.mutex.Lock()
	defer b.classes.mutex.Unlock()
	if class, ok := b.classes.classes[number]; ok {
		return class, nil
	}
	rows, err := b.queries.ListClasses(ctx, b.on(b.pool))
	if err != nil {
		return engine.Class{}, fmt.Errorf("list the classes of the queue: %w", interpretError(err))
	}
	if b.classes.numbers == nil {
		b.classes.numbers, b.classes.classes = map[engine.Class]int32{}, map[int32]engine.Class{}
	}
	for _, row := range rows {
		class := engine.Class{Queue: row.Queue, Requires: joinTags(row.Requires)}
		b.classes.numbers[class], b.classes.classes[row.Class] = row.Class, class
	}
	class, ok := b.classes.classes[number]
	if !ok {
		return class, fmt.Errorf("class %d of the queue: %w", number, engine.ErrNotFound)
	}
	return class, nil
}
