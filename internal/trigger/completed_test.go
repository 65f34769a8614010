package trigger

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// finder knows one run, or an error.
type finder struct {
	engine.Reader
	run engine.RunView
	err error
}

func (f *finder) FindRun(context.Context, string) (engine.RunView, error) { return f.run, f.err }

// starter notes what it is to start.
type starter struct {
	runs []api.TriggeredRun
	err  error
}

func (s *starter) StartTriggered(_ context.Context, run *api.TriggeredRun) (*api.Scheduled, error) {
	s.runs = append(s.runs, *run)
	return &api.Scheduled{}, s.err
}

func (s *starter) StartAllTriggered(context.Context, []api.TriggeredRun) error { return errInjected }

func TestCompletedRunStartsOne(t *testing.T) {
	t.Parallel()
	id := workflow.RunID{1, 2, 3}
	ran := []api.TriggeredRun{{
		DAGID: "report", Occasion: id.String(), Trigger: workflow.Trigger{Kind: workflow.TriggerDAGCompleted, DAG: "sales", Run: "monday"},
	}}
	for name, test := range map[string]struct {
		finder finder
		start  error
		runs   []api.TriggeredRun
		fails  bool // so that it is done again
		log    string
	}{
		"as it should be":      {runs: ran},
		"a task of that name":  {finder: finder{run: engine.RunView{ByOutcome: true}}},
		"it is gone":           {finder: finder{err: engine.ErrGone}, log: "retention has dropped"},
		"it can't be found":    {finder: finder{err: errInjected}, fails: true},
		"it can't be planned":  {start: &api.Error{Message: "no x", Details: &api.Details{Hint: "mend x"}}, runs: ran, fails: true, log: `hint="mend x"`},
		"the backend is away":  {start: errInjected, runs: ran, fails: true, log: "verify-config"},
		"there is one already": {runs: ran},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			jobs, starts := &engine.Jobs{}, &starter{err: test.start}
			test.finder.run.Name = "monday"
			HandleCompleted(jobs, &test.finder, starts, slog.New(slog.NewTextHandler(&log, nil)))
			job := engine.DAGCompleted{DAG: "report", Of: "sales", Run: id}.Job()
			err := jobs.Handlers()[job.Kind](t.Context(), job.Args)
			if (err != nil) != test.fails || test.start != nil && !errors.Is(err, test.start) {
				t.Errorf("it gives %v", err)
			}
			if diff := cmp.Diff(test.runs, starts.runs); diff != "" {
				t.Error(diff)
			}
			if (log.Len() > 0) != (test.log != "") || !strings.Contains(log.String(), test.log) {
				t.Errorf("the log is %s", log.String())
			}
		})
	}
	jobs := &engine.Jobs{}
	HandleCompleted(jobs, &finder{}, &starter{}, slog.New(slog.DiscardHandler))
	if err := jobs.Handlers()[engine.JobDAGCompleted](t.Context(), []byte(`[]`)); err == nil {
		t.Error("arguments that are none are taken")
	}
}
