package postgres

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestSubmitNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	named := submission(planOf("a"))
	named.Name = "nightly"
	first := w.submit(named)[0]
	if first.Name != "nightly" || first.Existing {
		t.Errorf("the answer is %+v", first)
	}
	if _, err := w.backend.Submit(w.ctx, []engine.Submission{named}); !errors.Is(err, engine.ErrNameTaken) || errors.Is(err, engine.ErrUncertain) {
		t.Errorf("a second run of that name: %v", err)
	}
	// All of a submission, or nothing.
	if _, err := w.backend.Submit(w.ctx, []engine.Submission{submission(planOf("a")), named}); !errors.Is(err, engine.ErrNameTaken) {
		t.Errorf("and beside another: %v", err)
	}
	for table, want := range map[string]int{"runs": 1, "run_states": 1, "run_names": 1, "live_runs": 1, "mailbox": 1} {
		if count := ask[int](w, "SELECT count(*) FROM cyclonetix__state."+table); count != want {
			t.Errorf("%s has %d rows, should have %d", table, count, want)
		}
	}
	view, err := w.backend.FindRun(w.ctx, "nightly")
	if err != nil || view.ID != first.ID || view.Status != workflow.RunPending || !view.CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("found is %+v, %v", view, err)
	}
	// Keys and names are different things.
	keyed := submission(planOf("a"))
	keyed.IdempotencyKey = "nightly"
	if answer := w.submit(keyed)[0]; answer.Existing || answer.ID == first.ID {
		t.Errorf("a key like the name of a run: %+v", answer)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	const many = 6
	w := newWorld(t)
	keyed := submission(planOf("a"))
	keyed.IdempotencyKey, keyed.Name = "key", "named"
	var group sync.WaitGroup
	answers := make([]engine.Submitted, many)
	start := make(chan struct{})
	for i := range many {
		group.Go(func() {
			<-start
			answer, err := w.backend.Submit(w.ctx, []engine.Submission{keyed})
			if err != nil {
				t.Error(err)
				return
			}
			answers[i] = answer[0]
		})
	}
	close(start)
	group.Wait()
	fresh := 0
	for _, answer := range answers {
		if !answer.Existing {
			fresh++
		}
		if answer.ID != answers[0].ID || answer.Name != "named" || !answer.CreatedAt.Equal(answers[0].CreatedAt) {
			t.Errorf("one answer is %+v, another %+v", answer, answers[0])
		}
	}
	if runs := ask[int](w, "SELECT count(*) FROM cyclonetix__state.runs"); runs != 1 || fresh != 1 {
		t.Errorf("%d runs were made, and %d say so", runs, fresh)
	}
}

func TestMaxPendingSubmits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.MaxPendingSubmits = 5 })
	plan := planOf("a")
	accepted := 0
	var err error
	for ; accepted < 100 && err == nil; accepted++ {
		_, err = w.backend.Submit(w.ctx, []engine.Submission{submission(plan)})
	}
	if !errors.Is(err, engine.ErrTooManyPending) || errors.Is(err, engine.ErrUncertain) || accepted-1 != 5 {
		t.Fatalf("after %d runs: %v", accepted-1, err)
	}
	if pending := ask[int](w, "SELECT count(*) FROM cyclonetix__state.runs"); pending != 5 {
		t.Errorf("%d runs are stored", pending)
	}
	// Another process knows of them, too, and room is found again.
	if _, err := w.open().Submit(w.ctx, []engine.Submission{submission(plan)}); !errors.Is(err, engine.ErrTooManyPending) {
		t.Errorf("another process hears: %v", err)
	}
	w.takeOver()
	w.turn()
	w.submit(submission(plan))
}

