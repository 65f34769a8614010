package orchestrator

import (
	"slices"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestCancelOfWhatWaitsInMemory(t *testing.T) {
	w := started(t)
	ids := w.submit(fan(1000, task("a")), fan(10, task("b")))
	w.settle()
	w.cancel(ids[0])
	w.settle()
	w.ends(ids[0], workflow.RunCancelled)
	w.balanced()
	h := w.hire(engine.AgentInfo{ID: "one"})
	h.work()
	w.ends(ids[1], workflow.RunCompleted)
	w.atRest()
}

func TestCancelInTheQueueReturnsOthersOnce(t *testing.T) {
	w := started(t)
	ids := w.submit(fan(3, task("a")), fan(3, task("a")))
	w.settle() // all six share a delivery
	w.cancel(ids[0])
	w.settle()
	w.ends(ids[0], workflow.RunCancelled)
	if table := w.table(); len(table) != 3 || table[0].Run != ids[1] {
		t.Fatalf("the table holds %+v", table)
	}
	for member, times := range w.dispatches() {
		if want := map[bool]int{true: 1, false: 2}[member.Run == ids[0]]; times != want {
			t.Errorf("%+v is dispatched %d times, should be %d", member, times, want)
		}
	}
	h := w.hire(engine.AgentInfo{ID: "one"})
	h.work()
	w.ends(ids[1], workflow.RunCompleted)
	w.atRest()
}

func TestCancelOfWhatIsClaimedOrdersKills(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	ids := w.submit(fan(5, task("a")))
	w.settle()
	held := h.claim(2)
	w.cancel(ids[0])
	w.settle()
	if view := w.view(ids[0]); view.Status != workflow.RunRunning || view.CancelTime.IsZero() {
		t.Fatalf("while tasks are being killed, the run is %+v", view)
	}
	orders := h.orders()
	slices.SortFunc(orders, func(a, b workflow.Member) int { return int(a.Node - b.Node) })
	if !slices.Equal(orders, held) {
		t.Fatalf("the orders are to kill %+v, should be %+v", orders, held)
	}
	if table := w.table(); len(table) != 2 {
		t.Fatalf("the table holds %+v", table)
	}
	h.end(workflow.TaskCancelled, held[0])
	h.end(workflow.TaskCompleted, held[1]) // it was quicker
	w.settle()
	w.ends(ids[0], workflow.RunCancelled)
	if view := w.view(ids[0]); view.CompletedTasks != 1 {
		t.Errorf("the run is %+v", view)
	}
	w.atRest()
}

func TestCancelBeforeTheStart(t *testing.T) {
	w := started(t)
	ids := w.submit(planOf("a", "b: a"))
	w.cancel(ids[0])
	w.cancel(ids[0])
	w.settle()
	w.ends(ids[0], workflow.RunCancelled)
	if counts := w.dispatches(); len(counts) > 0 {
		t.Errorf("%+v were dispatched", counts)
	}
	w.atRest()
}

func TestCancelOfAnUnknownRunIsAnswered(t *testing.T) {
	w := started(t)
	ids := w.submit(planOf("a"), planOf("a"))
	h := w.hire(engine.AgentInfo{ID: "one"})
	w.settle()
	w.cancel(ids[0]) // it ends before this is read
	h.end(workflow.TaskCompleted, h.claim(2)...)
	w.settle()
	w.cancelAnyway(ids[1])
	w.settle()
	w.ends(ids[1], workflow.RunCompleted)
	w.atRest()
}

// cancelAnyway sends a cancel that comes too late, if the backend takes it.
func (w *world) cancelAnyway(id workflow.RunID) { _ = w.backend.Cancel(w.ctx, id, "ann") }

func TestCancelThatIsCutIsResumed(t *testing.T) {
	w := newWorld(t)
	w.options.Limits = workflow.Limits{Rows: 3, MaxRescues: 3}
	w.open()
	w.tick()
	h := w.hire(engine.AgentInfo{ID: "one"})
	ids := w.submit(fan(20, task("a")), fan(20, task("a")))
	w.settle()
	held := slices.DeleteFunc(h.claim(6), func(member workflow.Member) bool { return member.Run != ids[0] })
	w.cancel(ids[0])
	for range 3 {
		w.must(w.turn(), "turn")
	}
	w.open() // in the middle of it
	w.tick()
	w.settle()
	orders := h.orders()
	for _, member := range held {
		if !slices.Contains(orders, member) {
			t.Errorf("nobody tells the agent to kill %+v", member)
		}
	}
	h.end(workflow.TaskCancelled, held...)
	w.settle()
	w.ends(ids[0], workflow.RunCancelled)
	for len(h.held) > 0 {
		h.end(workflow.TaskCompleted, h.held[0].Member)
	}
	h.work()
	w.ends(ids[1], workflow.RunCompleted)
	w.atRest()
}

// TestCancelOfAHugeRun would take minutes if its waiting tasks were looked through for each of them.
func TestCancelOfAHugeRun(t *testing.T) {
	w := started(t)
	ids := w.submit(fan(50_000, task("a")), fan(1, task("b")))
	w.settle()
	before := len(w.stored)
	w.cancel(ids[0])
	w.settle()
	w.ends(ids[0], workflow.RunCancelled)
	if commits := len(w.stored) - before; commits > 2*50_000/workflow.DefaultLimits.Rows+20 {
		t.Errorf("the cancel took %d commits", commits)
	}
	w.hire(engine.AgentInfo{ID: "one"}).work()
	w.ends(ids[1], workflow.RunCompleted)
	w.atRest()
}
