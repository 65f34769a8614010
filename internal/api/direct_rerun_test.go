package api_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// rerunTasks: a diamond of which one side may fail, and a loop around an evaluation point with a task after it.
const rerunTasks = `
- {id: top, command: "true", parameters: {SIZE: 1, KEY: {default: x, sensitive: true}}}
- {id: one, command: "true", dependencies: [top]}
- {id: two, command: "true", dependencies: [top]}
- {id: end, command: "true", dependencies: [one, two]}
- {id: work, command: "true"}
- {id: judge, command: "true", dependencies: [work], evaluation_point: true}
- {id: after, command: "true", dependencies: [judge]}
- {id: other, command: "true", dependencies: [judge]}
- {id: extra, command: "true"}
- {id: list, command: "true", for_each: [a, b]}
- {id: all, command: "true", dependencies: [list]}
- {id: names, command: "true"}
- {id: each, command: "true", dependencies: [names], for_each: "${tasks.names.list}"}
- {id: sum, command: "true", dependencies: [each]}
- {id: chosen, command: "true", dependencies: [judge]}
- {id: needs, command: "true", dependencies: [judge, work]}
- {id: jury, command: "true", evaluation_point: true}
- {id: verdict, command: "true", dependencies: [judge, jury]}
`

const rerunDAGs = `
- {id: loop, max_active_runs: 3, variables: {PLACE: here}, tasks: [{id: work}, {id: judge}, {id: after}, {id: other}]}
- {id: choice, tasks: [{id: judge, dependencies: []}, {id: work}, {id: chosen}, {id: needs}]}
- {id: two, tasks: [{id: judge, dependencies: []}, {id: jury}, {id: verdict}]}
`

// ended gives a backend with a run that has ended: its task runs as "NAME STATUS" or "NAME STATUS < PARENTS"; not_chosen is
// skipped for that cause.
func ended(t *testing.T, dag string, byOutcome bool, tasks ...string) *backend {
	t.Helper()
	b := newBackend(t)
	b.definitions = nil
	b.define(t, spec.KindTask, rerunTasks)
	b.define(t, spec.KindDAG, rerunDAGs)
	b.run.DAG, b.run.ByOutcome, b.run.Status, b.run.Revision = dag, byOutcome, workflow.RunFailed, 1
	b.tasks, b.nodes = nil, nil
	numbers := map[string]int32{}
	for i, text := range tasks {
		words := strings.Fields(text)
		cause := workflow.CauseNone
		if words[1] == "not_chosen" {
			words[1], cause = "skipped", workflow.CauseNotChosen
		}
		status, err := workflow.ParseTaskStatus(words[1])
		if err != nil {
			t.Fatal(err)
		}
		number := int32(i) //nolint:gosec // a few
		numbers[words[0]] = number
		b.tasks = append(b.tasks, engine.TaskRunView{Node: number, Name: words[0], TaskID: workflow.BaseName(words[0]), Status: status, Cause: cause})
		node := engine.PlanNode{Node: number, Name: words[0]}
		for _, parent := range words[min(3, len(words)):] {
			node.Dependencies = append(node.Dependencies, numbers[parent])
		}
		b.nodes = append(b.nodes, node)
	}
	return b
}

// keptBy are the names of the nodes that a rerun keeps, with the node that did the work.
func keptBy(t *testing.T, b *backend, request api.Rerun) []string {
	t.Helper()
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &request); err != nil {
		t.Fatal(err)
	}
	made := b.submitted[len(b.submitted)-1]
	if made.RerunOf != runID || made.Name != "" {
		t.Errorf("made %+v", made)
	}
	var names []string
	for _, kept := range made.Options.Kept {
		name := made.Plan.Nodes[kept.Node].Name
		switch {
		case kept.NotChosen:
			name += " not chosen"
		case kept.From.IsZero():
			name += " skipped"
		case kept.From != runID:
			t.Errorf("%s is kept from %s", name, kept.From)
		default:
			name += fmt.Sprintf(" from %d", kept.FromNode)
		}
		names = append(names, name)
	}
	return names
}

