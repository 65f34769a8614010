package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/keeper"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestMain(m *testing.M) {
	keeper.MaybeMain()
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // keepers of a test with -race end at once
	os.Exit(m.Run())
}

// cluster is a backend in memory that checks what an agent does.
type cluster struct {
	poll time.Duration

	mu       sync.Mutex
	changed  sync.Cond
	wake     chan struct{}
	run      workflow.RunID
	node     int32
	delivery int64
	queue    []engine.ClaimedDelivery
	live     int64              // the incarnation that lives
	total    workflow.Resources // of the agent
	sessions int64
	buckets  map[int64]int // by delivery
	open     map[int64]int // deliveries claimed and not done: members left
	holds    map[workflow.Member]int64
	ends     map[workflow.Member]engine.End
	returns  map[workflow.Member]engine.Return
	lost     map[workflow.Member]bool
	told     map[workflow.Member]*engine.Report // by which report a member left
	closed   map[int64]*engine.Report           // by which a delivery was done
	orders   []engine.Order
	order    int64
	beats    int
	logs     map[workflow.Member][]engine.LogChunk
	outputs  map[string]workflow.Value // by task
	asked    [][]string                // of which outputs were wanted
	early    int                       // chunks that came by WriteLogs
	claimed  map[workflow.Member]engine.ClaimedTask
	graceful bool // no session may be closed that holds something
	broken   []string

	keepReturned bool // what was handed back unstarted is not queued again

	// Faults; they may be nil. An error is given after the work was done if done is set.
	fault func(call string) (err error, done bool)
}

func newCluster() *cluster {
	c := &cluster{
		poll: time.Second, wake: make(chan struct{}, 1), run: workflow.NewRunID(time.Now(), 7),
		claimed: map[workflow.Member]engine.ClaimedTask{}, buckets: map[int64]int{}, open: map[int64]int{}, holds: map[workflow.Member]int64{}, ends: map[workflow.Member]engine.End{},
		told: map[workflow.Member]*engine.Report{}, closed: map[int64]*engine.Report{},
		returns: map[workflow.Member]engine.Return{}, lost: map[workflow.Member]bool{}, logs: map[workflow.Member][]engine.LogChunk{},
	}
	c.changed.L = &c.mu
	return c
}

func (c *cluster) complain(format string, args ...any) {
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
}

// submit queues one delivery with a task for each specification.
func (c *cluster) submit(specs ...*workflow.TaskSpec) []workflow.Member {
	return c.submitRun(&engine.RunInfo{ID: c.run, DAG: "dag"}, specs...)
}

func (c *cluster) submitRun(run *engine.RunInfo, specs ...*workflow.TaskSpec) []workflow.Member {
	c.mu.Lock()
	c.delivery++
	d := engine.ClaimedDelivery{ID: c.delivery, ReplyTo: int(c.delivery % 3)}
	var members []workflow.Member
	for _, spec := range specs {
		c.node++
		m := workflow.Member{Run: run.ID, Node: c.node, Attempt: 1, Delivery: 1}
		members = append(members, m)
		d.Tasks = append(d.Tasks, engine.ClaimedTask{Member: m, Spec: spec, Run: run})
	}
	c.queue = append(c.queue, d)
	c.mu.Unlock()
	signal(c.wake)
	return members
}

func shell(command string) *workflow.TaskSpec {
	return &workflow.TaskSpec{TaskID: "task", Command: command, Queue: "default"}
}

// kill orders the member to be killed.
func (c *cluster) kill(m workflow.Member) int64 {
	c.mu.Lock()
	c.order++
	id := c.order
	c.orders = append(c.orders, engine.Order{ID: id, Kind: engine.OrderKill, Member: m})
	c.mu.Unlock()
	signal(c.wake)
	return id
}

