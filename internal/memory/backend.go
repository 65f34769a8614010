package memory

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// DefaultBuckets is the number of buckets when Options leave it open.
const DefaultBuckets = 256

// Options say how a Backend works.
type Options struct {
	// Clock gives the time of the cluster; nil is time.Now.
	Clock func() time.Time
	// Buckets is the number of buckets, up to workflow.MaxBuckets; 0 is DefaultBuckets.
	Buckets int
	// MaxPendingSubmits is the number of submissions that no writer has taken up, above which new
	// ones are refused; 0 leaves it unbounded.
	MaxPendingSubmits int
}

// Backend is the state of a cluster.
type Backend struct {
	options Options

	mutex  sync.Mutex
	closed bool

	declared   map[string]declaration // by server
	revisions  [][]engine.Definition  // sorted; revision n is at n-1
	plans      map[workflow.Hash]*plan
	specs      map[workflow.Hash]*workflow.TaskSpec
	runs       map[workflow.RunID]*run
	names      map[string]workflow.RunID // custom run ids
	keys       map[string]workflow.RunID // idempotency keys
	live       map[workflow.RunID]bool
	timers     map[timerKey]time.Time
	mail       map[int][]letter // of each bucket, in order
	unstarted  int              // letters that are submissions
	dispatches map[int64]*dispatch
	open       []*dispatch // those that nobody claimed, in the order of claims
	classes    map[engine.Class]bool
	agents     map[int64]*session
	orders     map[int64]order
	schedules  map[string]time.Time // the last date of each DAG
	succeeded  map[dagDate]bool
	arrivals   map[string]map[workflow.Hash]engine.Arrival // by DAG and file
	// forgotten is the time before which runs that had ended were forgotten; zero when none were.
	forgotten time.Time

	writer  *Writer // nil when nobody is
	backlog map[backlogKey]engine.Backlog

	jobs jobQueue

	lastNumber int64 // of deliveries, letters, orders, incarnations
}

var _ engine.Backend = (*Backend)(nil)

// New makes an empty cluster.
func New(options Options) *Backend {
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Buckets <= 0 {
		options.Buckets = DefaultBuckets
	}
	options.Buckets = min(options.Buckets, workflow.MaxBuckets)
	b := &Backend{
		options: options, declared: map[string]declaration{},
		plans: map[workflow.Hash]*plan{}, specs: map[workflow.Hash]*workflow.TaskSpec{}, runs: map[workflow.RunID]*run{},
		names: map[string]workflow.RunID{}, keys: map[string]workflow.RunID{}, live: map[workflow.RunID]bool{},
		timers: map[timerKey]time.Time{}, mail: map[int][]letter{}, dispatches: map[int64]*dispatch{},
		classes: map[engine.Class]bool{}, agents: map[int64]*session{}, orders: map[int64]order{},
		schedules: map[string]time.Time{}, succeeded: map[dagDate]bool{},
		backlog: map[backlogKey]engine.Backlog{}, arrivals: map[string]map[workflow.Hash]engine.Arrival{},
	}
	b.jobs.init()
	return b
}

var errClosed = errors.New("the backend is closed")

// lock takes the mutex for a call of the interface, unless the call is pointless.
func (b *Backend) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err //nolint:wrapcheck // says it all
	}
	b.mutex.Lock()
	if b.closed {
		b.mutex.Unlock()
		return errClosed
	}
	return nil
}

// Now is the time of the cluster.
// Now implements engine.Backend.
func (b *Backend) Now() time.Time { return b.now() }

func (b *Backend) now() time.Time { return b.options.Clock().UTC() }

// number gives a number that was never given before; later ones are larger.
func (b *Backend) number() int64 {
	b.lastNumber++
	return b.lastNumber
}

// Ping implements engine.Backend.
func (b *Backend) Ping(ctx context.Context) error {
	if err := b.lock(ctx); err != nil {
		return err
	}
	b.mutex.Unlock()
	return nil
}

// Close implements engine.Backend.
func (b *Backend) Close() {
	b.mutex.Lock()
	b.closed = true
	b.mutex.Unlock()
	b.jobs.stop()
}

// signal rings without waiting: one ring that is not heard yet is enough.
func signal(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
