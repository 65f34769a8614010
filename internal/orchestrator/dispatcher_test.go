package orchestrator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// depot is a dispatcher with runs, and no loop around it.
type depot struct {
	rapid.TB
	d       *dispatcher
	now     time.Time
	entries []*entry
}

func newDepot(t rapid.TB, agents ...engine.AgentInfo) *depot {
	s := &depot{TB: t, d: newDispatcher(), now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	s.d.learn(agents)
	return s
}

func graphOf(t rapid.TB, plan *workflow.Plan) *workflow.Graph {
	t.Helper()
	specs := make([]workflow.Scheduling, len(plan.Specs))
	for i, spec := range plan.Specs {
		_, hash := spec.Encode()
		specs[i] = workflow.SchedulingOf(spec, hash)
	}
	graph, err := workflow.NewGraph(plan.Nodes, specs)
	if err != nil {
		t.Fatalf("make a graph: %v", err)
	}
	return graph
}

// start lets a run of the plan start.
func (s *depot) start(plan *workflow.Plan) *entry {
	s.Helper()
	e := &entry{run: workflow.NewRun(workflow.NewRunID(s.now, 0), "dag", graphOf(s, plan), false)}
	s.entries = append(s.entries, e)
	s.happen(e, workflow.Event{Kind: workflow.EventStart})
	return e
}

func (s *depot) happen(e *entry, events ...workflow.Event) {
	for {
		change, used := workflow.Advance(e.run, s.now, events, workflow.DefaultLimits)
		s.d.take(e, change)
		e.run.Apply(change)
		events = events[used:]
		if !change.More {
			return
		}
	}
}

// end lets members complete.
func (s *depot) end(members ...workflow.Member) {
	for _, member := range members {
		s.happen(s.entry(member), workflow.Event{
			Kind: workflow.EventEnd, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery,
			Result: workflow.Result{Status: workflow.TaskCompleted, StartTime: s.now, EndTime: s.now, Agent: 1},
		})
	}
}

func (s *depot) entry(member workflow.Member) *entry {
	s.Helper()
	for _, e := range s.entries {
		if e.run.ID == member.Run {
			return e
		}
	}
	s.Fatalf("there is no run of %+v", member)
	return nil
}

func (s *depot) commit() *engine.Commit {
	commit := &engine.Commit{At: s.now}
	s.d.pick(commit, s.now, func(int) int { return 0 })
	return commit
}

// pick gives the members that are dispatched, in order.
func (s *depot) pick() []workflow.Member { return membersOf(s.commit()) }

func membersOf(commit *engine.Commit) []workflow.Member {
	var members []workflow.Member
	for i := range commit.Dispatches {
		for k := range commit.Dispatches[i].Members {
			members = append(members, commit.Dispatches[i].Members[k].Member)
		}
	}
	return members
}

func sizes(commit *engine.Commit) []int {
	var sizes []int
	for i := range commit.Dispatches {
		sizes = append(sizes, len(commit.Dispatches[i].Members))
	}
	return sizes
}

// inFlight and waiting are what the dispatcher believes.
func inFlight(d *dispatcher) (count int) {
	for _, lane := range d.lanes {
		count += lane.inFlight
	}
	return count
}

func waiting(d *dispatcher) (count int) {
	for _, lane := range d.lanes {
		count += lane.waiting
	}
	return count
}

// checkCounts compares what the dispatcher believes with the runs.
func checkCounts(t rapid.TB, d *dispatcher, entries []*entry) {
	t.Helper()
	queued, held := 0, 0
	for _, e := range entries {
		for _, member := range e.run.Queued() {
			if !e.misses(member.Node) {
				queued++
			}
		}
		for _, waiting := range e.queues {
			held += len(waiting.members)
		}
	}
	if in, out := inFlight(d), waiting(d); in != queued-held || out != held {
		t.Fatalf("%d members are believed in flight and %d waiting; %d are queued, and %d of them wait", in, out, queued, held)
	}
	for key, lane := range d.lanes {
		if lane.inFlight < 0 {
			t.Fatalf("the lane %+v has %d members in flight", key, lane.inFlight)
		}
		inRing := 0
		for _, of := range lane.ring {
			inRing += len(of.members)
		}
		if lane.waiting != inRing {
			t.Fatalf("in the lane %+v %d wait, and it holds %d", key, lane.waiting, inRing)
		}
	}
}

// balanced checks the counts of a loop that is at rest, and none of whose runs left memory.
func (w *world) balanced() {
	w.Helper()
	var entries []*entry
	for _, e := range w.loop.runs {
		entries = append(entries, e)
	}
	checkCounts(w, w.loop.dispatcher, entries)
}

func TestWindowWithoutAgentsIsTheLeast(t *testing.T) {
	s := newDepot(t)
	s.start(fan(1000, task("a")))
	first := s.pick()
	if len(first) != leastWindow {
		t.Fatalf("%d tasks are dispatched, should be %d", len(first), leastWindow)
	}
	if again := s.pick(); len(again) > 0 {
		t.Fatalf("%d more are dispatched", len(again))
	}
	s.end(first[:10]...)
	if next := s.pick(); len(next) != 10 {
		t.Fatalf("after 10 ends, %d more are dispatched", len(next))
	}
}

func TestWindowIsTwoRoundsOfTheSlotsThatServe(t *testing.T) {
	s := newDepot(t,
		engine.AgentInfo{ID: "all", Slots: 100}, engine.AgentInfo{ID: "one", Slots: 50, Queues: []string{"default"}},
		engine.AgentInfo{ID: "other", Slots: 1000, Queues: []string{"other"}})
	s.start(fan(2000, task("a")))
	if first := s.pick(); len(first) != 300 {
		t.Fatalf("%d tasks are dispatched, should be 300", len(first))
	}
	s.d.learn([]engine.AgentInfo{{ID: "all", Slots: 200}})
	if next := s.pick(); len(next) != 100 {
		t.Fatalf("with more slots %d more are dispatched, should be 100", len(next))
	}
	s.d.learn(nil)
	if next := s.pick(); len(next) != 0 {
		t.Fatalf("without agents %d more are dispatched", len(next))
	}
}

func TestWindowFollowsThePace(t *testing.T) {
	s := newDepot(t)
	s.start(fan(100_000, task("a")))
	members := s.pick()
	for range 5 { // all that is there ends in each tenth of the span
		s.end(members...)
		s.now = s.now.Add(paceSpan / 10)
		members = s.pick()
	}
	if len(members) < 2*leastWindow {
		t.Fatalf("only %d tasks are dispatched, though agents work off much more in %v", len(members), paceSpan)
	}
	if in := inFlight(s.d); in > mostWindow {
		t.Fatalf("%d tasks are in flight, more than %d", in, mostWindow)
	}
	s.now = s.now.Add(paceSpan)
	s.pick()
	s.now = s.now.Add(paceSpan)
	if more := s.pick(); len(more) > 0 {
		t.Fatalf("%d more are dispatched, though nothing ended for long", len(more))
	}
	s.end(members[:1]...)
	if more := s.pick(); len(more) > 0 {
		t.Fatalf("%d more are dispatched, though the queue is slow now", len(more))
	}
}

func TestRunsTakeTurns(t *testing.T) {
	s := newDepot(t)
	big := s.start(fan(5000, task("a")))
	first := s.pick()
	var small []*entry
	for range 20 {
		small = append(small, s.start(fan(2, task("a"))))
	}
	// The window is full of the big run: for each of its ends something is dispatched.
	left := map[workflow.RunID]int{}
	for _, e := range small {
		left[e.run.ID] = 2
	}
	for ended := 1; len(left) > 0; ended++ {
		if ended > 2*chunk+2*len(small) {
			t.Fatalf("after %d ends of the big run, %d small ones still wait", ended, len(left))
		}
		s.end(first[ended])
		for _, member := range s.pick() {
			if left[member.Run] == 1 {
				delete(left, member.Run)
			} else if left[member.Run] > 0 {
				left[member.Run]--
			}
		}
	}
	// And the big one goes on.
	s.end(first[100:200]...)
	for _, member := range s.pick() {
		if member.Run != big.run.ID {
			t.Fatalf("%+v is dispatched twice", member)
		}
	}
}

func TestPriorityGoesFirst(t *testing.T) {
	s := newDepot(t)
	var runs []*entry
	for _, priority := range []int{3, 1, 4, 2} {
		spec := task("a")
		spec.Priority = priority
		runs = append(runs, s.start(fan(3, spec)))
	}
	commit := s.commit()
	var order []int
	for _, dispatch := range commit.Dispatches {
		order = append(order, dispatch.Priority)
	}
	if !slices.Equal(order, []int{1, 2, 3, 4}) {
		t.Fatalf("the deliveries have the priorities %v", order)
	}
	if members := membersOf(commit); members[0].Run != runs[1].run.ID || len(members) != 12 {
		t.Fatalf("%+v are dispatched", members)
	}
}

func TestUrgentTaskPassesAFullWindow(t *testing.T) {
	s := newDepot(t)
	s.start(fan(1000, task("a")))
	s.pick()
	urgent := task("b")
	urgent.Priority = 1
	run := s.start(fan(1, urgent))
	if members := s.pick(); len(members) != 1 || members[0].Run != run.run.ID {
		t.Fatalf("behind a full window of less urgent tasks, %+v are dispatched", members)
	}
}

func TestTasksThatNobodyServesAreNoWall(t *testing.T) {
	s := newDepot(t, engine.AgentInfo{ID: "one", Slots: 4})
	picky := task("a")
	picky.Requires = []string{"gpu"}
	s.start(fan(1000, picky))
	s.pick()
	run := s.start(fan(1, task("b")))
	if members := s.pick(); len(members) != 1 || members[0].Run != run.run.ID {
		t.Fatalf("behind tasks whose tag no agent has, %+v are dispatched", members)
	}
}

func TestClassesOfAQueueShareItsPlace(t *testing.T) {
	s := newDepot(t, engine.AgentInfo{ID: "one", Slots: 4, Tags: []string{"gpu"}})
	picky := task("a")
	picky.Requires = []string{"gpu"}
	s.start(fan(10_000, picky))
	plain := s.start(fan(10_000, task("b")))
	seen := 0
	for range 5 {
		s.now = s.now.Add(time.Second)
		members := s.pick()
		for _, member := range members {
			if member.Run == plain.run.ID {
				seen++
			}
		}
		s.end(members...)
	}
	if seen == 0 {
		t.Fatalf("a class is a wall before another")
	}
}

func TestPacking(t *testing.T) {
	agents := func(count int) (agents []engine.AgentInfo) {
		for number := range count {
			agents = append(agents, engine.AgentInfo{ID: fmt.Sprint(number), Slots: 100})
		}
		return agents
	}
	for _, test := range []struct {
		name          string
		agents, tasks int
		want          []int
	}{
		{"one task", 3, 1, []int{1}},
		{"as many as agents", 3, 3, []int{1, 1, 1}},
		{"a few for each agent", 3, 10, []int{4, 4, 2}},
		{"one agent", 1, 10, []int{10}},
		{"no agent", 0, 10, []int{10}},
		{"many for each agent", 2, 150, []int{50, 50, 50}},
		{"more than the window", 0, 1000, []int{50, 50, 50, 50, 50, 6}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newDepot(t, agents(test.agents)...)
			s.start(fan(test.tasks, task("a")))
			if got := sizes(s.commit()); !slices.Equal(got, test.want) {
				t.Fatalf("the deliveries hold %v, should hold %v", got, test.want)
			}
		})
	}
}