func TestRerunKeeps(t *testing.T) {
	t.Parallel()
	diamond := []string{"top completed", "one failed", "two completed", "end upstream_failed"}
	for _, test := range []struct {
		name    string
		dag     string // empty for the outcome
		outcome string
		tasks   []string
		request api.Rerun
		kept    []string
	}{
		{"all of it", "", "end", diamond, api.Rerun{}, nil},
		{"what failed", "", "end", diamond, api.Rerun{FailedOnly: true}, []string{"top from 0", "two from 2"}},
		{"from a task", "", "end", diamond, api.Rerun{FromTask: "two"}, []string{"top from 0"}},
		{"from a task, another failed", "", "end", diamond, api.Rerun{FromTask: "end"}, []string{"top from 0", "two from 2"}},
		{"from the top", "", "end", diamond, api.Rerun{FromTask: "top"}, nil},
		{"a node that was not there", "", "end", []string{"top completed", "gone completed", "old completed", "end completed"}, api.Rerun{FailedOnly: true}, []string{"top from 0", "end from 3"}},
		{
			"what an evaluation point did not choose stays so", "loop", "",
			[]string{"work completed", "judge completed < work", "after failed < judge", "other not_chosen < judge"},
			api.Rerun{FailedOnly: true},
			[]string{"work from 0", "judge from 1", "other not chosen"},
		},
		{
			"what was skipped by its rule after an evaluation point stays so", "loop", "",
			[]string{"work completed", "judge completed < work", "after failed < judge", "other skipped < judge"},
			api.Rerun{FailedOnly: true},
			[]string{"work from 0", "judge from 1", "other skipped"},
		},
		{
			"what was not chosen stays so when another task that it waits for runs again", "choice", "",
			[]string{"judge completed", "work failed", "chosen completed < judge", "needs not_chosen < judge work"},
			api.Rerun{FailedOnly: true},
			[]string{"judge from 0", "chosen from 2", "needs not chosen"},
		},
		{
			"also where that task is the one to begin with", "choice", "",
			[]string{"judge completed", "work completed", "chosen completed < judge", "needs not_chosen < judge work"},
			api.Rerun{FromTask: "work"},
			[]string{"judge from 0", "chosen from 2", "needs not chosen"},
		},
		{
			"where one of two that did not choose decides anew, both do", "two", "",
			[]string{"judge completed", "jury completed", "work failed", "verdict not_chosen < judge jury"},
			api.Rerun{FromTask: "jury"},
			nil,
		},
		{
			"an evaluation point that failed decides anew", "loop", "",
			[]string{"work completed", "judge failed < work", "after skipped < judge", "other skipped < judge"},
			api.Rerun{FailedOnly: true},
			[]string{"work from 0"},
		},
		{
			"from the evaluation point on, all is decided anew", "loop", "",
			[]string{"work completed", "judge completed < work", "after completed < judge", "other skipped < judge"},
			api.Rerun{FromTask: "judge"},
			[]string{"work from 0"},
		},
		{
			"of a loop that ended, the last iterations are kept", "loop", "",
			[]string{"work completed", "judge completed < work", "after failed", "other skipped", "work#2 completed < judge", "judge#2 completed < work#2"},
			api.Rerun{FailedOnly: true},
			[]string{"work from 4", "judge from 5", "other skipped"},
		},
		{
			"a loop that broke off goes on with its evaluation point", "loop", "",
			[]string{"work completed", "judge completed < work", "after upstream_failed", "other upstream_failed", "work#2 failed < judge"},
			api.Rerun{FailedOnly: true},
			nil,
		},
		{
			"a task that an evaluation point added is added anew", "loop", "",
			[]string{"work completed", "judge completed < work", "after completed < judge", "other skipped < judge", "before completed < judge", "extra failed < before"},
			api.Rerun{FailedOnly: true},
			[]string{"work from 0", "after from 2"},
		},
		{
			"an added task that completed needs nothing", "loop", "",
			[]string{"work completed", "judge completed < work", "after failed < judge", "other skipped < judge", "extra completed < judge"},
			api.Rerun{FailedOnly: true},
			[]string{"work from 0", "judge from 1", "other skipped"},
		},
		{
			"from a task that an evaluation point added: that decides anew", "loop", "",
			[]string{"work completed", "judge completed < work", "after completed < judge", "other not_chosen < judge", "extra completed < judge"},
			api.Rerun{FromTask: "extra"},
			[]string{"work from 0"},
		},
		{
			"an added task after the one to begin with is added anew", "loop", "",
			[]string{"work completed", "judge completed < work", "after completed < judge", "other not_chosen < judge", "extra completed < judge after"},
			api.Rerun{FromTask: "after"},
			[]string{"work from 0"},
		},
		{
			"from an item of an output: all items run again", "", "sum",
			[]string{"names completed", "each completed < each[0] each[1]", "sum completed < each", "each[0] completed < names", "each[1] completed < names"},
			api.Rerun{FromTask: "each[1]"},
			[]string{"names from 0"},
		},
		{
			"items", "", "all", []string{"list[0] completed", "list[1] failed", "list failed", "all upstream_failed"},
			api.Rerun{FailedOnly: true},
			[]string{"list[0] from 0"},
		},
		{
			"an iteration means its task", "loop", "",
			[]string{"work completed", "judge completed < work", "after completed", "other completed", "work#2 completed < judge", "judge#2 completed < work#2"},
			api.Rerun{FromTask: "after#1"},
			[]string{"work from 4", "judge from 5", "other from 3"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := ended(t, test.dag+test.outcome, test.dag == "", test.tasks...)
			if got := keptBy(t, b, test.request); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(test.kept))) {
				t.Errorf("kept %q, wanted %q", got, test.kept)
			}
		})
	}
}

