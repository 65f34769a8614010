package backendtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var valueTests = []test{
	{name: "the output of a task run reaches agents and writers, by its task", run: func(w *world) {
		plan := planOf("a", "b: a", "c: b", "silent")
		plan.Nodes[1].Name = "group/b"
		run := w.start(plan)
		w.advance(run, nil, w.gave(run, 0, `{"rows":12,"name":"x y"}`), w.completed(member(run, 3)))
		w.advance(run, nil, w.gave(run, 1, `{}`))
		w.wantOutputs(run.ID, []string{"a", "group/b", "b", "c", "silent", "unknown"}, `{"a":{"name":"x y","rows":12},"group/b":{}}`)
		w.wantOutputs(run.ID, []string{"c", "a"}, `{"a":{"name":"x y","rows":12}}`)
		w.wantOutputs(run.ID, nil, `{}`)
		w.wantOutputs(workflow.NewRunID(w.now(), 1), []string{"a"}, `{}`)
		w.takeOver()
		w.wantOutputs(run.ID, []string{"a"}, `{"a":{"name":"x y","rows":12}}`)
	}},
	{name: "a longer name that a task of the run has is told from one that nobody has", run: func(w *world) {
		run := w.start(planOf("a", "a.b", "d", "last: a a.b d"))
		w.advance(run, nil, w.gave(run, 0, `{"b":{"c":1}}`), w.completed(member(run, 1)), w.gave(run, 2, `{"b":{"c":2}}`))
		session := w.agent("one")
		for range 2 {
			outputs, err := session.Outputs(w.ctx, run.ID, []string{"a", "a.b", "a.b.c", "d", "d.b"})
			w.must(err, "read the outputs")
			silent, there := outputs["a.b"]
			if len(outputs) != 3 || outputs["a"] != `{"b":{"c":1}}` || outputs["d"] != `{"b":{"c":2}}` || !there || silent != "" {
				w.Fatalf("the outputs are %q", outputs)
			}
			w.takeOver()
		}
	}},
	{name: "an output is that of the newest iteration that completed", run: func(w *world) {
		run := w.start(deciding(planOf("train", "check: train"), 1))
		w.advance(run, nil, w.gave(run, 0, `{"turn":1}`))
		w.advance(run, nil, w.evaluated(run, 1, choosing("train")))
		w.wantOutputs(run.ID, []string{"train"}, `{"train":{"turn":1}}`)
		w.advance(run, nil, w.gave(run, 2, `{"turn":2}`))
		w.wantOutputs(run.ID, []string{"train"}, `{"train":{"turn":2}}`)
		for turn := int32(3); turn <= 10; turn++ {
			w.advance(run, nil, w.evaluated(run, 2*turn-3, choosing("train")))
			w.advance(run, nil, w.gave(run, 2*turn-2, workflow.Value(fmt.Sprintf(`{"turn":%d}`, turn))))
		}
		w.wantOutputs(run.ID, []string{"train"}, `{"train":{"turn":10}}`) // "train#10" is after "train#9"
		w.advance(run, nil, w.evaluated(run, 19, choosing("train")))
		w.advance(run, nil, w.completed(current(run, 20)))
		w.wantOutputs(run.ID, []string{"train"}, `{}`) // the newest gave nothing
	}},
	{name: "the output of a task run that runs again is gone", run: func(w *world) {
		run := w.start(planOf("a", "b: a"))
		w.advance(run, nil, w.gave(run, 0, `{"attempt":1}`))
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		w.wantOutputs(run.ID, []string{"a"}, `{}`)
		w.advance(run, nil, w.completed(current(run, 0)))
		w.wantOutputs(run.ID, []string{"a"}, `{}`)
		w.advance(run, nil, asked(workflow.EventRetry, 0))
		w.advance(run, nil, w.gave(run, 0, `{"attempt":3}`))
		w.wantOutputs(run.ID, []string{"a"}, `{"a":{"attempt":3}}`)
	}},
	{name: "outputs of kept task runs are copied", run: func(w *world) {
		former := w.start(planOf("first", "a: first", "b: a", "silent"))
		w.advance(former, nil, w.completed(member(former, 0)), w.completed(member(former, 3)))
		w.advance(former, nil, w.gave(former, 1, `{"rows":12}`))
		w.advance(former, nil, w.failed(member(former, 2), 1))
		of := submission(planOf("a", "b: a", "silent", "extra"))
		of.RerunOf = former.ID
		of.Options.Kept = []workflow.KeptNode{{Node: 0, From: former.ID, FromNode: 1}, {Node: 2, From: former.ID, FromNode: 3}, {Node: 3}}
		run := w.startOf(of)
		w.wantStatuses(run.ID, "a completed, b queued, silent completed, extra skipped")
		w.wantOutputs(run.ID, []string{"a", "b", "silent", "extra"}, `{"a":{"rows":12}}`)
		for _, number := range []int{0, 2, 3} {
			task := w.tasks(run.ID)[number]
			if task.Cause != workflow.CauseKept || task.Attempt != 0 || !task.StartTime.IsZero() || !task.QueuedTime.IsZero() || task.EndTime.IsZero() {
				w.Errorf("a kept task run is seen as %+v", task)
			}
		}
		w.takeOver()
		w.wantStored(run)
		third := of
		third.RerunOf = run.ID
		third.Options.Kept = []workflow.KeptNode{{Node: 0, From: run.ID}}
		w.wantOutputs(w.startOf(third).ID, []string{"a"}, `{"a":{"rows":12}}`) // copies are copied, too
	}},
	{name: "updates reach the agent that claims after them, and in order", run: func(w *world) {
		run := w.start(deciding(planOf("one", "two: one", "three: two", "beside"), 0, 1))
		session := w.agent("one")
		beside := w.claim(session, 9, 0)
		w.wantNames(beside, "one beside")
		first := workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{
			Variables: map[string]workflow.Value{"A": `1`, "B": `"x"`}, Parameters: map[string]map[string]workflow.Value{"three": {"P": `[1]`}},
		}}
		second := workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"A": `2`}}}
		w.advance(run, nil, w.evaluated(run, 0, first))
		claimed := w.claim(session, 9, 0)
		w.wantNames(claimed, "two")
		w.wantUpdates(claimed[0].Tasks[0].Run.Values, first.ValueUpdate)
		w.advance(run, nil, w.evaluated(run, 1, second))
		if run.Version != 2 {
			w.Fatalf("the version is %d", run.Version)
		}
		w.wantStored(run)
		for _, delivery := range w.dispatched() {
			if of := delivery.Members[0]; of.Node == 2 && of.Values != 3 {
				w.Errorf("the delivery says %d of the values", of.Values)
			}
		}
		claimed = w.claim(session, 9, 0)
		w.wantNames(claimed, "three")
		w.wantUpdates(claimed[0].Tasks[0].Run.Values, first.ValueUpdate, second.ValueUpdate)
		w.wantUpdates(w.details(run.ID).Values, first.ValueUpdate, second.ValueUpdate)
		w.takeOver()
		w.wantUpdates(w.details(run.ID).Values, first.ValueUpdate, second.ValueUpdate)
	}},
	{name: "of what changed it is known by which evaluation point", run: func(w *world) {
		run := w.start(deciding(planOf("one", "two", "after: one two"), 0, 1))
		update := func(value workflow.Value) workflow.Evaluation {
			return workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"A": value}}}
		}
		w.advance(run, nil, w.evaluated(run, 1, update(`1`)), w.evaluated(run, 0, update(`2`)))
		w.advance(run, nil, asked(workflow.EventRetry, 1))
		w.advance(run, nil, w.evaluated(run, 1, update(`3`)))
		if run.Version != 3 {
			w.Errorf("the version is %d", run.Version)
		}
		w.wantStored(run)
		updates, err := w.backend.Updates(w.ctx, run.ID)
		w.must(err, "read the updates")
		var got []string
		for i := range updates {
			got = append(got, fmt.Sprintf("%d:%s", updates[i].Node, updates[i].Variables["A"]))
		}
		if !slices.Equal(got, []string{"1:1", "0:2", "1:3"}) {
			w.Errorf("the updates are %s", got)
		}
	}},
	{name: "what evaluation points of a former run changed is under what those of this one change", run: func(w *world) {
		of := submission(deciding(planOf("one", "two: one", "three: two"), 1))
		former := workflow.ValueUpdate{
			Variables: map[string]workflow.Value{"A": `1`}, Parameters: map[string]map[string]workflow.Value{"three": {"P": `[1]`}},
		}
		of.Values.Former = []workflow.FormerUpdate{{Point: "zero", ValueUpdate: former}}
		run := w.startOf(of)
		w.advance(run, nil, w.completed(member(run, 0)))
		own := workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"A": `2`}}}
		w.advance(run, nil, w.evaluated(run, 1, own))
		w.takeOver()
		w.wantStored(run)
		given, err := w.backend.Given(w.ctx, run.ID)
		w.must(err, "read the values")
		session := w.agent("one")
		var seen *workflow.RunValues
		for _, delivery := range w.claim(session, 9, 0) {
			seen = delivery.Tasks[0].Run.Values
		}
		for reader, values := range map[string]*workflow.RunValues{"a rerun": given, "the writer": w.details(run.ID).Values, "the agent": seen} {
			if textOf(values) != textOf(of.Values) {
				w.Errorf("%s reads %s, should read %s", reader, textOf(values), textOf(of.Values))
			}
		}
		w.wantUpdates(seen, own.ValueUpdate)
		updates, err := w.backend.Updates(w.ctx, run.ID)
		w.must(err, "read the updates")
		if len(updates) != 1 || updates[0].Node != 1 {
			w.Errorf("the updates are %+v", updates)
		}
	}},
	{name: "updates reach what is in the queue and nobody has claimed", run: func(w *world) {
		of := submission(deciding(planOf("decides", "one", "two", "after: decides one two"), 0))
		of.Values.Variables = map[string]workflow.Value{"A": `0`}
		session := w.agent("with one slot")
		for _, of := range []engine.Submission{of, submission(of.Plan)} { // of the second, the update is all that it has
			run, other := w.startOf(of), w.start(planOf("other"))
			w.wantNames(w.claim(session, 1, 0), "decides")
			update := workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"A": `1`}}}
			w.advance(run, nil, w.evaluated(run, 0, update))
			w.wantStored(run)
			for range 2 {
				claimed := w.claim(session, 1, 0)
				if len(claimed) != 1 || claimed[0].Tasks[0].Run.ID != run.ID {
					w.Fatalf("claimed is %+v", claimed)
				}
				w.wantUpdates(claimed[0].Tasks[0].Run.Values, update.ValueUpdate)
			}
			for _, delivery := range w.claim(session, 9, 0) {
				if delivery.Tasks[0].Run.ID == other.ID {
					w.wantUpdates(delivery.Tasks[0].Run.Values)
				}
			}
		}
	}},
	{name: "updates of two evaluation points in one commit are both stored", run: func(w *world) {
		of := submission(deciding(planOf("one", "two", "after: one two"), 0, 1))
		of.Values.Variables = map[string]workflow.Value{"A": `0`}
		run := w.startOf(of)
		update := func(name string) workflow.Evaluation {
			return workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{name: `1`, "A": workflow.StringValue(name)}}}
		}
		w.advance(run, nil, w.evaluated(run, 0, update("B")), w.evaluated(run, 1, update("C")))
		w.wantStored(run)
		got := map[string]workflow.Value{}
		values := w.details(run.ID).Values
		for _, update := range values.Updates {
			maps.Copy(got, update.Variables)
		}
		if values.Variables["A"] != `0` || textOf(got) != `{"A":"C","B":1,"C":1}` {
			w.Fatalf("the values are %+v", values)
		}
	}},
	{name: "a refused commit leaves values and outputs as they are", run: func(w *world) {
		run := w.start(deciding(planOf("one", "two: one"), 0))
		event := w.evaluated(run, 0, workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"A": `1`}}})
		event.Result.Output = `{"k":1}`
		change := w.decide(run, event)
		missing := engine.MailKey{Bucket: run.ID.Bucket(), XID: 1, ID: 1 << 40}
		if _, err := w.writer.Commit(w.ctx, &engine.Commit{At: change.At, Changes: []*workflow.Change{change}, Mail: []engine.MailKey{missing}}); !errors.Is(err, engine.ErrRefused) {
			w.Fatalf("the commit gives %v", err)
		}
		w.wantStored(run)
		w.wantUpdates(w.details(run.ID).Values)
		w.advance(run, nil, event)
		w.wantOutputs(run.ID, []string{"one"}, `{"one":{"k":1}}`)
	}},
	{name: "sensitive values reach the agent and reruns, and no reader", run: sensitiveValues},
	{name: "the values that a run was made with are given whole, without what changed since", run: func(w *world) {
		of := submission(deciding(planOf("a", "b: a"), 0))
		of.Values = workflow.RunValues{
			Variables:  map[string]workflow.Value{"V": `"1"`, "N": `[1,{"x":null}]`},
			Parameters: map[string]map[string]workflow.Value{"a": {"P": `2`, "Q": `null`}, "b:large": {"P": `true`}},
			Env:        map[string]string{"E": "a\nb"},
			Macros:     &workflow.Macros{Time: w.open().Now().UTC().Truncate(time.Microsecond), LogicalDate: time.Date(2024, 3, 31, 1, 30, 0, 0, time.UTC), Seed: "s33d"},
		}
		run := w.startOf(of)
		w.advance(run, nil, w.evaluated(run, 0, workflow.Evaluation{ValueUpdate: workflow.ValueUpdate{Variables: map[string]workflow.Value{"V": `"2"`}}}))
		given, err := w.backend.Given(w.ctx, run.ID)
		w.must(err, "read the values")
		if textOf(given) != textOf(of.Values) || len(given.Updates) > 0 {
			w.Errorf("given are %s and %v, should be %s", textOf(given), given.Updates, textOf(of.Values))
		}
		w.claim(w.agent("zero"), 1, 0)
		if seen := w.details(run.ID).Values; textOf(seen) != textOf(of.Values) || len(seen.Updates) != 1 {
			w.Errorf("the writer reads %s and %v, should read %s", textOf(seen), seen.Updates, textOf(of.Values))
		}
		empty, err := w.backend.Given(w.ctx, w.submit(submission(planOf("a")))[0].ID)
		w.must(err, "read the values")
		if empty == nil || !empty.IsZero() {
			w.Errorf("the values of a run without any are %+v", empty)
		}
		if _, err := w.backend.Given(w.ctx, workflow.NewRunID(w.now(), 1)); !errors.Is(err, engine.ErrNotFound) {
			w.Errorf("the values of an unknown run give %v", err)
		}
	}},
	{name: "a writer reads what a run is made of", run: func(w *world) {
		of := submission(planOf("a", "b: a"))
		of.Name, of.Revision = "nightly-1", 7
		of.Plan.Nodes[1].Name = "group/b"
		id := w.startOf(of).ID
		details := w.details(id)
		if details.Name != "nightly-1" || details.DAG != "dag" || details.Revision != 7 || !slices.Equal(details.Names, []string{"a", "group/b"}) ||
			details.Values == nil || !details.Values.IsZero() {
			w.Errorf("the details are %+v", details)
		}
		if run := w.load(id); run.Revision != 7 {
			w.Errorf("the run is loaded with the revision %d", run.Revision)
		}
		if _, err := w.writer.Details(w.ctx, workflow.NewRunID(w.now(), 1)); !errors.Is(err, engine.ErrNotFound) {
			w.Errorf("the details of an unknown run give %v", err)
		}
		body, hash := of.Plan.Specs[1].Encode()
		spec, err := w.writer.Spec(w.ctx, hash)
		w.must(err, "load a specification")
		if got, _ := spec.Encode(); string(got) != string(body) {
			w.Errorf("the specification is %s, should be %s", got, body)
		}
		if _, err := w.writer.Spec(w.ctx, workflow.HashOf([]byte("nothing"))); !errors.Is(err, engine.ErrNotFound) {
			w.Errorf("an unknown specification gives %v", err)
		}
	}},
}

