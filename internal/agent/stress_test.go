package agent

import (
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// counting checks that no more tasks run than there are slots.
type counting struct {
	Executor
	exceeded *atomic.Bool
}

type countingRunner struct {
	runner
	slots    int32
	now      atomic.Int32
	exceeded *atomic.Bool
}

func (e counting) open(l *life) (runner, error) {
	inner, err := e.Executor.open(l)
	return &countingRunner{runner: inner, slots: int32(l.slots.size), exceeded: e.exceeded}, err //nolint:gosec // small
}

func (r *countingRunner) run(t *task) outcome {
	if r.now.Add(1) > r.slots {
		r.exceeded.Store(true)
	}
	defer r.now.Add(-1)
	return r.runner.run(t)
}

// pretending takes a short time for a task, and obeys as a process does.
type pretending struct{ life *life }

func (pretending) open(l *life) (runner, error) { return pretending{l}, nil }
func (pretending) inline() bool                 { return false }
func (pretending) close()                       {}

func (p pretending) run(t *task) outcome {
	switch {
	case p.life.isLost():
		return outcome{fate: forgotten}
	case closed(p.life.stopping):
		return outcome{fate: returned}
	case closed(t.kill):
		return outcome{result: cancelledBefore(t.held.at(time.Now()))}
	}
	start := t.held.at(time.Now())
	result := workflow.Result{Status: workflow.TaskCompleted, Started: true, StartTime: start}
	timer := time.NewTimer(rand.N(3 * time.Millisecond))
	defer timer.Stop()
	fate := ended
	select {
	case <-timer.C:
	case <-t.kill:
		result.Status, result.Cause, result.Reason = workflow.TaskCancelled, workflow.CauseCancel, "cancelled"
	case <-p.life.stopping:
		fate = returned
	case <-p.life.lost:
		return outcome{fate: forgotten}
	}
	result.EndTime = t.held.at(time.Now())
	return outcome{fate: fate, result: result}
}

// For any interleaving of work, orders, faults, deaths and stops: each member that was claimed
// leaves the agent once, each delivery is done once, and slots are never exceeded.
func TestInterleavings(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		interleave(t, rt, map[string]Executor{"pretend": pretending{}, "noop": Noop()}[rapid.SampledFrom([]string{"pretend", "pretend", "noop"}).Draw(rt, "executor")], 40, "true")
	})
}

// The same with real processes.
func TestInterleavingsOfProcesses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		interleave(t, rt, Processes(), 25, "true", "exit 1", "sleep 0.02; echo out", "seq 1 30000", "sleep 1000", "trap '' TERM; sleep 0.3")
	})
}

func interleave(t *testing.T, rt *rapid.T, executor Executor, steps int, commands ...string) {
	c := newCluster()
	c.poll, c.keepReturned = 10*time.Millisecond, true
	var exceeded atomic.Bool
	failures := map[string]int{}
	after := false
	c.fault = func(call string) (error, bool) {
		if failures[call] > 0 {
			failures[call]--
			return errDown, after && call != "claim" && call != "open"
		}
		return nil, false
	}
	slots := rapid.IntRange(1, 5).Draw(rt, "slots")
	a := startAgent(t, c, func(o *Options) {
		o.Executor, o.Info.Slots = counting{executor, &exceeded}, slots
		o.Info.HeartbeatInterval, o.killGrace, o.ShutdownGrace = 2*time.Second, 20*time.Millisecond, 20*time.Millisecond
	})
	var members []workflow.Member
	for range rapid.IntRange(1, steps).Draw(rt, "steps") {
		switch rapid.IntRange(0, 9).Draw(rt, "step") {
		case 0, 1, 2, 3:
			var specs []*workflow.TaskSpec
			for range rapid.IntRange(1, 8).Draw(rt, "tasks") {
				specs = append(specs, shell(rapid.SampledFrom(commands).Draw(rt, "command")))
			}
			members = append(members, c.submit(specs...)...)
		case 4, 5:
			if len(members) > 0 {
				c.kill(rapid.SampledFrom(members).Draw(rt, "killed"))
			}
		case 6:
			c.mu.Lock()
			failures[rapid.SampledFrom([]string{"claim", "beat", "report", "logs", "open"}).Draw(rt, "call")] = 1
			after = rapid.Bool().Draw(rt, "after")
			c.mu.Unlock()
		case 7:
			if rapid.IntRange(0, 3).Draw(rt, "dead") == 0 {
				c.declareDead()
			}
		default: // let the agent get on
			pause := time.NewTimer(time.Duration(rapid.IntRange(0, 4000).Draw(rt, "pause")) * time.Microsecond)
			<-pause.C
		}
	}
	c.expectReturns()
	if rapid.Bool().Draw(rt, "drain") {
		a.Drain()
	} else {
		a.stop()
	}
	a.wait(t)
	c.checkEmpty(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	left := map[workflow.Member]bool{}
	for _, d := range c.queue {
		for _, task := range d.Tasks {
			left[task.Member] = true
		}
	}
	for _, m := range members {
		_, end := c.ends[m]
		_, back := c.returns[m]
		places := 0
		for _, there := range []bool{end, back, c.lost[m], left[m]} {
			if there {
				places++
			}
		}
		if places != 1 {
			t.Errorf("node %d: ended %v, returned %v, lost %v, in the queue %v", m.Node, end, back, c.lost[m], left[m])
		}
	}
	if exceeded.Load() {
		t.Error("more tasks ran than there are slots")
	}
	if t.Failed() {
		rt.FailNow()
	}
}

// An agent that stopped leaves neither goroutines nor open files.
func TestNoLeaks(t *testing.T) {
	use := func() {
		c := newCluster()
		a := startAgent(t, c)
		var members []workflow.Member
		for range 20 {
			members = append(members, c.submit(shell("echo out; echo err >&2"), shell("sleep 1000 & exit 1"), shell("\x00"))...)
		}
		for _, m := range members {
			c.end(t, m)
		}
		a.stop()
		a.wait(t)
		c.checkEmpty(t)
	}
	use() // what is made once and kept
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	use()
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		moreGoroutines, moreFiles := runtime.NumGoroutine()-goroutines, openFiles(t)-files
		if moreGoroutines <= 0 && moreFiles <= 0 {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d files more than before\n%s", moreGoroutines, moreFiles, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