func TestRerunGivesTheSame(t *testing.T) {
	t.Parallel()
	b := ended(t, "end", true, "top completed", "one failed", "two completed", "end upstream_failed")
	b.run.LogicalDate = time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	first := time.Date(2026, 2, 1, 5, 0, 0, 0, time.UTC)
	b.given = workflow.RunValues{
		Variables:  map[string]workflow.Value{"OLD": `"x"`},
		Env:        map[string]string{"PLACE": "here"},
		Parameters: map[string]map[string]workflow.Value{"top": {"SIZE": "9"}},
		Sensitive:  map[string]map[string]workflow.Value{"top": {"KEY": `"MARKER"`}},
		Macros:     &workflow.Macros{Time: first, Seed: "seed"},
	}
	direct := newDirect(b)
	if _, err := direct.Rerun(t.Context(), "mine", &api.Rerun{IdempotencyKey: "k"}); err != nil {
		t.Fatal(err)
	}
	made := b.submitted[0]
	values := made.Values
	if made.Task != "end" || made.IdempotencyKey != "k" || !made.Options.LogicalDate.Equal(b.run.LogicalDate) || values.Env["PLACE"] != "here" ||
		values.Parameters["top"]["SIZE"] != "9" || values.Sensitive["top"]["KEY"] != `"MARKER"` || values.Parameters["top"]["KEY"] != "" {
		t.Errorf("made %+v with %+v", made, values)
	}
	if values.Variables["OLD"] != "" { // contexts are those of today
		t.Errorf("variables %v", values.Variables)
	}
	if macros := values.Macros; macros == nil || !macros.Time.Equal(first) || macros.Seed != "seed" || !macros.LogicalDate.Equal(b.run.LogicalDate) {
		t.Errorf("macros %+v", macros)
	}
	// What was sensitive stays so, whatever the definitions say now.
	b.definitions = slices.DeleteFunc(b.definitions, func(d engine.Definition) bool { return d.ID == "top" })
	b.define(t, spec.KindTask, `{id: top, command: "true", parameters: {SIZE: 1, KEY: x}}`)
	b.revision = 2
	if _, err := direct.Rerun(t.Context(), "mine", &api.Rerun{}); err != nil {
		t.Fatal(err)
	}
	if values := b.submitted[1].Values; values.Sensitive["top"]["KEY"] != `"MARKER"` || len(values.Parameters["top"]) != 1 {
		t.Errorf("values %+v", values)
	}
	if _, err := direct.Rerun(t.Context(), "mine", &api.Rerun{ResetParams: true}); err != nil {
		t.Fatal(err)
	}
	if values := b.submitted[2].Values; len(values.Parameters)+len(values.Sensitive)+len(values.Env) > 0 {
		t.Errorf("values %+v", values)
	}
	// A parameter that is gone is told.
	b.definitions = slices.DeleteFunc(b.definitions, func(d engine.Definition) bool { return d.ID == "top" })
	b.define(t, spec.KindTask, `{id: top, command: "true"}`)
	b.revision = 3
	var got *api.Error
	if _, err := direct.Rerun(t.Context(), "mine", &api.Rerun{}); !errors.As(err, &got) || got.Status != 422 || !strings.Contains(got.Hint(), "--reset-params") || strings.Contains(err.Error(), "MARKER") {
		t.Errorf("error %v, hint %q", err, got.Hint())
	}
}