func TestOnlyAgentsThatServeShareDeliveries(t *testing.T) {
	s := newDepot(t, engine.AgentInfo{ID: "a", Slots: 9, Tags: []string{"gpu", "ssd"}}, engine.AgentInfo{ID: "b", Slots: 9, Tags: []string{"ssd"}},
		engine.AgentInfo{ID: "c", Slots: 9}, engine.AgentInfo{ID: "d", Slots: 9, Tags: []string{"ssd"}, Queues: []string{"other"}})
	picky := task("a")
	picky.Requires = []string{"ssd"}
	s.start(fan(10, picky))
	if got := sizes(s.commit()); !slices.Equal(got, []int{5, 5}) {
		t.Fatalf("two agents serve, and the deliveries hold %v", got)
	}
}

func TestTasksWithResourcesAreAlone(t *testing.T) {
	s := newDepot(t, engine.AgentInfo{ID: "a", Slots: 9, Resources: workflow.Resources{CPU: 4000}}, engine.AgentInfo{ID: "b", Slots: 9})
	heavy, light := task("a"), task("b")
	heavy.Resources.CPU = 4000
	s.start(fan(6, heavy))
	s.start(fan(6, light))
	for _, dispatch := range s.commit().Dispatches {
		if want := map[bool]int{true: 3, false: 1}[dispatch.Class.Resources.IsZero()]; len(dispatch.Members) != want || !dispatch.Class.Resources.IsZero() && dispatch.Class.Resources != heavy.Resources {
			t.Errorf("a delivery of %+v holds %d", dispatch.Class, len(dispatch.Members))
		}
	}
	if lane := s.d.lane(&workflow.Scheduling{Queue: heavy.Queue, Priority: heavy.Priority, Resources: heavy.Resources}); lane.agents != 1 {
		t.Errorf("%d agents could hold it", lane.agents)
	}
}

