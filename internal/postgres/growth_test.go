package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// chooses is the end of an evaluation point that names what goes on.
func chooses(update workflow.ValueUpdate, next ...string) workflow.Result {
	return workflow.Result{Status: workflow.TaskCompleted, Evaluation: &workflow.Evaluation{
		NextTasks: next, Chosen: true, ValueUpdate: update, Metadata: `{"why": "so"}`,
	}}
}

func gives(output string) workflow.Result {
	return workflow.Result{Status: workflow.TaskCompleted, Output: workflow.Value(output)}
}

// loop is a plan that trains until it is good.
func loop() *workflow.Plan {
	plan := planOf("train", "check: train", "ship: check", "side")
	plan.Specs[1].EvaluationPoint = true
	return plan
}

func (w *world) wantOutputs(session *agentSession, run workflow.RunID, want map[string]workflow.Value, tasks ...string) {
	w.Helper()
	for _, read := range []func(context.Context, workflow.RunID, []string) (map[string]workflow.Value, error){session.Outputs, w.writer.Outputs} {
		got, err := read(w.ctx, run, tasks)
		w.must(err, "read outputs")
		if difference := cmp.Diff(want, got); difference != "" {
			w.Errorf("the outputs of %v: %s", tasks, difference)
		}
	}
}

// wantGraph compares what the readers show of a run's graph.
func (w *world) wantGraph(run workflow.RunID, want string) {
	w.Helper()
	nodes, err := w.backend.Plan(w.ctx, run)
	w.must(err, "read the plan")
	texts := make([]string, len(nodes))
	for i, node := range nodes {
		if int(node.Node) != i {
			w.Errorf("node %d comes at %d", node.Node, i)
		}
		texts[i] = strings.TrimSuffix(fmt.Sprintf("%s(%s): %s", node.Name, node.TaskID, strings.Trim(fmt.Sprint(node.Dependencies), "[]")), ": ")
	}
	if got := strings.Join(texts, ", "); got != want {
		w.Errorf("the plan is %s\nshould be   %s", got, want)
	}
	details, err := w.writer.Details(w.ctx, run)
	w.must(err, "load details")
	for i, node := range nodes {
		if details.Names[i] != node.Name {
			w.Errorf("node %d is %s in the details", i, details.Names[i])
		}
	}
	if len(details.Names) != len(nodes) || details.DAG != "dag" || details.Revision != 1 {
		w.Errorf("the details are %+v", details)
	}
}

