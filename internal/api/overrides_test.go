package api_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const languageTasks = `
- {id: load, command: "true", retries: 2}
- {id: each, command: "true", dependencies: [load], for_each: [a, b], timeout_seconds: 5}
- {id: train, command: "true", dependencies: ["load:night"], parameters: {SIZE: 1}}
- {id: ask, command: "true", approval: {message: "Is it good?"}}
- {id: picky, command: "true", parameters: {TOKEN: {required: true, sensitive: true}, COLOUR: {default: red, options: [red, blue]}}}
- {id: held, command: "true", parameters: {KEY: {default: MARKER, sensitive: true}}}
`

const languageSets = `
- {id: night, parameters: {LIGHT: dark}}
- {id: small, parameters: {SIZE: 7}, description: A small one}
- {id: keys, parameters: {TOKEN: MARKER, SIZE: 1}}
`

const languageDAGs = `
- {id: held_back, max_active_runs: 2, max_parallel: 3, timeout_seconds: 60, on_failure: stop, tasks: [{id: load}]}
- {id: daily, schedule: {cron: "30 2 * * *", timezone: Europe/Berlin, depends_on_past: true}, tasks: [{id: load}]}
- {id: plain, tasks: [{id: load}, {id: ask, approval: {message: "By the DAG"}}]}
- {id: outer, dags: [{id: plain}]}
`

func newLanguageBackend(t *testing.T) *backend {
	t.Helper()
	b := newBackend(t)
	b.define(t, spec.KindTask, languageTasks)
	b.define(t, spec.KindParameterSet, languageSets)
	b.define(t, spec.KindDAG, languageDAGs)
	return b
}

func specOf(t *testing.T, plan *workflow.Plan, name string) *workflow.TaskSpec {
	t.Helper()
	for _, node := range plan.Nodes {
		if node.Name == name {
			return plan.Specs[node.Spec]
		}
	}
	t.Fatalf("the plan has no node %s", name)
	return nil
}

