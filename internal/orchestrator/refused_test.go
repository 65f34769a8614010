package orchestrator

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// poison lets the backend refuse every commit that holds a change of one of the runs.
func (w *world) poison(bad ...workflow.RunID) {
	w.before = func(_ string, commit *engine.Commit) error {
		if commit == nil {
			return nil
		}
		for _, change := range commit.Changes {
			if slices.Contains(bad, change.ID) {
				return fmt.Errorf("%w: a poisoned row", engine.ErrRefused)
			}
		}
		return nil
	}
}

// keptAside are the messages of a refused run that were kept aside.
func (w *world) keptAside(id workflow.RunID) (keys []engine.MailKey) {
	for _, commit := range w.stored {
		for _, refused := range commit.Refused {
			if refused.ID == id {
				keys = append(keys, refused.Mail...)
			}
		}
	}
	return keys
}

func TestRunThatCannotBeCommittedIsFailedAlone(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	ids := w.submit(planOf("a", "b: a"), planOf("a", "b: a"), planOf("a", "b: a"), planOf("a", "b: a"), planOf("a", "b: a"))
	w.poison(ids[2])
	h.work()
	for number, id := range ids {
		if number == 2 {
			w.ends(id, workflow.RunFailed)
			continue
		}
		w.ends(id, workflow.RunCompleted)
	}
	if reason := w.view(ids[2]).Reason; !strings.Contains(reason, "a poisoned row") {
		t.Errorf("the reason is %q", reason)
	}
	if kept := w.keptAside(ids[2]); len(kept) != 1 {
		t.Errorf("the messages %v are kept aside, should be the submission", kept)
	}
	w.atRest()
}

func TestSeveralRunsThatCannotBeCommitted(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	var plans []*workflow.Plan
	for range 12 {
		plans = append(plans, planOf("a", "b: a"))
	}
	ids := w.submit(plans...)
	bad := []workflow.RunID{ids[3], ids[4], ids[5], ids[11]}
	w.poison(bad...)
	h.work()
	for _, id := range ids {
		want := workflow.RunCompleted
		if slices.Contains(bad, id) {
			want = workflow.RunFailed
		}
		w.ends(id, want)
	}
	w.atRest()
}

func TestRunRefusedLaterLeavesTheQueue(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	ids := w.submit(fan(6, task("a")), fan(3, task("b")))
	w.settle() // all nine share a delivery
	held := h.claim(3)
	if held[0].Run != ids[0] {
		t.Fatalf("%+v are claimed, should be of the first run", held)
	}
	w.poison(ids[0])
	h.end(workflow.TaskCompleted, held[0])
	w.settle()
	w.ends(ids[0], workflow.RunFailed)
	for _, member := range w.table() {
		if member.Run == ids[0] && !slices.Contains(held, member) {
			t.Errorf("%+v of the refused run is in the queue", member)
		}
	}
	orders := h.orders()
	for _, member := range held[1:] {
		if !slices.Contains(orders, member) {
			t.Errorf("nobody tells the agent to kill %+v of the refused run", member)
		}
	}
	h.end(workflow.TaskCancelled, held[1:]...)
	h.work()
	w.ends(ids[1], workflow.RunCompleted)
	for member, times := range w.dispatches() {
		if times > 1 && member.Run != ids[1] {
			t.Errorf("%+v is dispatched %d times", member, times)
		}
	}
	w.atRest()
}

func TestCancelOfARefusedRunIsKeptAside(t *testing.T) {
	w := started(t)
	ids := w.submit(fan(2, task("a")), fan(2, task("b")))
	w.settle()
	w.poison(ids[0])
	w.cancel(ids[0])
	w.settle()
	w.ends(ids[0], workflow.RunFailed)
	if kept := w.keptAside(ids[0]); len(kept) != 1 {
		t.Errorf("the messages %v are kept aside, should be the cancel", kept)
	}
	w.hire(engine.AgentInfo{ID: "one"}).work()
	w.ends(ids[1], workflow.RunCompleted)
	w.atRest()
}