func TestLoopsAndAddedTasks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := loop()
	other := w.start(plan).ID // shares the plan and never grows
	w.must(w.backend.Cancel(w.ctx, other, "ann"), "cancel")
	w.turn()
	run := w.start(plan).ID
	session := agentOf(w, w.backend, engine.AgentInfo{ID: "one"})
	first := w.wantClaim(session, 1, 0, "train")
	side := w.wantClaim(session, 1, 0, "side")
	report := reportOf(session, &first[0])
	report.Ends[0].Output = `{"loss": 3}`
	w.must(session.Report(w.ctx, report, nil, nil), "report")
	w.turn()
	w.wantOutputs(session, run, map[string]workflow.Value{"train": `{"loss": 3}`}, "train", "check", "none")
	w.end(session, "check", chooses(workflow.ValueUpdate{}, "train"))
	w.wantStates(run, "train completed 1, check completed 1, ship pending, side running 1, train#2 queued 1, check#2 pending")
	w.wantGraph(run, "train(train), check(check): 0, ship(ship): 5, side(side), train#2(train), check#2(check): 4")
	w.wantRestored(run)
	// The newest that completed counts: not what is queued still, and not the former one when it gave nothing.
	w.wantOutputs(session, run, map[string]workflow.Value{"train": `{"loss": 3}`}, "train")
	w.end(session, "train", completed)
	w.wantOutputs(session, run, map[string]workflow.Value{}, "train")
	w.end(session, "check", chooses(workflow.ValueUpdate{}, "train"))
	w.end(session, "train", gives(`{"loss": 1}`))
	w.wantOutputs(session, run, map[string]workflow.Value{"train": `{"loss": 1}`}, "train")
	// Another writer loads what was added, and goes on.
	w.must(w.writer.Close(w.ctx), "close")
	clear(w.runs)
	w.takeOver()
	if loaded := w.run(run); loaded.Graph.Len() != 8 {
		t.Fatalf("it is loaded with %d nodes", loaded.Graph.Len())
	}
	w.wantRestored(run)
	w.end(session, "check", chooses(workflow.ValueUpdate{}, "ship", "report"))
	w.wantStates(run, "train completed 1, check completed 1, ship queued 1, side running 1, train#2 completed 1, check#2 completed 1, train#3 completed 1, check#3 completed 1, report queued 1")
	w.wantGraph(run, "train(train), check(check): 0, ship(ship): 7, side(side), train#2(train), check#2(check): 4, train#3(train), check#3(check): 6, report(report): 7")
	if view := w.view(run); view.TaskCount != 9 {
		t.Errorf("it has %d task runs", view.TaskCount)
	}
	w.wantGraph(other, "train(train), check(check): 0, ship(ship): 1, side(side)")
	fresh, err := w.writer.LoadEnded(w.ctx, other)
	w.must(err, "load")
	if fresh.Graph.Len() != len(plan.Nodes) {
		t.Errorf("a run of the same plan has %d nodes", fresh.Graph.Len())
	}
	w.complete(session, side)
	w.turn()
	w.drain(session)
	w.wantStatus(run, workflow.RunCompleted)
	events, err := w.backend.Events(w.ctx, run)
	w.must(err, "read the events")
	at := slices.IndexFunc(events, func(event engine.EventView) bool { return event.Kind == "evaluate" && event.Name == "check#2" })
	if at < 0 || events[at].Detail != `{"why":"so"}` {
		t.Errorf("the events are %+v", events)
	}
}

// The same commit may be made without a run in memory: then what is stored says what the numbers mean.
func TestGrowthByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	spec := workflow.NewSpecOf(&workflow.TaskSpec{TaskID: "b", Command: "b", Queue: "slow", Priority: 3})
	for turn := range int32(2) {
		change := &workflow.Change{ID: run.ID, Specs: []*workflow.NewSpec{spec}, Nodes: []workflow.GrownNode{
			{Number: 1 + turn, Node: workflow.Node{Name: fmt.Sprintf("b%d", turn), Spec: 1 + turn, Dependencies: []int32{0}}},
			{Number: 0, Node: workflow.Node{Name: "a", Spec: 0}},
		}}
		_, err := w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Changes: []*workflow.Change{change}})
		w.must(err, "commit")
	}
	w.wantGraph(run.ID, "a(a), b0(b): 0, b1(b): 0")
	stored, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{run.ID})
	w.must(err, "load")
	if scheduling := stored[0].Graph.Scheduling(2); scheduling.Queue != "slow" || scheduling.Spec != spec.Scheduling.Spec {
		t.Errorf("node 2 has the specification %+v", scheduling)
	}
	if got, err := w.writer.Spec(w.ctx, spec.Scheduling.Spec); err != nil || got.Command != "b" {
		t.Errorf("the specification is %+v, %v", got, err)
	}
	if _, err := w.writer.Spec(w.ctx, workflow.Hash{1}); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("no specification: %v", err)
	}
	if _, err := w.writer.Details(w.ctx, workflow.NewRunID(w.writer.Now(), 1)); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("details of no run: %v", err)
	}
}

