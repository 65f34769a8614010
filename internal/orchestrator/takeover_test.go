package orchestrator

import (
	"slices"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// delayed is a specification whose task is tried again after a while.
func delayed(id string, delay float64) *workflow.TaskSpec {
	spec := task(id)
	spec.Retries = workflow.Retries{Count: 5, DelaySeconds: delay}
	return spec
}

func TestTakeoverDispatchesWhatWasInMemoryOnly(t *testing.T) {
	w := started(t)
	ids := w.submit(fan(1000, task("a")), fan(10, task("b")))
	w.settle()
	if len(w.table()) != leastWindow {
		t.Fatalf("%d members are in the table", len(w.table()))
	}
	w.open()
	w.tick()
	w.settle()
	w.balanced()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 500})
	h.work()
	for _, id := range ids {
		w.ends(id, workflow.RunCompleted)
	}
	for member, times := range w.dispatches() {
		if times != 1 {
			t.Errorf("%+v is dispatched %d times", member, times)
		}
	}
	w.atRest()
}

func TestTakeoverHeedsUnreadMail(t *testing.T) {
	// The ends don't fit into one change, so that a delivery is gone while some of its ends are in the mail.
	w := cutWorld(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 20})
	ids := w.submit(fan(8, task("a")), fan(1, task("b")))
	w.settle()
	held := h.claim(9)
	last := slices.IndexFunc(held, func(member workflow.Member) bool { return member.Run == ids[1] })
	shared := held[last]
	held = slices.Delete(held, last, last+1)
	slices.Reverse(held) // those that share a delivery with the other run come last
	h.end(workflow.TaskCompleted, held...)
	h.end(workflow.TaskCompleted, shared) // says that the delivery is done
	w.after = once(errDoubt, func(_ string, commit *engine.Commit) bool { return commit != nil && len(commit.Remove) > 0 })
	for w.turn() == nil {
		if !w.loop.busy() {
			t.Fatalf("no commit removes the delivery")
		}
	}
	w.after = nil
	if table := w.table(); slices.Contains(table, held[7]) || !slices.Contains(table, held[0]) {
		t.Fatalf("the table holds %+v", table)
	}
	w.open()
	w.tick()
	w.settle()
	for _, id := range ids {
		w.ends(id, workflow.RunCompleted)
	}
	for member, times := range w.dispatches() {
		if times != 1 {
			t.Errorf("%+v is dispatched %d times", member, times)
		}
	}
	w.atRest()
}

