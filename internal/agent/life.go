package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// fenceBeats is after how many intervals without an acknowledged beat an agent kills its tasks:
	// before the cluster declares it dead, which takes three.
	fenceBeats = 2.5
	// orderEvery bounds how often an agent that is full beats because somebody woke it.
	orderEvery = 250 * time.Millisecond
	// The time that tasks get between SIGTERM and SIGKILL: normally, when the
	// registration is lost, and when the agent stops at once.
	killGrace  = 10 * time.Second
	fenceGrace = time.Second
	stopGrace  = 800 * time.Millisecond

	// After the agent was told to stop at once, a claim under way may still be answered
	// within lastClaim, tasks have until killedBy to be gone, and all else until downBy.
	lastClaim = 300 * time.Millisecond
	killedBy  = 1200 * time.Millisecond
	downBy    = 1800 * time.Millisecond
	// When the registration is lost, it waits so long for processes that SIGKILL does not end,
	// and so long for the last reports.
	lostKilledBy = 5 * time.Second
	lastReport   = time.Second
)

var (
	errFenced     = errors.New("no heartbeat was acknowledged for 2.5 intervals")
	errKeeperLost = errors.New("the process that keeps the tasks died")
)

// life is one registration of an agent, with all that it holds.
type life struct {
	agent    *Agent
	session  engine.AgentSession
	runner   runner
	slots    slots
	reporter *reporter
	logs     *logWriter
	interval time.Duration

	poke     chan struct{} // a slot is free, or a report was stored
	stopping chan struct{} // closed: all tasks must end, and are handed back
	lost     chan struct{} // closed: all tasks must end, and are forgotten
	lostOnce sync.Once
	lostErr  error        // why, once lost is closed
	acked    atomic.Int64 // when the last acknowledged beat was sent, since began
	began    time.Time
	fence    *time.Timer
	working  sync.WaitGroup // slots' goroutines

	calls       context.Context // of claims and beats
	cancelCalls context.CancelFunc
	reports     context.Context // of reports and logs
	endReports  context.CancelFunc

	// Of the life's own goroutine.
	due       bool      // there may be something to claim
	rung      bool      // the agent woke up, perhaps for an order
	heard     time.Time // when orders were last read
	beat      *time.Timer
	beatAt    time.Time
	poll      *time.Timer
	line      line
	stale     *time.Timer // the oldest that waits is handed back
	failed    backoff     // of claims
	batch     []*task     // of inline tasks
	leaving   []leaving
	drainOver <-chan time.Time
	draining  bool
}

// newLife begins a life; registering, at the time began, was its first beat.
func newLife(a *Agent, session engine.AgentSession, began time.Time) *life {
	l := &life{
		agent: a, session: session, interval: a.options.Info.HeartbeatInterval, began: began,
		slots: slots{size: a.options.Info.Slots, booked: newBookings(a.host)},
		poke:  make(chan struct{}, 1), stopping: make(chan struct{}), lost: make(chan struct{}),
		due: true,
	}
	l.calls, l.cancelCalls = context.WithCancel(context.Background())
	l.reports, l.endReports = context.WithCancel(context.Background())
	l.reporter = newReporter(session, a.logger, l.lose, func() { signal(l.poke) }, l.slots.crowded)
	l.logs = newLogWriter(session, a.logger, l.lose)
	return l
}

// run works until the agent stops or the life is lost, and leaves nothing behind.
func (l *life) run(ctx context.Context) error {
	defer l.cancelCalls()
	defer l.endReports()

	runner, err := l.agent.options.Executor.open(l)
	if err != nil {
		return errors.Join(fmt.Errorf("prepare to run tasks: %w", err), l.closeSession(downBy))
	}
	l.runner = runner
	defer runner.close()
	l.agent.options.onLife(l)

	l.fence = time.AfterFunc(l.untilFenced(), func() { l.lose(errFenced) })
	defer l.fence.Stop()
	go l.reporter.run(l.reports)
	go l.logs.run(l.reports)
	// A claim under way when the agent is stopped may still be answered: then what it
	// took can be handed back.
	unhook := context.AfterFunc(ctx, func() { time.AfterFunc(lastClaim, l.cancelCalls) })
	defer unhook()

	l.work(ctx)
	l.finish(ctx)
	return nil
}