// A plan is stored once, whoever submits it and however many at once.
func TestPlanIsStoredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.open()
	var group sync.WaitGroup
	for number := range 8 {
		group.Go(func() {
			backend := w.backend
			if number%2 == 1 {
				backend = other
			}
			if _, err := backend.Submit(w.ctx, []engine.Submission{submission(planOf("a", "b: a")), submission(planOf("a", "b: a"))}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := ask[string](w, `SELECT concat_ws(' ', (SELECT count(*) FROM cyclonetix__state.runs), (SELECT count(*) FROM cyclonetix__state.plans),
		(SELECT count(*) FROM cyclonetix__state.plan_nodes), (SELECT count(*) FROM cyclonetix__state.task_specs), (SELECT count(DISTINCT plan) FROM cyclonetix__state.runs))`); got != "16 1 2 2 1" {
		t.Errorf("runs, plans, nodes, specifications, plans of runs are %s", got)
	}
	// One that was removed meanwhile is stored again by those who do not know of it.
	w.exec("UPDATE cyclonetix__state.plans SET last_used = '2020-01-01'")
	w.exec("UPDATE cyclonetix__state.task_specs SET last_used = '2020-01-01'")
	if _, err := w.open().Submit(w.ctx, []engine.Submission{submission(planOf("a", "b: a"))}); err != nil {
		t.Fatal(err)
	}
	if fresh := ask[int](w, `SELECT (SELECT count(*) FROM cyclonetix__state.plans WHERE last_used > '2020-01-01') + (SELECT count(*) FROM cyclonetix__state.task_specs WHERE last_used > '2020-01-01')`); fresh != 3 {
		t.Errorf("%d of 3 are marked as used", fresh)
	}
}

// Graphs of any form come back as they were.
func TestPlansRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	plan := planOf("a", "b", "c: a b", "d: c", "e: a d c")
	plan.Specs[1].Requires, plan.Specs[1].Priority, plan.Specs[1].Queue = []string{"x", "y"}, 1, "q\"u'e,{u}e"
	plan.Specs[2].Retries = workflow.Retries{Count: 3, DelaySeconds: 0.5}
	plan.Nodes[4].Spec = 2
	plan.Nodes[3].Name = `d"',{}\`
	id := w.submit(submission(plan))[0].ID
	nodes, err := w.backend.Plan(w.ctx, id)
	w.must(err, "read the plan")
	for number, node := range nodes {
		want := engine.PlanNode{Node: int32(number), Name: plan.Nodes[number].Name, TaskID: plan.Specs[plan.Nodes[number].Spec].TaskID, Dependencies: plan.Nodes[number].Dependencies} //nolint:gosec // small
		if len(node.Dependencies) == 0 {
			node.Dependencies = nil
		}
		if difference := cmp.Diff(want, node); difference != "" {
			t.Error(difference)
		}
	}
	run := w.run(id)
	for number := range plan.Nodes {
		spec := plan.Specs[plan.Nodes[number].Spec]
		if got := run.Graph.Scheduling(int32(number)); got.Queue != spec.Queue || got.Priority != spec.Priority || got.Retries != spec.Retries || !cmp.Equal(got.Requires, spec.Requires) { //nolint:gosec // small
			t.Errorf("node %d is scheduled as %+v", number, got)
		}
	}
}

func TestValuesRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	of := submission(planOf("a"))
	of.Context, of.DAG, of.Task = "production", "", "a"
	of.Values = workflow.RunValues{
		Variables:  map[string]workflow.Value{"n": "12.50", "s": workflow.StringValue("ü\u2028\" '$1"), "o": `{"k":[1,null]}`},
		Parameters: map[string]map[string]workflow.Value{"a": {"p": "true"}},
		Env:        map[string]string{"EMPTY": "", "X": "a=b\nc"},
	}
	id := w.submit(of)[0].ID
	w.turn()
	delivery := w.claim(w.agent("one"), 1, 0)[0]
	if difference := cmp.Diff(of.Values, *delivery.Tasks[0].Run.Values); difference != "" {
		t.Error(difference)
	}
	view := w.view(id)
	if view.Context != of.Context || view.DAG != "a" || !view.ByOutcome || view.Actor != of.Actor || view.Cause != of.Cause || view.Revision != of.Revision || view.TaskCount != 1 {
		t.Errorf("the run is %+v", view)
	}
}

func TestCancelOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.backend.Cancel(w.ctx, workflow.NewRunID(time.Now(), 1), "ann"); !errors.Is(err, engine.ErrNotFound) || errors.Is(err, engine.ErrUncertain) {
		t.Errorf("an unknown run: %v", err)
	}
	run := w.start(planOf("a"))
	w.drain(w.agent("one"))
	if err := w.backend.Cancel(w.ctx, run.ID, "ann"); !errors.Is(err, engine.ErrEnded) {
		t.Errorf("an ended run: %v", err)
	}
}

// A machine that slept gives its runs the time of the database, not its own.
func TestSubmitAfterTheMachineSlept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reading := *w.backend.clock.reading.Load()
	reading.database = reading.database.Add(-3 * time.Hour)
	w.backend.clock.reading.Store(&reading)
	asleep := time.Now().Add(-time.Minute).Round(0) // by the clock of the wall
	w.backend.clock.checked.Store(&asleep)
	at := w.submit(submission(planOf("a")))[0].CreatedAt
	if off := ask[float64](w, "SELECT extract(epoch FROM clock_timestamp() - $1::timestamptz)::float8", at); off < -1 || off > float64(patience/time.Second) {
		t.Errorf("the run is %.0f s old", off)
	}
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	publish := func(bodies map[string]string) (int64, bool) {
		t.Helper()
		var definitions []engine.Definition
		for id, body := range bodies {
			definitions = append(definitions, engine.Definition{Kind: "task", ID: id, Body: []byte(body)})
		}
		revision, changed, err := w.backend.Publish(w.ctx, definitions, "test")
		w.must(err, "publish")
		return revision, changed
	}
	if revision, changed := publish(nil); revision != 0 || changed {
		t.Errorf("nothing is revision %d, changed %v", revision, changed)
	}
	states := []map[string]string{{"a": `{"v":1}`, "b": `{"v":1}`}, {"a": `{"v": 2}`, "b": `{"v":1}`}, {"b": `{"v":1}`}, {"a": `{"v":1}`, "b": `{"v":1}`}, {}}
	var revisions []int64
	for _, state := range states {
		revision, changed := publish(state)
		if again, changedAgain := publish(state); !changed || changedAgain || again != revision {
			t.Errorf("revision %d, changed %v, and again %d, %v", revision, changed, again, changedAgain)
		}
		revisions = append(revisions, revision)
	}
	for number, state := range states {
		definitions, err := w.backend.LoadDefinitions(w.ctx, revisions[number])
		w.must(err, "load")
		got := map[string]string{}
		for _, definition := range definitions {
			got[definition.ID] = string(definition.Body)
		}
		if !cmp.Equal(got, state) {
			t.Errorf("revision %d holds %v, should hold %v", revisions[number], got, state)
		}
	}
	// Publishers take turns.
	var group sync.WaitGroup
	for number := range 4 {
		group.Go(func() {
			if _, _, err := w.backend.Publish(w.ctx, []engine.Definition{{Kind: "task", ID: "a", Body: fmt.Appendf(nil, `{"v":%d}`, 10+number)}}, "test"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if current := ask[int](w, "SELECT count(*) FROM cyclonetix__state.definitions WHERE to_revision IS NULL"); current != 1 {
		t.Errorf("%d definitions are current", current)
	}
}

// What a server declared that is gone counts for a while, unless no other declares, and is forgotten at last.
func TestDeclarationsAge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	declare := func(server string, queues ...string) {
		t.Helper()
		w.must(w.backend.Declare(w.ctx, server, engine.Declared{Queues: queues}), "declare")
	}
	want := func(queues ...string) {
		t.Helper()
		got, err := w.backend.Declared(w.ctx)
		if w.must(err, "read what is declared"); !slices.Equal(got.Queues, queues) {
			t.Fatalf("declared are %q, should be %q", got.Queues, queues)
		}
	}
	age := func(by string) {
		t.Helper()
		w.exec("UPDATE cyclonetix__state.declarations SET at = at - $1::text::interval", by)
	}
	declare("gone", "old")
	age("1 hour")
	want("old")
	w.exec("UPDATE cyclonetix__state.declarations SET at = now() - interval '299 seconds'")
	declare("here", "new")
	want("new", "old")
	age("5 seconds")
	declare("here", "new")
	want("new")
	age("2 days")
	want("new")
	declare("here", "new")
	if servers := askAll[string](w, "SELECT server FROM cyclonetix__state.declarations"); !slices.Equal(servers, []string{"here"}) {
		t.Errorf("kept is what %v declared", servers)
	}
}
