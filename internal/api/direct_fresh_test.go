package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// freshTasks: report waits for model and for raw; model is fresh for an hour, and needs raw and clean.
const freshTasks = `
- {id: raw, command: "true", parameters: {DAY: "${DATE}"}}
- {id: clean, command: "true", dependencies: [raw], parameters: {SIZE: 1}}
- {id: model, command: "true", dependencies: [clean], fresh_for: 1h}
- {id: side, command: "true"}
- {id: report, command: "true", dependencies: [model, side]}
- {id: both, command: "true", dependencies: [model, raw]}
- {id: chance, command: "true", fresh_for: 1h, parameters: {SEED: "${RANDOM:8}"}}
- {id: judge, command: "true", evaluation_point: true}
- {id: judged, command: "true", dependencies: [judge], fresh_for: 1h}
`

// worked gives a backend on which a run of model has completed some minutes ago.
func worked(t *testing.T, outcome string, change func(*backend)) *backend {
	t.Helper()
	b := newBackend(t)
	b.definitions = nil
	b.define(t, spec.KindTask, freshTasks)
	now := time.Now()
	b.run.DAG, b.run.ByOutcome, b.run.Status, b.run.Revision = outcome, true, workflow.RunCompleted, 1
	b.given = workflow.RunValues{Macros: &workflow.Macros{Time: now}}
	b.tasks = nil
	for i, name := range []string{"raw", "clean", outcome} {
		b.tasks = append(b.tasks, engine.TaskRunView{Node: int32(i), Name: name, TaskID: name, Status: workflow.TaskCompleted, EndTime: now.Add(-10 * time.Minute)})
	}
	if change != nil {
		change(b)
	}
	return b
}

func TestFreshWorkIsReused(t *testing.T) {
	t.Parallel()
	all := []string{"raw from 0", "clean from 1", "model from 2"}
	for _, test := range []struct {
		name     string
		task     string
		worked   string
		change   func(*backend)
		settings api.Settings
		kept     []string
	}{
		{"the outcome itself", "model", "model", nil, api.Settings{}, all},
		{"what an outcome needs", "report", "model", nil, api.Settings{}, all},
		{"but what others need is done", "both", "model", nil, api.Settings{}, []string{"clean from 1", "model from 2"}},
		{"too old", "model", "model", func(b *backend) { b.tasks[2].EndTime = time.Now().Add(-61 * time.Minute) }, api.Settings{}, nil},
		{"failed", "model", "model", func(b *backend) { b.tasks[2].Status = workflow.TaskFailed }, api.Settings{}, nil},
		{"itself reused", "model", "model", func(b *backend) { b.tasks[2].Cause = workflow.CauseKept }, api.Settings{}, nil},
		{"was skipped before it", "model", "model", func(b *backend) { b.tasks[0].Status = workflow.TaskSkipped }, api.Settings{}, []string{"raw skipped", "clean from 1", "model from 2"}},
		{"another day", "model", "model", func(b *backend) { b.given.Macros.Time = time.Now().AddDate(0, 0, -1) }, api.Settings{}, nil},
		{"other environment", "model", "model", nil, api.Settings{EnvVars: map[string]string{"A": "b"}}, nil},
		{"other parameters", "model", "model", nil, api.Settings{Parameters: map[string]workflow.Value{"SIZE": "2"}}, nil},
		{"the same parameters", "model", "model", func(b *backend) {
			b.given.Parameters = map[string]map[string]workflow.Value{"clean": {"SIZE": "2"}}
		}, api.Settings{Parameters: map[string]workflow.Value{"SIZE": "2"}}, all},
		{"of a DAG", "model", "model", func(b *backend) { b.run.ByOutcome = false }, api.Settings{}, nil},
		{"alone", "model", "model", func(b *backend) { b.tasks = b.tasks[2:] }, api.Settings{}, nil},
		{"alone, as is known", "model", "model", func(b *backend) { b.run.Request = &engine.Request{IgnoreDependencies: true} }, api.Settings{}, nil},
		{"with what evaluation points of a run before it changed", "model", "model", func(b *backend) {
			b.given.Former = []workflow.FormerUpdate{{Point: "judge"}}
		}, api.Settings{}, nil},
		{"in a run that ended before", "model", "model", func(b *backend) { b.run.EndTime = time.Now().Add(-61 * time.Minute) }, api.Settings{}, nil},
		{"in a run that began long before", "model", "model", func(b *backend) { b.run.EndTime = time.Now().Add(-time.Minute) }, api.Settings{}, all},
		{"chance", "chance", "chance", func(b *backend) { b.tasks = b.tasks[2:] }, api.Settings{}, nil},
		{"after an evaluation point", "judged", "judged", nil, api.Settings{}, nil},
		{"retries do not matter", "model", "model", nil, api.Settings{Priority: new(1)}, all},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := worked(t, test.worked, test.change)
			if _, err := newDirect(b).ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: test.task, Settings: test.settings}); err != nil {
				t.Fatal(err)
			}
			made := b.submitted[0]
			if len(test.kept) > 0 && time.Since(b.since) < 24*time.Hour {
				t.Errorf("runs are looked at since %v", b.since)
			}
			plan, err := newDirect(b).Plan(t.Context(), &api.PlanRequest{TaskID: test.task, Settings: test.settings})
			if err != nil {
				t.Fatal(err)
			}
			var marked, wanted []string
			for _, task := range plan.Tasks {
				if task.Kept {
					marked = append(marked, task.ID)
				}
			}
			for _, one := range test.kept {
				name, _, _ := strings.Cut(one, " ")
				wanted = append(wanted, name)
			}
			if !slices.Equal(marked, wanted) {
				t.Errorf("the plan marks %q as kept, wanted %q", marked, wanted)
			}
			var kept []string
			for _, one := range made.Options.Kept {
				text := made.Plan.Nodes[one.Node].Name + " skipped"
				if !one.From.IsZero() {
					text = fmt.Sprintf("%s from %d", made.Plan.Nodes[one.Node].Name, one.FromNode)
				}
				kept = append(kept, text)
			}
			if !slices.Equal(kept, test.kept) {
				t.Errorf("kept %q, wanted %q", kept, test.kept)
			}
		})
	}
}

func TestFreshWorkOfAnotherDefinition(t *testing.T) {
	t.Parallel()
	b := worked(t, "model", nil)
	direct := newDirect(b)
	if _, err := direct.Plan(t.Context(), &api.PlanRequest{TaskID: "model"}); err != nil { // it knows revision 1 now
		t.Fatal(err)
	}
	b.definitions = slices.DeleteFunc(b.definitions, func(d engine.Definition) bool { return d.ID == "raw" })
	b.define(t, spec.KindTask, `{id: raw, command: "echo other", parameters: {DAY: "${DATE}"}}`)
	b.revision = 2
	if _, err := direct.ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "model"}); err != nil || len(b.submitted[0].Options.Kept) > 0 {
		t.Errorf("kept %+v, %v", b.submitted[0].Options.Kept, err)
	}
}