// Clean-up leaves the specifications of nodes that were added to a run of long ago, and drops them with it.
func TestAddedSpecificationsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	policy := engine.Retention{Days: 30}
	before := w.backend.clock.now().AddDate(0, 0, -policy.Days)
	id := w.makeOld(50, true, "old")
	day := Day.floor(id.Time())
	spec := workflow.NewSpecOf(&workflow.TaskSpec{TaskID: "added", Command: "b", Queue: "default", Priority: 2})
	at := w.writer.Now()
	change := &workflow.Change{
		ID: id, Specs: []*workflow.NewSpec{spec}, Nodes: []workflow.GrownNode{{Number: 1, Node: workflow.Node{Name: "added", Spec: 1}}},
		Run: &workflow.RunChange{Status: workflow.RunRunning, StartTime: day, Total: 2, Version: 1}, Updates: []workflow.PointUpdate{{}}, Outputs: []workflow.Output{{Node: 0, Body: "{}"}},
	}
	_, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Changes: []*workflow.Change{change}})
	w.must(err, "commit")
	// It was added on the day of the run.
	w.exec("UPDATE cyclonetix__state.task_specs SET last_used = $1 WHERE task_id = 'added'", day)
	clean := func() {
		t.Helper()
		w.must(w.backend.DropPartitions(w.ctx, before), "drop partitions")
		w.must(w.backend.cleanup(w.ctx, policy), "clean up")
	}
	clean()
	if specs := ask[int](w, "SELECT count(*) FROM cyclonetix__state.task_specs WHERE task_id = 'added'"); specs != 1 {
		t.Errorf("%d specifications are left", specs)
	}
	if loaded, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{id}); err != nil || len(loaded) != 1 || loaded[0].Graph.Len() != 2 {
		t.Fatalf("it is loaded as %v, %v", loaded, err)
	}
	w.exec("DELETE FROM cyclonetix__state.live_runs")
	clean()
	for _, table := range []string{"run_nodes", "run_updates", "outputs", "task_specs"} {
		if rows := ask[int](w, "SELECT count(*) FROM cyclonetix__state."+table); rows != 0 {
			t.Errorf("%s has %d rows", table, rows)
		}
	}
}

// An agent knows the newest values that a task needs, and does not read them again for one that needs no newer ones.
func TestValuesThatChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := loop()
	of := submission(plan)
	of.Values = workflow.RunValues{Variables: map[string]workflow.Value{"x": `"given"`}, Sensitive: map[string]map[string]workflow.Value{"train": {"key": `"s3cret"`}}}
	w.takeOver()
	run := w.submit(of)[0].ID
	w.turn()
	session := w.agent("one")
	claim := func(want string) *engine.RunInfo {
		t.Helper()
		deliveries := w.wantClaim(session, 1, 0, want)
		report := reportOf(session, &deliveries[0])
		if want == "check" {
			report.Ends[0].Evaluation = chooses(workflow.ValueUpdate{
				Variables: map[string]workflow.Value{"x": workflow.Value(fmt.Sprint(w.runs[run].Version))}, Parameters: map[string]map[string]workflow.Value{"train": {"rate": "0.5"}},
			}, "train").Evaluation
		}
		w.must(session.Report(w.ctx, report, nil, nil), "report")
		w.turn()
		return deliveries[0].Tasks[0].Run
	}
	given := claim("train")
	if len(given.Values.Updates) != 0 || given.Values.Sensitive["train"]["key"] != `"s3cret"` || given.Values.Variables["x"] != `"given"` {
		t.Errorf("at first the values are %+v", given.Values)
	}
	side := claim("side")
	if side != given {
		t.Error("what is known is read again")
	}
	if check := claim("check"); check != given {
		t.Error("what is known is read again")
	}
	second := claim("train")
	if len(second.Values.Updates) != 1 || second.Values.Updates[0].Parameters["train"]["rate"] != "0.5" || second.Values.Sensitive["train"]["key"] != `"s3cret"` || len(given.Values.Updates) != 0 {
		t.Errorf("then the values are %+v, and were %+v", second.Values, given.Values)
	}
	claim("check")
	third := claim("train")
	// The second change has all that the first had, which is left out.
	if len(third.Values.Updates) != 1 || third.Values.Updates[0].Variables["x"] != "1" || second.Values.Updates[0].Variables["x"] != "0" {
		t.Errorf("at last the values are %+v", third.Values)
	}
	details, err := w.writer.Details(w.ctx, run)
	w.must(err, "load details")
	if difference := cmp.Diff(third.Values, details.Values); difference != "" {
		t.Errorf("the details: %s", difference)
	}
	made, err := w.backend.Given(w.ctx, run)
	w.must(err, "read what was given")
	if difference := cmp.Diff(&of.Values, made); difference != "" {
		t.Errorf("given was: %s", difference)
	}
	if _, err := w.backend.Given(w.ctx, workflow.NewRunID(w.writer.Now(), 1)); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("given to no run: %v", err)
	}
	w.wantRestored(run)
}