func TestSettingsMeanTheTarget(t *testing.T) {
	t.Parallel()
	b := newLanguageBackend(t)
	direct := newDirect(b)
	schedule := func(request *api.ScheduleTask) *engine.Submission {
		if _, err := direct.ScheduleTask(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		return &b.submitted[len(b.submitted)-1]
	}
	changed := schedule(&api.ScheduleTask{
		TaskID: "each", Settings: api.Settings{TimeoutSeconds: new(9.5), Priority: new(4), MaxParallel: new(2)},
		TaskSettings: api.TaskSettings{Queue: new("slow"), Retries: new(3)},
	})
	for _, name := range []string{"each", "each[0]", "each[1]"} {
		one := specOf(t, changed.Plan, name)
		if one.Queue != "slow" || one.TimeoutSeconds != 9.5 || one.Retries.Count != 3 || one.Retries.DelaySeconds != workflow.DefaultRetryDelaySeconds || one.Priority != 4 {
			t.Errorf("%s is %+v", name, one)
		}
	}
	if load := specOf(t, changed.Plan, "load"); load.Queue != "default" || load.TimeoutSeconds != 0 || load.Retries.Count != 2 || load.Priority != 4 {
		t.Errorf("load is %+v", load)
	}
	if changed.Options.MaxParallel != 2 || changed.Pin != "" {
		t.Errorf("options %+v, pin %q", changed.Options, changed.Pin)
	}
	// It changed that run, and nothing for the next one.
	if each := specOf(t, schedule(&api.ScheduleTask{TaskID: "each"}).Plan, "each[0]"); each.Queue != "default" || each.TimeoutSeconds != 5 || each.Retries.Count != 0 || each.Priority != 2 {
		t.Errorf("each is %+v", each)
	}
	alone := schedule(&api.ScheduleTask{TaskID: "train", TaskSettings: api.TaskSettings{IgnoreDependencies: true, RetryDelaySeconds: new(0.0)}})
	if len(alone.Plan.Nodes) != 1 || alone.Task != "train" {
		t.Errorf("alone it has %d nodes", len(alone.Plan.Nodes))
	}
	variant := schedule(&api.ScheduleTask{TaskID: "train:small", Settings: api.Settings{ParameterSets: []string{"small"}}})
	if len(variant.Plan.Nodes) != 2 || variant.Values.Parameters["train"]["SIZE"] != "7" {
		t.Errorf("nodes %+v, values %+v", variant.Plan.Nodes, variant.Values)
	}
}

func TestRulesOfADAG(t *testing.T) {
	t.Parallel()
	b := newLanguageBackend(t)
	direct := newDirect(b)
	for _, test := range []struct {
		request api.ScheduleDAG
		pin     string
		wanted  workflow.RunOptions
	}{
		{api.ScheduleDAG{DAGID: "plain"}, "", workflow.RunOptions{}},
		{api.ScheduleDAG{DAGID: "daily"}, "dag/daily", workflow.RunOptions{}},
		{api.ScheduleDAG{DAGID: "held_back"}, "dag/held_back", workflow.RunOptions{
			MaxParallel: 3, TimeoutSeconds: 60, OnFailure: workflow.OnFailureStop, Groups: []workflow.RunGroup{{Name: "dag/held_back", MaxActive: 2}},
		}},
		{api.ScheduleDAG{DAGID: "held_back", Settings: api.Settings{MaxParallel: new(0), TimeoutSeconds: new(5.0)}}, "dag/held_back", workflow.RunOptions{
			TimeoutSeconds: 5, OnFailure: workflow.OnFailureStop, Groups: []workflow.RunGroup{{Name: "dag/held_back", MaxActive: 2}},
		}},
	} {
		if _, err := direct.ScheduleDAG(t.Context(), &test.request); err != nil {
			t.Fatal(err)
		}
		made := b.submitted[len(b.submitted)-1]
		got := made.Options
		same := got.MaxParallel == test.wanted.MaxParallel && got.TimeoutSeconds == test.wanted.TimeoutSeconds &&
			got.OnFailure == test.wanted.OnFailure && slices.Equal(got.Groups, test.wanted.Groups)
		if !same || made.Pin != test.pin {
			t.Errorf("%+v: options %+v, pin %q; wanted %+v, %q", test.request, got, made.Pin, test.wanted, test.pin)
		}
		if load := specOf(t, made.Plan, "load"); load.TimeoutSeconds != 0 {
			t.Errorf("the time-out of the run became one of a task: %+v", load)
		}
	}
}

func TestPlanDate(t *testing.T) {
	t.Parallel()
	direct := newDirect(newLanguageBackend(t))
	date := time.Date(2026, 3, 1, 1, 30, 0, 0, time.UTC)
	got, err := direct.PlanDate(t.Context(), "daily", date)
	if err != nil {
		t.Fatal(err)
	}
	if got.DAG != "daily" || got.Pin != "dag/daily" || got.IdempotencyKey != "date/daily/2026-03-01T01:30:00Z" || got.Cause != "cli" ||
		!got.Options.LogicalDate.Equal(date) ||
		got.Values.Macros == nil || !got.Values.Macros.LogicalDate.Equal(date) {
		t.Errorf("planned %+v", got)
	}
	_, err = direct.PlanDate(t.Context(), "nothing", date)
	if refused, ok := errors.AsType[*api.Error](err); !ok || refused.Status != 404 {
		t.Errorf("a DAG that is not there gives %v", err)
	}
}

// The agents of a queue may be away when a schedule is due.
func TestPlanDateOfAQueueThatNobodyServes(t *testing.T) {
	t.Parallel()
	b := newLanguageBackend(t)
	b.define(t, spec.KindTask, `[{id: remote, command: "true", queue: gpu}]`)
	b.define(t, spec.KindDAG, `[{id: away, schedule: {cron: "@daily"}, tasks: [{id: remote}]}]`)
	direct := newDirect(b)
	refused, ok := errors.AsType[*api.Error](func() error {
		_, err := direct.ScheduleDAG(t.Context(), &api.ScheduleDAG{DAGID: "away"})
		return err
	}())
	if !ok || refused.Status != 422 || refused.Details.Field != "queue" {
		t.Errorf("by hand it gives %v", refused)
	}
	if _, err := direct.PlanDate(t.Context(), "away", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Error(err)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		settings api.Settings
		task     api.TaskSettings
		status   int
		field    string
	}{
		{"priority too low", api.Settings{Priority: new(0)}, api.TaskSettings{}, 400, "priority"},
		{"priority too high", api.Settings{Priority: new(5)}, api.TaskSettings{}, 400, "priority"},
		{"negative time-out", api.Settings{TimeoutSeconds: new(-1.0)}, api.TaskSettings{}, 400, "timeout_seconds"},
		{"huge time-out", api.Settings{TimeoutSeconds: new(1e300)}, api.TaskSettings{}, 400, "timeout_seconds"},
		{"no time-out at all", api.Settings{TimeoutSeconds: new(math.NaN())}, api.TaskSettings{}, 400, "timeout_seconds"},
		{"negative max_parallel", api.Settings{MaxParallel: new(-1)}, api.TaskSettings{}, 400, "max_parallel"},
		{"huge max_parallel", api.Settings{MaxParallel: new(math.MaxInt)}, api.TaskSettings{}, 400, "max_parallel"},
		{"bad parameter set", api.Settings{ParameterSets: []string{"a b"}}, api.TaskSettings{}, 400, "parameter_sets"},
		{"unknown parameter set", api.Settings{ParameterSets: []string{"smal"}}, api.TaskSettings{}, 422, "parameter_sets"},
		{"unknown context", api.Settings{Context: "nowhere"}, api.TaskSettings{}, 422, "context"},
		{"unknown parameter", api.Settings{Parameters: map[string]workflow.Value{"X": "1"}}, api.TaskSettings{}, 422, "parameters"},
		{"empty git_ref", api.Settings{GitRef: new("")}, api.TaskSettings{}, 400, "git_ref"},
		{"option as git_ref", api.Settings{GitRef: new("-x")}, api.TaskSettings{}, 400, "git_ref"},
		{"huge git_ref", api.Settings{GitRef: new(strings.Repeat("x", 1001))}, api.TaskSettings{}, 400, "git_ref"},
		{"git_ref for no repository", api.Settings{GitRef: new("main")}, api.TaskSettings{}, 422, "git_ref"},
		{"empty queue", api.Settings{}, api.TaskSettings{Queue: new("")}, 400, "queue"},
		{"bad queue", api.Settings{}, api.TaskSettings{Queue: new("a b")}, 400, "queue"},
		{"undeclared queue", api.Settings{}, api.TaskSettings{Queue: new("gpu")}, 422, "queue"},
		{"negative retries", api.Settings{}, api.TaskSettings{Retries: new(-1)}, 400, "retries"},
		{"huge retries", api.Settings{}, api.TaskSettings{Retries: new(math.MaxInt)}, 400, "retries"},
		{"negative delay", api.Settings{}, api.TaskSettings{RetryDelaySeconds: new(-0.5)}, 400, "retry_delay_seconds"},
		{"endless delay", api.Settings{}, api.TaskSettings{RetryDelaySeconds: new(math.Inf(1))}, 400, "retry_delay_seconds"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newLanguageBackend(t)
			direct := newDirect(b)
			_, err := direct.ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "train", Settings: test.settings, TaskSettings: test.task})
			_, planErr := direct.Plan(t.Context(), &api.PlanRequest{TaskID: "train", Settings: test.settings, TaskSettings: test.task})
			for _, err := range []error{err, planErr} {
				var got *api.Error
				if !errors.As(err, &got) || got.Status != test.status || got.Details == nil || got.Details.Field != test.field {
					t.Errorf("error %v", err)
				}
			}
			if len(b.submitted) > 0 {
				t.Errorf("submitted %+v", b.submitted)
			}
		})
	}
	var got *api.Error
	request := api.PlanRequest{DAGID: "plain", TaskSettings: api.TaskSettings{Queue: new("slow")}}
	if _, err := newDirect(newLanguageBackend(t)).Plan(t.Context(), &request); !errors.As(err, &got) || got.Details.Field != "queue" {
		t.Errorf("a queue for a DAG: %v", err)
	}
}