func TestDeliveriesAreOfOneClass(t *testing.T) {
	s := newDepot(t)
	plan := planOf("a", "b", "c", "d", "e", "f")
	plan.Specs[1].Queue = "other"
	plan.Specs[2].Requires = []string{"ssd", "gpu", "ssd"}
	plan.Specs[3].Requires = []string{"gpu", "ssd"}
	plan.Specs[4].Priority = 4
	run := s.start(plan)
	got := map[string][]int32{}
	commit := s.commit()
	for _, dispatch := range commit.Dispatches {
		key := fmt.Sprintf("%s/%s/%d", dispatch.Class.Queue, dispatch.Class.Requires, dispatch.Priority)
		for _, member := range dispatch.Members {
			if got[key] = append(got[key], member.Node); member.Spec != run.run.Graph.Scheduling(member.Node).Spec || member.DAG != "dag" {
				t.Errorf("the member of %s says %+v", plan.Nodes[member.Node].Name, member)
			}
		}
	}
	want := map[string][]int32{"default//2": {0, 5}, "other//2": {1}, "default/gpu,ssd/2": {2, 3}, "default//4": {4}}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(commit.Dispatches) != len(want) {
		t.Fatalf("the deliveries are %v, should be %v", got, want)
	}
}

func TestRunsOfAGraphAreDispatchedTogether(t *testing.T) {
	s := newDepot(t)
	for range 30 {
		s.start(fan(1, task("a")))
	}
	if got := sizes(s.commit()); !slices.Equal(got, []int{30}) {
		t.Fatalf("the deliveries hold %v", got)
	}
}