// A run without values gets some when an evaluation point says so.
func TestValuesOutOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(loop()).ID
	session := w.agent("one")
	w.wantClaim(session, 2, 0, "train side")
	at := w.writer.Now()
	change := &workflow.Change{ID: run, Run: &workflow.RunChange{Status: workflow.RunRunning, StartTime: at, Total: 4, Version: 1}, Updates: []workflow.PointUpdate{{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"x": "1"}}}}}
	commit := &engine.Commit{At: at, Changes: []*workflow.Change{change}, Dispatches: w.dispatches(w.runs[run], []workflow.Member{{Run: run, Node: 1, Attempt: 1, Delivery: 1}})}
	commit.Dispatches[0].Members[0].Values = 2
	_, err := w.writer.Commit(w.ctx, commit)
	w.must(err, "commit")
	if values := w.wantClaim(session, 1, 0, "check")[0].Tasks[0].Run.Values; len(values.Updates) != 1 || values.Updates[0].Variables["x"] != "1" {
		t.Errorf("the values are %+v", values)
	}
}

// Sensitive values are in one column, which no view shows, and in no answer for people.
func TestSensitiveValuesAreShownNowhere(t *testing.T) {
	t.Parallel()
	const marker = "s3cret-marker"
	w := newWorld(t)
	of := submission(planOf("a"))
	of.Values.Sensitive = map[string]map[string]workflow.Value{"a": {"key": workflow.StringValue(marker)}}
	of.Values.Parameters = map[string]map[string]workflow.Value{"a": {"open": `"shown"`}}
	w.takeOver()
	run := w.submit(of)[0].ID
	w.turn()
	w.drain(w.agent("one"))
	found := 0
	for _, column := range askAll[string](w, `SELECT format('SELECT count(*) FROM %I.%I t WHERE t.%I::text LIKE ', table_schema, table_name, column_name)
		FROM information_schema.columns WHERE table_schema LIKE 'cyclonetix%' AND table_name !~ '_\d{8}t\d{2}$'`) {
		if rows := ask[int](w, column+"'%"+marker+"%'"); rows > 0 {
			found++
			if !strings.Contains(column, "t.sensitive_values::") {
				t.Errorf("it is found by %s", column)
			}
		}
	}
	if found != 1 {
		t.Errorf("it is found in %d columns", found)
	}
	view := w.view(run)
	tasks, tasksErr := w.backend.TaskRuns(w.ctx, run)
	events, eventsErr := w.backend.Events(w.ctx, run)
	w.must(errors.Join(tasksErr, eventsErr), "read")
	if text := fmt.Sprintf("%+v %+v %+v", view, tasks, events); strings.Contains(text, marker) {
		t.Errorf("answers show it: %s", text)
	}
	// Nor do errors.
	of.Values.Sensitive["a"]["key"] = marker // which is no JSON
	if _, err := w.backend.Submit(w.ctx, []engine.Submission{of}); err == nil || strings.Contains(err.Error(), marker) {
		t.Errorf("the error is %v", err)
	}
}

