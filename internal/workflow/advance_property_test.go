package workflow

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAdvanceProperties drives random graphs with random events: reports in any
// order, twice, late and stale, cancels, crashes, and changes cut anywhere. After each
// call it checks what rows.commit and sameRun check, and:
//
//   - no task is queued before its trigger rule lets it start;
//   - stale events change nothing;
//   - Advance leaves the run alone;
//   - every run ends once all that was dispatched is answered;
//   - the end is the one that the rules give without any engine, whatever the order.
func TestAdvanceProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t, rapid.Bool().Draw(t, "with cancel"))
		s.feed(t, Event{Kind: EventStart})
		for steps := 0; !s.run.Status.Ended(); steps++ {
			if steps > 5000 {
				t.Fatalf("the run does not end: %+v", s.run)
			}
			s.step(t)
		}
		s.checkEnd(t)
		for _, event := range s.past {
			s.feed(t, event)
			if !s.last.Empty() {
				t.Fatalf("%+v changed the run after its end: %+v", event, s.last)
			}
		}
	})
}

// TestAdvanceCutsAnywhere checks that the limit of rows changes when things happen, not what.
func TestAdvanceCutsAnywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		graph := drawGraph(t)
		plan := drawOutcomes(t, graph)
		cancelAfter := rapid.IntRange(0, 30).Draw(t, "cancel after the call")
		var want []NodeState
		for _, limit := range []int{math.MaxInt32, 1, 2, 3, 7} {
			got := runInRounds(t, graph, plan, Limits{Rows: limit, MaxRescues: 2}, cancelAfter)
			if want == nil {
				want = got
			}
			if !slices.Equal(got, want) {
				t.Fatalf("with %d rows a change the run ends as\n%+v, and without limit as\n%+v", limit, got, want)
			}
		}
	})
}

// runInRounds answers in each round all that was dispatched in the round before. The cancel
// comes in a call of its own: in one call with reports, what ends first is a matter of the cut.
func runInRounds(t *rapid.T, graph *Graph, plan outcomes, limits Limits, cancelAfter int) []NodeState {
	run := NewRun(RunID{15: 1}, "test", graph, false)
	events := []Event{{Kind: EventStart}}
	for round := 0; !run.Status.Ended(); round++ {
		if round > 1000 {
			t.Fatalf("the run does not end: %+v", run)
		}
		var next []Event
		feed := func(events []Event) {
			for more := true; more; {
				change, used := Advance(run, scenarioStart, events, limits)
				run.Apply(change)
				events, more = events[used:], change.More
				for _, member := range change.Queue {
					next = append(next, plan.answer(member))
				}
				for _, timer := range change.SetTimers {
					next = append(next, Event{Kind: EventTimer, Node: timer.Node, Timer: timer.Kind})
				}
			}
		}
		feed(events)
		if round == cancelAfter {
			feed([]Event{{Kind: EventCancel}})
		}
		slices.SortFunc(next, func(a, b Event) int { return int(a.Node) - int(b.Node) })
		events = next
	}
	states := slices.Clone(run.Nodes)
	for number := range states {
		states[number].open = 0
	}
	return states
}

// outcomes says how each attempt of each node ends, in their order; after the last one
// they complete. This is all that is random about a run without a cancel.
type outcomes [][]outcome

type outcome uint8

const (
	completes outcome = iota
	fails
	isLost
	isReturned
	isReturnedStarted
)

func drawGraph(t *rapid.T) *Graph {
	count := rapid.IntRange(1, 14).Draw(t, "nodes")
	order := rapid.Permutation(numbers(count)).Draw(t, "numbers")
	nodes := make([]Node, count)
	specs := make([]Scheduling, count)
	for place, number := range order {
		parents := map[int32]bool{}
		if place > 0 {
			for _, parent := range rapid.SliceOfN(rapid.SampledFrom(order[:place]), 0, 3).Draw(t, "parents") {
				parents[parent] = true
			}
		}
		nodes[number] = Node{Name: fmt.Sprint(number), Spec: number, Dependencies: slices.Sorted(maps.Keys(parents))}
		specs[number].Rule = rapid.SampledFrom(TriggerRules).Draw(t, "rule")
		specs[number].Retries = Retries{
			Count:        rapid.IntRange(0, 2).Draw(t, "retries"),
			DelaySeconds: float64(rapid.IntRange(0, 1).Draw(t, "delay")),
		}
	}
	graph, err := NewGraph(nodes, specs)
	if err != nil {
		t.Fatal(err)
	}
	return graph
}

