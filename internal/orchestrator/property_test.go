package orchestrator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// storm is a world in which anything may happen between any two calls of the backend. Everything in it is drawn, nothing
// is left to goroutines and clocks, so what goes wrong goes wrong again.
type storm struct {
	*world
	t     *rapid.T
	hands []*hand
	hired int
	runs  []stormyRun

	claimed   map[workflow.Member]bool
	completed map[taskRun]bool
	poisoned  []workflow.RunID
	left      bool // a run left memory since the loop was started
	// calls is the number of calls of the writer until the fault happens; below 0 there is none.
	calls int
	fault string
	crash bool
}

type stormyRun struct {
	id   workflow.RunID
	plan *workflow.Plan
}

type taskRun struct {
	run  workflow.RunID
	node int32
}

func newStorm(t *rapid.T) *storm {
	s := &storm{world: newWorld(t), t: t, claimed: map[workflow.Member]bool{}, completed: map[taskRun]bool{}, calls: -1}
	s.options.Limits = workflow.Limits{Rows: rapid.SampledFrom([]int{2, 5, 2000}).Draw(t, "rows"), MaxRescues: 1000}
	s.before = func(call string, commit *engine.Commit) error {
		if commit != nil {
			for _, change := range commit.Changes {
				if slices.Contains(s.poisoned, change.ID) {
					return fmt.Errorf("%w: poison", engine.ErrRefused)
				}
			}
		}
		return s.happens(call, "before")
	}
	s.after = func(call string, _ *engine.Commit) error {
		if call == "ReadMail" {
			return nil // when it errs, it gave nothing
		}
		return s.happens(call, "after")
	}
	s.open()
	s.hireOne()
	s.hireOne()
	return s
}

// happens lets the planned fault happen in its time.
func (s *storm) happens(call, when string) error {
	if s.calls < 0 || !strings.HasPrefix(s.fault, when) {
		return nil
	}
	if s.calls--; s.calls >= 0 {
		return nil
	}
	s.crash = s.fault == when+" crash"
	if call == "Commit" {
		return errDoubt
	}
	return fmt.Errorf("%s: %w", call, errInjected)
}

func (s *storm) hireOne() {
	s.hired++
	info := engine.AgentInfo{ID: fmt.Sprint(s.hired), Slots: rapid.IntRange(1, 9).Draw(s.t, "slots"), Tags: []string{"ssd"}}
	s.hands = append(s.hands, s.hire(info))
}

// turns lets the loop make some turns, and does what run does after an error.
func (s *storm) turns(count int, tick bool) {
	for range count {
		if tick {
			s.now = s.now.Add(time.Second)
		}
		err := s.loop.step(s.ctx, tick)
		if err != nil && !errors.Is(err, errInjected) {
			s.Fatalf("the loop says %v", err)
		}
		if s.crash {
			s.restart()
		}
		s.check()
		if err == nil && !s.loop.busy() {
			return
		}
	}
}

func (s *storm) restart() {
	s.crash, s.left = false, false
	s.open()
}

// check compares the loop's counts with its runs, where both are whole.
func (s *storm) check() {
	l := s.loop
	if l.recovered && l.takeover == nil && len(l.homeless) == 0 && !s.left {
		s.balanced()
	}
}

func (s *storm) start() {
	t := s.t
	plan := &workflow.Plan{}
	for number := range rapid.IntRange(1, 9).Draw(t, "nodes") {
		spec := task(fmt.Sprint(number))
		spec.Priority = rapid.IntRange(1, 2).Draw(t, "priority")
		spec.Requires = rapid.SampledFrom([][]string{nil, nil, {"ssd"}}).Draw(t, "tags")
		spec.Retries = workflow.Retries{Count: rapid.IntRange(0, 2).Draw(t, "retries"), DelaySeconds: rapid.SampledFrom([]float64{0, 2}).Draw(t, "delay")}
		node := workflow.Node{Name: spec.TaskID, Spec: int32(number)} //nolint:gosec // small
		for parent := range number {
			if rapid.IntRange(0, 2).Draw(t, "depends") == 0 {
				node.Dependencies = append(node.Dependencies, int32(parent)) //nolint:gosec // small
			}
		}
		plan.Specs, plan.Nodes = append(plan.Specs, spec), append(plan.Nodes, node)
	}
	if rapid.IntRange(0, 9).Draw(t, "huge") == 0 {
		plan = fan(300, plan.Specs[0])
	}
	s.runs = append(s.runs, stormyRun{s.submit(plan)[0], plan})
}

func (s *storm) claim(h *hand, want int) {
	for _, member := range h.claim(want) {
		if s.claimed[member] {
			s.Fatalf("%+v is handed out twice", member)
		}
		s.claimed[member] = true
		place := slices.IndexFunc(s.runs, func(run stormyRun) bool { return run.id == member.Run })
		for _, parent := range s.runs[place].plan.Nodes[member.Node].Dependencies {
			if !s.completed[taskRun{member.Run, parent}] {
				s.Fatalf("%+v starts before node %d completed", member, parent)
			}
		}
	}
}

