package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// waiting is a task that tells in a file that it runs, and then waits.
func waiting(dir, name string) (spec *workflow.TaskSpec, started func(testing.TB)) {
	path := filepath.Join(dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		panic(err)
	}
	return shell("echo up > " + path + "; sleep 1000"), func(t testing.TB) {
		t.Helper()
		if _, err := os.ReadFile(path); err != nil { // returns once the task wrote
			t.Fatal(err)
		}
	}
}

// stubborn is such a task that SIGTERM does not end.
func stubborn(dir, name string) (spec *workflow.TaskSpec, started func(testing.TB)) {
	spec, started = waiting(dir, name)
	spec.Command = "trap '' TERM; " + strings.Replace(spec.Command, "sleep 1000", "while :; do sleep 1; done", 1)
	return spec, started
}

func (c *cluster) returned(t testing.TB, m workflow.Member) engine.Return {
	t.Helper()
	c.wait(t, fmt.Sprintf("the return of node %d", m.Node), func() bool { _, ok := c.returns[m]; return ok })
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.returns[m]
}

func (c *cluster) setFault(fault func(call string) (error, bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = fault
}

func oneSlot(o *Options) { o.Info.Slots = 1 }

func TestKill(t *testing.T) {
	c := newCluster()
	startAgent(t, c, oneSlot, func(o *Options) { o.killGrace = 100 * time.Millisecond })
	for _, kind := range []func(string, string) (*workflow.TaskSpec, func(testing.TB)){waiting, stubborn} {
		spec, started := kind(t.TempDir(), "up")
		m := c.submit(spec)[0]
		started(t)
		c.kill(m)
		end := c.end(t, m)
		if end.Status != workflow.TaskCancelled || end.Cause != workflow.CauseCancel || !end.Started || *end.ExitCode < 129 {
			t.Errorf("ended as %+v", end)
		}
		c.wait(t, "the order to be done with", func() bool { return len(c.orders) == 0 })
	}
	c.checkEmpty(t)
}

func TestKillOfNobody(t *testing.T) {
	c := newCluster()
	startAgent(t, c)
	c.kill(workflow.Member{Run: c.run, Node: 99})
	c.wait(t, "the order to be done with", func() bool { return len(c.orders) == 0 })
	c.checkEmpty(t)
}

// A member that is claimed and waits for a slot never starts once it was ordered to be killed.
func TestKillBeforeStart(t *testing.T) {
	c := newCluster()
	dir := t.TempDir()
	a := startAgent(t, c, oneSlot)
	spec, started := waiting(dir, "up")
	first := c.submit(spec)[0]
	started(t)
	mark := filepath.Join(dir, "started")
	second := c.submit(shell("touch " + mark))[0]
	// Let it be claimed ahead of its slot, as a pace makes the agent do.
	l := a.life.Load()
	l.slots.mu.Lock()
	l.slots.pace = pace{mean: float64(time.Millisecond), known: true}
	l.slots.mu.Unlock()
	c.kill(second)
	end := c.end(t, second)
	if end.Status != workflow.TaskCancelled || end.Cause != workflow.CauseCancel || end.Started || end.ExitCode != nil {
		t.Errorf("ended as %+v", end)
	}
	c.kill(first)
	c.end(t, first)
	if _, err := os.Stat(mark); err == nil {
		t.Error("it was started")
	}
	c.checkEmpty(t)
}

// What was claimed ahead and finds no slot soon goes back to the queue.
func TestStaleIsHandedBack(t *testing.T) {
	c := newCluster()
	c.keepReturned = true
	a := startAgent(t, c, oneSlot)
	spec, started := waiting(t.TempDir(), "up")
	first := c.submit(spec)[0]
	started(t)
	l := a.life.Load()
	l.slots.mu.Lock()
	l.slots.pace = pace{mean: float64(time.Millisecond), known: true}
	l.slots.mu.Unlock()
	second := c.submit(shell("true"))[0]
	if back := c.returned(t, second); back.Started || !back.StartTime.IsZero() {
		t.Errorf("returned as %+v", back)
	}
	c.kill(first)
	c.end(t, first)
	c.checkEmpty(t)
}

func TestStop(t *testing.T) {
	c := newCluster()
	dir := t.TempDir()
	a := startAgent(t, c, func(o *Options) { o.Info.Slots = 2 })
	soft, softStarted := waiting(dir, "soft")
	hard, hardStarted := stubborn(dir, "hard")
	members := c.submit(soft, hard)
	softStarted(t)
	hardStarted(t)
	began := time.Now()
	c.expectReturns()
	a.stop()
	a.wait(t)
	if took := time.Since(began); took > killGrace {
		t.Errorf("it took %v to stop", took)
	}
	for _, m := range members {
		back := c.returned(t, m)
		if !back.Started || back.StartTime.IsZero() || !back.EndTime.After(back.StartTime) {
			t.Errorf("returned as %+v", back)
		}
	}
	c.checkEmpty(t)
}

// Stopping takes no longer where the database does not answer.
func TestStopWhileDown(t *testing.T) {
	c := newCluster()
	a := startAgent(t, c)
	spec, started := stubborn(t.TempDir(), "up")
	c.submit(spec)
	started(t)
	c.setFault(func(string) (error, bool) { return errDown, false })
	began := time.Now()
	a.stop()
	a.wait(t)
	if took := time.Since(began); took > killGrace {
		t.Errorf("it took %v to stop", took)
	}
	c.check(t)
}

func TestDrain(t *testing.T) {
	c := newCluster()
	a := startAgent(t, c, oneSlot)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "go")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	m := c.submit(shell("cat " + fifo))[0]
	c.wait(t, "the claim", func() bool { return len(c.holds) == 1 })
	a.Drain()
	a.Drain()
	late := c.submit(shell("true"))[0]
	if err := os.WriteFile(fifo, []byte("go\n"), 0); err != nil { // blocks until the task reads
		t.Fatal(err)
	}
	a.wait(t)
	if end := c.end(t, m); end.Status != workflow.TaskCompleted {
		t.Errorf("ended as %+v", end)
	}
	if _, ok := c.ends[late]; ok {
		t.Error("a task was claimed after Drain")
	}
	c.checkEmpty(t)
}

