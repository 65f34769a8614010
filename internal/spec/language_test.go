package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestParseTheLanguageOfTasks(t *testing.T) {
	t.Parallel()
	got := onlyTask(t, `
dependencies: ["train:large", train]
parameters:
  N: {default: 2, required: true, options: [1, 2, "3"], validation: "[0-9]+", sensitive: true}
  R: {default: "x ${DATE}", options: [y]}
  E: {default: "$${x}", options: ["$${x}"], required: false}
parameter_sets: [a, b]
evaluation_point: true
approval: {roles: [owner, admin], message: "Go on?", timeout_seconds: 90}
trigger_rule: none_failed
for_each: [a, 1, {b: [2]}, "${X}"]
fresh_for: 1d12h
`)
	want := &workflow.Task{
		ID: "a", Command: "run", Queue: "default", Priority: 2, Dependencies: []string{"train:large", "train"},
		Parameters: map[string]workflow.Parameter{
			"N": {Default: "2", Check: workflow.Check{Required: true, Options: []workflow.Value{"1", "2", `"3"`}, Validation: "[0-9]+", Sensitive: true}},
			"R": {Default: `"x ${DATE}"`, Check: workflow.Check{Options: []workflow.Value{`"y"`}}},
			"E": {Default: `"$${x}"`, Check: workflow.Check{Options: []workflow.Value{`"$${x}"`}}},
		},
		ParameterSets: []string{"a", "b"}, EvaluationPoint: true,
		Approval:    &workflow.Approval{Roles: []string{"owner", "admin"}, Message: "Go on?", TimeoutSeconds: 90},
		TriggerRule: workflow.RuleNoneFailed,
		ForEach:     &workflow.ForEach{Items: []workflow.Value{`"a"`, "1", `{"b":[2]}`, `"${X}"`}}, FreshForSeconds: 36 * 3600,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for text, seconds := range map[string]float64{"0": 0, "90": 90, "1.5": 1.5, "30m": 1800, "12h": 43200, "7d": 604800, "2w": 1209600, "1h30m10s": 5410, "0s": 0} {
		if got := onlyTask(t, "fresh_for: "+text).FreshForSeconds; got != seconds {
			t.Errorf("%s is %v seconds, not %v", text, got, seconds)
		}
	}
	for text, reference := range map[string]string{`"${tasks.list.files}"`: "${tasks.list.files}", "'${tasks[\"a.b\"].c}'": `${tasks["a.b"].c}`, `"$${a} ${B}"`: "$${a} ${B}"} {
		if diff := cmp.Diff(&workflow.ForEach{Reference: reference}, onlyTask(t, "for_each: "+text).ForEach); diff != "" {
			t.Error(diff)
		}
	}
}

func TestParseTheLanguageOfDAGs(t *testing.T) {
	t.Parallel()
	definitions := parse(t, KindDAG, `
id: d
dags: [{id: b, dependencies: [c]}, {id: c}]
tasks: [{id: "train:large", trigger_rule: all_done, for_each: [], approval: {}, fresh_for: 1h, evaluation_point: false, parameter_sets: [s]}]
max_active_runs: 1
max_parallel: 2
timeout_seconds: 3.5
on_failure: stop
schedule: {end_date: 2024-03-31, cron: "0 3 * * *", start_date: 2024-03-31, timezone: Europe/Berlin, catchup: true, depends_on_past: true}
`)
	want := &DAG{DAG: workflow.DAG{
		ID: "d", DAGs: []workflow.DAGGroup{{ID: "b", Dependencies: []string{"c"}}, {ID: "c"}},
		Tasks: []workflow.DAGTask{{
			ID: "train:large", Given: []string{"parameter_sets", "evaluation_point", "approval", "trigger_rule", "for_each", "fresh_for"},
			Overrides: workflow.Task{
				ID: "train:large", TriggerRule: workflow.RuleAllDone, ForEach: &workflow.ForEach{}, Approval: &workflow.Approval{},
				FreshForSeconds: 3600, ParameterSets: []string{"s"},
			},
		}},
		MaxActiveRuns: 1, MaxParallel: 2, TimeoutSeconds: 3.5, OnFailure: workflow.OnFailureStop,
		Schedule: &workflow.Schedule{
			Cron: "0 3 * * *", Timezone: "Europe/Berlin", Catchup: true, DependsOnPast: true,
			StartDate: time.Date(2024, 3, 30, 23, 0, 0, 0, time.UTC), EndDate: time.Date(2024, 3, 31, 21, 59, 59, 0, time.UTC), // summer time began
		},
	}}
	if diff := cmp.Diff(want, definitions[0].DAG); diff != "" {
		t.Error(diff)
	}
	definitions = parse(t, KindDAG, "id: d\ndags: [{id: b}]\nschedule: {cron: '@daily', start_date: 2024-01-02T03:04:05+06:00, end_date: 2024-01-02T03:04:05.5Z}")
	when := definitions[0].DAG.Schedule
	if !when.StartDate.Equal(time.Date(2024, 1, 1, 21, 4, 5, 0, time.UTC)) || !when.EndDate.Equal(time.Date(2024, 1, 2, 3, 4, 5, 5e8, time.UTC)) {
		t.Errorf("got %+v", when)
	}
}

func TestParseParameterSet(t *testing.T) {
	t.Parallel()
	definitions := parse(t, KindParameterSet, "- {id: large, description: d, tags: [x], parameters: {N: 1, list: [a], map: {b: '${DATE}'}, none: }}\n- {id: empty}")
	want := []*workflow.ParameterSet{
		{ID: "large", Description: "d", Tags: []string{"x"}, Parameters: map[string]workflow.Value{"N": "1", "list": `["a"]`, "map": `{"b":"${DATE}"}`, "none": "null"}},
		{ID: "empty"},
	}
	for i := range want {
		if diff := cmp.Diff(want[i], definitions[i].ParameterSet); diff != "" {
			t.Error(diff)
		}
		again, err := Decode(KindParameterSet, definitions[i].Encode())
		if err != nil || cmp.Diff(want[i], again.ParameterSet) != "" || again.ID != want[i].ID {
			t.Errorf("got %+v, %v", again, err)
		}
	}
	c := NewCatalog(definitions, CatalogOptions{})
	if found, err := c.Lookup(KindParameterSet, "large"); err != nil || found.ParameterSet.Description != "d" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Lookup(KindParameterSet, "larg"); err == nil || err.Error() != `unknown parameter set "larg": did you mean "large"?` {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"empty", "large"}, ids(c, KindParameterSet)); diff != "" {
		t.Error(diff)
	}
}

