package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// TestGitTravels follows git from a definition to what an agent is told.
func TestGitTravels(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, `
- id: t
  command: x
  parameters: {ORG: team, WHICH: "v${ORG}"}
  git: {repository: "https://u:${secret:token}@example.com/${ORG}/a", ref: "${WHICH}", path: "p/${RUN_ID}", environment: python}
- {id: plain, command: x}
`, `
- {id: own, tasks: [{id: t, git: {repository: "/srv/$${a}"}}, {id: plain}]}
- {id: as_defined, tasks: [{id: t}]}
`, "")
	if len(c.Problems()) > 0 {
		t.Fatal(c.Problems())
	}
	lookups := Lookups{
		Run:    func() (workflow.RunID, string) { return workflow.RunID{}, "run" },
		Secret: func(string) (string, error) { return "pa55", nil },
	}
	for dag, want := range map[string]*workflow.Git{
		"own":        {Repository: "/srv/${a}"},
		"as_defined": {Repository: "https://u:pa55@example.com/team/a", Ref: "vteam", Path: "p/run", Environment: "python"},
	} {
		plan, err := c.PlanDAG(dag)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckValues(plan, nil); err != nil {
			t.Error(err)
		}
		for _, spec := range plan.Specs {
			if spec.TaskID == "plain" {
				if body, _ := spec.Encode(); spec.Git != nil || strings.Contains(string(body), "git") {
					t.Errorf("a task without git: %s", body)
				}
				continue
			}
			found, err := Resolve(spec, nil, lookups)
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, found.Git); diff != "" {
				t.Error(dag, diff)
			}
			for _, entry := range found.Env {
				if strings.Contains(entry, "git") {
					t.Errorf("the command sees %s", entry)
				}
			}
			if dag == "as_defined" && !cmp.Equal([]string{"pa55"}, found.Sensitive) {
				t.Errorf("sensitive: %q", found.Sensitive)
			}
		}
	}
}

func TestGitReferencesAreChecked(t *testing.T) {
	t.Parallel()
	for git, want := range map[workflow.Git]string{
		{Repository: "${WERE}"}:                         `task "t": unknown ${WERE} in the value of "git.repository": did you mean "WHERE"?`,
		{Repository: "/a", Ref: "${tasks.none.x}"}:      `task "t": ${tasks.none.x} in the value of "git.ref": there is no task "none", neither in this run nor among the definitions`,
		{Repository: "/a", Path: "${git}path}"}:         `task "t": unknown ${git} in the value of "git.path": no value has this name; ${env:NAME} is the agent's own environment, $${ a literal ${`,
		{Repository: "/a", Ref: "${WHERE}${env:X}"}:     "",
		{Repository: "/${RANDOM:4}", Path: "${RUN_ID}"}: "",
	} {
		spec := &workflow.TaskSpec{TaskID: "t", Git: &git, Env: map[string]string{"WHERE": "/b"}}
		plan := &workflow.Plan{Specs: []*workflow.TaskSpec{spec}, Nodes: []workflow.Node{{Name: "t"}}}
		err := NewCatalog(nil, CatalogOptions{}).CheckValues(plan, nil)
		if err == nil {
			err = errors.New("")
		}
		if err.Error() != want {
			t.Errorf("%+v: %v, want %s", git, err, want)
		}
	}
}
