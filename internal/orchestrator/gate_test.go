package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func groupOf(most int) workflow.RunOptions {
	return workflow.RunOptions{Groups: []workflow.RunGroup{{Name: "dag/dag", MaxActive: most}}}
}

func (w *world) running(ids []workflow.RunID) (running []int) {
	w.Helper()
	for i, id := range ids {
		if w.view(id).Status == workflow.RunRunning {
			running = append(running, i)
		}
	}
	return running
}

func TestFurtherRunsWaitAsPending(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	var ids []workflow.RunID
	for range 5 {
		ids = append(ids, w.start(planOf("a"), groupOf(2)))
	}
	w.settle()
	for _, want := range [][]int{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4}, nil} {
		if got := w.running(ids); !slices.Equal(got, want) {
			t.Fatalf("running are %v, not %v", got, want)
		}
		if want != nil {
			members := h.claim(100)
			first := slices.IndexFunc(members, func(member workflow.Member) bool { return member.Run == ids[want[0]] })
			h.end(workflow.TaskCompleted, members[first])
			h.handBack(slices.Delete(members, first, first+1)...)
			w.settle()
		}
	}
	w.atRest()
}

func TestPendingRunsWaitOverATakeover(t *testing.T) {
	t.Parallel()
	w := started(t)
	var ids []workflow.RunID
	for range 3 {
		ids = append(ids, w.start(planOf("a"), groupOf(1)))
	}
	w.settle()
	w.open()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 100})
	w.tick()
	for i := range ids {
		w.settle()
		if got := w.running(ids); !slices.Equal(got, []int{i}) {
			t.Fatalf("running are %v, not %d", got, i)
		}
		h.end(workflow.TaskCompleted, h.claim(9)...)
	}
	w.settle()
	w.atRest()
}

func TestPendingRunIsCancelled(t *testing.T) {
	t.Parallel()
	w := started(t)
	first, second, third := w.start(planOf("a"), groupOf(1)), w.start(planOf("a"), groupOf(1)), w.start(planOf("a"), groupOf(1))
	w.settle()
	w.cancel(second)
	w.settle()
	w.ends(second, workflow.RunCancelled)
	w.ends(third, workflow.RunPending)
	w.cancel(first)
	w.settle()
	w.ends(third, workflow.RunRunning)
	w.hire(engine.AgentInfo{ID: "one"}).work()
	w.atRest()
}

func TestRunWaitsForTheFormerDate(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	day := func(number int) time.Time { return time.Date(2026, 5, number, 0, 0, 0, 0, time.UTC) }
	first := w.start(planOf("a"), workflow.RunOptions{LogicalDate: day(1)})
	second := w.start(planOf("a"), workflow.RunOptions{LogicalDate: day(2), After: day(1)})
	w.settle()
	w.ends(second, workflow.RunPending)
	h.end(workflow.TaskFailed, h.claim(9)...)
	w.settle()
	w.ends(first, workflow.RunFailed)
	w.ends(second, workflow.RunPending)
	w.open() // the wait is found again
	w.tick()
	w.settle()
	w.ends(second, workflow.RunPending)
	again := w.start(planOf("a"), workflow.RunOptions{LogicalDate: day(1)}) // a rerun of it
	w.settle()
	h.end(workflow.TaskCompleted, h.claim(9)...)
	w.settle()
	w.ends(again, workflow.RunCompleted)
	w.ends(second, workflow.RunRunning)
	third := w.start(planOf("a"), workflow.RunOptions{LogicalDate: day(2), After: day(1)}) // one that succeeded long ago is known
	w.open()
	w.tick()
	w.settle()
	w.ends(third, workflow.RunRunning)
	h.work()
	w.atRest()
}

// schedules is what the loop knows of dates, with faults.
type schedules struct {
	engine.Schedules

	fail  int // of the next calls
	calls int
}