func TestBacklogTellsWhatWaits(t *testing.T) {
	s := newDepot(t)
	urgent := task("b")
	urgent.Priority = 1
	queued := s.now
	big := s.start(fan(300, task("a")))
	s.start(fan(260, urgent))
	commit := s.commit()
	want := []engine.Backlog{
		{Queue: "default", Priority: 1, Waiting: 4, Oldest: queued}, {Queue: "default", Priority: 2, Waiting: 44, Oldest: queued},
	}
	slices.SortFunc(commit.Backlog, func(a, b engine.Backlog) int { return a.Priority - b.Priority })
	if !slices.Equal(commit.Backlog, want) {
		t.Fatalf("the backlog is %+v, should be %+v", commit.Backlog, want)
	}
	members := membersOf(commit)

	s.now = s.now.Add(backlogEvery / 2)
	s.end(members[len(members)-10:]...)
	if commit := s.commit(); commit.Backlog != nil {
		t.Fatalf("so soon after, the backlog is written again: %+v", commit.Backlog)
	}
	s.now = s.now.Add(backlogEvery)
	later := s.commit()
	if len(later.Backlog) != 1 || later.Backlog[0].Priority != 2 || later.Backlog[0].Waiting != 34 {
		t.Fatalf("what changed meanwhile is told as %+v", later.Backlog)
	}
	s.now = s.now.Add(backlogEvery)
	if idle := s.commit(); idle.Backlog != nil {
		t.Fatalf("nothing changed, and the backlog is %+v", idle.Backlog)
	}

	// At the end it is zero, and told with the next tick at the latest.
	s.end(members[:len(members)-10]...)
	s.end(s.pick()...)
	s.d.flushBacklog = true
	told := map[int]engine.Backlog{}
	for _, commit := range []*engine.Commit{s.commit()} {
		for _, backlog := range commit.Backlog {
			told[backlog.Priority] = backlog
		}
	}
	for _, priority := range []int{1, 2} {
		if backlog, ok := told[priority]; ok && (backlog.Waiting != 0 || !backlog.Oldest.IsZero()) {
			t.Errorf("nothing waits, and the backlog is %+v", backlog)
		}
	}
	if waiting(s.d) != 0 || len(big.queues) != 0 {
		t.Fatalf("%d wait at the end", waiting(s.d))
	}
}

