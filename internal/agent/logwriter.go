package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

const (
	// maxWrite is about how much is written at once, in bytes.
	maxWrite     = 4 << 20
	writeTimeout = 10 * time.Second
)

// logWriter writes the output of tasks that run. What comes during a write
// makes up the next one. While writes fail or are slow the tasks' logs hold
// what they can, so no task ever waits for it.
type logWriter struct {
	session engine.AgentSession
	logger  *slog.Logger
	lose    func(error)
	wake    chan struct{}
	quit    chan struct{} // closed: write what there is, and end
	done    chan struct{} // closed: it ended

	mu    sync.Mutex
	dirty []*taskLog // that have something ready
}

func newLogWriter(session engine.AgentSession, logger *slog.Logger, lose func(error)) *logWriter {
	return &logWriter{
		session: session, logger: logger, lose: lose,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// notify tells that the log has something ready.
func (w *logWriter) notify(l *taskLog) {
	w.mu.Lock()
	w.dirty = append(w.dirty, l)
	w.mu.Unlock()
	signal(w.wake)
}

// run writes until quit is closed and nothing is left, or ctx ends.
func (w *logWriter) run(ctx context.Context) {
	defer close(w.done)
	for {
		if chunks := w.next(); len(chunks) > 0 {
			if !w.write(ctx, chunks) {
				return
			}
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		case <-w.quit:
			select {
			case <-w.wake: // something came before
			default:
				return
			}
		}
	}
}

// next gives the chunks to write together.
func (w *logWriter) next() (chunks []engine.LogChunk) {
	for size := 0; size < maxWrite; {
		w.mu.Lock()
		if len(w.dirty) == 0 {
			w.mu.Unlock()
			return chunks
		}
		l := w.dirty[0]
		w.dirty = w.dirty[1:]
		w.mu.Unlock()
		ready := l.collect()
		for i := range ready {
			size += len(ready[i].Body)
		}
		chunks = append(chunks, ready...)
	}
	return chunks
}

// write stores chunks, however often that must be tried. It reports false when that is over.
func (w *logWriter) write(ctx context.Context, chunks []engine.LogChunk) bool {
	retry := backoff{}
	for {
		err := w.try(ctx, chunks)
		switch {
		case err == nil:
			return true
		case errors.Is(err, engine.ErrAgentLost):
			w.lose(err)
			return false
		case ctx.Err() != nil:
			return false
		case errors.Is(err, engine.ErrRefused):
			w.logger.Error("output of tasks cannot be stored and is dropped", "chunks", len(chunks), "error", err)
			return true
		}
		w.logger.Warn("output of tasks is not stored yet; trying again", "chunks", len(chunks), "error", err)
		if !retry.wait(ctx) {
			return false
		}
	}
}

func (w *logWriter) try(ctx context.Context, chunks []engine.LogChunk) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return w.session.WriteLogs(ctx, chunks)
}
