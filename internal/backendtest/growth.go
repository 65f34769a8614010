package backendtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var growthTests = []test{
	{name: "growth survives a takeover", run: func(w *world) {
		run := w.start(deciding(planOf("choose"), 0))
		added := planOf("deep", "extra: deep")
		added.Specs[1].Queue, added.Specs[1].Retries = "gpu", workflow.Retries{Count: 1}
		w.advance(run, nil, w.evaluated(run, 0, choosing("extra"), added))
		w.wantStatuses(run.ID, "choose completed, deep queued, extra pending")
		w.takeOver()
		run = w.wantStored(run)
		w.advance(run, nil, w.completed(member(run, 1)))
		w.advance(run, nil, w.failed(member(run, 2), 1))
		w.advance(run, nil, w.completed(current(run, 2)))
		view := w.view(run.ID)
		if view.Status != workflow.RunCompleted || view.TaskCount != 3 || view.CompletedTasks != 3 {
			w.Fatalf("the run is seen as %+v", view)
		}
		w.wantStored(run)
	}},
	{name: "what was added counts against the bound, after a takeover too", run: func(w *world) {
		run := w.start(deciding(planOf("choose", "again: choose"), 0, 1))
		w.advance(run, nil, w.evaluated(run, 0, choosing("again", "one"), planOf("one")))
		w.takeOver()
		run = w.wantStored(run)
		limits := workflow.DefaultLimits
		limits.MaxDynamicTasks = 2
		event := w.evaluated(run, 1, choosing("two", "three"), planOf("two"), planOf("three"))
		change, _ := workflow.Advance(run, w.now(), []workflow.Event{event}, limits)
		if change.Run == nil || change.Run.Stop != workflow.CauseTooMany || len(change.Nodes) > 0 {
			w.Fatalf("the run goes on: %+v", change.Run)
		}
		limits.MaxDynamicTasks = 3
		change, _ = workflow.Advance(run, w.now(), []workflow.Event{event}, limits)
		if len(change.Nodes) != 2 {
			w.Fatalf("the run does not grow: %+v", change)
		}
	}},
	{name: "what was added is claimed with its specification", run: func(w *world) {
		run := w.start(deciding(planOf("choose"), 0))
		session := w.agent("one")
		w.wantNames(w.claim(session, 9, 0), "choose")
		added := planOf("extra")
		added.Specs[0].Command, added.Specs[0].Item = "echo $ITEM", &workflow.Item{Value: `{"a":1}`, Index: 3}
		added.Specs[0].Git = &workflow.Git{Repository: "git@example.com:a/b", Ref: "v1", Path: "c/d", Environment: "python"}
		body, hash := added.Specs[0].Encode()
		w.advance(run, nil, w.evaluated(run, 0, choosing("extra"), added))
		deliveries := w.claim(session, 9, 0)
		w.wantNames(deliveries, "extra")
		if got, _ := deliveries[0].Tasks[0].Spec.Encode(); string(got) != string(body) {
			w.Errorf("the specification is %s, should be %s", got, body)
		}
		spec, err := w.writer.Spec(w.ctx, hash)
		w.must(err, "load the specification")
		if got, _ := spec.Encode(); string(got) != string(body) {
			w.Errorf("the writer reads the specification %s, should read %s", got, body)
		}
	}},
	{name: "what was added is seen in the plan and among the task runs", run: func(w *world) {
		run := w.start(deciding(planOf("choose", "left: choose"), 0))
		w.advance(run, nil, w.evaluated(run, 0, choosing("extra"), planOf("deep", "extra: deep")))
		w.wantPlan(run.ID, "choose, left: 0, deep: 0, extra: 2")
		w.wantStatuses(run.ID, "choose completed, left skipped, deep queued, extra pending")
		if task := w.tasks(run.ID)[3]; task.TaskID != "extra" || task.Queue != workflow.DefaultQueue || task.Priority != workflow.DefaultPriority {
			w.Errorf("the added task run is seen as %+v", task)
		}
		if names := w.details(run.ID).Names; !slices.Equal(names, []string{"choose", "left", "deep", "extra"}) {
			w.Errorf("the names of the nodes are %v", names)
		}
	}},
	{name: "growth of one run leaves others of the same plan alone", run: func(w *world) {
		plan := deciding(planOf("choose"), 0)
		run, other := w.start(plan), w.start(plan)
		w.advance(run, nil, w.evaluated(run, 0, choosing("extra"), planOf("extra")))
		w.wantStored(other)
		w.wantPlan(other.ID, "choose")
		w.wantStatuses(other.ID, "choose queued")
		graph, err := w.writer.Graph(w.ctx, hashOf(plan))
		w.must(err, "load the graph")
		if graph.Len() != 1 {
			w.Fatalf("the plan has %d nodes now", graph.Len())
		}
	}},
	{name: "a node's new dependencies are those that count", run: func(w *world) {
		run := w.start(deciding(planOf("work", "check: work", "after: check"), 1))
		w.advance(run, nil, w.completed(member(run, 0)))
		w.advance(run, nil, w.evaluated(run, 1, choosing("work")))
		w.wantGrown(run, "work check after work#2 check#2", 2, 4)
		w.takeOver()
		run = w.wantStored(run)
		w.advance(run, nil, w.completed(member(run, 3)))
		w.advance(run, nil, w.evaluated(run, 4, choosing("work")))
		w.wantGrown(run, "work check after work#2 check#2 work#3 check#3", 2, 6)
		w.takeOver()
		run = w.wantStored(run)
		w.advance(run, nil, w.completed(member(run, 5)))
		w.wantStatuses(run.ID, "work completed, check completed, after pending, work#2 completed, check#2 completed, work#3 completed, check#3 queued")
		w.advance(run, nil, w.evaluated(run, 6, choosing("after")))
		w.advance(run, nil, w.completed(member(run, 2)))
		if view := w.view(run.ID); view.Status != workflow.RunCompleted || view.CompletedTasks != 7 {
			w.Fatalf("the run is seen as %+v", view)
		}
	}},
	{name: "the dependencies of a node may change again and again", run: func(w *world) {
		run := w.start(deciding(planOf("p", "q", "after: p q"), 0, 1))
		w.advance(run, nil, w.evaluated(run, 0, choosing("p")), w.evaluated(run, 1, choosing("q")))
		w.wantGrown(run, "p q after p#2 q#2", 2, 3, 4)
		w.takeOver()
		run = w.wantStored(run)
		w.advance(run, nil, w.evaluated(run, 4, choosing("q")))
		w.wantGrown(run, "p q after p#2 q#2 q#3", 2, 3, 5)
		w.takeOver()
		w.wantStored(run)
	}},
	{name: "a task whose items are not known is found again after a takeover", run: func(w *world) {
		run := w.startItems()
		w.takeOver()
		run = w.wantStored(run)
		if change := w.decide(run); !slices.Equal(change.Items, []int32{1}) {
			w.Fatalf("the items of %v are wanted", change.Items)
		}
	}},
	{name: "items are added to a run, and the node that stands for them completes without having started", run: func(w *world) {
		run := w.startItems()
		w.advance(run, nil, w.items(run, 1, 2))
		w.wantPlan(run.ID, "list, each: 2 3, each[0]: 0, each[1]: 0")
		w.takeOver()
		run = w.wantStored(run)
		w.advance(run, nil, w.completed(member(run, 2)), w.completed(member(run, 3)))
		group := w.tasks(run.ID)[1]
		if group.Status != workflow.TaskCompleted || group.Cause != workflow.CauseGroup || group.Attempt != 0 || !group.StartTime.IsZero() || group.EndTime.IsZero() {
			w.Errorf("the node that stands for the items is seen as %+v", group)
		}
		if view := w.view(run.ID); view.Status != workflow.RunCompleted || view.CompletedTasks != 4 {
			w.Errorf("the run is seen as %+v", view)
		}
		w.wantStored(run)
	}},
	{name: "a group that was added asks for its items again after a takeover", run: func(w *world) {
		run := w.start(deciding(planOf("choose", "again: choose"), 0, 1))
		added := planOf("each")
		added.Specs[0].ForEach = &workflow.ForEach{Reference: "${tasks.list.items}"}
		w.advance(run, nil, w.evaluated(run, 0, choosing("each", "again"), added))
		w.advance(run, nil, w.items(run, 2, 1))
		w.advance(run, nil, w.completed(member(run, 3)))
		w.takeOver()
		run = w.wantStored(run)
		w.advance(run, nil, w.evaluated(run, 1, choosing("each")))
		w.wantPlan(run.ID, "choose, again: 0, each: 3, each[0]: 0, each#2: 0")
		w.takeOver()
		run = w.wantStored(run)
		if change := w.decide(run); !slices.Equal(change.Items, []int32{4}) {
			w.Fatalf("the items of %v are wanted", change.Items)
		}
	}},
	{name: "a task whose items can't be told fails without an attempt", run: func(w *world) {
		run := w.startItems()
		event := w.items(run, 1, 0)
		event.Known.Problem = "the items of each are no list"
		w.advance(run, nil, event)
		if task := w.tasks(run.ID)[1]; task.Status != workflow.TaskFailed || task.Cause != workflow.CauseEvaluation || task.Attempt != 0 || task.Reason != event.Known.Problem {
			w.Errorf("the task run is seen as %+v", task)
		}
		w.wantStored(run)
	}},
	{name: "a run grows by thousands of nodes in one commit", run: func(w *world) {
		const items = 3000
		run := w.startItems()
		limits := workflow.DefaultLimits
		limits.Rows = items
		change, _ := workflow.Advance(run, w.now(), []workflow.Event{w.items(run, 1, items)}, limits)
		w.commit(&engine.Commit{Changes: []*workflow.Change{change}})
		run.Apply(change)
		w.takeOver()
		run = w.wantStored(run)
		if total, _, _ := run.Counts(); total != items+2 {
			w.Fatalf("the run has %d nodes", total)
		}
		if task := w.tasks(run.ID)[items+1]; task.Name != fmt.Sprintf("each[%d]", items-1) {
			w.Fatalf("the last task run is %+v", task)
		}
	}},
}

