package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

const (
	// A report holds at most so many members, and closes after so many bytes of logs.
	maxReportMembers  = 2000
	maxReportLogBytes = 4 << 20
	// The agent claims nothing while more than this is not reported.
	maxUnreported         = 4 * maxReportMembers
	maxUnreportedLogBytes = 64 << 20

	reportTimeout = 10 * time.Second

	// linger is how long a report waits for company while tasks wait for a slot here: nobody is kept from
	// starting then, and a commit for each end would take processor time from the tasks.
	linger = 40 * time.Millisecond
)

// leaving is a task that leaves the agent, with what is to be told of it.
type leaving struct {
	task *task
	outcome
	orders []int64
}

// reporter tells writers how tasks ended. What comes while a report is under
// way makes up the next one; only an agent with more tasks than slots lingers. A report is sent again until it
// is stored.
type reporter struct {
	session  engine.AgentSession
	agent    int64 // its incarnation
	logger   *slog.Logger
	lose     func(error) // called when the session says that the agent is lost
	reported func()      // called after each report that was stored
	crowded  func() bool // tells whether tasks wait for a slot

	lingering atomic.Bool

	wake chan struct{}
	quit chan struct{} // closed: send what there is, and end
	done chan struct{} // closed: it ended

	mu       sync.Mutex
	queue    []*batch
	open     map[int]*batch // by bucket: the batch of the queue that still takes members
	last     *batch         // the one of them that was used last
	members  int            // not reported, of queue and of what is under way
	logBytes int
	failing  bool
}

// batch is a report that is being put together.
type batch struct {
	report   engine.Report
	logs     []engine.LogChunk
	logBytes int
	orders   []int64
}

func (b *batch) members() int { return len(b.report.Ends) + len(b.report.Returns) }

func (b *batch) full() bool {
	return b.members() >= maxReportMembers || b.logBytes >= maxReportLogBytes
}

func newReporter(session engine.AgentSession, logger *slog.Logger, lose func(error), reported func(), crowded func() bool) *reporter {
	return &reporter{
		session: session, agent: session.Incarnation(), logger: logger, lose: lose, reported: reported, crowded: crowded,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), open: map[int]*batch{},
	}
}

// add takes tasks over. Those of a lost life are forgotten.
func (r *reporter) add(tasks ...leaving) {
	r.mu.Lock()
	for i := range tasks {
		r.addLocked(&tasks[i])
	}
	r.mu.Unlock()
	if !r.lingering.Load() || !r.crowded() { // else its time comes soon enough, and waking it costs as much as a report
		signal(r.wake)
	}
}

func (r *reporter) addLocked(l *leaving) {
	if l.fate == forgotten {
		return
	}
	b := r.batch(l.task.held.replyTo)
	member, result := l.task.Member, &l.result
	switch l.fate {
	case returned:
		b.report.Returns = append(b.report.Returns, engine.Return{
			Member: member, Started: result.Started, StartTime: result.StartTime, EndTime: result.EndTime,
		})
	default:
		b.report.Ends = append(b.report.Ends, engine.End{Member: member, Result: *result})
		b.report.Ends[len(b.report.Ends)-1].Agent = r.agent
	}
	l.task.held.left--
	if l.task.held.left == 0 {
		b.report.Done = append(b.report.Done, l.task.held.id)
	}
	b.orders = append(b.orders, l.orders...)
	b.logs = append(b.logs, l.logs...)
	for i := range l.logs {
		b.logBytes += len(l.logs[i].Body)
		r.logBytes += len(l.logs[i].Body)
	}
	r.members++
}

// batch gives the batch for the next member that reports to a bucket. A new one
// comes behind all others, so a delivery is never done before its members.
func (r *reporter) batch(replyTo int) *batch {
	b := r.last
	if b == nil || b.report.ReplyTo != replyTo {
		b = r.open[replyTo]
	}
	if b == nil || b.full() {
		b = &batch{report: engine.Report{ReplyTo: replyTo, Agent: r.agent}}
		r.open[replyTo] = b
		r.queue = append(r.queue, b)
	}
	r.last = b
	return b
}

// acknowledge tells the cluster that there is nothing to do for the orders.
func (r *reporter) acknowledge(orders []int64) {
	if len(orders) == 0 {
		return
	}
	r.mu.Lock()
	if len(r.queue) > 0 {
		r.queue[0].orders = append(r.queue[0].orders, orders...)
	} else {
		r.queue = append(r.queue, &batch{report: engine.Report{Agent: r.agent}, orders: orders})
	}
	r.mu.Unlock()
	signal(r.wake)
}

// full tells that nothing should be claimed until more was reported.
func (r *reporter) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failing && r.members > 0 || r.members >= maxUnreported || r.logBytes >= maxUnreportedLogBytes
}

// run sends reports until quit is closed and nothing is left, or ctx ends.
func (r *reporter) run(ctx context.Context) {
	defer close(r.done)
	for ctx.Err() == nil {
		r.gather(ctx)
		r.mu.Lock()
		queue := r.queue
		r.queue, r.last = nil, nil
		clear(r.open)
		r.mu.Unlock()
		for _, b := range queue {
			if !r.send(ctx, b) {
				return
			}
		}
		if len(queue) > 0 {
			continue
		}
		select {
		case <-r.wake:
			continue
		default:
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
		case <-r.quit:
			select {
			case <-r.wake: // something came before
			default:
				return
			}
		}
	}
}

// gather lingers while tasks wait for a slot.
func (r *reporter) gather(ctx context.Context) {
	if !r.crowded() {
		return
	}
	r.lingering.Store(true)
	defer r.lingering.Store(false)
	over := time.NewTimer(linger)
	defer over.Stop()
	for r.crowded() {
		select {
		case <-r.wake:
		case <-over.C:
			return
		case <-r.quit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// send stores one report, however often that must be tried.
func (r *reporter) send(ctx context.Context, b *batch) bool {
	retry := backoff{}
	for {
		err := r.try(ctx, b)
		if err == nil {
			r.mu.Lock()
			r.members -= b.members()
			r.logBytes -= b.logBytes
			r.failing = false
			r.mu.Unlock()
			r.reported()
			return true
		}
		if errors.Is(err, engine.ErrAgentLost) {
			r.lose(err)
			return false
		}
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, engine.ErrRefused) && len(b.logs) > 0 {
			r.logger.Error("the last output of tasks cannot be stored and is dropped", "chunks", len(b.logs), "error", err)
			b.logs = nil
			continue
		}
		r.mu.Lock()
		r.failing = true
		r.mu.Unlock()
		r.logger.Warn("report is not stored yet; trying again", "members", b.members(), "error", err)
		if !retry.wait(ctx) {
			return false
		}
	}
}

func (r *reporter) try(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return r.session.Report(ctx, &b.report, b.logs, b.orders)
}
