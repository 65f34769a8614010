package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// TestCatalogProblemsOfTheLanguage has what can be wrong between tasks, DAGs and parameter sets.
func TestCatalogProblemsOfTheLanguage(t *testing.T) {
	t.Parallel()
	const sets = "- {id: small, parameters: {N: 1}}\n- {id: large, parameters: {N: 9}}\n- {id: bad}\n- {id: bad}\n"
	const twice = `sets.yaml:4:8: parameter set "bad" is defined twice: first at sets.yaml:3:8`
	const train = "- {id: train, command: x, parameters: {N: 2}}\n"
	for name, test := range map[string]struct {
		tasks, dags string
		want        []string
		usable      []string
	}{
		"variants": {
			tasks:  train + "- {id: a, command: x, dependencies: ['train:small', 'train:large', train]}",
			dags:   "{id: d, tasks: [{id: 'train:small'}, {id: train}, {id: b, command: x, dependencies: ['train:large']}]}",
			usable: []string{"a", "train", "d"},
		},
		"parameter sets of a task": {
			tasks: "- {id: a, command: x, parameter_sets: [small, larg]}\n- {id: b, command: x, parameter_sets: [bad]}",
			dags:  "{id: d, tasks: [{id: i, command: x, parameter_sets: [smal]}]}",
			want: []string{
				`dags.yaml:1:54: task "i" of DAG "d" names unknown parameter set "smal": did you mean "small"?`,
				`tasks.yaml:1:47: task "a" names unknown parameter set "larg": did you mean "large"?`,
				`tasks.yaml:2:40: task "b" names parameter set "bad", which has a problem`,
			},
		},
		"unknown variants": {
			tasks: train + "- {id: a, command: x, dependencies: ['train:smal']}\n- {id: b, command: x, dependencies: ['trian:small']}\n- {id: c, command: x, dependencies: ['train:bad']}",
			want: []string{
				`tasks.yaml:2:38: task "a" depends on task "train" with unknown parameter set "smal": did you mean "small"?`,
				`tasks.yaml:3:38: task "b" depends on unknown task "trian": did you mean "train"?`,
				`tasks.yaml:4:38: task "c" depends on task "train" with parameter set "bad", which has a problem`,
			},
			usable: []string{"train"},
		},
		"a variant of itself": {
			tasks: "- {id: a, command: x, dependencies: [b, 'a:small']}\n- {id: b, command: x}",
			want:  []string{`tasks.yaml:1:41: tasks depend on each other in a cycle: a -> a:small -> a`},

			usable: []string{"b"},
		},
		"triggers": {
			dags: "- {id: sales, tasks: [{id: i, command: x}]}\n- {id: report, tasks: [{id: i, command: x}], triggers: {dag_completed: [sales, sale]}}\n" +
				"- {id: mail, tasks: [{id: i, command: x}], triggers: {dag_completed: [report]}}\n" +
				"- {id: a, tasks: [{id: i, command: x}], triggers: {dag_completed: [sales, c]}}\n- {id: b, tasks: [{id: i, command: x}], triggers: {dag_completed: [a]}}\n" +
				"- {id: c, tasks: [{id: i, command: x}], triggers: {dag_completed: [b]}}\n- {id: self, tasks: [{id: i, command: x}], triggers: {dag_completed: [self]}}",
			want: []string{
				`dags.yaml:2:80: the trigger dag_completed of DAG "report" names unknown DAG "sale": did you mean "sales"?`,
				`dags.yaml:4:75: DAGs start each other in a cycle: a -> c -> b -> a | a run of any of them would start runs for ever: take one out of dag_completed of "a"`,
				`dags.yaml:7:71: DAGs start each other in a cycle: self -> self | a run of any of them would start runs for ever: take one out of dag_completed of "self"`,
			},
			usable: []string{"mail", "sales"},
		},
		"a cycle by a variant": {
			tasks: "- {id: a, command: x, dependencies: ['b:small']}\n- {id: b, command: x, dependencies: [a]}",
			want:  []string{`tasks.yaml:1:38: tasks depend on each other in a cycle: a -> b:small -> a`},
		},
		"a variant of a task with a problem": {
			tasks: "- {id: a, command: x, dependencies: ['b:small']}\n- {id: b, command: x, dependencies: [gone]}",
			want: []string{
				`tasks.yaml:1:38: task "a" depends on task "b:small", which has a problem`,
				`tasks.yaml:2:38: task "b" depends on unknown task "gone"`,
			},
		},
		"values against the rules": {
			tasks: `
- {id: train, command: x, parameters: {N: {options: [1, 2, 3]}, S: {sensitive: true, options: [x]}}}
- {id: a, command: x, dependencies: ['train:large']}
- {id: b, command: x, parameters: {N: {validation: '[a-z]+'}}, parameter_sets: [small]}
- {id: ok, command: x, dependencies: ['train:small']}
`,
			dags: "- {id: d, tasks: [{id: train, parameters: {N: 4}}]}\n- {id: e, tasks: [{id: train, parameters: {S: marker}}]}\n- {id: f, tasks: [{id: 'train:large'}]}\n- {id: g, tasks: [{id: train, parameters: {N: '${X}'}}]}",
			want: []string{
				`dags.yaml:1:47: task "train" of DAG "d": the value of parameter N, "4", is none of its options (1, 2, 3)`,
				`dags.yaml:2:47: task "train" of DAG "e": the value of parameter S is none of its options`,
				`dags.yaml:3:24: DAG "f" lists task "train" with parameter set "large", whose value of N, "9", is none of its options (1, 2, 3)`,
				`tasks.yaml:3:38: task "a" depends on task "train" with parameter set "large", whose value of N, "9", is none of its options (1, 2, 3)`,
				`tasks.yaml:4:81: task "b" names parameter set "small", whose value of N, "1", does not match its validation "[a-z]+"`,
			},
			usable: []string{"ok", "train", "g"},
		},
		"variants in DAGs": {
			tasks: train + "- {id: a, command: x, dependencies: ['train:small']}",
			dags: `
- {id: unlisted, tasks: [{id: a}]}
- {id: listed, tasks: [{id: a}, {id: train}]}
- {id: exact, tasks: [{id: a}, {id: 'train:small'}]}
- {id: other, tasks: [{id: a}, {id: 'train:large'}]}
- {id: pulled, tasks: [{id: a}], include_dependencies: true}
- {id: unknown, tasks: [{id: 'train:smal'}, {id: 'trian:small'}]}
- {id: twice, tasks: [{id: 'train:small'}, {id: 'train:small'}]}
- {id: unknown_set, tasks: [{id: train}, {id: i, command: x, dependencies: ['train:smal', 'i:x']}]}
`,
			want: []string{
				`dags.yaml:2:31: DAG "unlisted" lists task "a" but not task "train:small", which it depends on | list train:small under tasks too, or set include_dependencies: true`,
				`dags.yaml:5:28: DAG "other" lists task "a" but not task "train:small", which it depends on | list train:small under tasks too, or set include_dependencies: true`,
				`dags.yaml:7:30: DAG "unknown" lists task "train" with unknown parameter set "smal": did you mean "small"?`,
				`dags.yaml:7:50: DAG "unknown" lists unknown task "trian": did you mean "train"? | to define it here, give it a command`,
				`dags.yaml:8:49: DAG "twice" lists task "train:small" twice: first on line 8, column 28`,
				`dags.yaml:9:77: task "i" of DAG "unknown_set" depends on task "train" with unknown parameter set "smal": did you mean "small"?`,
				`dags.yaml:9:91: task "i" of DAG "unknown_set" depends on task "i" with unknown parameter set "x"`,
			},
			usable: []string{"a", "train", "exact", "listed", "pulled"},
		},
		"DAGs in DAGs": {
			tasks: train,
			dags: `
- {id: one, tasks: [{id: train}]}
- {id: two, dags: [{id: one}]}
- {id: unknown, dags: [{id: onne}]}
- {id: twice, dags: [{id: one}, {id: two}, {id: one}]}
- {id: a, dags: [{id: b}]}
- {id: b, dags: [{id: one}, {id: a}]}
- {id: self, dags: [{id: self}]}
- {id: on_bad, dags: [{id: a}]}
- {id: unlisted, dags: [{id: one, dependencies: [two]}]}
- {id: circle, dags: [{id: one, dependencies: [two]}, {id: two, dependencies: [one]}]}
- {id: itself, dags: [{id: one, dependencies: [one]}]}
`,
			want: []string{
				`dags.yaml:4:29: DAG "unknown" holds unknown DAG "onne": did you mean "one"?`,
				`dags.yaml:5:49: DAG "twice" holds DAG "one" twice: first on line 5, column 27`,
				`dags.yaml:6:23: DAGs hold each other in a cycle: a -> b -> a`,
				`dags.yaml:8:26: DAGs hold each other in a cycle: self -> self`,
				`dags.yaml:9:28: DAG "on_bad" holds DAG "a", which has a problem`,
				`dags.yaml:10:50: group "one" of DAG "unlisted" depends on unknown group "two" | list it under dags too`,
				`dags.yaml:11:48: DAG "circle": groups depend on each other in a cycle: one -> two -> one`,
				`dags.yaml:12:48: DAG "itself": groups depend on each other in a cycle: one -> one`,
			},
			usable: []string{"train", "one", "two"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := catalogWithSets(t, test.tasks, test.dags, "", sets)
			got := problemTexts(c.Problems())
			if i := slices.Index(got, twice); i < 0 {
				t.Error("no problem tells that a parameter set is there twice")
			} else if diff := cmp.Diff(test.want, slices.Delete(got, i, i+1), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.usable, append(ids(c, KindTask), ids(c, KindDAG)...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNestingIsBounded makes DAGs that double at each level, that lie too deep, and that join too many tasks.
func TestNestingIsBounded(t *testing.T) {
	t.Parallel()
	leaf := &DAG{DAG: workflow.DAG{ID: "d0", Tasks: []workflow.DAGTask{{ID: "t", Overrides: workflow.Task{Command: "x"}, Given: []string{"command"}}}}}
	dag := func(id string, groups ...workflow.DAGGroup) Definition {
		return Definition{Kind: KindDAG, ID: id, DAG: &DAG{DAG: workflow.DAG{ID: id, DAGs: groups}}}
	}
	wide := &DAG{DAG: workflow.DAG{ID: "wide"}}
	for i := range 4000 {
		wide.Tasks = append(wide.Tasks, workflow.DAGTask{ID: fmt.Sprint("t", i), Overrides: workflow.Task{Command: "x"}, Given: []string{"command"}})
	}
	definitions := []Definition{{Kind: KindDAG, ID: "d0", DAG: leaf}, {Kind: KindDAG, ID: "wide", DAG: wide}}
	for level := range 22 {
		definitions = append(definitions, dag(fmt.Sprint("d", level+1), workflow.DAGGroup{ID: fmt.Sprint("d", level)}))
	}
	definitions = append(definitions, dag("e0", workflow.DAGGroup{ID: "d0"}))
	for level := range 19 {
		twin := fmt.Sprint("twin", level)
		definitions = append(definitions, dag(twin, workflow.DAGGroup{ID: fmt.Sprint("e", level)}),
			dag(fmt.Sprint("e", level+1), workflow.DAGGroup{ID: fmt.Sprint("e", level)}, workflow.DAGGroup{ID: twin}))
	}
	copies := dag("copy", workflow.DAGGroup{ID: "wide"})
	definitions = append(definitions, copies, dag("joined", workflow.DAGGroup{ID: "wide"}, workflow.DAGGroup{ID: "copy", Dependencies: []string{"wide"}}))
	c := NewCatalog(definitions, CatalogOptions{})
	texts := strings.Join(problemTexts(c.Problems()), "\n")
	for _, want := range []string{
		`DAG "d21" holds DAGs in more than 20 levels`, `DAG "d22" holds DAG "d21", which has a problem`,
		`DAG "joined" joins so many last tasks of DAGs to first ones of others that these wait for 16000000 in all; at most 10000000 can be | end or begin one of the DAGs with a single task`,
	} {
		if !strings.Contains(texts, want) {
			t.Errorf("no problem says %s", want)
		}
	}
	plan, err := c.PlanDAG("d20")
	if err != nil || len(plan.Nodes) != 1 || strings.Count(plan.Nodes[0].Name, "/") != 20 {
		t.Errorf("got %v, %v", plan, err)
	}
	if strings.Count(texts, "levels") < 2 {
		t.Errorf("the twins are not bounded: %s", texts)
	}
}

// TestInlinedTasksAreBounded doubles a DAG until it is too large.
func TestInlinedTasksAreBounded(t *testing.T) {
	t.Parallel()
	definitions := []Definition{}
	var groups []workflow.DAGGroup
	items := make([]workflow.Value, 60_000)
	for i := range items {
		items[i] = "1"
	}
	for i := range 4 {
		id := fmt.Sprint("d", i)
		each := workflow.Task{Command: "x", ForEach: &workflow.ForEach{Items: items}}
		definitions = append(definitions, Definition{Kind: KindDAG, ID: id, DAG: &DAG{DAG: workflow.DAG{
			ID: id, Tasks: []workflow.DAGTask{{ID: "t", Overrides: each, Given: []string{"command", "for_each"}}},
		}}})
		groups = append(groups, workflow.DAGGroup{ID: id})
	}
	definitions = append(definitions,
		Definition{Kind: KindDAG, ID: "three", DAG: &DAG{DAG: workflow.DAG{ID: "three", DAGs: groups[:3]}}},
		Definition{Kind: KindDAG, ID: "four", DAG: &DAG{DAG: workflow.DAG{ID: "four", DAGs: groups}}})
	c := NewCatalog(definitions, CatalogOptions{})
	want := []string{`DAG "four" comes to 240004 tasks with the DAGs in it; at most 200000 can be`}
	if diff := cmp.Diff(want, problemTexts(c.Problems())); diff != "" {
		t.Error(diff)
	}
	if plan, err := c.PlanDAG("three"); err != nil || len(plan.Nodes) != 180_003 {
		t.Error(err)
	}
}

func TestRunOptionsAndSchedules(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, "", `
- {id: a, tasks: [{id: t, command: x}], max_active_runs: 2, max_parallel: 3, timeout_seconds: 4.5, on_failure: stop, schedule: {cron: "@daily"}}
- {id: b, tasks: [{id: t, command: x}], max_parallel: 1}
- {id: c, tasks: [{id: gone}], schedule: {cron: "@daily"}}
- {id: d, tasks: [{id: t, command: x}], schedule: {cron: "0 3 * * 1", timezone: Europe/Berlin}}
`, "")
	want := workflow.RunOptions{
		MaxParallel: 3, TimeoutSeconds: 4.5, OnFailure: workflow.OnFailureStop, Groups: []workflow.RunGroup{{Name: "dag/a", MaxActive: 2}},
	}
	if diff := cmp.Diff(want, c.RunOptions("a")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(workflow.RunOptions{MaxParallel: 1}, c.RunOptions("b")); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{"", "c", "unknown"} {
		if options := c.RunOptions(id); !options.IsZero() {
			t.Errorf("%s: %+v", id, options)
		}
	}
	var got []string
	for id, when := range c.Schedules() {
		got = append(got, id+" "+when.Cron+" "+when.Timezone)
	}
	if diff := cmp.Diff([]string{"a @daily ", "d 0 3 * * 1 Europe/Berlin"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestSensitiveValuesAreNotShown searches all that is told of definitions for their values.
func TestSensitiveValuesAreNotShown(t *testing.T) {
	t.Parallel()
	const marker = "s3cretMarker"
	for _, text := range []string{
		"id: a\ncommand: x\nparameters: {K: {sensitive: true, default: MARKER, options: [a]}}",
		"id: a\ncommand: x\nparameters: {K: {default: MARKER, validation: '[0-9]+', sensitive: true}}",
		"id: a\ncommand: x\nparameters: {K: {default: !!int MARKER, sensitive: true}}",
		"id: a\ncommand: x\nparameters: {K: !!int MARKER}",
		"id: a\ncommand: x\nparameters: {K: {default: {MARKER: 1, MARKER: 2}, sensitive: true}}",
		"id: a\ncommand: x\nparameters: {K: {default: {MARKER: !!int x}, sensitive: true}}",
		"id: a\ncommand: x\nparameters: {K: {options: MARKER, sensitive: true}}",
		"id: a\ncommand: x\nparameters: {K: {options: [!!int MARKER], sensitive: true}}",
		"id: a\ncommand: x\nparameters: {K: {default: 'x ${MARKER', sensitive: true}}",
		"id: a\ncommand: x\nparameters: {K: {default: \"MARKER\\0\", sensitive: true}}",
	} {
		_, problems := Parse(KindTask, "f.yaml", []byte(strings.ReplaceAll(text, "MARKER", marker)), Defaults{})
		if len(problems) == 0 {
			t.Errorf("no problem: %s", text)
		}
		for _, problem := range problemTexts(problems) {
			if strings.Contains(problem, marker) {
				t.Error(problem)
			}
		}
	}
	sets, problems := Parse(KindParameterSet, "f.yaml", []byte("id: s\nparameters: {K: !!int "+marker+"}"), Defaults{})
	if len(sets) != 1 || len(problems) != 1 || strings.Contains(problems[0].Message, marker) {
		t.Error(problems)
	}
}

// TestStoredListenersStayUsable holds that a DAG can be run though one that it listens to has gone, or was never good.
func TestStoredListenersStayUsable(t *testing.T) {
	t.Parallel()
	definitions, problems := Parse(KindDAG, "dags.yaml", []byte("{id: report, tasks: [{id: i, command: x}], triggers: {dag_completed: [gone]}}"), Defaults{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	stored, err := Decode(KindDAG, definitions[0].Encode())
	if err != nil {
		t.Fatal(err)
	}
	catalog := NewCatalog([]Definition{stored}, CatalogOptions{})
	if _, err := catalog.Lookup(KindDAG, "report"); err != nil || len(catalog.Problems()) > 0 {
		t.Error(err, catalog.Problems())
	}
}
