package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Writer implements engine.Writer.
type Writer struct {
	backend *Backend
	group   *writerGroup
	// number is that of its row, which is its fence, and seq that of its last commit.
	number, seq int64
	buckets     []int
	// replyTo is the bucket that reports are addressed to, by division.
	replyTo [divisions]int
	wake    chan struct{}

	mail   mailReader
	values valueCache
}

// divisions are the largest number of writers that an orchestrator has: one session of the server is busy for some 10 µs a task, so two
// use two processors (docs/design/0003-writers.md). A bucket belongs to the division of its number's remainder, and a delivery
// to one division, so that its members have the same writer however many there are.
const divisions = 2

func divisionOf(bucket int) int { return bucket % divisions }

// OpenWriters implements engine.Backend.
func (b *Backend) OpenWriters(ctx context.Context, orchestrator string, most int) ([]engine.Writer, error) {
	if err := b.retireWriters(ctx); err != nil {
		return nil, err
	}
	group := newWriterGroup(b, max(1, min(most, divisions)))
	group.lockKey = b.bell.hold(ctx, "writer/"+orchestrator+"/"+processIdentity()+"/"+time.Now().String())
	err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		on := b.on(tx)
		locked, err := b.queries.TryTransactionLock(ctx, on, b.schema.key("buckets"))
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		if !locked {
			return fmt.Errorf("%w: it is just starting", engine.ErrWriterExists)
		}
		others, err := b.queries.ListLiveWriters(ctx, on)
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		if len(others) > 0 {
			return writerExists(&others[0])
		}
		for _, writer := range group.writers {
			row := db.InsertWriterParams{Orchestrator: orchestrator, Process: processIdentity(), LockKey: group.lockKey}
			if writer.number, err = b.queries.InsertWriter(ctx, on, row); err != nil {
				return err //nolint:wrapcheck // wrapped below
			}
		}
		taken, err := b.queries.TakeBuckets(ctx, on, group.numbers())
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		group.give(taken)
		for _, clean := range []func(context.Context, db.DBTX) error{
			b.queries.DeleteDeadWriters, b.queries.DeleteDeadWriterBeats, b.queries.DeleteDeadBacklog,
		} {
			if err := clean(ctx, on); err != nil {
				return err
			}
		}
		return b.queries.Beat(ctx, on, group.numbers())
	})
	if err != nil {
		b.bell.release(group.lockKey)
		return nil, fmt.Errorf("take the buckets: %w", interpretError(err))
	}
	opened := make([]engine.Writer, len(group.writers))
	for i, writer := range group.writers {
		writer.mail.init(writer.buckets)
		opened[i] = writer
	}
	b.bell.setWriters(group)
	return opened, nil
}

// A writer whose session lock is free gets this long to move its beat before it is declared dead. One whose lock is held
// gets the time of three beats: a server keeps the lock of a host that lost its power until it misses the connection. So does
// one that never had a lock. A held lock and a beat of late are proof enough of a life.
const (
	writerGrace       = 1500 * time.Millisecond
	writerPoll        = 250 * time.Millisecond
	lonelyWriterGrace = missedBeats * (quietBeat + time.Second)
	lateBeat          = 2 * (quietBeat + time.Second)
)

// retireWriters declares dead the writers that were left by processes that died. A
// process of this host that has ended is dead for certain; elsewhere, one is who does nothing for a while, which is a
// second or two where its session lock is free.
func (b *Backend) retireWriters(ctx context.Context) error {
	type progress struct{ seq, beat int64 }
	first, told := map[int64]progress{}, map[int64]bool{}
	for start := time.Now(); ; {
		writers, err := b.queries.ListLiveWriters(ctx, b.on(b.pool))
		if err != nil {
			return fmt.Errorf("look for other orchestrators: %w", interpretError(err))
		}
		waiting := 0
		for _, other := range writers {
			now := progress{other.Seq, other.Beat}
			before, seen := first[other.Writer]
			first[other.Writer] = now
			switch {
			case provenDead(other.Process):
			case isAlive(&other), seen && before != now:
				return writerExists(&other)
			case time.Since(start) < graceOf(&other):
				waiting++
				continue
			}
			if err := b.declareWriterDead(ctx, other.Writer); err != nil {
				return err
			}
			if !told[other.LockKey] { // its writers have one lock
				told[other.LockKey] = true
				b.logger.Info("took over from an orchestrator that died", "orchestrator", other.Orchestrator)
			}
		}
		if waiting == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // says it all
		case <-time.After(writerPoll):
		}
	}
}

// isAlive tells that there is no need to watch the writer.
func isAlive(writer *db.ListLiveWritersRow) bool {
	return writer.Locked && writer.BeatAgeSeconds < lateBeat.Seconds()
}

func graceOf(writer *db.ListLiveWritersRow) time.Duration {
	if writer.LockKey == 0 || writer.Locked {
		return lonelyWriterGrace
	}
	return writerGrace
}

func writerExists(other *db.ListLiveWritersRow) error {
	return fmt.Errorf("%w: %q, since %s; stop it, or use another cluster_id", engine.ErrWriterExists,
		other.Orchestrator, other.StartedAt.UTC().Format(time.RFC3339))
}