func TestRerunOfADAG(t *testing.T) {
	t.Parallel()
	b := ended(t, "loop", false, "work completed", "judge completed < work", "after failed < judge", "other skipped < judge")
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{}); err != nil {
		t.Fatal(err)
	}
	made := b.submitted[0]
	if made.DAG != "loop" || made.Pin != "dag/loop" || len(made.Options.Groups) != 1 || !maps.Equal(made.Values.Variables, map[string]workflow.Value{"PLACE": `"here"`}) {
		t.Errorf("made %+v", made)
	}
}

func TestRerunOfATaskAlone(t *testing.T) {
	t.Parallel()
	b := ended(t, "end", true, "end failed")
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{}); err != nil {
		t.Fatal(err)
	}
	if made := b.submitted[0]; len(made.Plan.Nodes) != 1 {
		t.Errorf("made a run of %d tasks", len(made.Plan.Nodes))
	}
}

func TestRerunErrors(t *testing.T) {
	t.Parallel()
	running := newBackend(t)
	gone := ended(t, "end", true, "end failed")
	gone.err = fmt.Errorf("the plan %w", engine.ErrGone)
	for _, test := range []struct {
		name    string
		backend *backend
		run     string
		request api.Rerun
		status  int
		field   string
	}{
		{"unknown run", newBackend(t), "yours", api.Rerun{}, 404, ""},
		{"run that goes on", running, "mine", api.Rerun{}, 409, ""},
		{"both", running, "mine", api.Rerun{FailedOnly: true, FromTask: "x"}, 400, "from_task"},
		{"unknown task", ended(t, "end", true, "end failed"), "mine", api.Rerun{FromTask: "ende"}, 422, "from_task"},
		{"retention", gone, "mine", api.Rerun{}, 410, ""},
		{"definition that is gone", ended(t, "nothing", true, "nothing failed"), "mine", api.Rerun{}, 404, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := newDirect(test.backend).Rerun(t.Context(), test.run, &test.request)
			var got *api.Error
			if !errors.As(err, &got) || got.Status != test.status || test.field != "" && got.Details.Field != test.field {
				t.Errorf("error %v, wanted %d", err, test.status)
			}
			if len(test.backend.submitted) > 0 {
				t.Errorf("submitted %+v", test.backend.submitted)
			}
		})
	}
}