// wait blocks until the condition holds; it is called with the lock held.
func (c *cluster) wait(t testing.TB, what string, condition func() bool) {
	t.Helper()
	limit := time.AfterFunc(30*time.Second, func() {
		c.mu.Lock()
		c.complain("waited too long: %s", what)
		c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer limit.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !condition() {
		if len(c.broken) > 0 {
			t.Fatalf("waiting for %s: %v", what, c.broken)
		}
		c.changed.Wait()
	}
}

func (c *cluster) end(t testing.TB, m workflow.Member) engine.End {
	t.Helper()
	c.wait(t, fmt.Sprintf("the end of node %d", m.Node), func() bool { _, ok := c.ends[m]; return ok })
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ends[m]
}

// output is what was kept of a stream.
func (c *cluster) output(m workflow.Member, stream engine.Stream) (text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, chunk := range c.sorted(m) {
		if chunk.Stream == stream {
			text = append(text, chunk.Body...)
		}
	}
	return text
}

func (c *cluster) sorted(m workflow.Member) []engine.LogChunk {
	m.Delivery = 0
	chunks := slices.Clone(c.logs[m])
	slices.SortFunc(chunks, func(a, b engine.LogChunk) int { return int(a.Seq - b.Seq) })
	return chunks
}

// check fails the test if the agent broke a rule.
func (c *cluster) check(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, broken := range c.broken {
		t.Error(broken)
	}
}

// checkEmpty also checks that nothing is left at any agent.
func (c *cluster) checkEmpty(t testing.TB) {
	t.Helper()
	c.check(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.holds) > 0 || len(c.open) > 0 {
		t.Errorf("not reported: %d members, deliveries %v", len(c.holds), slices.Collect(maps.Keys(c.open)))
	}
}

func (c *cluster) openSession(_ context.Context, info engine.AgentInfo) (engine.AgentSession, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total = info.Resources
	if _, err := c.failing("open"); err != nil {
		return nil, err
	}
	c.sessions++
	c.live = c.sessions
	c.changed.Broadcast()
	return &session{c, c.live}, nil
}

func (c *cluster) failing(call string) (done bool, err error) {
	if c.fault != nil {
		err, done = c.fault(call)
	}
	return done, err
}

// expectReturns ends all faults: from now on an agent that stops hands back all that it holds.
func (c *cluster) expectReturns() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault, c.graceful = nil, true
}

// declareDead is what the cluster does with an agent that does not beat.
func (c *cluster) declareDead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loseAll(c.live)
}

func (c *cluster) loseAll(incarnation int64) {
	if c.live != incarnation {
		return
	}
	c.live = 0
	for m := range c.holds {
		c.lost[m] = true
	}
	clear(c.holds)
	clear(c.open)
	c.changed.Broadcast()
	signal(c.wake)
}

type session struct {
	c           *cluster
	incarnation int64
}

func (s *session) Incarnation() int64    { return s.incarnation }
func (s *session) Wake() <-chan struct{} { return s.c.wake }
func (s *session) Poll() time.Duration   { return s.c.poll }

// call does work unless a fault or the agent's death prevents it.
func (s *session) call(ctx context.Context, name string, work func()) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	done, err := c.failing(name)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !done:
		return err
	case c.live != s.incarnation:
		return engine.ErrAgentLost
	}
	work()
	return err
}

func (s *session) Claim(ctx context.Context, want, slack int, free workflow.Resources) (claim engine.Claim, err error) {
	c := s.c
	err = s.call(ctx, "claim", func() {
		if want <= 0 {
			c.complain("a claim of %d tasks", want)
		}
		claim.Orders = slices.Clone(c.orders)
		for at := 0; want > 0 && at < len(c.queue); {
			d := c.queue[at]
			needs := d.Tasks[0].Spec.Resources
			if !needs.Fit(free) {
				at++
				continue
			}
			free = free.Minus(needs)
			c.queue = slices.Delete(c.queue, at, at+1)
			if len(d.Tasks) > want+slack {
				rest := d
				rest.Tasks = d.Tasks[want:]
				d.Tasks = d.Tasks[:want:want]
				c.delivery++
				d.ID = c.delivery
				c.queue = slices.Insert(c.queue, at, rest)
			}
			want -= len(d.Tasks)
			d.ClaimedAt = time.Now()
			c.open[d.ID], c.buckets[d.ID] = len(d.Tasks), d.ReplyTo
			for _, t := range d.Tasks {
				if _, ok := c.holds[t.Member]; ok {
					c.complain("node %d is claimed twice", t.Node)
				}
				c.holds[t.Member] = d.ID
				c.claimed[t.Member] = t
			}
			claim.Deliveries = append(claim.Deliveries, d)
		}
	})
	return claim, err
}

// First thinks that what is first has waited for a day.
func (s *session) First(ctx context.Context) (first engine.FirstWaiting, found bool, err error) {
	c := s.c
	err = s.call(ctx, "first", func() {
		for _, d := range c.queue {
			if needs := d.Tasks[0].Spec.Resources; !needs.IsZero() && needs.Fit(c.total) {
				first, found = engine.FirstWaiting{Resources: needs, Waited: 24 * time.Hour}, true
				return
			}
		}
	})
	return first, found, err
}

func (s *session) Beat(ctx context.Context) (orders []engine.Order, err error) {
	err = s.call(ctx, "beat", func() {
		s.c.beats++
		orders = slices.Clone(s.c.orders)
	})
	return orders, err
}

