package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// A writer divides its buckets into shards, each with a row of its own in writers as its fence. A large commit is
// stored as one transaction for each shard, side by side, because one session of the server
// is busy for 12 µs a task, and everything else takes half of that (docs/design/0003-shards.md). A small
// one is one transaction that takes the fences of all shards that it touches.
//
// Whatever belongs together lies in one shard: reports on a run go to a bucket of its shard, so a message and all
// that it changes do, too.
const (
	shardCount = 2
	// splitRows is the number of task rows from which two transactions cost less than one.
	splitRows = 500
)

// shard is a part of a writer's buckets: those whose number leaves its index when divided by shardCount.
type shard struct {
	// writer is the number of its row, and seq that of its last commit.
	writer, seq int64
	// replyTo is the bucket that reports are addressed to.
	replyTo int
}

func shardOf(bucket int) int { return bucket % shardCount }

// part is what one transaction of a commit stores.
type part struct {
	*engine.Commit
	// shards are those that it touches.
	shards [shardCount]bool
	// dispatches are the places of its dispatches in the whole commit.
	dispatches []int
	reading    *mailRead
	// grown are what the runs of the whole commit got that grow with it.
	grown map[workflow.RunID]*grownRun

	dispatched []int64
	withdrawn  []db.WithdrawDispatchesRow
	mail       []db.ReadMailRow
	err        error
}

// first is the first shard that the part touches.
func (p *part) first() int {
	for index, touched := range p.shards {
		if touched {
			return index
		}
	}
	return 0
}

// partsOf divides a commit.
func partsOf(commit *engine.Commit) []*part {
	rows := 0
	for _, change := range commit.Changes {
		rows += len(change.Tasks) + len(change.Specs) + len(change.Nodes) + len(change.Outputs)
	}
	var parts [shardCount]*part
	for index := range parts {
		parts[index] = &part{Commit: &engine.Commit{At: commit.At}}
		parts[index].shards[index] = true
	}
	if rows < splitRows {
		whole := &part{Commit: &engine.Commit{At: commit.At}}
		for index := range parts {
			parts[index] = whole
		}
	}
	of := func(bucket int) *part {
		index := shardOf(bucket)
		parts[index].shards[index] = true
		return parts[index]
	}
	for _, change := range commit.Changes {
		p := of(change.ID.Bucket())
		p.Changes = append(p.Changes, change)
	}
	for place, dispatch := range commit.Dispatches {
		p := of(dispatch.Members[0].Run.Bucket())
		p.Dispatches, p.dispatches = append(p.Dispatches, dispatch), append(p.dispatches, place)
	}
	for _, done := range commit.Remove {
		p := of(done.ReplyTo)
		p.Remove = append(p.Remove, done)
	}
	for _, run := range commit.Withdraw {
		p := of(run.Bucket())
		p.Withdraw = append(p.Withdraw, run)
	}
	for _, order := range commit.Orders {
		p := of(order.Run.Bucket())
		p.Orders = append(p.Orders, order)
	}
	for _, key := range commit.Mail {
		p := of(key.Bucket)
		p.Mail = append(p.Mail, key)
	}
	for _, refused := range commit.Refused {
		p := of(refused.ID.Bucket())
		p.Refused = append(p.Refused, refused)
	}
	if commit.Backlog != nil {
		of(0).Backlog = commit.Backlog
	}
	return distinct(parts)
}

// distinct are the parts that have something to store, once each; at least one.
func distinct(parts [shardCount]*part) []*part {
	var some []*part
	for _, p := range slices.Compact(parts[:]) {
		if !p.empty() {
			some = append(some, p)
		}
	}
	if len(some) == 0 {
		return []*part{{Commit: parts[0].Commit, shards: [shardCount]bool{true}}}
	}
	return some
}

func (p *part) empty() bool {
	return len(p.Changes)+len(p.Dispatches)+len(p.Remove)+len(p.Withdraw)+len(p.Orders)+len(p.Mail)+len(p.Refused) == 0 && p.Backlog == nil
}

// sendAll stores the parts side by side. After an error the caller's memory is what is stored only when no part was: else
// the error is one after which it is built anew.
func (w *Writer) sendAll(ctx context.Context, parts []*part, classes []int32) error {
	var running sync.WaitGroup
	for _, p := range parts[1:] {
		running.Go(func() { p.err = w.sendPart(ctx, p, classes) })
	}
	parts[0].err = w.sendPart(ctx, parts[0], classes)
	running.Wait()
	var failures []error
	stored := false
	for _, p := range parts {
		if p.err != nil {
			failures = append(failures, fmt.Errorf("commit %d of writer %d: %w", w.shards[p.first()].seq+1, w.shards[p.first()].writer, p.err))
			continue
		}
		stored = true
		for index, touched := range p.shards {
			if touched {
				w.shards[index].seq++
			}
		}
	}
	err := errors.Join(failures...)
	if err == nil || !stored || errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrUncertain) || errors.Is(err, engine.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: only a part of it was stored: %w", engine.ErrUncertain, err)
}

func (w *Writer) sendPart(ctx context.Context, p *part, classes []int32) error {
	own := make([]int32, len(p.dispatches))
	for i, place := range p.dispatches {
		own[i] = classes[place]
	}
	return w.backend.retryMissingPartition(ctx, func() error { return w.send(ctx, w.build(ctx, p, own), p.Commit) })
}

// ReplyTo implements engine.Writer.
func (w *Writer) ReplyTo(bucket int) int { return w.shards[shardOf(bucket)].replyTo }

// writers are the numbers of the writer's rows.
func (w *Writer) writers() []int64 {
	numbers := make([]int64, len(w.shards))
	for index := range w.shards {
		numbers[index] = w.shards[index].writer
	}
	return numbers
}