func numbers(count int) []int32 {
	all := make([]int32, count)
	for number := range all {
		all[number] = int32(number)
	}
	return all
}

func drawOutcomes(t *rapid.T, graph *Graph) outcomes {
	one := rapid.SampledFrom([]outcome{completes, completes, fails, fails, isLost, isReturned, isReturnedStarted})
	return rapid.SliceOfN(rapid.SliceOfN(one, 0, 6), graph.Len(), graph.Len()).Draw(t, "outcomes")
}

// of is the outcome of a member: deliveries handed back unstarted come before the attempt's own.
func (o outcomes) of(member Member) outcome {
	attempt, delivery := uint16(1), uint16(1)
	for _, outcome := range o[member.Node] {
		if attempt == member.Attempt && delivery == member.Delivery {
			return outcome
		}
		if outcome == isReturned {
			delivery++
		} else {
			attempt, delivery = attempt+1, 1
		}
	}
	return completes
}

func (o outcomes) answer(member Member) Event {
	event := Event{Kind: EventEnd, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery}
	event.Result = Result{Started: true, StartTime: scenarioStart, EndTime: scenarioStart, Agent: 9}
	switch o.of(member) {
	case completes:
		event.Result.Status = TaskCompleted
	case fails:
		code := int32(3)
		event.Result.Status, event.Result.Cause, event.Result.ExitCode = TaskFailed, CauseExit, &code
	case isLost:
		event.Kind, event.Result = EventLost, Result{StartTime: scenarioStart, Agent: 9}
	case isReturned:
		event.Kind, event.Result = EventReturn, Result{}
	case isReturnedStarted:
		event.Kind = EventReturn
	}
	return event
}

// ends is the state in which the rules leave each node, found without the engine.
func (o outcomes) ends(graph *Graph, maxRescues int) []TaskStatus {
	ends := make([]TaskStatus, graph.Len())
	var end func(node int32) TaskStatus
	end = func(node int32) TaskStatus {
		if ends[node] != TaskPending {
			return ends[node]
		}
		var parents []TaskStatus
		for _, parent := range graph.Parents(node) {
			parents = append(parents, end(parent))
		}
		switch fateOf(graph.Scheduling(node).Rule, parents) {
		case fateStarts:
			ends[node] = o.alone(node, graph.Scheduling(node).Retries.Count, maxRescues)
		case fateSkips:
			ends[node] = TaskSkipped
		default:
			ends[node] = TaskUpstreamFailed
		}
		return ends[node]
	}
	for _, node := range numbers(graph.Len()) {
		end(node)
	}
	return ends
}

// alone is how a node ends once it was queued.
func (o outcomes) alone(node int32, retries, rescues int) TaskStatus {
	for _, outcome := range o[node] {
		switch outcome {
		case completes:
			return TaskCompleted
		case fails:
			if retries--; retries < 0 {
				return TaskFailed
			}
		case isLost:
			if rescues--; rescues < 0 {
				return TaskFailed
			}
		case isReturned, isReturnedStarted:
		}
	}
	return TaskCompleted
}

// simulation is a run with all the world around it: rows, agents, messages, timers.
type simulation struct {
	graph      *Graph
	plan       outcomes
	limits     Limits
	withCancel bool

	run       *Run
	rows      *rows
	now       time.Time
	out       []Member // dispatched, and not answered
	withdrawn map[Member]bool
	past      []Event
	last      *Change
}

func newSimulation(t *rapid.T, withCancel bool) *simulation {
	s := &simulation{graph: drawGraph(t), now: scenarioStart, withdrawn: map[Member]bool{}, withCancel: withCancel}
	s.rows, s.plan = newRows(s.graph, RunOptions{}), drawOutcomes(t, s.graph)
	s.limits = Limits{Rows: rapid.SampledFrom([]int{1, 2, 3, 2000}).Draw(t, "rows"), MaxRescues: rapid.IntRange(0, 2).Draw(t, "rescues")}
	s.run = NewRun(RunID{15: 1}, "test", s.graph, false)
	return s
}