func TestDrainBeyondGrace(t *testing.T) {
	c := newCluster()
	a := startAgent(t, c, func(o *Options) { o.ShutdownGrace = 50 * time.Millisecond })
	spec, started := waiting(t.TempDir(), "up")
	m := c.submit(spec)[0]
	started(t)
	a.Drain()
	a.wait(t)
	if back := c.returned(t, m); !back.Started {
		t.Errorf("returned as %+v", back)
	}
	c.checkEmpty(t)
}

func TestDrainIdle(t *testing.T) {
	c := newCluster()
	a := startAgent(t, c)
	c.wait(t, "the registration", func() bool { return c.sessions == 1 })
	a.Drain()
	a.wait(t)
	c.checkEmpty(t)
}

// However the agent learns that it was declared dead, it kills its tasks, forgets them and registers anew.
func TestLost(t *testing.T) {
	for _, call := range []string{"claim", "beat", "report", "logs"} {
		t.Run(call, func(t *testing.T) {
			c := newCluster()
			startAgent(t, c, func(o *Options) {
				o.Info.HeartbeatInterval = time.Minute
				if call == "beat" {
					o.Info.HeartbeatInterval = 500 * time.Millisecond // without a beat it fences itself after 2.5 of them: a machine may stall
				}
			})
			dir := t.TempDir()
			spec, started := waiting(dir, "up")
			pid := filepath.Join(dir, "pid")
			spec.Command = "echo $$ > " + pid + "; " + spec.Command
			m := c.submit(spec)[0]
			started(t)
			fifo := filepath.Join(dir, "go")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			c.submit(shell("read line < " + fifo + "; test $line = end || while :; do echo $line; sleep 0.1; done"))
			c.wait(t, "the claim", func() bool { return len(c.holds) == 2 })
			// Only this call may tell it.
			c.setFault(func(name string) (error, bool) {
				if name == call || name == "open" || c.sessions > 1 {
					return nil, false
				}
				return errDown, false
			})
			c.declareDead()
			if line := map[string]string{"report": "end\n", "logs": "go\n"}[call]; line != "" {
				if err := os.WriteFile(fifo, []byte(line), 0); err != nil {
					t.Fatal(err)
				}
			}
			c.wait(t, "a new registration", func() bool { return c.sessions >= 2 })
			text, err := os.ReadFile(pid)
			if err != nil {
				t.Fatal(err)
			}
			var number int
			if _, err := fmt.Sscan(string(text), &number); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(number, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("the task still runs after the new registration (%v)", err)
			}
			after := c.submit(shell("true"))[0]
			if end := c.end(t, after); end.Status != workflow.TaskCompleted || end.Agent < 2 {
				t.Errorf("ended as %+v", end)
			}
			if _, ok := c.ends[m]; ok {
				t.Error("a task of the lost registration was reported")
			}
			c.check(t)
		})
	}
}