func (s *schedules) Dates(ctx context.Context, dates []engine.LogicalDate) ([]engine.DateState, error) {
	s.calls++
	if s.fail > 0 {
		s.fail--
		return nil, errInjected
	}
	return s.Schedules.Dates(ctx, dates) //nolint:wrapcheck // a wrapper is not seen
}

func dated(number, after int, groups ...workflow.RunGroup) workflow.RunOptions {
	day := func(number int) time.Time { return time.Date(2026, 5, number, 0, 0, 0, 0, time.UTC) }
	options := workflow.RunOptions{LogicalDate: day(number), Groups: groups}
	if after > 0 {
		options.After = day(after)
	}
	return options
}

func TestPlaceIsNotLostWhenTheGateFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := &schedules{Schedules: w.backend}
	w.options.Schedules = faulty
	w.open()
	w.tick()
	w.settle()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	one := workflow.RunGroup{Name: "dag/dag", MaxActive: 1}
	first, second := w.start(planOf("a"), dated(1, 0, one)), w.start(planOf("a"), dated(2, 1, one))
	faulty.fail = 1
	if err := w.turn(); !errors.Is(err, errInjected) {
		t.Fatalf("the turn gives %v", err)
	}
	w.settle()
	w.ends(first, workflow.RunRunning)
	h.work()
	w.ends(first, workflow.RunCompleted)
	w.ends(second, workflow.RunCompleted)
	third := w.start(planOf("a"), groupOf(1))
	w.settle()
	h.end(workflow.TaskCompleted, h.claim(1)...)
	fourth := w.start(planOf("a"), groupOf(1))
	w.settle()
	w.open() // now the runs have to be loaded
	faulty.fail = 1
	w.before = once(errInjected, func(call string, _ *engine.Commit) bool { return call == "LoadRuns" })
	for turns := 0; w.before("LoadRuns", nil) == nil && turns < 9; turns++ {
		_ = w.turn()
	}
	w.before = nil
	w.settle()
	h.work()
	w.ends(third, workflow.RunCompleted)
	w.ends(fourth, workflow.RunCompleted)
	w.atRest()
}

func TestDatesAreLookedForTogetherAndOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	counted := &schedules{Schedules: w.backend}
	w.options.Schedules = counted
	w.open()
	w.tick()
	w.settle()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	for day := 1; day <= 20; day++ {
		w.start(planOf("a"), dated(day, day-1))
	}
	h.work()
	for other := range 20 { // nobody waits for them
		w.start(planOf("a"), dated(1+other, 0, workflow.RunGroup{Name: "other", MaxActive: 3}))
	}
	h.work()
	if counted.calls != 1 {
		t.Errorf("the backend was asked %d times", counted.calls)
	}
	w.atRest()
}

func TestRefusedRunLeavesItsPlace(t *testing.T) {
	t.Parallel()
	w := started(t)
	first, second := w.start(planOf("a", "b: a"), groupOf(1)), w.start(planOf("a"), groupOf(1))
	w.settle()
	w.loop.runs[first].run.Graph = nil // the rules panic
	w.cancel(first)
	w.settle()
	w.ends(first, workflow.RunFailed)
	w.ends(second, workflow.RunRunning)
	w.hire(engine.AgentInfo{ID: "one"}).work()
	w.atRest()
}

func TestRunThatCannotBeLoadedLeavesItsPlace(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	first, second, third := w.start(planOf("a"), groupOf(1)), w.start(planOf("a"), groupOf(1)), w.start(planOf("a"), groupOf(1))
	w.settle()
	w.loop.drop(w.loop.runs[second]) // it has left memory
	w.broken = second
	h.end(workflow.TaskCompleted, h.claim(1)...)
	w.settle()
	w.ends(first, workflow.RunCompleted)
	w.ends(second, workflow.RunFailed)
	w.ends(third, workflow.RunRunning)
	h.work()
	w.atRest()
}

