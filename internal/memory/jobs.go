package memory

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// job is work that waits to be done.
type job struct {
	kind, key string
	args      []byte
	failures  int
}

// jobQueue holds jobs until StartJobs, and then does them, one at a time for each StartJobs.
type jobQueue struct {
	mutex   sync.Mutex
	waiting []job
	added   chan struct{} // closed when a job is added, and replaced
	stopped chan struct{}
	once    sync.Once
	workers sync.WaitGroup
}

func (q *jobQueue) init() { q.added, q.stopped = make(chan struct{}), make(chan struct{}) }

// add lets a job wait, unless one of its kind and key waits.
func (q *jobQueue) add(kind, key string, args []byte) {
	q.put(job{kind: kind, key: key, args: args})
}

func (q *jobQueue) put(added job) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	for _, other := range q.waiting {
		if added.key != "" && other.kind == added.kind && other.key == added.key {
			return
		}
	}
	q.waiting = append(q.waiting, added)
	close(q.added)
	q.added = make(chan struct{})
}

// take gives the oldest job of which the kind is known; where there is none, more tells when another was added.
func (q *jobQueue) take(handlers map[string]engine.JobHandler) (taken job, more <-chan struct{}) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	for place, waiting := range q.waiting {
		if handlers[waiting.kind] != nil {
			q.waiting = append(q.waiting[:place:place], q.waiting[place+1:]...)
			return waiting, nil
		}
	}
	return job{}, q.added
}

func (q *jobQueue) stop() {
	q.once.Do(func() { close(q.stopped) })
	q.workers.Wait()
}

// The kinds of jobs of the backend itself, and how often they run.
const (
	retentionJob   = "memory_retention"
	retentionEvery = time.Hour
)

// StartJobs implements engine.Backend. It returns at once; the jobs run until the context ends or the backend is closed.
func (b *Backend) StartJobs(ctx context.Context, jobs *engine.Jobs, policy engine.Retention) error {
	handlers := map[string]engine.JobHandler{
		retentionJob: func(context.Context, []byte) error {
			b.retain(policy)
			return nil
		},
	}
	periods := map[string]time.Duration{retentionJob: retentionEvery}
	maps.Copy(handlers, jobs.Handlers())
	maps.Copy(periods, jobs.Periods())
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.mutex.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	b.jobs.workers.Go(func() {
		defer cancel()
		select {
		case <-ctx.Done():
		case <-b.jobs.stopped:
		}
	})
	for kind, every := range periods {
		b.jobs.workers.Go(func() { b.jobs.repeat(ctx, kind, every) })
	}
	b.jobs.workers.Go(func() { b.jobs.work(ctx, handlers) })
	return nil
}

// repeat lets a kind of job wait now, and in each interval.
func (q *jobQueue) repeat(ctx context.Context, kind string, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		q.add(kind, "periodic", nil)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// work does jobs as they come.
func (q *jobQueue) work(ctx context.Context, handlers map[string]engine.JobHandler) {
	for ctx.Err() == nil {
		next, more := q.take(handlers)
		if more != nil {
			select {
			case <-ctx.Done():
			case <-more:
			}
			continue
		}
		if err := handlers[next.kind](ctx, next.args); err != nil {
			next.failures++
			q.workers.Go(func() { q.putLater(ctx, next) })
		}
	}
}

// The delay before a job that failed is tried again: doubled each time, up to the longest.
const (
	firstJobDelay   = 100 * time.Millisecond
	longestJobDelay = time.Minute
)

func (q *jobQueue) putLater(ctx context.Context, failed job) {
	delay := min(firstJobDelay<<min(failed.failures-1, 20), longestJobDelay)
	select {
	case <-ctx.Done():
	case <-time.After(delay):
	}
	q.put(failed)
}

// retain forgets what is older than it is to be kept: runs that ended, agents that ended a day ago, and plans
// that no run has.
func (b *Backend) retain(policy engine.Retention) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	now := b.now()
	if policy.Days > 0 {
		queued := b.queuedRuns()
		b.forgotten = now.AddDate(0, 0, -policy.Days)
		for _, r := range b.runs {
			if r.state.Status.Ended() && !queued[r.id] && r.createdAt.Before(b.forgotten) {
				b.forget(r)
			}
		}
	}
	b.retainPlans()
	for _, agent := range b.agents {
		if agent.status != agentLive && agent.endedAt.Before(now.Add(-deadAgentsFor)) && !b.holds(agent) {
			delete(b.agents, agent.incarnation)
		}
	}
}

// queuedRuns are the runs of which something is in the queue, or at an agent.
func (b *Backend) queuedRuns() map[workflow.RunID]bool {
	queued := map[workflow.RunID]bool{}
	for _, d := range b.dispatches {
		for _, member := range d.Members {
			queued[member.Run] = true
		}
	}
	return queued
}

func (b *Backend) holds(agent *session) bool {
	for _, held := range b.dispatches {
		if held.claimedBy == agent.incarnation {
			return true
		}
	}
	return false
}
