package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Writer implements engine.Writer. There is one at a time, since all share one mutex, and it ends
// with Close alone: who shares this memory can't die by itself.
type Writer struct {
	backend      *Backend
	orchestrator string
	buckets      []int
	wake         chan struct{}
	judge        judge

	rung map[int]bool  // buckets that may have unread mail
	read map[int]int64 // up to which number each bucket was read
}

// OpenWriters implements engine.Backend.
func (b *Backend) OpenWriters(ctx context.Context, orchestrator string, _ int) ([]engine.Writer, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("take the buckets: %w", err)
	}
	defer b.mutex.Unlock()
	if b.writer != nil {
		return nil, fmt.Errorf("take the buckets: %w: %q", engine.ErrWriterExists, b.writer.orchestrator)
	}
	b.writer = &Writer{backend: b, orchestrator: orchestrator, wake: make(chan struct{}, 1)}
	for bucket := range b.options.Buckets {
		b.writer.buckets = append(b.writer.buckets, bucket)
	}
	b.writer.forget()
	clear(b.backlog)
	return []engine.Writer{b.writer}, nil
}

// forget lets all mail be read anew.
func (w *Writer) forget() {
	w.rung, w.read = map[int]bool{}, map[int]int64{}
	w.ringAll()
	signal(w.wake)
}

// fence errs unless this is the writer.
func (w *Writer) fence() error {
	if w.backend.writer != w {
		return fmt.Errorf("orchestrator %q: %w", w.orchestrator, engine.ErrFenced)
	}
	return nil
}

// ReplyTo implements engine.Writer.
func (w *Writer) ReplyTo(int) int { return w.buckets[0] }

// Buckets implements engine.Writer.
func (w *Writer) Buckets() []int { return slices.Clone(w.buckets) }

// Now implements engine.Writer.
func (w *Writer) Now() time.Time { return w.backend.now() }

// Wake implements engine.Writer.
func (w *Writer) Wake() <-chan struct{} { return w.wake }

// Recover implements engine.Writer.
func (w *Writer) Recover(ctx context.Context) error {
	if err := w.backend.lock(ctx); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	defer w.backend.mutex.Unlock()
	if err := w.fence(); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	w.forget()
	return nil
}

// Dispatched implements engine.Writer.
func (w *Writer) Dispatched(ctx context.Context) ([]engine.Delivery, error) {
	if err := w.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("load the queue: %w", err)
	}
	defer w.backend.mutex.Unlock()
	deliveries := make([]engine.Delivery, 0, len(w.backend.dispatches))
	for _, d := range w.backend.dispatches {
		deliveries = append(deliveries, d.delivery())
	}
	slices.SortFunc(deliveries, func(one, other engine.Delivery) int { return cmp.Compare(one.ID, other.ID) })
	return deliveries, nil
}

// LiveRuns implements engine.Writer. The order is that of the buckets, and of the ids in each.
func (w *Writer) LiveRuns(ctx context.Context, after workflow.RunID, limit int) ([]workflow.RunID, error) {
	if err := w.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("list the live runs: %w", err)
	}
	defer w.backend.mutex.Unlock()
	var ids []workflow.RunID
	for id := range w.backend.live {
		if after.IsZero() || compareLive(id, after) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareLive)
	return ids[:min(limit, len(ids))], nil
}

func compareLive(one, other workflow.RunID) int {
	return cmp.Or(cmp.Compare(one.Bucket(), other.Bucket()), bytes.Compare(one[:], other[:]))
}

// LoadRuns implements engine.Writer.
func (w *Writer) LoadRuns(ctx context.Context, ids []workflow.RunID) ([]*workflow.Run, error) {
	if err := w.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("load runs: %w", err)
	}
	defer w.backend.mutex.Unlock()
	var loaded []*workflow.Run
	for _, id := range ids {
		if !w.backend.live[id] {
			continue
		}
		one, err := w.backend.runs[id].load()
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, one)
	}
	return loaded, nil
}

// LoadEnded implements engine.Writer.
func (w *Writer) LoadEnded(ctx context.Context, id workflow.RunID) (*workflow.Run, error) {
	if err := w.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("load run %s: %w", id, err)
	}
	defer w.backend.mutex.Unlock()
	found, ok := w.backend.runs[id]
	if !ok || !found.state.Status.Ended() {
		return nil, fmt.Errorf("load run %s, which has ended: %w", id, engine.ErrNotFound)
	}
	return found.load()
}

// Graph implements engine.Writer.
func (w *Writer) Graph(ctx context.Context, hash workflow.Hash) (*workflow.Graph, error) {
	if err := w.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("load plan %s: %w", hash, err)
	}
	defer w.backend.mutex.Unlock()
	stored, ok := w.backend.plans[hash]
	if !ok {
		return nil, fmt.Errorf("plan %s: %w", hash, engine.ErrNotFound)
	}
	return stored.graph, nil
}

// Close implements engine.Writer.
func (w *Writer) Close(context.Context) error {
	w.backend.mutex.Lock()
	defer w.backend.mutex.Unlock()
	if w.backend.writer == w {
		w.backend.writer = nil
		clear(w.backend.backlog)
	}
	return nil
}