// What an evaluation point sets for another task may be sensitive there: it lies apart, in this run and in one that repeats it.
func TestParametersOfEvaluationsLieApart(t *testing.T) {
	t.Parallel()
	const marker = "s3cret-marker"
	w := newWorld(t)
	set := workflow.ValueUpdate{
		Variables:  map[string]workflow.Value{"x": "1"},
		Parameters: map[string]map[string]workflow.Value{"train": {"key": workflow.StringValue(marker)}},
	}
	of := submission(loop())
	of.Values.Former = []workflow.FormerUpdate{{Point: "other", ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"y": "2"}}}, {Point: "check", ValueUpdate: set}}
	w.takeOver()
	run := w.submit(of)[0].ID
	w.turn()
	session := w.agent("one")
	for _, task := range []string{"train", "side", "check"} {
		report := reportOf(session, &w.wantClaim(session, 1, 0, task)[0])
		if task == "check" {
			report.Ends[0].Evaluation = chooses(set, "train").Evaluation
		}
		w.must(session.Report(w.ctx, report, nil, nil), "report")
		w.turn()
	}
	var found []string
	for _, column := range askAll[string](w, `SELECT format('SELECT count(*) FROM %I.%I t WHERE t.%I::text LIKE ', table_schema, table_name, column_name)
		FROM information_schema.columns WHERE table_schema LIKE 'cyclonetix%' AND table_name !~ '_\d{8}t\d{2}$'`) {
		if ask[int](w, column+"'%"+marker+"%'") > 0 {
			found = append(found, strings.TrimPrefix(column, "SELECT count(*) "))
		}
	}
	slices.Sort(found)
	want := []string{
		"FROM cyclonetix__state.run_updates t WHERE t.sensitive::text LIKE ", "FROM cyclonetix__state.runs t WHERE t.sensitive_values::text LIKE ",
	}
	if !slices.Equal(found, want) {
		t.Errorf("it is found in %q", found)
	}
	again := w.wantClaim(session, 1, 0, "train")[0].Tasks[0].Run.Values
	if difference := cmp.Diff([]workflow.ValueUpdate{set}, again.Updates); difference != "" {
		t.Errorf("the agent gets %s", difference)
	}
	made, err := w.backend.Given(w.ctx, run)
	w.must(err, "read what was given")
	if difference := cmp.Diff(&of.Values, made); difference != "" {
		t.Errorf("given was: %s", difference)
	}
	updates, err := w.backend.Updates(w.ctx, run)
	w.must(err, "read what was changed")
	if len(updates) != 1 || cmp.Diff(set, updates[0].ValueUpdate) != "" {
		t.Errorf("a rerun gets %+v", updates)
	}
}

// A rerun has the outputs of what it keeps.
func TestOutputsOfKeptTasks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start(planOf("a", "b", "c: a b")).ID
	session := w.agent("one")
	w.end(session, "a", gives(`{"n": 1}`))
	w.end(session, "b", completed)
	w.end(session, "c", failed)
	of := submission(planOf("b", "a", "c: a b", "d"))
	of.RerunOf, of.Options.Kept = first, []workflow.KeptNode{{Node: 1, From: first, FromNode: 0}, {Node: 0, From: first, FromNode: 1}, {Node: 3}}
	run := w.submit(of)[0].ID
	w.turn()
	w.wantStates(run, "b completed kept, a completed kept, c queued 1, d skipped kept")
	w.wantRestored(run)
	w.wantOutputs(session, run, map[string]workflow.Value{"a": `{"n": 1}`}, "a", "b", "c", "d")
	if view := w.view(run); view.RerunOf != first {
		t.Errorf("it repeats %s", view.RerunOf)
	}
	w.drain(session)
	w.wantStatus(run, workflow.RunCompleted)
	// What is done again gives something else, or nothing.
	w.command(run, engine.CommandRetry, 2)
	w.wantOutputs(session, run, map[string]workflow.Value{"a": `{"n": 1}`}, "a", "c")
	w.end(session, "c", gives(`{"n": 3}`))
	w.wantOutputs(session, run, map[string]workflow.Value{"a": `{"n": 1}`, "c": `{"n": 3}`}, "a", "c")
	w.command(run, engine.CommandRetry, 2)
	w.wantOutputs(session, run, map[string]workflow.Value{"a": `{"n": 1}`}, "a", "c")
	w.end(session, "c", completed)
	w.wantOutputs(session, run, map[string]workflow.Value{"a": `{"n": 1}`}, "a", "c")
}