// gave is the event of a task run that completed with an output.
func (w *world) gave(run *workflow.Run, node int32, output workflow.Value) workflow.Event {
	event := w.completed(current(run, node))
	event.Result.Output = output
	return event
}

// wantOutputs compares the outputs that agents and the writer get, as JSON.
func (w *world) wantOutputs(id workflow.RunID, tasks []string, want string) {
	w.Helper()
	session := w.agent(fmt.Sprintf("reader-%d", time.Now().UnixNano()))
	ofAgent, err := session.Outputs(w.ctx, id, tasks)
	w.must(err, "read outputs as an agent")
	w.must(session.Close(w.ctx), "close the agent")
	ofWriter, err := w.writer.Outputs(w.ctx, id, tasks)
	w.must(err, "read outputs as the writer")
	for reader, got := range map[string]map[string]workflow.Value{"an agent": ofAgent, "the writer": ofWriter} {
		if got == nil {
			got = map[string]workflow.Value{}
		}
		if text := textOf(got); !sameJSON(text, want) {
			w.Fatalf("the outputs of %v are %s for %s, should be %s", tasks, text, reader, want)
		}
	}
}

// wantUpdates compares what evaluation points changed, in order. A backend may leave out what was changed anew.
func (w *world) wantUpdates(values *workflow.RunValues, want ...workflow.ValueUpdate) {
	w.Helper()
	if values == nil {
		values = &workflow.RunValues{}
	}
	got, want := workflow.FoldUpdates(values.Updates), workflow.FoldUpdates(want)
	same := len(got) == len(want)
	for i := 0; same && i < len(want); i++ {
		same = sameJSON(textOf(got[i]), textOf(want[i]))
	}
	if !same {
		w.Fatalf("the updates are %s, should be %s", textOf(got), textOf(want))
	}
}