func TestBacklogCountsAllClassesOfAPriority(t *testing.T) {
	s := newDepot(t)
	picky := task("a")
	picky.Requires = []string{"gpu"}
	s.start(fan(leastWindow+10, picky))
	s.start(fan(leastWindow+20, task("b")))
	commit := s.commit()
	total := 2*leastWindow + 30 - len(membersOf(commit))
	if len(commit.Backlog) != 1 || commit.Backlog[0].Waiting != total {
		t.Fatalf("the backlog is %+v, should be one row of %d", commit.Backlog, total)
	}
}

func TestPutBackOnlyWhatIsQueued(t *testing.T) {
	s := newDepot(t)
	e := s.start(fan(3, task("a")))
	members := s.pick()
	s.end(members[0])
	old, stranger := members[1], members[1]
	old.Delivery, stranger.Node = 7, 99
	for _, member := range []workflow.Member{members[0], old, stranger} {
		s.d.putBack(e, member)
	}
	checkCounts(t, s.d, s.entries)
	if again := s.pick(); len(again) > 0 {
		t.Fatalf("%+v are dispatched again", again)
	}
	s.d.putBack(e, members[1])
	checkCounts(t, s.d, s.entries)
	if again := s.pick(); !slices.Equal(again, members[1:2]) {
		t.Fatalf("%+v are dispatched again, should be %+v", again, members[1])
	}
	checkCounts(t, s.d, s.entries)
}

func TestForgottenRunLeavesNothing(t *testing.T) {
	s := newDepot(t)
	e := s.start(fan(1000, task("a")))
	s.end(s.pick()[:7]...)
	s.d.forget(e)
	if in, out := inFlight(s.d), waiting(s.d); in != 0 || out != 0 {
		t.Fatalf("%d are in flight, %d wait", in, out)
	}
	if members := s.pick(); len(members) > 0 {
		t.Fatalf("%d are dispatched", len(members))
	}
}