func (s *session) Report(ctx context.Context, report *engine.Report, logs []engine.LogChunk, orders []int64) error {
	c := s.c
	return s.call(ctx, "report", func() {
		c.orders = slices.DeleteFunc(c.orders, func(o engine.Order) bool { return slices.Contains(orders, o.ID) })
		if report.Agent != s.incarnation {
			c.complain("a report of incarnation %d from %d", report.Agent, s.incarnation)
		}
		c.keep(logs)
		for _, end := range report.Ends {
			if s.leave(report, end.Member, "end") {
				c.ends[first(end.Member)] = end
			}
			if end.Started && (end.StartTime.IsZero() || end.EndTime.Before(end.StartTime)) || end.EndTime.IsZero() {
				c.complain("node %d ran from %v to %v", end.Node, end.StartTime, end.EndTime)
			}
			if end.Status != workflow.TaskCompleted && end.Reason == "" {
				c.complain("node %d ended without a reason: %v", end.Node, end.Status)
			}
		}
		for _, back := range report.Returns {
			if s.leave(report, back.Member, "return") {
				c.returns[first(back.Member)] = back
				if !back.Started && !c.graceful && !c.keepReturned {
					c.requeue(back.Member)
				}
			}
		}
		for _, id := range report.Done {
			if left, ok := c.open[id]; ok && left > 0 {
				c.complain("delivery %d is done with %d members left", id, left)
			} else if !ok && c.closed[id] != report {
				c.complain("delivery %d is done twice", id)
			}
			delete(c.open, id)
			c.closed[id] = report
		}
		for id, left := range c.open {
			if left == 0 {
				c.complain("delivery %d has no members left and is not done", id)
			}
		}
	})
}

// first is the first delivery of a member, under which its end is found.
func first(m workflow.Member) workflow.Member {
	m.Delivery = 1
	return m
}

// requeue queues a member again, as a new delivery.
func (c *cluster) requeue(m workflow.Member) {
	task := c.claimed[m]
	task.Delivery++
	c.delivery++
	c.queue = append(c.queue, engine.ClaimedDelivery{ID: c.delivery, Tasks: []engine.ClaimedTask{task}})
	signal(c.wake)
}

// leave takes a member off the agent. The same report may come twice, after an error.
func (s *session) leave(report *engine.Report, m workflow.Member, how string) bool {
	c := s.c
	id, ok := c.holds[m]
	if !ok {
		if c.told[m] != report {
			c.complain("%s of node %d, which the agent does not hold", how, m.Node)
		}
		return false
	}
	if want := c.buckets[id]; report.ReplyTo != want {
		c.complain("node %d is reported to bucket %d, not %d", m.Node, report.ReplyTo, want)
	}
	c.told[m] = report
	delete(c.holds, m)
	c.open[id]--
	return true
}

func (c *cluster) keep(logs []engine.LogChunk) {
	for _, chunk := range logs {
		key := workflow.Member{Run: chunk.Run, Node: chunk.Node, Attempt: chunk.Attempt}
		if len(chunk.Body) == 0 || len(chunk.Body) > 64<<10 {
			c.complain("a chunk of %d bytes", len(chunk.Body))
		}
		twice := slices.ContainsFunc(c.logs[key], func(other engine.LogChunk) bool { return other.Seq == chunk.Seq })
		if !twice {
			c.logs[key] = append(c.logs[key], chunk)
		} else if c.fault == nil {
			c.complain("chunk %d of node %d came twice", chunk.Seq, chunk.Node)
		}
	}
}

func (s *session) Outputs(ctx context.Context, _ workflow.RunID, tasks []string) (found map[string]workflow.Value, err error) {
	err = s.call(ctx, "outputs", func() {
		s.c.asked = append(s.c.asked, tasks)
		found = map[string]workflow.Value{}
		for _, task := range tasks {
			if output, ok := s.c.outputs[task]; ok {
				found[task] = output
			}
		}
	})
	return found, err
}

func (s *session) LiveRuns(ctx context.Context, _ []workflow.RunID) (live []workflow.RunID, err error) {
	return nil, s.call(ctx, "live runs", func() {})
}

func (s *session) WriteLogs(ctx context.Context, logs []engine.LogChunk) error {
	return s.call(ctx, "logs", func() {
		s.c.early += len(logs)
		s.c.keep(logs)
	})
}

func (s *session) Close(context.Context) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.graceful && s.c.live == s.incarnation && len(s.c.holds) > 0 {
		s.c.complain("a session is closed with %d members", len(s.c.holds))
	}
	s.c.loseAll(s.incarnation)
	return nil
}

var errDown = errors.New("the database is down")

// running is an agent that runs.
type running struct {
	*Agent
	life atomic.Pointer[life] // the newest
	stop func()
	done chan error
}

// startAgent runs an agent until the test ends.
func startAgent(t testing.TB, c *cluster, change ...func(*Options)) *running {
	t.Helper()
	options := Options{
		Open: c.openSession, Info: engine.AgentInfo{ID: "agent-1", Slots: 4},
		ShutdownGrace: 10 * time.Second, WorkDir: t.TempDir(), CleanupTempFiles: true,
		Logger: slog.New(slog.DiscardHandler),
	}
	r := &running{done: make(chan error, 1)}
	options.onLife = func(l *life) { r.life.Store(l) }
	for _, f := range change {
		f(&options)
	}
	a, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.Agent, r.stop = a, cancel
	go func() {
		r.done <- a.Run(ctx)
		close(r.done)
	}()
	t.Cleanup(func() {
		cancel()
		r.wait(t)
	})
	return r
}

// wait waits until Run returned.
func (r *running) wait(t testing.TB) {
	t.Helper()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not return")
	}
}