func TestRerunKeepsWhatEvaluationPointsChanged(t *testing.T) {
	t.Parallel()
	update := func(value string) workflow.ValueUpdate {
		return workflow.ValueUpdate{Variables: map[string]workflow.Value{"A": workflow.StringValue(value)}}
	}
	tasks := []string{"work completed", "judge completed < work", "after failed < judge", "other skipped < judge", "extra completed < judge", "judge#2 completed < judge"}
	for _, test := range []struct {
		name    string
		dag     string
		tasks   []string
		request api.Rerun
		updates string
	}{
		{"of a point that is kept, in all its iterations, and of one that it added", "loop", tasks, api.Rerun{FailedOnly: true}, "judge:former judge:1 judge:4 judge:5 "},
		{"not of one that decides anew", "loop", tasks, api.Rerun{FromTask: "judge"}, ""},
		{"not where nothing is kept", "loop", tasks, api.Rerun{}, ""},
		{"of those that are kept alone", "two", []string{"judge completed", "jury completed", "work failed", "verdict failed < judge jury"}, api.Rerun{FromTask: "jury"}, "judge:former judge:0 "},
	} {
		b := ended(t, test.dag, false, test.tasks...)
		b.given.Former = []workflow.FormerUpdate{{Point: "judge", ValueUpdate: update("former")}, {Point: "gone", ValueUpdate: update("gone")}}
		for _, node := range []int32{0, 1, 4, 5} {
			if int(node) < len(b.tasks) && b.tasks[node].Name != "work" {
				b.updates = append(b.updates, workflow.PointUpdate{Node: node, ValueUpdate: update(fmt.Sprint(node))})
			}
		}
		if _, err := newDirect(b).Rerun(t.Context(), "mine", &test.request); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, former := range b.submitted[0].Values.Former {
			got += former.Point + ":" + former.Variables["A"].Env() + " "
		}
		if got != test.updates {
			t.Errorf("%s: the updates are %s, wanted %s", test.name, got, test.updates)
		}
	}
}

func TestRerunAsksForTheSame(t *testing.T) {
	t.Parallel()
	request := &engine.Request{
		Context: "prod", Priority: new(1), MaxParallel: new(2), TimeoutSeconds: new(3.0), Queue: new("slow"), Retries: new(4), RetryDelaySeconds: new(5.0),
	}
	b := ended(t, "end", true, "top completed", "one failed", "two completed", "end upstream_failed")
	b.define(t, spec.KindContext, contextsYAML)
	b.run.Request, b.run.Context = request, "prod"
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{}); err != nil {
		t.Fatal(err)
	}
	made := b.submitted[0]
	target := made.Plan.Specs[made.Plan.Nodes[len(made.Plan.Nodes)-1].Spec]
	if !reflect.DeepEqual(made.Request, *request) || made.Options.MaxParallel != 2 || made.Options.Priority != 1 || target.Queue != "slow" || target.Priority != 1 ||
		target.TimeoutSeconds != 3 || target.Retries.Count != 4 || target.Retries.DelaySeconds != 5 || made.Values.Variables["REGION"] != `"eu"` {
		t.Errorf("made %+v", made)
	}
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{ResetParams: true}); err != nil {
		t.Fatal(err)
	}
	if made := b.submitted[1]; !reflect.DeepEqual(made.Request, engine.Request{Context: "prod"}) || made.Options.MaxParallel != 0 {
		t.Errorf("without overrides made %+v", made)
	}
	// What nobody asked for is that of today.
	b.run.Request, b.run.Context = &engine.Request{}, "gone"
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{}); err != nil || b.submitted[2].Context != "" {
		t.Errorf("the context is %q, %v", b.submitted[len(b.submitted)-1].Context, err)
	}
	// Of a run from before it is not known.
	b.run.Request, b.run.Context = nil, "prod"
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{}); err != nil || b.submitted[3].Context != "prod" {
		t.Errorf("the context is %q, %v", b.submitted[len(b.submitted)-1].Context, err)
	}
	b.run.Request = &engine.Request{Queue: new("gone")}
	var got *api.Error
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{}); !errors.As(err, &got) || !strings.Contains(got.Hint(), "--reset-params") {
		t.Errorf("a queue that is gone gives %v", err)
	}
}