// sensitiveValues looks for a marker in everything that readers give.
func sensitiveValues(w *world) {
	const marker = "do-not-show-me"
	of := submission(deciding(planOf("a", "b: a"), 0))
	of.Values.Parameters = map[string]map[string]workflow.Value{"a": {"USER": `"ann"`}}
	of.Values.Sensitive = map[string]map[string]workflow.Value{"a": {"PASSWORD": workflow.StringValue(marker)}, "b": {"KEY": `["` + marker + `"]`}}
	run := w.startOf(of)
	claimed := w.claim(w.agent("one"), 1, 0)
	values := claimed[0].Tasks[0].Run.Values
	if textOf(values.Sensitive) != textOf(of.Values.Sensitive) || values.Parameters["a"]["USER"] != `"ann"` {
		w.Errorf("the agent gets %+v", values)
	}
	given, err := w.backend.Given(w.ctx, run.ID)
	w.must(err, "read the values")
	if textOf(given.Sensitive) != textOf(of.Values.Sensitive) {
		w.Errorf("a rerun gets %+v", given)
	}
	w.advance(run, nil, w.evaluated(run, 0, workflow.Evaluation{Metadata: `{"ok":true}`}))
	for reader, seen := range w.everythingSeen(run.ID) {
		if strings.Contains(fmt.Sprintf("%+v", seen), marker) || strings.Contains(textOf(seen), marker) {
			w.Errorf("%s shows a sensitive value: %+v", reader, seen)
		}
	}
}

// everythingSeen is what readers give of a run.
func (w *world) everythingSeen(id workflow.RunID) map[string]any {
	w.Helper()
	runs, err := w.backend.Runs(w.ctx, engine.RunFilter{})
	w.must(err, "list runs")
	plan, err := w.backend.Plan(w.ctx, id)
	w.must(err, "read the plan")
	events, err := w.backend.Events(w.ctx, id)
	w.must(err, "list the events")
	logs, err := w.backend.Logs(w.ctx, id, 0, engine.LogPlace{}, 100)
	w.must(err, "read logs")
	queues, err := w.backend.Queues(w.ctx)
	w.must(err, "list the queues")
	return map[string]any{
		"the run": w.view(id), "the list of runs": runs, "the task runs": w.tasks(id), "the plan": plan, "the events": events,
		"the log": logs, "the queues": queues, "the agents": w.agents(), "the queue": w.dispatched(),
	}
}