// deciding makes nodes of a plan evaluation points.
func deciding(plan *workflow.Plan, nodes ...int) *workflow.Plan {
	for _, node := range nodes {
		plan.Specs[node].EvaluationPoint = true
	}
	return plan
}

// startItems starts a run of "list" and "each", whose items are wanted.
func (w *world) startItems() *workflow.Run {
	w.Helper()
	plan := planOf("list", "each: list")
	plan.Specs[1].ForEach = &workflow.ForEach{Reference: "${tasks.list.items}"}
	run := w.start(plan)
	if change := w.advance(run, nil, w.completed(member(run, 0))); !slices.Equal(change.Items, []int32{1}) {
		w.Fatalf("the items of %v are wanted", change.Items)
	}
	return run
}

// items is the event that tells the items of a node.
func (w *world) items(run *workflow.Run, node int32, count int) workflow.Event {
	w.Helper()
	names := w.details(run.ID).Names
	spec := workflow.TaskSpec{
		TaskID: names[node], Command: "run " + names[node], Queue: workflow.DefaultQueue, Priority: workflow.DefaultPriority,
	}
	group := spec
	known := &workflow.Known{Names: names}
	group.ForEach = &workflow.ForEach{}
	for index := range count {
		value := workflow.Value(fmt.Sprint(index))
		item := spec
		item.Item = &workflow.Item{Value: value, Index: index}
		group.ForEach.Items = append(group.ForEach.Items, value)
		known.Items = append(known.Items, workflow.NewSpecOf(&item))
	}
	known.Group = workflow.NewSpecOf(&group)
	return workflow.Event{Kind: workflow.EventItems, Node: node, Known: known}
}

