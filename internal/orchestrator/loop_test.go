package orchestrator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestRunsGoThrough(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	ids := w.submit(planOf("a", "b: a", "c: a", "d: b c"), fan(700, task("e")))
	h.work()
	for _, id := range ids {
		w.ends(id, workflow.RunCompleted)
	}
	w.atRest()
}

// cutWorld has changes of three rows at most.
func cutWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.options.Limits = workflow.Limits{Rows: 3, MaxRescues: 3}
	w.open()
	w.tick()
	return w
}

// isEnd tells whether the row ends a task run.
func isEnd(row workflow.TaskChange) bool { return row.Status.Ended() }

func TestMessageIsAnsweredWithItsLastEvent(t *testing.T) {
	w := cutWorld(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 20})
	ids := w.submit(fan(8, task("a")), fan(2, task("b")))
	w.settle()
	held := h.claim(20)
	if len(held) != 10 {
		t.Fatalf("%d members are claimed", len(held))
	}
	before := len(w.stored)
	h.end(workflow.TaskCompleted, held...) // one message
	w.settle()
	ended := 0
	for _, commit := range w.stored[before:] {
		for _, change := range commit.Changes {
			for _, row := range change.Tasks {
				if isEnd(row) {
					ended++
				}
			}
		}
		if len(commit.Mail) > 0 && ended < 10 {
			t.Errorf("the message is answered when %d of its 10 ends are stored", ended)
		}
		if (len(commit.Mail) > 0) != (len(commit.Remove) > 0) {
			t.Errorf("a commit answers %v, and removes %v", commit.Mail, commit.Remove)
		}
	}
	for _, id := range ids {
		w.ends(id, workflow.RunCompleted)
	}
	w.atRest()
}

func TestStaleReportsAreAnswered(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(planOf("a", "b: a"))[0]
	w.settle()
	first := h.claim(1)
	h.end(workflow.TaskCompleted, first...)
	w.settle()
	again := h.reports[0]
	h.report(again) // while the run lives
	w.settle()
	h.end(workflow.TaskCompleted, h.claim(1)...)
	w.settle()
	w.ends(id, workflow.RunCompleted)
	h.report(again)
	stranger := workflow.Member{Run: workflow.NewRunID(w.now, 3), Attempt: 1, Delivery: 1}
	impossible := workflow.Member{Run: id, Node: 99, Attempt: 1, Delivery: 1}
	h.end(workflow.TaskCompleted, stranger, impossible)
	h.report(&engine.Report{Agent: 7, Returns: []engine.Return{{Member: stranger}}, Done: []int64{12345}})
	w.settle()
	w.atRest()
}