func TestValuesAreCheckedBeforehand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		given   map[string]workflow.Value
		message string
	}{
		{nil, "required parameter TOKEN"},
		{map[string]workflow.Value{"TOKEN": `"MARKER"`, "COLOUR": `"grey"`}, "COLOUR"},
		{map[string]workflow.Value{"TOKEN": `"MARKER ${nothing}"`}, "TOKEN"},
	} {
		b := newLanguageBackend(t)
		_, err := newDirect(b).ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "picky", Settings: api.Settings{Parameters: test.given}})
		var got *api.Error
		if !errors.As(err, &got) || got.Status != 422 || !strings.Contains(got.Message, test.message) || strings.Contains(got.Message, "MARKER") || len(b.submitted) > 0 {
			t.Errorf("%v: %v, submitted %d", test.given, err, len(b.submitted))
		}
	}
}

func TestListsMaskWhatIsSensitive(t *testing.T) {
	t.Parallel()
	b := newLanguageBackend(t)
	b.define(t, spec.KindContext, `{id: keys, extends: prod, variables: {KEY: MARKER, PLACE: here}}`)
	direct := newDirect(b)
	contexts, err := direct.Contexts(t.Context(), &api.DefinitionQuery{Filter: "k*"})
	if err != nil || contexts.Total != 1 || contexts.Contexts[0].Extends != "prod" || contexts.Contexts[0].Variables["KEY"] != api.Masked || contexts.Contexts[0].Variables["PLACE"] != `"here"` {
		t.Errorf("%+v, %v", contexts, err)
	}
	sets, err := direct.ParameterSets(t.Context(), &api.DefinitionQuery{})
	if err != nil || sets.Total != 3 || sets.ParameterSets[0].ID != "keys" || sets.ParameterSets[0].Parameters["TOKEN"] != api.Masked || sets.ParameterSets[0].Parameters["SIZE"] != "1" {
		t.Errorf("%+v, %v", sets, err)
	}
	if again, err := direct.ParameterSets(t.Context(), &api.DefinitionQuery{Offset: 1, Limit: 1}); err != nil || len(again.ParameterSets) != 1 || again.ParameterSets[0].ID != "night" || again.Total != 3 {
		t.Errorf("%+v, %v", again, err)
	}
	var bad *api.Error
	if _, err := direct.Contexts(t.Context(), &api.DefinitionQuery{Limit: 1001}); !errors.As(err, &bad) || bad.Details.Field != "limit" {
		t.Errorf("error %v", err)
	}
}