func (b *Backend) declareWriterDead(ctx context.Context, writer int64) error {
	p := b.pipeline()
	p.add(func(on db.DBTX) error { return b.queries.LockWriter(ctx, on, writer) })
	p.add(func(on db.DBTX) error {
		_, err := b.queries.DeclareWriterDead(ctx, on, writer)
		return err //nolint:wrapcheck // wrapped below
	})
	if err := p.send(ctx, b.pool); err != nil {
		return fmt.Errorf("declare writer %d dead: %w", writer, interpretError(err))
	}
	return nil
}

// ReplyTo implements engine.Writer.
func (w *Writer) ReplyTo(bucket int) int { return w.replyTo[divisionOf(bucket)] }

// Buckets implements engine.Writer.
func (w *Writer) Buckets() []int { return w.buckets }

// Now implements engine.Writer.
func (w *Writer) Now() time.Time { return w.backend.clock.now() }

// Wake implements engine.Writer.
func (w *Writer) Wake() <-chan struct{} { return w.wake }

func (w *Writer) ring(buckets ...int) {
	w.mail.ring(buckets...)
	signal(w.wake)
}

func (w *Writer) ringAll() { w.ring(w.buckets...) }

// Recover implements engine.Writer. It learns under the row's lock which commit was the last,
// so it does not matter whether an uncertain one was stored: memory is built anew from what is.
func (w *Writer) Recover(ctx context.Context) error {
	var row db.GetWriterSeqRow
	q, p := w.backend.queries, w.backend.pipeline()
	p.add(func(on db.DBTX) error { return q.LockWriter(ctx, on, w.number) })
	p.add(func(on db.DBTX) (err error) {
		row, err = q.GetWriterSeq(ctx, on, w.number)
		return err
	})
	err := p.send(ctx, w.backend.pool)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && row.Dead:
		return fmt.Errorf("recover writer %d: %w", w.number, engine.ErrFenced)
	case err != nil:
		return fmt.Errorf("recover writer %d: %w", w.number, interpretError(err))
	}
	w.seq = row.Seq
	w.mail.init(w.buckets)
	w.ringAll()
	return nil
}

// Dispatched implements engine.Writer.
func (w *Writer) Dispatched(ctx context.Context) ([]engine.Delivery, error) {
	buckets := make([]int16, len(w.buckets))
	for i, bucket := range w.buckets {
		buckets[i] = int16(bucket) //nolint:gosec // 12 bits
	}
	rows, err := w.backend.queries.ListDispatches(ctx, w.backend.on(w.backend.pool), buckets)
	if err != nil {
		return nil, fmt.Errorf("load the queue: %w", interpretError(err))
	}
	deliveries := make([]engine.Delivery, 0, len(rows))
	for i := range rows {
		row := &rows[i]
		members, err := unpackMembers(row.Runs, row.Dags, row.Versions, row.Specs, row.Members)
		var class engine.Class
		if err == nil {
			class, err = w.backend.classByID(ctx, row.Class)
		}
		if errors.Is(err, errMalformed) || errors.Is(err, engine.ErrNotFound) {
			// What it held is in no delivery then, and is queued anew.
			w.backend.logger.Error("a delivery can't be read and is left out", "delivery", row.ID, "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		deliveries = append(deliveries, engine.Delivery{
			ID: row.ID, Class: class, Priority: int(row.Priority), Claimed: row.Claimed, Members: members,
		})
	}
	return deliveries, nil
}

// LiveRuns implements engine.Writer.
func (w *Writer) LiveRuns(ctx context.Context, after workflow.RunID, limit int) ([]workflow.RunID, error) {
	// Each bucket is read apart: the index holds them in that order. The caller asks for all of a bucket
	// before the next, so "after" also says which bucket.
	var ids []workflow.RunID
	start := 0
	if !after.IsZero() {
		start = after.Bucket()
	}
	for _, bucket := range w.buckets {
		if bucket < start {
			continue
		}
		from := workflow.RunID{}
		if bucket == start {
			from = after
		}
		rows, err := w.backend.queries.ListLiveRuns(ctx, w.backend.on(w.backend.pool), db.ListLiveRunsParams{
			Bucket: int16(bucket), After: db.UUID(from), Most: int32(limit - len(ids)), //nolint:gosec // small
		})
		if err != nil {
			return nil, fmt.Errorf("list the live runs: %w", interpretError(err))
		}
		for _, id := range rows {
			ids = append(ids, workflow.RunID(id))
		}
		if len(ids) >= limit {
			break
		}
	}
	return ids, nil
}

// Graph implements engine.Writer.
func (w *Writer) Graph(ctx context.Context, plan workflow.Hash) (*workflow.Graph, error) {
	return w.backend.graph(ctx, plan)
}

// Close implements engine.Writer.
func (w *Writer) Close(ctx context.Context) error {
	last := w.group.leave(w)
	err := w.backend.declareWriterDead(ctx, w.number)
	if last {
		w.backend.bell.release(w.group.lockKey)
	}
	return err
}

func orZero(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.UTC()
}