func TestRunWaitsForTheNewestDateThatHasARun(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	first := w.start(planOf("a"), dated(1, 0))
	w.settle()
	held := h.claim(1)
	later := w.start(planOf("a"), dated(4, 3)) // neither the third day nor the second has a run
	w.settle()
	w.ends(later, workflow.RunPending)
	wait := func() {
		w.now = w.now.Add(pastGrace)
		w.tick()
		w.settle()
	}
	wait()
	w.ends(later, workflow.RunPending)
	h.end(workflow.TaskCompleted, held...)
	w.settle()
	w.ends(first, workflow.RunCompleted)
	w.ends(later, workflow.RunRunning)
	h.work()

	alone := w.start(planOf("a"), workflow.RunOptions{LogicalDate: dated(1, 0).LogicalDate.AddDate(-1, 0, 0), After: dated(1, 0).LogicalDate.AddDate(-2, 0, 0)})
	w.settle()
	w.ends(alone, workflow.RunPending)
	wait()
	w.ends(alone, workflow.RunRunning) // there is none at all
	h.work()
	w.atRest()
}

func TestRunForAFormerDateComesLate(t *testing.T) {
	t.Parallel()
	w := started(t)
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	later := w.start(planOf("a"), dated(2, 1))
	w.settle()
	former := w.start(planOf("a"), dated(1, 0)) // its maker was slower
	w.tick()
	w.settle()
	held := h.claim(9)
	w.now = w.now.Add(2 * pastGrace)
	w.tick()
	w.settle()
	w.ends(later, workflow.RunPending)
	h.end(workflow.TaskCompleted, held...)
	w.settle()
	w.ends(former, workflow.RunCompleted)
	w.ends(later, workflow.RunRunning)
	h.work()
	w.atRest()
}

// However runs come, end and are cancelled, and whoever takes over: no group ever has more runs than it may, and none waits while there is room.
func TestGroupsAreNeverOverfull(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.open()
		w.tick()
		w.settle()
		h := w.hire(engine.AgentInfo{ID: "one", Slots: 1000})
		limits := []int{1, 2, 3}
		var ids []workflow.RunID
		of := map[workflow.RunID][]workflow.RunGroup{}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				var options workflow.RunOptions
				for _, group := range rapid.SliceOfNDistinct(rapid.IntRange(0, 2), 0, 2, rapid.ID[int]).Draw(t, "groups") {
					options.Groups = append(options.Groups, workflow.RunGroup{Name: fmt.Sprint(group), MaxActive: limits[group]})
				}
				id := w.start(planOf("a", "b: a"), options)
				ids, of[id] = append(ids, id), options.Groups
			case 2, 3:
				if members := h.claim(rapid.IntRange(1, 4).Draw(t, "claimed")); len(members) > 0 {
					h.end(rapid.SampledFrom([]workflow.TaskStatus{workflow.TaskCompleted, workflow.TaskFailed}).Draw(t, "end"), members...)
				}
			case 4:
				if len(ids) > 0 {
					if id := rapid.SampledFrom(ids).Draw(t, "cancelled"); !w.view(id).Status.Ended() {
						w.cancel(id)
					}
				}
			case 5:
				w.open()
				w.tick()
			}
			w.settle()
			active := map[string]int{}
			for _, id := range ids {
				view := w.view(id)
				if view.Status == workflow.RunRunning && view.CancelTime.IsZero() {
					for _, group := range of[id] {
						if active[group.Name]++; active[group.Name] > group.MaxActive {
							t.Fatalf("group %s has %d runs", group.Name, active[group.Name])
						}
					}
				}
			}
			for _, id := range ids {
				if w.view(id).Status == workflow.RunPending && !slices.ContainsFunc(of[id], func(group workflow.RunGroup) bool { return w.loop.gate.active[group.Name] >= group.MaxActive }) {
					t.Fatalf("a run waits though there is room for it")
				}
			}
		}
		for range 4 * len(ids) {
			h.work()
		}
		w.atRest()
	})
}