// Iterations do not become slower to name: only new ones are read.
func TestNamesAreReadOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	plan, err := w.backend.planOf(w.ctx, run.ID)
	w.must(err, "find the plan")
	add := func(number int32) {
		t.Helper()
		change := &workflow.Change{ID: run.ID, Nodes: []workflow.GrownNode{{Number: number, Node: workflow.Node{Name: fmt.Sprintf("a#%d", number+1)}}}}
		_, err := w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Changes: []*workflow.Change{change}})
		w.must(err, "commit")
	}
	names := func() string {
		t.Helper()
		names, err := w.backend.nodeNames(w.ctx, run.ID, plan)
		w.must(err, "read the names")
		return strings.Join(names, " ")
	}
	add(1)
	if got := names(); got != "a a#2" {
		t.Errorf("the names are %s", got)
	}
	// What is known is not read again.
	w.exec("UPDATE cyclonetix__state.run_nodes SET name = 'x' WHERE node = 1")
	w.exec("UPDATE cyclonetix__state.plan_nodes SET name = 'y'")
	add(2)
	if got := names(); got != "a a#2 a#3" {
		t.Errorf("then the names are %s", got)
	}
	w.backend.plans.held = maxCachedNames + 1
	w.backend.keepNames(0, func(*planCache) {})
	if got := names(); got != "y x a#3" {
		t.Errorf("read anew the names are %s", got)
	}
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	set := func(states ...engine.ScheduleState) {
		t.Helper()
		w.must(w.backend.SetScheduleStates(w.ctx, states), "set")
	}
	set()
	set(engine.ScheduleState{DAG: "b", LastDate: at}, engine.ScheduleState{DAG: "a", LastDate: at}, engine.ScheduleState{DAG: "b", LastDate: at.Add(time.Hour)})
	set(engine.ScheduleState{DAG: "b", LastDate: at}, engine.ScheduleState{DAG: "a", LastDate: at.Add(time.Minute)}) // never back
	got, err := w.open().ScheduleStates(w.ctx)
	w.must(err, "read")
	if want := []engine.ScheduleState{{DAG: "a", LastDate: at.Add(time.Minute)}, {DAG: "b", LastDate: at.Add(time.Hour)}}; !slices.Equal(got, want) {
		t.Errorf("the schedules are %v", got)
	}

	w.takeOver()
	session := w.agent("one")
	of := submission(planOf("a"))
	of.Options.LogicalDate = at
	succeeded := func(dag string, date time.Time) bool {
		t.Helper()
		states, err := w.backend.Dates(w.ctx, []engine.LogicalDate{{DAG: dag, Date: date}})
		w.must(err, "look for a date")
		return states[0].Succeeded
	}
	run := w.submit(of)[0].ID
	w.turn()
	w.end(session, "a", failed)
	if view := w.view(run); succeeded("dag", at) || !view.LogicalDate.Equal(at) {
		t.Errorf("a run that failed is %+v", view)
	}
	again := w.submit(of)[0].ID
	w.turn()
	w.end(session, "a", completed)
	if !succeeded("dag", at) || succeeded("dag", at.Add(time.Hour)) || succeeded("other", at) {
		t.Error("the date did not succeed, or another did")
	}
	w.command(run, engine.CommandRetry, 0) // the other run of the same date succeeds, too
	w.end(session, "a", completed)
	w.wantStatus(run, workflow.RunCompleted)
	w.wantStatus(again, workflow.RunCompleted)
}