// TestDefaultsObeyTheirRules has the defaults that a parameter's own rules forbid.
func TestDefaultsObeyTheirRules(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{default: fsat, options: [fast, slow]}":             `f.yaml:3:27: the default of parameter K, "fsat", is none of its options (fast, slow): did you mean "fast"?`,
		"{value: 5, options: [1, 2]}":                        `f.yaml:3:25: the default of parameter K, "5", is none of its options (1, 2)`,
		"{default: abc1, validation: '[a-z]+'}":              `f.yaml:3:27: the default of parameter K, "abc1", does not match its validation "[a-z]+"`,
		"{default: xaby, validation: 'a|b'}":                 `f.yaml:3:27: the default of parameter K, "xaby", does not match its validation "a|b"`,
		"{default: \"a\\nb\", validation: 'a$'}":             `f.yaml:3:27: the default of parameter K, "a\nb", does not match its validation "a$"`,
		"{sensitive: true, default: abc1, options: [x]}":     `f.yaml:3:44: the default of parameter K is none of its options`,
		"{sensitive: true, default: s, validation: '[0-9]'}": `f.yaml:3:44: the default of parameter K does not match its validation "[0-9]"`,
		"{default: 1, options: ['1']}":                       "",
		"{default: [1, 2], options: [[1, 2], 3]}":            "",
		"{default: ~, options: [1]}":                         "",
		"{default: '${X}', options: [1], validation: y}":     "",
		"{default: \"a\\nb\", validation: '(?s)a.b'}":        "",
	} {
		_, problems := Parse(KindTask, "f.yaml", []byte("id: a\ncommand: x\nparameters: {K: "+text+"}"), Defaults{})
		if got := strings.Join(problemTexts(problems), "\n"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}

// TestOverridesMergeRules lays the parameters of a DAG's entry over those of the task.
func TestOverridesMergeRules(t *testing.T) {
	t.Parallel()
	under := map[string]workflow.Parameter{
		"A": {Default: "1", Description: "a", Check: workflow.Check{Required: true, Sensitive: true, Options: []workflow.Value{"1", "2"}, Validation: "[0-9]"}},
		"B": {Default: "1"},
	}
	over := map[string]workflow.Parameter{
		"A": {Default: "3", Check: workflow.Check{Options: []workflow.Value{"3"}}},
		"B": {Check: workflow.Check{Required: true, Sensitive: true, Validation: "x"}, Description: "b"},
		"C": {Default: "9"},
	}
	want := map[string]workflow.Parameter{
		"A": {Default: "3", Description: "a", Check: workflow.Check{Required: true, Sensitive: true, Options: []workflow.Value{"3"}, Validation: "[0-9]"}},
		"B": {Default: "1", Description: "b", Check: workflow.Check{Required: true, Sensitive: true, Validation: "x"}},
		"C": {Default: "9"},
	}
	if diff := cmp.Diff(want, mergeParameters(under, over)); diff != "" {
		t.Error(diff)
	}
}