// wantPlan compares the graph of a run, as "name: parent parent" of each node.
func (w *world) wantPlan(id workflow.RunID, want string) {
	w.Helper()
	nodes, err := w.backend.Plan(w.ctx, id)
	w.must(err, "read the plan")
	var all []string
	for number, node := range nodes {
		text := node.Name
		if len(node.Dependencies) > 0 {
			text += ": " + strings.Trim(fmt.Sprint(node.Dependencies), "[]")
		}
		if node.Node != int32(number) { //nolint:gosec // small
			w.Errorf("the plan lists node %d as the %dth", node.Node, number)
		}
		all = append(all, text)
	}
	if got := strings.Join(all, ", "); got != want {
		w.Fatalf("the plan is %q, should be %q", got, want)
	}
}

// wantGrown compares what is stored of a graph with that in memory, the names of its nodes, and what one of them depends on.
func (w *world) wantGrown(run *workflow.Run, names string, node int32, parents ...int32) {
	w.Helper()
	nodes, err := w.backend.Plan(w.ctx, run.ID)
	w.must(err, "read the plan")
	var got []string
	for number, stored := range nodes {
		got = append(got, stored.Name)
		if live := run.Graph.Parents(int32(number)); !slices.Equal(stored.Dependencies, live) { //nolint:gosec // small
			w.Errorf("%s depends on %v, should depend on %v", stored.Name, stored.Dependencies, live)
		}
	}
	if text := strings.Join(got, " "); text != names {
		w.Fatalf("the nodes are %q, should be %q", text, names)
	}
	if !slices.Equal(nodes[node].Dependencies, parents) {
		w.Fatalf("%s depends on %v, should depend on %v", nodes[node].Name, nodes[node].Dependencies, parents)
	}
}

// hashOf is the hash under which a plan is stored.
func hashOf(plan *workflow.Plan) workflow.Hash {
	hashes := make([]workflow.Hash, len(plan.Specs))
	for index, spec := range plan.Specs {
		_, hashes[index] = spec.Encode()
	}
	return plan.Hash(hashes)
}