// step lets something happen.
func (s *simulation) step(t *rapid.T) {
	choices := []string{"answer", "answer", "answer", "answers", "nothing", "stale", "crash", "count"}
	if len(s.rows.timers) > 0 {
		choices = append(choices, "timer", "timer")
	}
	if s.withCancel {
		choices = append(choices, "cancel")
	}
	switch rapid.SampledFrom(choices).Draw(t, "what happens") {
	case "answer":
		if len(s.out) > 0 {
			s.feed(t, s.takeAnswer(t))
		}
	case "answers":
		var events []Event
		for range rapid.IntRange(0, len(s.out)).Draw(t, "how many") {
			events = append(events, s.takeAnswer(t))
			if len(s.past) > 0 {
				events = append(events, rapid.SampledFrom(s.past).Draw(t, "duplicate"))
			}
		}
		if s.withCancel && rapid.IntRange(0, 4).Draw(t, "cancel among them") == 0 {
			events = slices.Insert(events, rapid.IntRange(0, len(events)).Draw(t, "where"), Event{Kind: EventCancel, Actor: "ann"})
		}
		s.feed(t, events...)
	case "timer":
		key := rapid.SampledFrom(slices.SortedFunc(maps.Keys(s.rows.timers), func(a, b timerKey) int { return int(a.node - b.node) })).Draw(t, "timer")
		s.now = s.now.Add(2 * time.Second)
		s.feed(t, Event{Kind: EventTimer, Node: key.node, Timer: key.kind})
	case "stale":
		s.stale(t)
	case "crash":
		restored, err := s.rows.restore(s.run.ID)
		if err != nil {
			t.Fatal(err)
		}
		s.run = restored
		s.feed(t)
	case "cancel":
		s.feed(t, Event{Kind: EventCancel, Actor: "ann"})
	case "count":
		s.feed(t, Event{Kind: EventCount})
		if s.last.Run == nil && s.run.CountsStale() {
			t.Fatal("the counts were asked for, and were not written")
		}
	case "nothing":
		s.feed(t)
	}
}

// takeAnswer answers a member that is out: by withdrawing it, by the kill that a cancel
// orders, or by its planned outcome.
func (s *simulation) takeAnswer(t *rapid.T) Event {
	place := rapid.IntRange(0, len(s.out)-1).Draw(t, "member")
	member := s.out[place]
	s.out = slices.Delete(s.out, place, place+1)
	event := s.plan.answer(member)
	if s.withdrawn[member] {
		switch rapid.SampledFrom([]string{"withdraw", "kill", "too late"}).Draw(t, "answer") {
		case "withdraw":
			event.Kind, event.Result = EventWithdraw, Result{}
		case "kill":
			event.Kind, event.Result = EventEnd, Result{Status: TaskCancelled, Cause: CauseCancel, Started: true, StartTime: s.now, EndTime: s.now, Agent: 9}
		}
	}
	s.past = append(s.past, event)
	return event
}

// stale tells something about an attempt or delivery that is not the one that is out.
func (s *simulation) stale(t *rapid.T) {
	node := rapid.SampledFrom(numbers(s.graph.Len())).Draw(t, "node")
	state := s.run.Nodes[node]
	event := Event{
		Kind: rapid.SampledFrom([]EventKind{EventEnd, EventLost, EventReturn, EventWithdraw}).Draw(t, "kind"), Node: node,
		Attempt:  state.Attempt + rapid.SampledFrom([]uint16{0, 1, math.MaxUint16}).Draw(t, "attempt"),
		Delivery: state.Delivery + rapid.SampledFrom([]uint16{1, math.MaxUint16}).Draw(t, "delivery"),
		Result:   Result{Status: rapid.SampledFrom([]TaskStatus{TaskCompleted, TaskFailed, TaskCancelled}).Draw(t, "status"), EndTime: s.now},
	}
	event.Result.Started = rapid.Bool().Draw(t, "started")
	s.feed(t) // so that nothing is left to do
	before := cloneRun(s.run)
	s.feed(t, event)
	// Counts may be written once a second has passed; nothing else may.
	if change := s.last; len(change.Tasks)+len(change.Attempts)+len(change.Queue)+len(change.SetTimers)+len(change.DropTimers)+len(change.Withdraw) > 0 {
		t.Fatalf("the stale %+v changed %+v", event, change)
	}
	if !slices.Equal(before.Nodes, s.run.Nodes) {
		t.Fatalf("the stale %+v changed the nodes", event)
	}
}