// damage makes the rules panic at a failed end of the run.
func (w *world) damage(id workflow.RunID) {
	w.Helper()
	e := w.loop.runs[id]
	if e == nil {
		w.Fatalf("the run is not in memory")
	}
	graph := *e.run.Graph
	graph.Specs = nil
	e.run.Graph = &graph
}

func TestPanicInTheRulesStopsItsRunOnly(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	ids := w.submit(fan(600, task("a")), fan(3, task("b")))
	w.settle()
	held := h.claim(20)
	w.damage(ids[0])
	h.end(workflow.TaskFailed, held...) // of both runs, in one report
	w.settle()
	w.ends(ids[0], workflow.RunFailed)
	if reason := w.view(ids[0]).Reason; !strings.Contains(reason, "index out of range") || strings.Contains(reason, "goroutine") {
		t.Errorf("the reason is %q", reason)
	}
	for _, member := range w.table() {
		if member.Run == ids[0] {
			t.Errorf("%+v of the refused run is in the queue", member)
		}
	}
	h.work()
	w.ends(ids[1], workflow.RunFailed)
	w.atRest()
}

func TestPanicKeepsMessagesAside(t *testing.T) {
	w := started(t)
	ids := w.submit(fan(2, task("a")), fan(2, task("b")))
	w.settle()
	w.loop.runs[ids[0]].run.Graph = nil
	w.cancel(ids[0])
	w.settle()
	w.ends(ids[0], workflow.RunFailed)
	if kept := w.keptAside(ids[0]); len(kept) != 1 {
		t.Errorf("the messages %v are kept aside, should be the cancel", kept)
	}
	w.hire(engine.AgentInfo{ID: "one"}).work()
	w.ends(ids[1], workflow.RunCompleted)
	w.atRest()
}

func TestRunThatCannotBeLoadedIsFailedAlone(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	ids := w.submit(fan(6, task("a")), fan(3, task("b")))
	w.settle()
	held := h.claim(2)
	broken := ids[0]
	w.cancel(broken)
	w.open() // another one takes over
	w.broken = broken
	w.tick()
	w.settle()
	w.ends(broken, workflow.RunFailed)
	if reason := w.view(broken).Reason; !strings.Contains(reason, errInjected.Error()) {
		t.Errorf("the reason is %q", reason)
	}
	if kept := w.keptAside(broken); len(kept) != 1 {
		t.Errorf("the messages %v are kept aside, should be the cancel", kept)
	}
	orders := h.orders()
	for _, member := range held {
		if !slices.Contains(orders, member) {
			t.Errorf("nobody tells the agent to kill %+v of the broken run", member)
		}
	}
	h.end(workflow.TaskCancelled, held...)
	h.work()
	w.ends(ids[1], workflow.RunCompleted)
	w.atRest()
}

func TestRunThatCannotBeCommittedAmongRunsThatGoOn(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	var plans []*workflow.Plan
	for range 10 {
		plans = append(plans, fan(4, task("a")))
	}
	ids := w.submit(plans...)
	w.settle()
	held := h.claim(100)
	w.cancel(ids[1]) // its tasks are being killed
	byNode := func(node int32) (members []workflow.Member) {
		for _, member := range held {
			if member.Node == node {
				members = append(members, member)
			}
		}
		return members
	}
	h.end(workflow.TaskCompleted, byNode(0)...) // each has counts to write when it is loaded
	w.settle()
	w.poison(ids[4], ids[7])
	h.end(workflow.TaskCompleted, byNode(1)...)
	w.settle()
	w.ends(ids[4], workflow.RunFailed)
	w.ends(ids[7], workflow.RunFailed)
	for node := range int32(2) {
		h.end(workflow.TaskCompleted, byNode(node+2)...)
	}
	w.settle()
	for number, id := range ids {
		if number != 4 && number != 7 {
			w.ends(id, workflow.RunCompleted)
		}
	}
	w.atRest()
}

func TestRefusalThatPassesFailsNoRun(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(planOf("a", "b: a"))[0]
	w.settle()
	w.before = once(fmt.Errorf("%w: memory is not what is stored", engine.ErrRefused), func(call string, _ *engine.Commit) bool { return call == "Commit" })
	h.end(workflow.TaskCompleted, h.claim(1)...)
	h.work()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}