func TestTimersOutliveATakeoverAndFireOnce(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(fan(1, delayed("a", 10)))[0]
	w.settle()
	h.end(workflow.TaskFailed, h.claim(1)...)
	w.settle()
	w.open()
	w.settle()
	for range 7 {
		w.tick()
		w.settle()
	}
	if members := h.claim(1); len(members) > 0 {
		t.Fatalf("the retry is early: %+v", members)
	}
	for range 6 {
		w.tick()
		w.settle()
	}
	members := h.claim(9)
	if len(members) != 1 || members[0].Attempt != 2 {
		t.Fatalf("when the delay is over, %+v are claimed", members)
	}
	h.end(workflow.TaskCompleted, members...)
	w.settle()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

func TestTakeoverOfARunWithSeveralDueTimers(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	plan := fan(leastWindow+50, delayed("a", 1))
	id := w.submit(plan)[0]
	w.settle()
	h.end(workflow.TaskFailed, h.claim(4)...)
	w.settle()
	w.now = w.now.Add(time.Minute) // they are all due when the next one takes over
	w.open()
	w.tick()
	w.settle()
	w.balanced()
	if len(w.loop.runs) != 1 || w.loop.nodes != leastWindow+50 {
		t.Errorf("%d runs with %d nodes are in memory", len(w.loop.runs), w.loop.nodes)
	}
	h.work()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

// What is due much later is told by a tick, and takes no memory until then.
func TestOnlyTimersThatAreDueSoonAreInMemory(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	late := w.start(planOf("a"), workflow.RunOptions{TimeoutSeconds: 86_400})
	for range 20 {
		w.start(planOf("b"), workflow.RunOptions{TimeoutSeconds: 86_400})
	}
	w.settle()
	timers := &w.loop.timers
	if len(timers.heap)+len(timers.due) > 0 {
		t.Errorf("in memory are %+v", timers)
	}
	for _, member := range h.claim(100) {
		if member.Run != late {
			h.end(workflow.TaskCompleted, member)
		}
	}
	w.settle()
	w.now = w.now.Add(24*time.Hour - 2*time.Second)
	w.tick()
	w.settle()
	w.ends(late, workflow.RunRunning)
	w.tick()
	w.settle()
	if stop := w.loop.runs[late].run.Stop; stop != workflow.CauseRunTimeout {
		t.Errorf("the run ends for %v", stop)
	}
	for _, order := range h.orders() {
		h.end(workflow.TaskCancelled, order)
	}
	w.settle()
	w.ends(late, workflow.RunFailed)
	w.atRest()
}

func TestTimersOfEndedRunsAreForgotten(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(fan(3, delayed("a", 5)))[0]
	w.settle()
	h.end(workflow.TaskFailed, h.claim(3)...)
	w.settle()
	w.cancel(id)
	w.settle()
	w.ends(id, workflow.RunCancelled)
	for range 10 {
		w.tick()
	}
	w.settle()
	timers := &w.loop.timers
	if len(timers.heap)+len(timers.due) > 0 {
		t.Fatalf("after the run ended, its timers stay: %+v", timers)
	}
	w.atRest()
}

func TestTimerOfARunThatLeftMemory(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(fan(1, delayed("a", 5)))[0]
	w.settle()
	h.end(workflow.TaskFailed, h.claim(1)...)
	w.settle()
	w.leave(id)
	w.now = w.now.Add(10 * time.Second)
	w.settle() // it fires here, and the run is not there
	w.tick()
	h.work()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

// leave lets a run leave memory, as if that were scarce.
func (w *world) leave(ids ...workflow.RunID) {
	w.Helper()
	for _, id := range ids {
		e := w.loop.runs[id]
		if e == nil || e.queued || e.more || len(e.events)+len(e.queues)+len(e.missing) > 0 {
			w.Fatalf("the run can't leave memory: %+v", e)
		}
		w.loop.drop(e)
	}
}

func TestRunsThatLeftMemoryComeBack(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 50})
	ids := w.submit(planOf("a", "b: a"), planOf("a", "b: a"), planOf("a", "b: a"))
	w.settle()
	held := h.claim(2) // of the delivery of three
	w.leave(ids...)
	h.end(workflow.TaskCompleted, held[0])
	h.handBack(held[1])
	w.settle()
	if w.loop.runs[ids[0]] == nil || w.loop.runs[ids[1]] == nil || w.loop.runs[ids[2]] != nil {
		t.Errorf("not exactly the runs with mail are in memory: %+v", w.loop.runs)
	}
	// The third is cancelled, and withdrawn members of others find home.
	w.cancel(ids[2])
	w.settle()
	h.work()
	w.ends(ids[0], workflow.RunCompleted)
	w.ends(ids[1], workflow.RunCompleted)
	w.ends(ids[2], workflow.RunCancelled)
	w.atRest()
}

func TestWithdrawnMembersOfRunsThatLeftMemoryComeHome(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 50})
	ids := w.submit(fan(2, task("a")), fan(2, task("a")), fan(2, task("a")))
	w.settle()
	w.leave(ids...)
	w.cancel(ids[1])
	w.settle()
	w.ends(ids[1], workflow.RunCancelled)
	w.balanced()
	for member, times := range w.dispatches() {
		if want := 2; member.Run != ids[1] && times != want {
			t.Errorf("%+v was dispatched %d times, should be %d", member, times, want)
		}
	}
	h.work()
	w.ends(ids[0], workflow.RunCompleted)
	w.ends(ids[2], workflow.RunCompleted)
	w.atRest()
}

func TestQuietRunsLeaveMemory(t *testing.T) {
	w := started(t)
	ids := w.submit(fan(1000, task("a")), fan(2, task("b")))
	w.settle()
	w.loop.nodes += keptNodes // as if others were there
	w.loop.turns += 200
	w.tick()
	if w.loop.runs[ids[0]] == nil {
		t.Errorf("a run left memory though members of it wait there")
	}
	w.loop.nodes = 0
	for _, e := range w.loop.runs {
		w.loop.nodes += len(e.run.Nodes)
	}
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 2000})
	h.work()
	w.atRest()
}

func TestDepthIsTrueAfterMemoryWasRebuilt(t *testing.T) {
	w := started(t)
	id := w.submit(fan(1000, task("a")))[0]
	w.settle()
	w.tick()
	w.settle()
	if queue := w.queue(); queue.Depth != 1000 {
		t.Fatalf("the depth is %d, should be 1000", queue.Depth)
	}
	// The run fails in a way that empties memory.
	w.poison(id)
	w.cancel(id)
	w.settle()
	w.before = nil
	w.ends(id, workflow.RunFailed)
	w.tick()
	w.settle()
	if queue := w.queue(); queue.Depth != 0 {
		t.Fatalf("nothing waits any more, and the depth is %d", queue.Depth)
	}
	w.atRest()
}

func TestWindowStaysWhenMemoryIsRebuilt(t *testing.T) {
	w := started(t)
	w.hire(engine.AgentInfo{ID: "one", Slots: 1000})
	w.tick()
	w.before = once(errDoubt, func(call string, _ *engine.Commit) bool { return call == "Commit" })
	id := w.submit(fan(3000, task("a")))[0]
	var doubt error
	for doubt == nil {
		doubt = w.turn()
	}
	w.settle()
	if table := w.table(); len(table) != 2000 {
		t.Fatalf("%d members are in the table, should be 2000: the agents live on", len(table))
	}
	if w.loop.runs[id] == nil || slices.Contains([]int{0}, len(w.loop.runs)) {
		t.Fatalf("the run is not in memory")
	}
}
