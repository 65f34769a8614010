package postgres

import (
	"slices"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// writerGroup are the writers of one orchestrator: each has a row, buckets and commits of its own. What they have in common is
// the session lock, the beat, and the tick: whoever ticks first asks for all, in one statement.
type writerGroup struct {
	backend *Backend
	lockKey int64
	writers []*Writer

	mutex  sync.Mutex
	open   map[*Writer]bool
	judge  judge
	beatAt time.Time
	// sweptAt is when deliveries of the dead were last looked for.
	sweptAt time.Time
	heard   map[*Writer]heard
}

// heard is what a tick found out for a writer.
type heard struct {
	tick   engine.Tick
	mail   mailNews
	living bool // it was not declared dead
	since  time.Time
}

// heardFor is how long what was heard is as good as asking. All tick at about the same time.
const heardFor = 250 * time.Millisecond

func newWriterGroup(backend *Backend, size int) *writerGroup {
	g := &writerGroup{backend: backend, open: map[*Writer]bool{}, heard: map[*Writer]heard{}}
	for range size {
		w := &Writer{backend: backend, group: g, wake: make(chan struct{}, 1)}
		g.writers, g.open[w] = append(g.writers, w), true
	}
	return g
}

// give divides buckets among the writers, as TakeBuckets did.
func (g *writerGroup) give(buckets []int16) {
	slices.Sort(buckets) // LiveRuns pages through them in order
	for _, number := range buckets {
		bucket := int(number)
		w := g.of(bucket)
		w.buckets = append(w.buckets, bucket)
	}
	for _, w := range g.writers {
		for _, bucket := range slices.Backward(w.buckets) {
			w.replyTo[divisionOf(bucket)] = bucket
		}
	}
}

// of is the writer of a bucket.
func (g *writerGroup) of(bucket int) *Writer { return g.writers[bucket%len(g.writers)] }

// numbers are those of the writers' rows.
func (g *writerGroup) numbers() []int64 {
	numbers := make([]int64, len(g.writers))
	for i, w := range g.writers {
		numbers[i] = w.number
	}
	return numbers
}

// leave takes a writer out that gives its buckets up, and tells whether it was the last.
func (g *writerGroup) leave(w *Writer) bool {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	delete(g.open, w)
	if len(g.open) > 0 {
		return false
	}
	g.backend.bell.unsetWriters(g)
	return true
}

func (g *writerGroup) ring(bucket int) { g.of(bucket).ring(bucket) }

func (g *writerGroup) ringAll() {
	for _, w := range g.writers {
		w.ringAll()
	}
}
