package api_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const gitTasks = `
- {id: build, command: make, git: {repository: /srv/git/a, ref: main, path: sub}, fresh_for: 1h}
- {id: plain, command: "true"}
- {id: each, command: make, for_each: [1, 2], git: {repository: /srv/git/b}, dependencies: [build, plain]}
`

func newGitBackend(t *testing.T) *backend {
	t.Helper()
	b := newBackend(t)
	b.definitions = nil
	b.define(t, spec.KindTask, gitTasks)
	b.define(t, spec.KindDAG, `{id: all, tasks: [{id: build}, {id: plain}]}`)
	return b
}

func TestGitRef(t *testing.T) {
	t.Parallel()
	b := newGitBackend(t)
	direct := newDirect(b)
	if _, err := direct.ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "each", Settings: api.Settings{GitRef: new("v1")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := direct.ScheduleDAG(t.Context(), &api.ScheduleDAG{DAGID: "all", Settings: api.Settings{GitRef: new("v1")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := direct.ScheduleDAG(t.Context(), &api.ScheduleDAG{DAGID: "all"}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []map[string]string{
		{"build": "v1", "plain": "", "each": "v1", "each[0]": "v1", "each[1]": "v1"}, {"build": "v1", "plain": ""}, {"build": "main", "plain": ""},
	} {
		made := b.submitted[i]
		for name, ref := range want {
			one, got := specOf(t, made.Plan, name), ""
			if one.Git != nil {
				got = one.Git.Ref
				if one.TaskID == "build" && (one.Git.Repository != "/srv/git/a" || one.Git.Path != "sub") {
					t.Errorf("the rest of git is %+v", one.Git)
				}
			}
			if got != ref {
				t.Errorf("submission %d: %s is at %q, wanted %q", i, name, got, ref)
			}
		}
		if asked := i < 2; asked != (made.Request.GitRef != nil && *made.Request.GitRef == "v1") || asked != (made.Options.GitRef == "v1") {
			t.Errorf("submission %d: %+v, %+v", i, made.Request, made.Options)
		}
	}
}

func TestGitRefOfARerun(t *testing.T) {
	t.Parallel()
	b := newGitBackend(t)
	b.run.DAG, b.run.ByOutcome, b.run.Status, b.run.Request = "all", false, workflow.RunFailed, &engine.Request{GitRef: new("v1")}
	b.run.Context, b.tasks = "", nil
	direct := newDirect(b)
	rerun := func(request *api.Rerun) string {
		t.Helper()
		if _, err := direct.Rerun(t.Context(), "mine", request); err != nil {
			t.Fatal(err)
		}
		return specOf(t, b.submitted[len(b.submitted)-1].Plan, "build").Git.Ref
	}
	if got := rerun(&api.Rerun{}); got != "v1" {
		t.Errorf("the same again is at %q", got)
	}
	if got := rerun(&api.Rerun{ResetParams: true}); got != "main" {
		t.Errorf("without overrides it is at %q", got)
	}
	b.definitions = nil
	b.define(t, spec.KindTask, `[{id: build, command: make}, {id: plain, command: "true"}]`)
	b.define(t, spec.KindDAG, `{id: all, tasks: [{id: build}, {id: plain}]}`)
	b.revision++
	var got *api.Error
	if _, err := direct.Rerun(t.Context(), "mine", &api.Rerun{}); !errors.As(err, &got) || got.Details.Field != "git_ref" || !strings.Contains(got.Hint(), "--reset-params") {
		t.Errorf("without repositories: %v", err)
	}
}

// TestFreshWorkOfAnotherRevision holds that a success at one revision is none at another.
func TestFreshWorkOfAnotherRevision(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		former, now *string
		kept        int
	}{{nil, nil, 1}, {new("v1"), new("v1"), 1}, {new("v1"), nil, 0}, {nil, new("v1"), 0}, {new("v1"), new("v2"), 0}, {new("main"), nil, 1}} {
		b := newGitBackend(t)
		now := time.Now()
		b.run.DAG, b.run.ByOutcome, b.run.Status, b.run.Revision = "build", true, workflow.RunCompleted, 1
		b.run.Request = &engine.Request{GitRef: test.former}
		b.given = workflow.RunValues{Macros: &workflow.Macros{Time: now}}
		b.tasks = []engine.TaskRunView{{Name: "build", TaskID: "build", Status: workflow.TaskCompleted, EndTime: now.Add(-10 * time.Minute)}}
		if _, err := newDirect(b).ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "build", Settings: api.Settings{GitRef: test.now}}); err != nil {
			t.Fatal(err)
		}
		if kept := len(b.submitted[0].Options.Kept); kept != test.kept {
			t.Errorf("%+v: kept %d", test, kept)
		}
	}
}
