package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
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
		if !class.Resources.IsZero() && len(dispatches[i].Members) != 1 {
			return nil, fmt.Errorf("%w: a delivery of tasks with resources holds %d members", engine.ErrRefused, len(dispatches[i].Members))
		}
		number, ok := b.classes.numbers[class]
		if !ok {
			var err error
			params := ensureParams(class)
			number, err = b.queries.EnsureClass(ctx, b.on(b.pool), params)
			if errors.Is(err, pgx.ErrNoRows) {
				// Somebody else made it at the same time, after this statement's snapshot.
				number, err = b.queries.EnsureClass(ctx, b.on(b.pool), params)
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

func ensureParams(class engine.Class) db.EnsureClassParams {
	cpu, memory, gpu, disk := columnsOf(class.Resources)
	return db.EnsureClassParams{
		Queue: class.Queue, Requires: splitTags(class.Requires), CpuMillis: cpu, MemoryMb: memory, Gpu: gpu, DiskMb: disk,
	}
}

// columnsOf are resources as they are stored. An agent that has more than can be stored has as much as can be.
func columnsOf(r workflow.Resources) (cpu, memory, gpu, disk int32) {
	column := func(number int) int32 { return int32(min(number, math.MaxInt32)) } //nolint:gosec // bounded
	return column(int(r.CPU)), column(r.MemoryMB), column(r.GPU), column(r.DiskMB)
}

// resourcesOf reads those columns.
func resourcesOf(cpu, memory, gpu, disk int32) workflow.Resources {
	return workflow.Resources{CPU: workflow.Cores(cpu), MemoryMB: int(memory), GPU: int(gpu), DiskMB: int(disk)}
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
		class := engine.Class{Queue: row.Queue, Requires: joinTags(row.Requires), Resources: resourcesOf(row.CpuMillis, row.MemoryMb, row.Gpu, row.DiskMb)}
		b.classes.numbers[class], b.classes.classes[row.Class] = row.Class, class
	}
	class, ok := b.classes.classes[number]
	if !ok {
		return class, fmt.Errorf("class %d of the queue: %w", number, engine.ErrNotFound)
	}
	return class, nil
}