// end reports the ends of members in one report.
func (s *storm) end(h *hand, status workflow.TaskStatus, members ...workflow.Member) {
	h.end(status, members...)
	if status == workflow.TaskCompleted {
		for _, member := range members {
			s.completed[taskRun{member.Run, member.Node}] = true
		}
	}
}

// some are members that the agent holds.
func (s *storm) some(h *hand) (members []workflow.Member) {
	for _, held := range h.held {
		if rapid.Bool().Draw(s.t, "this one") {
			members = append(members, held.Member)
		}
	}
	return members
}

func (s *storm) anyRun() workflow.RunID {
	return s.runs[rapid.IntRange(0, len(s.runs)-1).Draw(s.t, "run")].id
}

// act lets one thing happen.
func (s *storm) act() {
	t := s.t
	place := rapid.IntRange(0, len(s.hands)-1).Draw(t, "agent")
	h := s.hands[place]
	action := rapid.SampledFrom([]string{
		"turn", "turn", "turn", "tick", "claim", "claim", "end", "end", "end", "fail", "return", "repeat", "submit", "cancel",
		"lose", "fault", "fault", "restart", "leave", "poison", "jump",
	}).Draw(t, "action")
	if len(s.runs) == 0 {
		action = "submit"
	}
	switch action {
	case "turn":
		s.turns(rapid.IntRange(1, 4).Draw(t, "turns"), false)
	case "tick":
		s.turns(1, true)
	case "claim":
		s.claim(h, rapid.IntRange(1, 40).Draw(t, "want"))
	case "end":
		s.end(h, workflow.TaskCompleted, s.some(h)...)
	case "fail":
		s.end(h, workflow.TaskFailed, s.some(h)...)
	case "return":
		h.handBack(s.some(h)...)
	case "repeat":
		if len(h.reports) > 0 {
			h.report(h.reports[rapid.IntRange(0, len(h.reports)-1).Draw(t, "report")])
		}
	case "submit":
		s.start()
	case "cancel":
		s.cancelAnyway(s.anyRun())
	case "lose":
		s.must(h.session.Close(s.ctx), "close")
		h.held = nil
		s.hands = slices.Delete(s.hands, place, place+1)
		s.hireOne()
	case "fault":
		s.calls = rapid.IntRange(0, 12).Draw(t, "calls")
		s.fault = rapid.SampledFrom([]string{"before", "after", "before crash", "after crash"}).Draw(t, "fault")
	case "restart":
		s.restart()
	case "leave":
		if e := s.loop.runs[s.anyRun()]; e != nil && !e.queued && !e.more && len(e.events)+len(e.queues)+len(e.missing) == 0 && !e.run.CountsStale() {
			s.left = true
			s.loop.drop(e)
		}
	case "poison":
		if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
			s.poisoned = append(s.poisoned, s.anyRun())
		}
	case "jump":
		s.now = s.now.Add(time.Minute)
	}
}

// calm lets everything end.
func (s *storm) calm() {
	s.calls = -1
	for rounds := 0; ; rounds++ {
		if rounds > 500 {
			s.explain()
		}
		s.turns(mostTurns, false)
		if s.loop.busy() {
			s.Fatalf("the loop does not rest")
		}
		s.turns(mostTurns, true)
		for _, h := range s.hands {
			s.claim(h, 1000)
			for len(h.held) > 0 {
				s.end(h, workflow.TaskCompleted, h.held[0].Member)
			}
		}
		if !slices.ContainsFunc(s.runs, func(run stormyRun) bool { return !s.view(run.id).Status.Ended() }) {
			return
		}
	}
}

func (s *storm) explain() {
	for _, run := range s.runs {
		view := s.view(run.id)
		s.Logf("run %s is %s", run.id, view.Status)
		tasks, _ := s.backend.TaskRuns(s.ctx, run.id)
		for _, task := range tasks {
			if !view.Status.Ended() {
				s.Logf("  %s: %s, attempt %d, queue %s", task.Name, task.Status, task.Attempt, task.Queue)
			}
		}
	}
	s.Fatalf("the runs do not end; the queue is %+v", s.queue())
}

// TestEveryRunEndsWhateverHappens lets faults and crashes happen between any two calls of the backend: every run ends,
// no task starts before what it depends on completed, and nothing is handed out twice.
func TestEveryRunEndsWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStorm(t)
		for range rapid.IntRange(1, 120).Draw(t, "actions") {
			s.act()
		}
		s.calm()
		for _, run := range s.runs {
			view := s.view(run.id)
			if slices.Contains(s.poisoned, run.id) && view.Status == workflow.RunFailed {
				continue
			}
			tasks, err := s.backend.TaskRuns(s.ctx, run.id)
			s.must(err, "list the task runs")
			for _, task := range tasks {
				if completed := s.completed[taskRun{run.id, task.Node}]; task.Status == workflow.TaskCompleted && !completed {
					s.Errorf("%s completed, and nobody ran it", task.Name)
				}
				if !task.Status.Ended() || view.Status == workflow.RunCompleted && task.Status != workflow.TaskCompleted {
					s.Errorf("the run is %s, and %s is %s", view.Status, task.Name, task.Status)
				}
			}
		}
		s.atRest()
	})
}