func TestPins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := planOf("a")
	buckets := map[int]bool{}
	for number := range 50 {
		of := submission(plan)
		of.Pin = fmt.Sprintf("dag %d", number)
		answers := w.submit(of, of)
		third, err := w.open(func(o *Options) { o.Visit = true }).Submit(w.ctx, []engine.Submission{of})
		w.must(err, "submit")
		if bucket := answers[0].ID.Bucket(); bucket != answers[1].ID.Bucket() || bucket != third[0].ID.Bucket() || bucket >= w.backend.buckets {
			t.Fatalf("the same pin leads to %s, %s and %s", answers[0].ID, answers[1].ID, third[0].ID)
		}
		buckets[answers[0].ID.Bucket()] = true
	}
	if len(buckets) < 30 {
		t.Errorf("50 pins lead to the buckets %v", slices.Sorted(maps.Keys(buckets)))
	}
}

// Of many submissions those whose keys are known are answered with the earlier runs.
func TestIdempotencyKeysOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keyed := func(key string) engine.Submission {
		of := submission(planOf("a"))
		of.IdempotencyKey = key
		return of
	}
	first := w.submit(keyed("1"), keyed("2"))
	second := w.submit(keyed("2"), keyed(""), keyed("3"), keyed("1"))
	for i, want := range []struct {
		existing bool
		id       workflow.RunID
	}{{true, first[1].ID}, {false, second[1].ID}, {false, second[2].ID}, {true, first[0].ID}} {
		if second[i].Existing != want.existing || second[i].ID != want.id || second[i].ID.IsZero() {
			t.Errorf("answer %d is %+v", i, second[i])
		}
	}
	if runs := ask[int](w, "SELECT count(*) FROM cyclonetix__state.runs"); runs != 4 {
		t.Errorf("there are %d runs", runs)
	}
	if _, err := w.backend.Submit(w.ctx, []engine.Submission{keyed("4"), keyed("4")}); !errors.Is(err, engine.ErrNameTaken) {
		t.Errorf("a key twice at once: %v", err)
	}
}

// The rules of a run come to its writer with the message, and when it is loaded.
func TestOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	of := submission(planOf("a", "b"))
	at := time.Date(2026, 3, 1, 1, 2, 3, 0, time.UTC)
	of.Options = workflow.RunOptions{
		MaxParallel: 1, TimeoutSeconds: 1.5, OnFailure: workflow.OnFailureStop, LogicalDate: at, After: at.Add(-time.Hour),
		Groups: []workflow.RunGroup{{Name: "dag", MaxActive: 1}}, Kept: []workflow.KeptNode{{Node: 1}},
	}
	plain := w.submit(submission(planOf("a")))[0].ID
	run := w.submit(of)[0].ID
	mail, err := w.writer.ReadMail(w.ctx, true, 100)
	w.must(err, "read mail")
	want := map[workflow.RunID]workflow.RunOptions{plain: {}, run: of.Options}
	for i := range mail {
		if difference := cmp.Diff(want[mail[i].Run], mail[i].Options); difference != "" {
			t.Errorf("the message says: %s", difference)
		}
	}
	loaded, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{plain, run})
	w.must(err, "load")
	for _, run := range loaded {
		if difference := cmp.Diff(want[run.ID], run.Options); difference != "" || run.Revision != 1 {
			t.Errorf("loaded is revision %d and %s", run.Revision, difference)
		}
	}
	if stored := ask[bool](w, "SELECT options IS NULL FROM cyclonetix__state.runs WHERE run_id = $1", plain.String()); !stored {
		t.Error("no rules are stored as some")
	}
	w.exec("UPDATE cyclonetix__state.runs SET options = '[]' WHERE run_id = $1", run.String())
	var broken *engine.BrokenRunError
	if _, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{run}); !errors.As(err, &broken) || broken.ID != run {
		t.Errorf("rules that can't be read: %v", err)
	}
}