// Without an acknowledged beat for 2.5 intervals the agent kills its own tasks.
func TestFence(t *testing.T) {
	c := newCluster()
	const interval = 200 * time.Millisecond
	startAgent(t, c, func(o *Options) { o.Info.HeartbeatInterval = interval })
	spec, started := waiting(t.TempDir(), "up")
	c.submit(spec)
	started(t)
	began := time.Now()
	c.setFault(func(call string) (error, bool) {
		if call == "beat" && c.sessions == 1 {
			return context.DeadlineExceeded, false
		}
		return nil, false
	})
	c.wait(t, "a new registration", func() bool { return c.sessions == 2 })
	if took := time.Since(began); took < interval {
		t.Errorf("it was fenced after %v", took)
	}
	c.mu.Lock()
	if len(c.lost) != 1 {
		t.Errorf("%d tasks were given up", len(c.lost))
	}
	c.mu.Unlock()
	c.end(t, c.submit(shell("true"))[0])
	c.checkEmpty(t)
}

// A call that hangs does not keep the agent from killing its tasks in time.
func TestFenceWhileClaimHangs(t *testing.T) {
	c := newCluster()
	var hang atomic.Bool
	startAgent(t, c, func(o *Options) {
		o.Info.HeartbeatInterval = 300 * time.Millisecond
		o.Open = func(ctx context.Context, info engine.AgentInfo) (engine.AgentSession, error) {
			hang.Store(false)
			s, err := c.openSession(ctx, info)
			return &hanging{s, &hang}, err
		}
	})
	spec, started := waiting(t.TempDir(), "up")
	m := c.submit(spec)[0]
	started(t)
	hang.Store(true)
	signal(c.wake)
	c.wait(t, "a new registration", func() bool { return c.sessions == 2 })
	c.mu.Lock()
	if !c.lost[m] {
		t.Error("the task was not given up")
	}
	c.mu.Unlock()
	c.end(t, c.submit(shell("true"))[0])
	c.checkEmpty(t)
}

// hanging does not answer while hang is set.
type hanging struct {
	engine.AgentSession
	hang *atomic.Bool
}

func (h *hanging) Claim(ctx context.Context, want, slack int, free workflow.Resources) (engine.Claim, error) {
	if h.hang.Load() {
		<-ctx.Done()
		return engine.Claim{}, ctx.Err()
	}
	return h.AgentSession.Claim(ctx, want, slack, free)
}

func (h *hanging) Beat(ctx context.Context) ([]engine.Order, error) {
	if h.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.AgentSession.Beat(ctx)
}

