package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	if problems := c.Problems(); len(problems) != 1 {
		t.Errorf("problems %v", problems)
	}
}

// TestWarningsOfReferences: what a run may be given, but as a rule is not.
func TestWarningsOfReferences(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, `
- {id: a, command: x, parameters: {A: "${REGION} ${REGON} ${ITEM} ${DATE} ${B-C}", B: {sensitive: true, default: "${HIDDEN}"}}}
- {id: withheld, command: x, dependencies: [nothing], env: {C: "${NONE}"}}
- {id: dated, command: x, env: {D: "${LOGICAL_DATE}"}}
- {id: round, command: x, parameters: {A: "${zzz}", B: "${C}", C: "${B}", X: "${X}"}, env: {D: "${D}"}}
- {id: required, command: x, parameters: {R: {required: true}}}
`, `
- {id: by_time, schedule: {cron: "@daily"}, tasks: [{id: dated}, {id: required}]}
- {id: by_hand, tasks: [{id: required}]}
- {id: good, context: c, schedule: {cron: "@daily"}, tasks: [{id: dated}]}
- {id: circle, context: c, variables: {REGION: "${OTHER}"}, tasks: [{id: dated}]}
`, `
- {id: c, variables: {REGION: eu, OTHER: "${REGION}"}}
- {id: turns, extends: c, variables: {REGION: "${OTHER}"}}
- {id: straight, extends: c, variables: {AREA: "${OTHER}-1"}}
`)
	var got []string
	for _, warning := range c.Warnings() {
		got = append(got, warning.Error())
	}
	want := []string{
		`contexts.yaml:3:47: context "turns": values refer to each other in a cycle: OTHER -> REGION -> OTHER`,
		`dags.yaml:2:8: DAG "by_time" cannot run by its schedule: task "required": no value for the required parameter R: give it with --param required.R=VALUE`,
		`dags.yaml:5:48: DAG "circle": values refer to each other in a cycle: OTHER -> REGION -> OTHER`,
		`tasks.yaml:2:39: no definition has a value for ${REGON}, to which the value of A refers: did you mean "REGION"?`,
		`tasks.yaml:2:39: no definition has a value for ${B-C}, to which the value of A refers`,
		`tasks.yaml:3:64: no definition has a value for ${NONE}, to which the value of C refers`,
		`tasks.yaml:5:43: no definition has a value for ${zzz}, to which the value of A refers`,
		`tasks.yaml:5:43: task "round": values refer to each other in a cycle: B -> C -> B`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWarningsOfSchedulesHoldToday: the date that the values of a schedule are tried with is one of these days.
func TestWarningsOfSchedulesHoldToday(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, `
- {id: dated, command: x, parameters: {DAY: {default: "${LOGICAL_DATE}", validation: "20[0-9]{2}-.*"}}}
`, `
- {id: by_time, schedule: {cron: "@daily"}, tasks: [{id: dated}]}
`, "")
	if warnings := c.Warnings(); len(warnings) > 0 {
		t.Errorf("warnings %v", warnings)
	}
}

// TestWarningsOfManyNames: what may be meant is looked for a bounded number of times, and once for each name.
func TestWarningsOfManyNames(t *testing.T) {
	t.Parallel()
	var tasks strings.Builder
	for i := range 2 * maxSuggestions {
		fmt.Fprintf(&tasks, "- {id: t%d, command: x, parameters: {NAME_%d: 1}, env: {X: \"${NAMES_%d}\", Y: \"${NAMES_0}\"}}\n", i, i, i)
	}
	suggested := map[bool]int{}
	for _, warning := range catalogOf(t, tasks.String(), "", "").Warnings() {
		if strings.Contains(warning.Message, "${NAMES_0}") {
			if !strings.Contains(warning.Message, "did you mean") {
				t.Errorf("warning %v", warning)
			}
			continue
		}
		suggested[strings.Contains(warning.Message, "did you mean")]++
	}
	if suggested[true] != maxSuggestions-1 || suggested[false] != maxSuggestions {
		t.Errorf("names with suggestions: %v", suggested)
	}
}

// TestHintsOfNames: what a hint says can be done.
func TestHintsOfNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"RANDOM":       "write ${RANDOM:16} for so many letters and digits",
		"CYCLO_RUN_ID": "no value can have this name: the command finds it in its environment, as $CYCLO_RUN_ID",
		"REGION":       "define it in a context, or give it to each run: --env REGION=VALUE; $${ is a literal ${, ${env:NAME} the agent's own environment",
		"a-b":          "define it in a context; $${ is a literal ${, ${env:NAME} the agent's own environment",
	} {
		c := catalogOf(t, `{id: a, command: x, env: {X: "${`+name+`}"}}`, "", "")
		if warnings := c.Warnings(); len(warnings) != 1 || warnings[0].Hint != want {
			t.Errorf("%s: warnings %v, hint wanted %q", name, warnings, want)
		}
	}
}