func TestImpossibleReportsOfALiveRunAreAnswered(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(planOf("a", "b: a"))[0]
	w.settle()
	for _, member := range []workflow.Member{
		{Run: id, Node: 99, Attempt: 1, Delivery: 1}, {Run: id, Node: -1, Attempt: 1, Delivery: 1}, {Run: id, Node: 1, Attempt: 1, Delivery: 1},
		{Run: id, Node: 0, Attempt: 2, Delivery: 1}, {Run: id, Node: 0, Attempt: 1, Delivery: 0},
	} {
		h.end(workflow.TaskCompleted, member)
		h.handBack(member)
	}
	w.settle()
	if mail := w.unread(); len(mail) > 0 {
		t.Errorf("messages are unanswered: %+v", mail)
	}
	w.open()
	w.tick()
	h.work()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

func TestHandedBackMembersAreDeliveredAgain(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(fan(3, task("a")))[0]
	w.settle()
	held := h.claim(3)
	h.handBack(held[:2]...)
	w.settle()
	again := h.claim(9)
	if len(again) != 2 || again[0].Attempt != 1 || again[0].Delivery != 2 {
		t.Fatalf("%+v are claimed", again)
	}
	h.end(workflow.TaskCompleted, held[0]) // an old delivery
	h.end(workflow.TaskCompleted, append(again, held[2])...)
	w.settle()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

func TestLostMembersGetANewAttempt(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(fan(3, task("a")))[0]
	w.settle()
	held := h.claim(2)
	w.must(h.session.Close(w.ctx), "close")
	w.settle()
	h.held = nil
	other := w.hire(engine.AgentInfo{ID: "two"})
	claimed := other.claim(9)
	attempts := 0
	for _, member := range claimed {
		attempts += int(member.Attempt)
	}
	if len(claimed) != 3 || attempts != 5 {
		t.Fatalf("%+v are claimed", claimed)
	}
	h.end(workflow.TaskCompleted, held...) // late
	other.end(workflow.TaskCompleted, claimed...)
	w.settle()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

func TestQueueWithoutAgentsWaits(t *testing.T) {
	w := started(t)
	plan := fan(1000, task("a"))
	id := w.submit(plan)[0]
	w.settle()
	w.tick()
	w.settle()
	if queue := w.queue(); queue.Depth != 1000 || queue.Running != 0 || queue.Oldest.IsZero() {
		t.Fatalf("the queue is seen as %+v", queue)
	}
	w.hire(engine.AgentInfo{ID: "one"}).work()
	w.ends(id, workflow.RunCompleted)
	w.atRest()
}

func TestCountsAreWrittenWithinATick(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 20})
	id := w.submit(fan(10, task("a")))[0]
	w.settle()
	held := h.claim(10)
	for _, member := range held[:3] {
		h.end(workflow.TaskCompleted, member)
		w.settle()
	}
	w.tick()
	w.settle()
	if view := w.view(id); view.CompletedTasks != 3 {
		t.Fatalf("a tick after 3 tasks completed, the run is seen with %d", view.CompletedTasks)
	}
	if len(w.loop.stale) > 0 {
		t.Fatalf("%d runs still have old counts", len(w.loop.stale))
	}
	h.end(workflow.TaskFailed, held[3:]...)
	w.settle()
	if view := w.view(id); view.CompletedTasks != 3 || view.FailedTasks != 7 {
		t.Fatalf("at its end the run is seen as %+v", view)
	}
	w.atRest()
}

func TestHugeRunDoesNotHoldUpASmallOne(t *testing.T) {
	for _, test := range []struct {
		name   string
		meddle func(w *world, huge workflow.RunID)
	}{
		{"while it starts", func(*world, workflow.RunID) {}},
		{"while it is cancelled", func(w *world, huge workflow.RunID) { w.cancel(huge) }},
		{"after a takeover", func(w *world, _ workflow.RunID) {
			w.open()
			w.now = w.now.Add(time.Second)
			w.must(w.loop.step(w.ctx, true), "tick")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := started(t)
			h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
			w.tick()
			huge := w.submit(fan(100_000, task("a")))[0]
			w.must(w.turn(), "turn")
			w.must(w.turn(), "turn")
			test.meddle(w, huge)
			small := w.submit(planOf("b", "c: b"))[0]
			before := len(w.stored)
			for !w.view(small).Status.Ended() {
				if commits := len(w.stored) - before; commits > 12 {
					t.Fatalf("after %d commits, the small run is %s", commits, w.view(small).Status)
				}
				w.must(w.turn(), "turn")
				if members := h.claim(256); len(members) > 0 {
					h.end(workflow.TaskCompleted, members...)
				}
			}
			w.ends(small, workflow.RunCompleted)
		})
	}
}

func TestCommitsAreBounded(t *testing.T) {
	w := started(t)
	var plans []*workflow.Plan
	for range 10 {
		plans = append(plans, fan(2000, task("a")))
	}
	w.submit(plans...)
	w.settle()
	for _, commit := range w.stored {
		rows := 0
		for _, change := range commit.Changes {
			rows += len(change.Tasks)
		}
		if rows > commitRows+workflow.DefaultLimits.Rows {
			t.Errorf("a commit has %d rows", rows)
		}
	}
}

func TestWhicheverCommitFailsNothingHappensTwice(t *testing.T) {
	for number := range 12 {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprintf("commit %d, stored %v", number, stored), func(t *testing.T) {
				w := cutWorld(t)
				h := w.hire(engine.AgentInfo{ID: "one", Slots: 5})
				commits := -1
				fault := once(errDoubt, func(call string, _ *engine.Commit) bool {
					if call == "Commit" {
						commits++
					}
					return commits == number
				})
				if stored {
					w.after = fault
				} else {
					w.before = fault
				}
				ids := w.submit(planOf("a", "b: a", "c: a", "d", "e"), fan(5, task("f")))
				claimed := map[workflow.Member]bool{}
				for rounds := 0; !w.view(ids[0]).Status.Ended() || !w.view(ids[1]).Status.Ended(); rounds++ {
					if rounds > 200 {
						t.Fatalf("the runs do not end")
					}
					_ = w.turn()
					for _, member := range h.claim(5) {
						if claimed[member] {
							t.Errorf("%+v is claimed twice", member)
						}
						claimed[member] = true
						h.end(workflow.TaskCompleted, member)
					}
				}
				w.before, w.after = nil, nil
				w.settle()
				w.ends(ids[0], workflow.RunCompleted)
				w.ends(ids[1], workflow.RunCompleted)
				if len(claimed) != 10 {
					t.Errorf("%d members were claimed", len(claimed))
				}
				w.atRest()
			})
		}
	}
}