// work claims and beats until the agent stops or the life is lost.
func (l *life) work(ctx context.Context) {
	l.heard, l.beatAt = time.Now(), time.Now().Add(l.interval)
	l.beat, l.poll, l.stale = time.NewTimer(l.interval), time.NewTimer(l.session.Poll()), time.NewTimer(time.Hour)
	l.stale.Stop()
	defer l.beat.Stop()
	defer l.poll.Stop()
	defer l.stale.Stop()
	always := make(chan struct{})
	close(always)
	drain := l.agent.drain
	for {
		if l.draining && l.slots.busy() == 0 {
			return
		}
		var claim chan struct{}
		want, slack := 0, 0
		if l.due && !l.draining && !l.reporter.full() {
			if want, slack = l.slots.room(); want > 0 {
				claim = always
			}
		}
		if l.rung && claim == nil {
			l.beatSoon()
		}
		select {
		case <-ctx.Done():
			return
		case <-l.lost:
			return
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-l.lost:
			return
		case <-claim:
			l.claim(ctx, want, slack)
		case <-l.session.Wake():
			l.due, l.rung = true, true
		case <-l.poll.C:
			l.due, l.rung = true, true
			l.poll.Reset(l.session.Poll())
		case <-l.poke:
			if l.slots.freed.Load() {
				l.due = true
			}
		case <-l.beat.C:
			l.sendBeat()
		case <-l.stale.C:
			l.giveBack(l.slots.stale(time.Now().Add(-tooLong)))
			l.watchWaiting()
		case <-drain:
			drain, l.draining = nil, true
			l.drainOver = time.After(l.agent.options.ShutdownGrace)
			l.giveBack(l.slots.close())
		case <-l.drainOver:
			return
		}
	}
}

// claim takes work, and starts what has a free slot. When the agent was stopped
// meanwhile nothing starts any more.
func (l *life) claim(stop context.Context, want, slack int) {
	if l.expired() {
		return
	}
	ctx, cancel := context.WithTimeout(l.calls, l.interval)
	defer cancel()
	claim, err := l.session.Claim(ctx, want, slack, l.offer(ctx))
	if err != nil {
		l.due = false
		pause := l.failed.next()
		l.poll.Reset(pause)
		switch {
		case errors.Is(err, engine.ErrAgentLost):
			l.lose(err)
		case l.calls.Err() == nil:
			l.agent.logger.Warn("claim failed; trying again", "pause", pause, "error", err)
		}
		return
	}
	l.failed, l.rung, l.heard = backoff{}, false, time.Now()
	l.poll.Reset(l.session.Poll())
	members, reserving := l.hold(claim.Deliveries)
	l.due = members >= want || reserving
	l.obey(claim.Orders)
	if stop.Err() == nil {
		l.fill()
	}
}

// offer is what tasks may set aside that are claimed now.
func (l *life) offer(ctx context.Context) workflow.Resources {
	used, free, freed := l.slots.resources()
	l.line.freed = l.line.freed || freed
	if now := time.Now(); l.line.due(used, now) {
		first, found, err := l.session.First(ctx)
		switch {
		case err != nil:
			l.agent.logger.Warn("cannot see which task is first in line for resources", "error", err)
		case found && first.Waited >= l.agent.options.patience:
			l.line = line{looked: now, first: first.Resources}
		default:
			l.line = line{looked: now}
		}
	}
	return l.line.offer(free)
}

// hold takes deliveries over, and gives the number of their members, and whether any of them needs resources.
func (l *life) hold(deliveries []engine.ClaimedDelivery) (members int, reserving bool) {
	received := time.Now()
	for i := range deliveries {
		delivery := &deliveries[i]
		members += len(delivery.Tasks)
		h := &held{id: delivery.ID, replyTo: delivery.ReplyTo, claimedAt: delivery.ClaimedAt, received: received, left: len(delivery.Tasks)}
		tasks := make([]task, len(delivery.Tasks))
		for j := range tasks {
			tasks[j] = task{ClaimedTask: delivery.Tasks[j], held: h}
			if needs := tasks[j].Spec.Resources; !needs.IsZero() {
				reserving = true
				l.line.took(needs)
			}
		}
		if homeless := l.slots.add(tasks); len(homeless) > 0 {
			l.agent.logger.Error("tasks were claimed that there is no room for; they are handed back", "tasks", len(homeless))
			l.giveBack(homeless)
		}
	}
	return members, reserving
}

// fill starts what waits and has a free slot.
func (l *life) fill() {
	if l.runner.inline() {
		l.runInline()
		return
	}
	for t := l.slots.take(); t != nil; t = l.slots.take() {
		l.working.Add(1)
		go l.occupy(t)
	}
	l.watchWaiting()
}

// occupy runs tasks in one slot until none waits.
func (l *life) occupy(t *task) {
	defer l.working.Done()
	for t != nil {
		began := time.Now()
		out := l.runner.run(t)
		next, orders := l.slots.finish(t, time.Since(began))
		l.reporter.add(leaving{t, out, orders})
		signal(l.poke)
		if out.cleanUp != nil {
			out.cleanUp()
		}
		t = next
	}
}

// inlineBatch is how many tasks that take no time are reported together.
const inlineBatch = 256

func (l *life) runInline() {
	for {
		l.batch = l.slots.takeInline(l.batch[:0], inlineBatch)
		if len(l.batch) == 0 {
			return
		}
		for _, t := range l.batch {
			l.leaving = append(l.leaving, leaving{t, l.runner.run(t), nil})
		}
		l.reporter.add(l.leaving...)
		clear(l.leaving)
		clear(l.batch)
		l.leaving = l.leaving[:0]
	}
}

// watchWaiting sets the time at which the oldest task that waits is handed back.
func (l *life) watchWaiting() {
	if received, ok := l.slots.oldest(); ok {
		l.stale.Reset(time.Until(received.Add(tooLong)))
	}
}