// Iterations are task runs, too: their number does not tell whether a task ran alone.
func TestRerunOfATaskAloneThatIterated(t *testing.T) {
	t.Parallel()
	b := ended(t, "judge", true, "judge failed", "judge#2 failed", "judge#3 failed")
	b.run.Request = &engine.Request{IgnoreDependencies: true}
	if _, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{ResetParams: true}); err != nil {
		t.Fatal(err)
	}
	if made := b.submitted[0]; len(made.Plan.Nodes) != 1 || !made.Request.IgnoreDependencies {
		t.Errorf("made a run of %d tasks", len(made.Plan.Nodes))
	}
}

// A value that was given for a sensitive parameter is in no error either, once the parameter is sensitive no more.
func TestRerunShowsNoFormerSecret(t *testing.T) {
	t.Parallel()
	for _, parameter := range []string{
		`{validation: "[0-9]+"}`, `{options: [one, two]}`, `{default: "7", validation: "[0-9]+"}`,
	} {
		b := ended(t, "top", true, "top completed")
		b.given.Sensitive = map[string]map[string]workflow.Value{"top": {"KEY": `"hunter2"`}}
		b.definitions = nil
		b.define(t, spec.KindTask, `{id: top, command: "true", parameters: {KEY: `+parameter+`}}`)
		_, err := newDirect(b).Rerun(t.Context(), "mine", &api.Rerun{})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", parameter, err)
		}
	}
}

// Whether an evaluation point had chosen what ended before it decided, nobody knows: it decides anew.
func TestRerunOfAPointThatWasNotHeard(t *testing.T) {
	t.Parallel()
	begin := runID.Time()
	for _, test := range []struct {
		name           string
		needs          string // how that ended
		ended, decided time.Duration
		kept           []string
	}{
		{"before it decided", "upstream_failed", 1, 2, []string{"chosen from 2"}},
		{"by a cancel before it decided", "cancelled", 1, 2, []string{"chosen from 2"}},
		{"after it decided", "upstream_failed", 3, 2, []string{"judge from 0", "chosen from 2"}},
		{"and nothing changes for it", "skipped", 1, 2, []string{"judge from 0", "work from 1", "chosen from 2", "needs skipped"}},
		{"and is known", "not_chosen", 1, 2, []string{"judge from 0", "chosen from 2", "needs not chosen"}},
	} {
		work := "failed"
		if test.needs == "skipped" {
			work = "completed"
		}
		b := ended(t, "choice", false, "judge completed", "work "+work, "chosen completed < judge", "needs "+test.needs+" < judge work")
		b.tasks[0].Attempt, b.tasks[0].EndTime, b.tasks[3].EndTime = 1, begin, begin.Add(test.ended)
		b.events = []engine.EventView{{Kind: "evaluate", Node: 0, At: begin.Add(test.decided)}}
		if got := keptBy(t, b, api.Rerun{FailedOnly: true}); !slices.Equal(got, test.kept) {
			t.Errorf("%s: kept %q, wanted %q", test.name, got, test.kept)
		}
	}
}

// A request that comes twice is answered with the run that it made, also when that repeats one with an id of its own.
func TestRerunAskedForTwice(t *testing.T) {
	t.Parallel()
	b := ended(t, "end", true, "top completed", "end failed")
	b.answer.Existing = true
	b.run.RerunOf, b.run.RerunOfName = b.run.ID, "mine"
	direct := newDirect(b)
	if again, err := direct.Rerun(t.Context(), "mine", &api.Rerun{IdempotencyKey: "k"}); err != nil || !again.Existing {
		t.Errorf("it gives %+v, %v", again, err)
	}
	b.run.RerunOf = workflow.RunID{1}
	if _, err := direct.Rerun(t.Context(), "mine", &api.Rerun{IdempotencyKey: "k"}); err == nil {
		t.Error("a key that was used for another run is taken")
	}
}
