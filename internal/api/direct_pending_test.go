package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestWhatAPendingRunWaitsFor(t *testing.T) {
	t.Parallel()
	date := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	alone := []workflow.RunGroup{{Name: "dag/report", MaxActive: 1}}
	for name, test := range map[string]struct {
		status    workflow.RunStatus
		age       time.Duration
		pending   engine.PendingView
		succeeded bool
		want      string
	}{
		"no orchestrator":              {workflow.RunPending, time.Minute, engine.PendingView{Groups: alone}, false, "an orchestrator, and none runs"},
		"a moment ago":                 {workflow.RunPending, 0, engine.PendingView{}, false, ""},
		"begun":                        {workflow.RunRunning, time.Minute, engine.PendingView{}, false, ""},
		"nothing":                      {workflow.RunPending, time.Minute, engine.PendingView{Orchestrated: true}, false, ""},
		"max_active_runs":              {workflow.RunPending, time.Minute, engine.PendingView{Orchestrated: true, Groups: alone}, false, "the end of other (max_active_runs is 1)"},
		"a place that is free":         {workflow.RunPending, time.Minute, engine.PendingView{Orchestrated: true, Groups: []workflow.RunGroup{{Name: "dag/report", MaxActive: 2}}}, false, ""},
		"begun while it was asked for": {workflow.RunPending, time.Minute, engine.PendingView{Orchestrated: true, Groups: alone}, false, ""},
		"a backfill":                   {workflow.RunPending, time.Minute, engine.PendingView{Orchestrated: true, Groups: []workflow.RunGroup{{Name: "backfill/report/x/y", MaxActive: 2}}}, false, "its turn in its backfill, of which 2 may run at once"},
		"the former date":              {workflow.RunPending, time.Minute, engine.PendingView{Orchestrated: true, After: date}, false, "a success of the run for 2026-03-01T00:00:00Z (depends_on_past)"},
		"a date that was passed over": {
			workflow.RunPending, time.Minute, engine.PendingView{Orchestrated: true, After: date}, false, "a success of the run for 2026-02-27T00:00:00Z (depends_on_past)",
		},
		"a former date that is ok": {workflow.RunPending, time.Minute, engine.PendingView{Orchestrated: true, After: date}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.run.Status, b.run.ByOutcome, b.run.CreatedAt = test.status, false, time.Now().Add(-test.age)
			b.pending, b.succeeded = test.pending, test.succeeded
			b.others = []engine.RunView{{Name: "other", DAG: "report", Status: workflow.RunRunning}, {Name: "task", DAG: "report", ByOutcome: true}}
			if name == "begun while it was asked for" {
				b.others = append(b.others, engine.RunView{Name: "mine", DAG: "report", Status: workflow.RunRunning})
			}
			if name == "a date that was passed over" {
				b.latest = date.AddDate(0, 0, -2)
			}
			run, err := newDirect(b).Run(t.Context(), "mine", api.Include{})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(run.WaitsFor, test.want) || test.want == "" && run.WaitsFor != "" {
				t.Errorf("waits for %q, wanted %q", run.WaitsFor, test.want)
			}
		})
	}
}