// giveBack hands tasks back that never started.
func (l *life) giveBack(tasks []*task) {
	returns := make([]leaving, len(tasks))
	for i, t := range tasks {
		returns[i] = leaving{t, outcome{fate: returned}, t.orders}
	}
	l.reporter.add(returns...)
}

// obey carries out orders. One for a member that is not here is done with.
func (l *life) obey(orders []engine.Order) {
	var gone []int64
	for i := range orders {
		order := &orders[i]
		if order.Kind != engine.OrderKill {
			l.agent.logger.Warn("an order is not known to this version", "kind", order.Kind)
			gone = append(gone, order.ID)
			continue
		}
		switch here, waited := l.slots.kill(order); {
		case waited != nil:
			l.reporter.add(leaving{waited, outcome{result: cancelledBefore(waited.held.at(time.Now()))}, waited.orders})
		case !here:
			gone = append(gone, order.ID)
		}
	}
	l.reporter.acknowledge(gone)
}

// beatSoon lets the next beat come early, because it brings orders, which a full agent
// does not get by claims.
func (l *life) beatSoon() {
	l.rung = false
	if at := l.heard.Add(orderEvery); at.Before(l.beatAt) {
		l.nextBeat(at)
	}
}

func (l *life) nextBeat(at time.Time) {
	l.beatAt = at
	l.beat.Reset(time.Until(at))
}

// sendBeat tells that the agent lives.
func (l *life) sendBeat() {
	if l.expired() {
		return
	}
	sent := time.Now()
	ctx, cancel := context.WithTimeout(l.calls, l.interval)
	defer cancel()
	orders, err := l.session.Beat(ctx)
	switch {
	case err == nil:
		l.acked.Store(int64(sent.Sub(l.began)))
		l.fence.Reset(l.untilFenced())
		l.heard, l.rung = time.Now(), false
		l.nextBeat(sent.Add(l.interval))
		l.obey(orders)
	case errors.Is(err, engine.ErrAgentLost):
		l.lose(err)
	default:
		l.nextBeat(time.Now().Add(l.interval / 10))
		if l.calls.Err() == nil {
			l.agent.logger.Warn("heartbeat failed; trying again", "error", err)
		}
	}
}

func (l *life) untilFenced() time.Duration {
	limit := time.Duration(fenceBeats * float64(l.interval))
	return limit - (time.Since(l.began) - time.Duration(l.acked.Load()))
}

// expired tells that the agent has gone too long without a beat, and loses the life then. It is asked
// before anything is claimed or started, for a machine that froze wakes up anywhere.
func (l *life) expired() bool {
	if l.untilFenced() > 0 {
		return false
	}
	l.lose(errFenced)
	return true
}

// lose ends the life: at once all its tasks are told to end. It may be called by anyone, and often.
func (l *life) lose(err error) {
	l.lostOnce.Do(func() {
		l.lostErr = err
		close(l.lost)
		l.cancelCalls()
	})
}

// isLost tells whether the life is lost. lostErr may be read after it was true.
func (l *life) isLost() bool { return closed(l.lost) }

// finish ends all tasks, reports what there is to report, and takes the agent out of the cluster.
func (l *life) finish(ctx context.Context) {
	stopped := time.Now()
	waited := l.slots.close()
	killed, down := killedBy, downBy
	if l.isLost() {
		killed = lostKilledBy
		down = killed + lastReport
	} else {
		l.giveBack(waited)
		close(l.stopping)
	}
	gone := make(chan struct{})
	go func() {
		l.working.Wait()
		close(gone)
	}()
	deadline := time.NewTimer(killed)
	defer deadline.Stop()
	stop := ctx.Done()
wait:
	for {
		select {
		case <-gone:
			break wait
		case <-deadline.C:
			if busy := l.slots.busy(); busy > 0 {
				l.agent.logger.Error("tasks do not end although they were killed", "tasks", busy)
			}
			break wait
		case <-stop:
			// Stopped while it cleans up after a loss: there are two seconds for all.
			stop = nil
			if l.isLost() {
				deadline.Reset(killedBy)
				down = time.Since(stopped) + downBy
			}
		}
	}
	// What ended before the loss is true nevertheless; whether it still counts is not decided here.
	if l.isLost() {
		down = min(down, time.Since(stopped)+lastReport)
	}
	last := time.AfterFunc(down-time.Since(stopped)-lastClose, l.endReports)
	defer last.Stop()
	if l.isLost() && errors.Is(l.lostErr, engine.ErrAgentLost) {
		l.endReports()
	}
	close(l.logs.quit)
	close(l.reporter.quit)
	<-l.logs.done
	<-l.reporter.done
	l.endReports()
	if err := l.closeSession(max(down-time.Since(stopped), lastClose)); err != nil && !l.isLost() {
		l.agent.logger.Warn("agent could not take its leave; the cluster will notice", "error", err)
	}
}

// lastClose is the time that is kept for closing the session.
const lastClose = 200 * time.Millisecond

func (l *life) closeSession(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return l.session.Close(ctx)
}