func TestErrorsThatPassAreNoReasonToForget(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one"})
	id := w.submit(planOf("a"))[0]
	faults := 0
	w.before = func(call string, _ *engine.Commit) error {
		if call == "Commit" && faults < 2 {
			faults++
			return errInjected
		}
		if call == "Recover" {
			t.Errorf("memory is thrown away")
		}
		return nil
	}
	w.settle()
	if faults != 2 {
		t.Fatalf("%d commits failed", faults)
	}
	h.work()
	w.ends(id, workflow.RunCompleted)
	w.before = nil
	w.atRest()
}

func TestWhicheverReadFailsNothingIsLost(t *testing.T) {
	for _, call := range []string{"Recover", "Dispatched", "LiveRuns", "LoadRuns", "Graph", "ReadMail", "Tick"} {
		for number := range 3 {
			t.Run(fmt.Sprintf("%s %d", call, number), func(t *testing.T) {
				w := cutWorld(t)
				h := w.hire(engine.AgentInfo{ID: "one", Slots: 20})
				ids := w.submit(fan(leastWindow+9, delayed("a", 1)), fan(30, task("b")))
				w.settle()
				held := h.claim(8)
				h.end(workflow.TaskFailed, held[:3]...)
				w.settle()
				h.end(workflow.TaskCompleted, held[3:]...)
				ids = append(ids, w.submit(planOf("c", "d: c"), planOf("e"))...)
				w.cancel(ids[1])
				w.now = w.now.Add(time.Minute)
				w.open()
				seen := 0
				w.before = once(errInjected, func(name string, _ *engine.Commit) bool {
					if name == call {
						seen++
					}
					return seen == number+1
				})
				for range 8 {
					_ = w.loop.step(w.ctx, true)
				}
				w.before = nil
				h.work()
				for n, id := range ids {
					if want := map[bool]workflow.RunStatus{true: workflow.RunCancelled, false: workflow.RunCompleted}[n == 1]; w.view(id).Status != want {
						t.Errorf("run %d is %s, should be %s", n, w.view(id).Status, want)
					}
				}
				w.atRest()
			})
		}
	}
}

