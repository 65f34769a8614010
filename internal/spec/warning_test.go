package spec

import (
	"slices"
	"testing"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, `
- {id: free, command: x, approval: {message: "Go on?"}}
- {id: held, command: x, approval: {roles: [owner]}}
- {id: open, command: x, git: {repository: "https://u:pass@example.com/a"}}
- {id: closed, command: x, git: {repository: "https://u:${secret:x}@example.com/a"}}
- {id: broken, command: x, approval: {roles: [owner]}, dependencies: [nothing]}
`, `
- {id: plain, tasks: [{id: free}], on_failure: continue}
- {id: ruled, tasks: [{id: own, command: x, approval: {roles: [owner]}}], max_active_runs: 1, max_parallel: 2, timeout_seconds: 3, on_failure: stop}
- {id: timed, tasks: [{id: free, git: {repository: "https://u:token@example.com/a"}}], timeout_seconds: 3}
- {id: outer, dags: [{id: plain}, {id: ruled}, {id: timed}], max_parallel: 4}
`, "")
	var got []string
	for _, warning := range c.Warnings() {
		got = append(got, warning.Error())
	}
	want := []string{
		`dags.yaml:3:55: the roles in the approval of task "own" of DAG "ruled" have no effect yet`,
		`dags.yaml:4:39: the repository of task "free" of DAG "timed" holds credentials, which are stored with every run`,
		`dags.yaml:5:40: in DAG "outer", DAG "ruled" goes without its max_active_runs, max_parallel, timeout_seconds, on_failure`,
		`dags.yaml:5:53: in DAG "outer", DAG "timed" goes without its timeout_seconds`,
		`tasks.yaml:3:36: the roles in the approval of task "held" have no effect yet`,
		`tasks.yaml:4:31: the repository of task "open" holds credentials, which are stored with every run`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings %q, wanted %q", got, want)
	}
	if len(c.Problems()) != 1 {
		t.Errorf("problems %v", c.Problems())
	}
}