// feed gives the events to Advance, and commits, until nothing more follows.
func (s *simulation) feed(t *rapid.T, events ...Event) {
	for more := true; more; {
		before := cloneRun(s.run)
		change, used := Advance(s.run, s.now, events, s.limits)
		if !reflect.DeepEqual(before, s.run) {
			t.Fatalf("Advance changed the run from\n%+v to\n%+v", before, s.run)
		}
		if len(change.Tasks)+len(change.Withdraw) > s.limits.Rows && len(change.Tasks)+len(change.Withdraw) > 1 {
			t.Fatalf("a change of %d rows, with a limit of %d", len(change.Tasks)+len(change.Withdraw), s.limits.Rows)
		}
		if err := s.rows.commit(change); err != nil {
			t.Fatalf("after %+v: %v", events[:used], err)
		}
		for _, member := range change.Queue {
			parents := s.rows.parentsOf(s.graph, member.Node)
			if rule := s.graph.Scheduling(member.Node).Rule; fateOf(rule, parents) != fateStarts {
				t.Fatalf("node %d (%s) is queued while what it depends on is %v", member.Node, rule, parents)
			}
		}
		s.run.Apply(change)
		restored, err := s.rows.restore(s.run.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := sameRun(s.run, restored); err != nil {
			t.Fatalf("after %+v: %v", events[:used], err)
		}
		s.out = append(s.out, change.Queue...)
		for _, member := range change.Withdraw {
			s.withdrawn[member] = true
		}
		s.last, events, more = change, events[used:], change.More
	}
}

// checkEnd compares the end of the run with what the rules say.
func (s *simulation) checkEnd(t *rapid.T) {
	if len(s.rows.timers) > 0 {
		t.Fatalf("timers are left after the end: %v", s.rows.timers)
	}
	failed, cancelled := s.rows.failures(s.graph), s.rows.count(TaskCancelled) > 0
	want := RunCompleted
	switch {
	case cancelled:
		want = RunCancelled
	case failed:
		want = RunFailed
	}
	if s.run.Status != want {
		t.Fatalf("the run ended as %v, should be %v", s.run.Status, want)
	}
	if !s.run.CancelTime.IsZero() {
		return
	}
	for number, want := range s.plan.ends(s.graph, s.limits.MaxRescues) {
		if got := s.run.Nodes[number].Status; got != want {
			t.Fatalf("node %d ended as %v, should be %v", number, got, want)
		}
	}
}

// A retry that undoes a great many nodes is cut like all else, so that the run holds up nobody.
func TestLargeRetryIsCut(t *testing.T) {
	t.Parallel()
	const count = 10 * 2000
	nodes := make([]Node, count)
	for number := range nodes {
		nodes[number] = Node{Name: fmt.Sprint(number)}
		if number > 0 {
			nodes[number].Dependencies = []int32{int32(number-1) / 2}
		}
	}
	graph, err := NewGraph(nodes, make([]Scheduling, 1))
	if err != nil {
		t.Fatal(err)
	}
	run := NewRun(RunID{15: 1}, "test", graph, false)
	feed := func(event Event) (changes int) {
		t.Helper()
		events := []Event{event}
		for more := true; more; changes++ {
			change, used := Advance(run, scenarioStart, events, DefaultLimits)
			if rows := len(change.Tasks) + len(change.Reset); rows > DefaultLimits.Rows {
				t.Fatalf("a change has %d rows", rows)
			}
			run.Apply(change)
			events, more = events[used:], change.More
		}
		return changes
	}
	feed(Event{Kind: EventStart})
	feed(Event{Kind: EventEnd, Attempt: 1, Delivery: 1, Result: Result{Status: TaskFailed, Cause: CauseExit}})
	if run.Status != RunFailed || run.tally.ended != count {
		t.Fatalf("the run is %s with %d of %d ended", run.Status, run.tally.ended, count)
	}
	for _, kind := range []EventKind{EventRetry, EventSkip} {
		if changes := feed(Event{Kind: kind, Actor: "ann"}); changes < 10 {
			t.Errorf("it takes %d changes", changes)
		}
		if kind == EventRetry {
			if run.Status != RunRunning || run.tally.ended != 0 {
				t.Fatalf("the run is %s with %d ended", run.Status, run.tally.ended)
			}
			feed(Event{Kind: EventEnd, Attempt: 2, Delivery: 1, Result: Result{Status: TaskFailed, Cause: CauseExit}})
		}
	}
	if run.Status != RunCompleted || run.tally.ended != count {
		t.Errorf("the run is %s with %d ended", run.Status, run.tally.ended)
	}
}