func TestPlanThatIsGoneFailsItsRunOnly(t *testing.T) {
	for _, cause := range []error{engine.ErrRefused, engine.ErrNotFound} {
		t.Run(cause.Error(), func(t *testing.T) {
			w := started(t)
			bad := w.submit(planOf("a"))[0]
			w.before = func(call string, _ *engine.Commit) error {
				if call == "Graph" {
					return fmt.Errorf("read the plan: %w", cause)
				}
				return nil
			}
			w.must(w.turn(), "turn")
			w.before = nil
			w.settle()
			w.ends(bad, workflow.RunFailed)
			if kept := w.keptAside(bad); len(kept) != 1 {
				t.Errorf("the messages %v are kept aside, should be the submission", kept)
			}
			good := w.submit(planOf("a"))[0]
			w.hire(engine.AgentInfo{ID: "one"}).work()
			w.ends(good, workflow.RunCompleted)
			w.atRest()
		})
	}
}

func TestReasonsCanBeStored(t *testing.T) {
	w := started(t)
	bad := w.submit(planOf("a"))[0]
	w.before = func(_ string, commit *engine.Commit) error {
		if commit != nil && len(commit.Changes) > 0 && commit.Changes[0].ID == bad {
			return fmt.Errorf("%w: invalid byte sequence \xff\x00", engine.ErrRefused)
		}
		return nil
	}
	w.settle()
	w.ends(bad, workflow.RunFailed)
	if reason := w.view(bad).Reason; !utf8.ValidString(reason) || strings.Contains(reason, "\x00") || !strings.Contains(reason, "byte sequence") {
		t.Errorf("the reason is %q", reason)
	}
	w.before = nil
	w.atRest()
}

func TestFencedLoopEnds(t *testing.T) {
	for _, call := range []string{"Recover", "Tick", "Commit"} {
		t.Run(call, func(t *testing.T) {
			w := newWorld(t)
			w.open()
			w.submit(planOf("a"))
			w.before = func(name string, _ *engine.Commit) error {
				if name == call {
					return fmt.Errorf("%s: %w", call, engine.ErrFenced)
				}
				return nil
			}
			if err := w.loop.run(w.ctx); err == nil || !strings.Contains(err.Error(), call) {
				t.Fatalf("the loop ends with %v", err)
			}
		})
	}
}

func TestManyRunsAreTakenOver(t *testing.T) {
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 50})
	var plans []*workflow.Plan
	for range 2*loadPage + 30 {
		plans = append(plans, planOf("a", "b: a"))
	}
	ids := w.submit(plans...)
	w.settle()
	held := h.claim(20)
	w.open()
	w.cancel(ids[len(ids)-1]) // it is in a delivery with runs that are not loaded yet
	w.tick()
	w.cancel(ids[0])
	w.settle()
	w.balanced()
	orders := h.orders()
	for _, member := range held {
		if ids[0] == member.Run != slices.Contains(orders, member) {
			t.Errorf("that %+v is to be killed is not right", member)
		}
	}
	for _, member := range held {
		if member.Run == ids[0] {
			h.end(workflow.TaskCancelled, member)
		} else {
			h.end(workflow.TaskCompleted, member)
		}
	}
	h.work()
	for number, id := range ids {
		want := workflow.RunCompleted
		if number == 0 || number == len(ids)-1 {
			want = workflow.RunCancelled
		}
		w.ends(id, want)
	}
	w.atRest()
}

// A run in the memory of two writers would be moved on by both.
func TestRunOfAnotherWriterIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open()
	id := w.submit(planOf("a", "b: a"))[0]
	w.settle()
	w.open()
	delete(w.loop.owned, id.Bucket())
	w.must(w.backend.Cancel(w.ctx, id, "ann"), "cancel")
	w.settle()
	if w.loop.runs[id] != nil {
		t.Error("it is in memory")
	}
	w.loop.owned[id.Bucket()] = true
	w.must(w.backend.Cancel(w.ctx, id, "ann"), "cancel")
	w.settle()
	if len(w.loop.runs) != 0 {
		t.Error("the run is still there: the test tests nothing")
	}
}