// While beats are acknowledged nothing is fenced.
func TestBeats(t *testing.T) {
	c := newCluster()
	startAgent(t, c, func(o *Options) { o.Info.HeartbeatInterval = 400 * time.Millisecond })
	spec, started := waiting(t.TempDir(), "up")
	c.submit(spec)
	started(t)
	c.wait(t, "some beats", func() bool { return c.beats >= 5 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.holds) != 1 || c.sessions != 1 {
		t.Errorf("%d tasks are held, after %d registrations", len(c.holds), c.sessions)
	}
}

// The death of the keeper costs the registration, so that the cluster counts it as a rescue.
func TestKeeperDies(t *testing.T) {
	c := newCluster()
	a := startAgent(t, c)
	spec, started := waiting(t.TempDir(), "up")
	m := c.submit(spec)[0]
	started(t)
	if err := syscall.Kill(a.life.Load().runner.(*processRunner).keeper.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.wait(t, "a new registration", func() bool { return c.sessions == 2 })
	c.end(t, c.submit(shell("true"))[0])
	c.mu.Lock()
	if !c.lost[m] {
		t.Error("the task was not given up")
	}
	c.mu.Unlock()
	c.checkEmpty(t)
}

// Reports are sent until they are stored, also when the answer got lost.
func TestReportIsRepeated(t *testing.T) {
	for _, done := range []bool{false, true} {
		c := newCluster()
		failures := 3
		c.fault = func(call string) (error, bool) {
			if call == "report" && failures > 0 {
				failures--
				return errDown, done
			}
			return nil, false
		}
		startAgent(t, c)
		members := c.submit(shell("echo out"), shell("exit 1"))
		for _, m := range members {
			c.end(t, m)
		}
		c.wait(t, "all reports", func() bool { return failures == 0 && len(c.open) == 0 })
		if out := string(c.output(members[0], engine.StreamStdout)); out != "out\n" {
			t.Errorf("output %q", out)
		}
		c.checkEmpty(t)
	}
}

// While reports fail the agent claims nothing.
func TestNoClaimsWhileReportsFail(t *testing.T) {
	c := newCluster()
	c.fault = func(call string) (error, bool) {
		if call == "report" {
			return errDown, false
		}
		return nil, false
	}
	startAgent(t, c, oneSlot)
	for range 100 {
		c.submit(shell("true"))
	}
	tries, held := 0, 0
	c.mu.Lock()
	c.fault = func(call string) (error, bool) {
		if call == "report" {
			if tries++; tries == 2 { // a claim may have been under way at the first
				held = len(c.holds)
			}
			return errDown, false
		}
		return nil, false
	}
	c.mu.Unlock()
	c.wait(t, "some tries", func() bool { return tries >= 5 })
	c.mu.Lock()
	if n := len(c.holds); n > held {
		t.Errorf("%d tasks are held, and %d more, although nothing can be reported", held, n-held)
	}
	c.mu.Unlock()
	c.setFault(nil)
	c.wait(t, "all ends", func() bool { return len(c.ends) == 100 })
	c.checkEmpty(t)
}

func TestRegistrationIsRepeated(t *testing.T) {
	c := newCluster()
	failures := 3
	c.fault = func(string) (error, bool) {
		if failures--; failures >= 0 {
			return errDown, false
		}
		return nil, false
	}
	startAgent(t, c)
	c.end(t, c.submit(shell("true"))[0])
	c.checkEmpty(t)
}

// Chains of tasks need no more than the wake, and a lost wake costs one poll.
func TestLostWake(t *testing.T) {
	c := newCluster()
	c.poll = 20 * time.Millisecond
	startAgent(t, c)
	c.wait(t, "the registration", func() bool { return c.sessions == 1 })
	for range 5 {
		m := c.submit(shell("true"))[0]
		select {
		case <-c.wake: // lose it, unless the agent was faster
		default:
		}
		c.end(t, m)
	}
	c.checkEmpty(t)
}