// TestCountsOfRandomHistories lets random things happen to random runs.
func TestCountsOfRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newDepot(t)
		var table []workflow.Member
		take := func(label string) workflow.Member {
			place := rapid.IntRange(0, len(table)-1).Draw(t, label)
			member := table[place]
			table = slices.Delete(table, place, place+1)
			return member
		}
		event := func(kind workflow.EventKind, member workflow.Member) workflow.Event {
			return workflow.Event{
				Kind: kind, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery,
				Result: workflow.Result{Status: workflow.TaskCompleted, StartTime: s.now, EndTime: s.now, Agent: 1},
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": func(t *rapid.T) {
				spec := task("a")
				spec.Priority = rapid.IntRange(1, 2).Draw(t, "priority")
				spec.Queue = rapid.SampledFrom([]string{"default", "other"}).Draw(t, "queue")
				spec.Requires = rapid.SampledFrom([][]string{nil, {"ssd"}}).Draw(t, "tags")
				spec.Retries.Count = 2
				plan := fan(rapid.SampledFrom([]int{1, 2, 30, 400}).Draw(t, "tasks"), spec)
				plan.Nodes[len(plan.Nodes)-1].Dependencies = []int32{0}[:min(1, len(plan.Nodes)-1)]
				s.start(plan)
			},
			"pick": func(*rapid.T) {
				for _, member := range s.pick() {
					if slices.Contains(table, member) {
						t.Fatalf("%+v is dispatched, and in the table", member)
					}
					table = append(table, member)
				}
			},
			"end": func(t *rapid.T) {
				for range min(len(table), rapid.IntRange(1, 40).Draw(t, "ends")) {
					member := take("member")
					ended := event(workflow.EventEnd, member)
					if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
						ended.Result.Status = workflow.TaskFailed
					}
					s.happen(s.entry(member), ended)
				}
			},
			"lose": func(*rapid.T) {
				if len(table) > 0 {
					member := take("member")
					s.happen(s.entry(member), event(workflow.EventLost, member))
				}
			},
			"hand back": func(*rapid.T) {
				if len(table) > 0 {
					member := take("member")
					s.happen(s.entry(member), event(workflow.EventReturn, member), event(workflow.EventReturn, member))
				}
			},
			"withdraw": func(*rapid.T) {
				if len(table) > 0 {
					member := take("member")
					s.d.putBack(s.entry(member), member)
				}
			},
			"refuse": func(t *rapid.T) {
				if len(s.entries) == 0 {
					return
				}
				place := rapid.IntRange(0, len(s.entries)-1).Draw(t, "run")
				e := s.entries[place]
				s.entries = slices.Delete(s.entries, place, place+1)
				s.d.forget(e)
				table = slices.DeleteFunc(table, func(member workflow.Member) bool { return member.Run == e.run.ID })
			},
			"wait": func(t *rapid.T) {
				s.now = s.now.Add(time.Duration(rapid.IntRange(1, 300).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) {
				checkCounts(t, s.d, s.entries)
				if in := inFlight(s.d); in != len(table) {
					t.Fatalf("%d members are believed in flight, and %d are", in, len(table))
				}
			},
		})
		for len(table)+waiting(s.d) > 0 {
			s.end(table...)
			table = s.pick()
		}
		if in := inFlight(s.d); in != 0 {
			t.Fatalf("when all has ended, %d members are believed in flight", in)
		}
	})
}

func TestGraphsAreNotKeptForEver(t *testing.T) {
	d := newDispatcher()
	spec := task("a")
	large := fan(500_000, spec)
	for range 8 {
		d.lanesOf(graphOf(t, large))
	}
	nodes := 0
	for graph := range d.specLanes {
		nodes += graph.Len()
	}
	if nodes > keptGraphNodes {
		t.Fatalf("graphs with %d nodes are kept from being freed", nodes)
	}
	plan := fan(1, spec)
	small := graphOf(t, plan)
	lanes := d.lanesOf(small)
	for range 25_000 {
		d.lanesOf(graphOf(t, plan))
	}
	if len(d.specLanes) > 20_000 {
		t.Fatalf("%d graphs are kept from being freed", len(d.specLanes))
	}
	lanes[0] = d.lane(&small.Specs[0])
	if again := d.lanesOf(small); again[0] != nil && again[0] != lanes[0] {
		t.Fatalf("a graph has two lanes for a specification")
	}
}
