package orchestrator

import (
	"slices"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestRunHasNoMoreInFlightThanItMay(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	limited := w.start(fan(40, task("a")), workflow.RunOptions{MaxParallel: 3})
	free := w.submit(fan(5, task("a")))[0]
	w.settle()
	done := map[workflow.RunID]int{}
	for rounds := 0; done[limited] < 40; rounds++ {
		members := h.claim(100)
		counts := map[workflow.RunID]int{}
		for _, member := range members {
			counts[member.Run]++
			done[member.Run]++
		}
		if counts[limited] != min(3, 40-done[limited]+counts[limited]) || rounds == 0 && counts[free] != 5 {
			t.Fatalf("in round %d, %d of the limited run are in flight, and %d of the other", rounds, counts[limited], counts[free])
		}
		switch {
		case rounds == 2:
			w.open() // what is in flight is counted again
			w.tick()
		case rounds == 4:
			h.handBack(members[0])
			done[limited]--
			members = members[1:]
		}
		h.end(workflow.TaskCompleted, members...)
		w.settle()
	}
	w.ends(limited, workflow.RunCompleted)
	w.atRest()
}

// What is in flight still counts when its run leaves memory and comes back.
func TestMaxParallelOfARunThatLeftMemory(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	id := w.start(planOf("a", "b", "c: a", "d: a"), workflow.RunOptions{MaxParallel: 2})
	w.settle()
	members := h.claim(100)
	w.loop.drop(w.loop.runs[id])
	h.end(workflow.TaskCompleted, members[slices.IndexFunc(members, func(member workflow.Member) bool { return member.Node == 0 })])
	w.settle()
	if more := h.claim(100); len(more) != 1 {
		t.Errorf("beside one that runs, %d may start", len(more))
	} else {
		h.end(workflow.TaskCompleted, more...)
	}
	h.end(workflow.TaskCompleted, members[slices.IndexFunc(members, func(member workflow.Member) bool { return member.Node == 1 })])
	h.work()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

func TestPausedRunStartsNothing(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 4})
	id := w.submit(append([]*workflow.Plan{}, fan(600, task("a")))...)[0]
	other := w.submit(fan(3, task("a")))[0]
	w.settle()
	held := h.claim(2)
	w.command(id, engine.CommandPause, workflow.RunNode)
	w.settle()
	w.ends(id, workflow.RunPaused)
	for _, member := range w.table() {
		if member.Run == id && member != held[0] && member != held[1] {
			t.Fatalf("%+v of the paused run is in the queue", member)
		}
	}
	if orders := h.orders(); len(orders) > 0 {
		t.Fatalf("what runs is killed: %+v", orders)
	}
	h.end(workflow.TaskCompleted, held...)
	w.settle()
	for _, member := range h.claim(100) {
		if member.Run != other {
			t.Fatalf("%+v starts", member)
		}
		h.end(workflow.TaskCompleted, member)
	}
	w.open()
	w.tick()
	w.settle()
	w.ends(id, workflow.RunPaused)
	if left := w.table(); len(left) > 0 {
		t.Fatalf("after a takeover %d members are in the queue", len(left))
	}
	w.command(id, engine.CommandResume, workflow.RunNode)
	h.work()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

func TestEndedRunLivesAgain(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	id := w.submit(planOf("a", "b: a", "c: b"))[0]
	w.settle()
	h.end(workflow.TaskFailed, h.claim(9)...)
	w.settle()
	w.ends(id, workflow.RunFailed)
	w.tick()
	w.command(id, engine.CommandRetry, 0)
	w.settle()
	w.ends(id, workflow.RunRunning)
	h.work()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}
