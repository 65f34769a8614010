package spec

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// catalogOf parses texts by kind (files tasks.yaml, dags.yaml, contexts.yaml)
// and makes a catalog. It fails on problems inside the texts.
func catalogOf(t testing.TB, tasks, dags, contexts string) *Catalog {
	t.Helper()
	return catalogWithSets(t, tasks, dags, contexts, "")
}

// catalogWithSets has parameter sets (sets.yaml) too.
func catalogWithSets(t testing.TB, tasks, dags, contexts, sets string) *Catalog {
	t.Helper()
	var all []Definition
	for _, file := range []struct {
		kind       Kind
		name, text string
	}{{KindTask, "tasks.yaml", tasks}, {KindDAG, "dags.yaml", dags}, {KindContext, "contexts.yaml", contexts}, {KindParameterSet, "sets.yaml", sets}} {
		definitions, problems := Parse(file.kind, file.name, []byte(file.text), Defaults{})
		for _, problem := range problems {
			t.Error(problem)
		}
		all = append(all, definitions...)
	}
	return NewCatalog(all, CatalogOptions{Queues: []string{"default", "cpu_tasks"}})
}

// ids are the usable ids of a kind.
func ids(c *Catalog, kind Kind) (ids []string) {
	for definition := range c.Definitions(kind) {
		ids = append(ids, definition.ID)
	}
	return ids
}

func TestCatalogProblems(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		tasks, dags, contexts string
		want                  []string
		usable                []string // tasks, DAGs and contexts
	}{
		"all good": {
			tasks:    "- {id: a, command: x}\n- {id: b, command: x, dependencies: [a, a]}",
			dags:     "{id: d, context: c, tasks: [{id: b}, {id: a}]}",
			contexts: "- {id: c, extends: e}\n- {id: e}",
			usable:   []string{"a", "b", "d", "c", "e"},
		},
		"unknown dependency": {
			tasks:  "- {id: train_model, command: x}\n- {id: train_modes, command: x}\n- id: b\n  command: x\n  dependencies: [train_model, train_modell]",
			want:   []string{`tasks.yaml:5:31: task "b" depends on unknown task "train_modell": did you mean "train_model" or "train_modes"?`},
			usable: []string{"train_model", "train_modes"},
		},
		"what depends on a task with a problem": {
			tasks: "- {id: a, command: x, dependencies: [gone]}\n- {id: b, command: x, dependencies: [ok, a]}\n- {id: c, command: x, dependencies: [b]}\n- {id: ok, command: x}",
			dags:  "{id: d, tasks: [{id: ok}, {id: b}]}",
			want: []string{
				`dags.yaml:1:32: DAG "d" lists task "b", which has a problem`,
				`tasks.yaml:1:38: task "a" depends on unknown task "gone"`,
				`tasks.yaml:2:42: task "b" depends on task "a", which has a problem`,
				`tasks.yaml:3:38: task "c" depends on task "b", which has a problem`,
			},
			usable: []string{"ok"},
		},
		"cycle": {
			tasks: "- {id: a, command: x, dependencies: [z, b]}\n- {id: b, command: x, dependencies: [c]}\n- {id: c, command: x, dependencies: [a]}\n- {id: z, command: x}\n- {id: after, command: x, dependencies: [b]}",
			want: []string{
				"tasks.yaml:1:41: tasks depend on each other in a cycle: a -> b -> c -> a",
				`tasks.yaml:5:42: task "after" depends on task "b", which has a problem`,
			},
			usable: []string{"z"},
		},
		"a task that depends on itself": {
			tasks: "{id: a, command: x, dependencies: [a]}",
			want:  []string{"tasks.yaml:1:36: tasks depend on each other in a cycle: a -> a"},
		},
		"two cycles": {
			tasks: "- {id: a, command: x, dependencies: [b]}\n- {id: b, command: x, dependencies: [a]}\n- {id: c, command: x, dependencies: [d, a]}\n- {id: d, command: x, dependencies: [c]}",
			want: []string{
				"tasks.yaml:1:38: tasks depend on each other in a cycle: a -> b -> a",
				"tasks.yaml:3:38: tasks depend on each other in a cycle: c -> d -> c",
			},
		},
		"queues": {
			tasks: "- {id: a, command: x, queue: cpu_task}\n- {id: b, command: x, queue: cpu_tasks}\n- {id: c, command: x}",
			dags:  "- {id: d, tasks: [{id: b, queue: gpu}, {id: i, command: x, queue: defualt}]}",
			want: []string{
				`dags.yaml:1:34: task "b" of DAG "d" names queue "gpu", which is not declared | declared are default, cpu_tasks; add it to queues in the configuration, or name one of those`,
				`dags.yaml:1:67: task "i" of DAG "d" names queue "defualt", which is not declared: did you mean "default"? | declared are default, cpu_tasks; add it to queues in the configuration, or name one of those`,
				`tasks.yaml:1:30: task "a" names queue "cpu_task", which is not declared: did you mean "cpu_tasks"? | declared are default, cpu_tasks; add it to queues in the configuration, or name one of those`,
			},
			usable: []string{"b", "c"},
		},
		"duplicates": {
			tasks:    "- {id: a, command: x}\n- {id: b, command: x}\n- {id: a, command: y}\n- {id: c, command: x, dependencies: [a]}\n- {id: a, command: z}",
			dags:     "- {id: a, tasks: [{id: b}]}",
			contexts: "- {id: a}\n- {id: a}",
			want: []string{
				`contexts.yaml:2:8: context "a" is defined twice: first at contexts.yaml:1:8`,
				`tasks.yaml:3:8: task "a" is defined twice: first at tasks.yaml:1:8`,
				`tasks.yaml:4:38: task "c" depends on task "a", which has a problem`,
				`tasks.yaml:5:8: task "a" is defined twice: first at tasks.yaml:1:8`,
			},
			usable: []string{"b", "a"},
		},
		"DAG, tasks": {
			tasks: "- {id: clean, command: x, dependencies: [fetch]}\n- {id: fetch, command: x}",
			dags: `
- {id: unknown, tasks: [{id: fetsh}]}
- {id: twice, tasks: [{id: fetch}, {id: fetch, queue: cpu_tasks}]}
- {id: unlisted, tasks: [{id: clean}]}
- {id: pulled, tasks: [{id: clean}], include_dependencies: true}
- {id: cut, tasks: [{id: clean, dependencies: []}]}
- id: overridden
  tasks:
  - {id: fetch}
  - id: clean
    dependencies:
    - fetch
    - nothing
- id: inlined
  tasks:
  - {id: i, command: x, dependencies: [fetch]}
- {id: shadow, tasks: [{id: clean, command: x}]}
- {id: circle, tasks: [{id: fetch, dependencies: [clean]}, {id: clean}]}
- {id: pulled_circle, tasks: [{id: fetch, dependencies: [clean]}], include_dependencies: true}
`,
			want: []string{
				`dags.yaml:2:30: DAG "unknown" lists unknown task "fetsh": did you mean "fetch"? | to define it here, give it a command`,
				`dags.yaml:3:41: DAG "twice" lists task "fetch" twice: first on line 3, column 28`,
				`dags.yaml:4:31: DAG "unlisted" lists task "clean" but not task "fetch", which it depends on | list fetch under tasks too, or set include_dependencies: true`,
				`dags.yaml:13:7: task "clean" of DAG "overridden" depends on unknown task "nothing"`,
				`dags.yaml:16:40: DAG "inlined" lists task "i" but not task "fetch", which it depends on | list fetch under tasks too, or set include_dependencies: true`,
				`dags.yaml:18:65: DAG "circle": tasks depend on each other in a cycle: clean -> fetch -> clean`,
				`dags.yaml:19:58: DAG "pulled_circle": tasks depend on each other in a cycle: clean -> fetch -> clean`,
			},
			usable: []string{"clean", "fetch", "cut", "pulled", "shadow"},
		},
		"contexts": {
			tasks:    "{id: a, command: x}",
			dags:     "- {id: d, context: prd, tasks: [{id: a}]}\n- {id: e, context: bad, tasks: [{id: a}]}",
			contexts: "- {id: prod}\n- {id: x, extends: y}\n- {id: y, extends: z}\n- {id: z, extends: y}\n- {id: bad, extends: prob}",
			want: []string{
				`contexts.yaml:2:20: context "x" extends context "y", which has a problem`,
				"contexts.yaml:3:20: contexts extend each other in a cycle: y -> z -> y",
				`contexts.yaml:5:22: context "bad" extends unknown context "prob": did you mean "prod"?`,
				`dags.yaml:1:20: DAG "d" names unknown context "prd": did you mean "prod"?`,
				`dags.yaml:2:20: DAG "e" names context "bad", which has a problem`,
			},
			usable: []string{"a", "prod"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := catalogOf(t, test.tasks, test.dags, test.contexts)
			if diff := cmp.Diff(test.want, problemTexts(c.Problems())); diff != "" {
				t.Error(diff)
			}
			var usable []string
			for _, kind := range []Kind{KindTask, KindDAG, KindContext} {
				usable = append(usable, ids(c, kind)...)
			}
			if diff := cmp.Diff(test.usable, usable); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAllProblemsAtOnce: no problem hides one of another kind, which would be told only when the first is mended.
func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	var all []Definition
	var got []string
	for _, file := range []struct {
		kind       Kind
		name, text string
	}{
		{KindTask, "tasks.yaml", `
- {id: broken, comand: x, dependencies: [nothing, ""], queue: gpu, parameter_sets: [none], parameters: {A: "${tasks.gone.x}"}}
- {id: twice, command: x, dependencies: [twice2]}
- {id: twice, command: x, dependencies: [twice3], queue: gpus}
- {id: refers, command: x, parameters: {A: "${tasks.brokn.x}", B: "${RANDOM:0}", C: {sensitive: true, default: "${tasks.nix.y}"}}, env: {D: "${env:1}", E: "${tasks.inner.k} $${tasks.gone.x} ${tasks[\"broken[0]\"].k}"}}
- {id: each, command: x, for_each: "${tasks.brok.list}"}
`},
		{KindDAG, "dags.yaml", `
id: broken
context: nowhere
schedule: {cron: x}
variables: {V: "${tasks.twic.x}"}
dags: [{id: other}, {}]
tasks: [{id: broken}, {}, {id: inner, command: x, dependencies: [last, gone]}, {id: last, command: x, queue: gpu, dependencies: [inner]}]
`},
		{KindContext, "contexts.yaml", `{id: c, extends: d, variables: {A: 1, A: 2, B: "${tasks.gone}"}}`},
		{KindParameterSet, "sets.yaml", `{id: s, parameters: {A: "${tasks.gone.y}"}}`},
	} {
		definitions, problems := Parse(file.kind, file.name, []byte(file.text), Defaults{})
		all = append(all, definitions...)
		got = append(got, problemTexts(problems)...)
	}
	c := NewCatalog(all, CatalogOptions{Queues: []string{"default"}})
	got = append(got, problemTexts(c.Problems())...)
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], " | ")
	}
	slices.Sort(got)
	want := []string{
		`contexts.yaml:1:18: context "c" extends unknown context "d"`,
		`contexts.yaml:1:39: "A" is given twice: first on line 1, column 33`,
		`contexts.yaml:1:48: ${tasks.gone} in the value of B: the output of a task is named as ${tasks.TASK.KEY}, or ${tasks["TASK"].KEY} where a name has dots`,
		`dags.yaml:3:10: DAG "broken" names unknown context "nowhere"`,
		`dags.yaml:4:18: the cron expression "x" has 1 fields: it takes five (minute, hour, day, month, weekday), no seconds and no years`,
		`dags.yaml:5:16: ${tasks.twic.x} in the value of V: unknown task "twic": did you mean "twice"?`,
		`dags.yaml:6:13: DAG "broken" holds unknown DAG "other"`,
		`dags.yaml:6:21: this DAG in a DAG has no id`,
		`dags.yaml:7:110: task "last" of DAG "broken" names queue "gpu", which is not declared`,
		`dags.yaml:7:14: DAG "broken" lists task "broken", which has a problem`,
		`dags.yaml:7:23: this task has no id`,
		`dags.yaml:7:66: DAG "broken": tasks depend on each other in a cycle: inner -> last -> inner`,
		`dags.yaml:7:72: task "inner" of DAG "broken" depends on unknown task "gone"`,
		`sets.yaml:1:25: ${tasks.gone.y} in the value of A: unknown task "gone"`,
		`tasks.yaml:2:108: ${tasks.gone.x} in the value of A: unknown task "gone"`,
		`tasks.yaml:2:16: unknown field "comand" of a task: did you mean "command"?`,
		`tasks.yaml:2:3: task "broken" has no command`,
		`tasks.yaml:2:42: task "broken" depends on unknown task "nothing"`,
		`tasks.yaml:2:51: dependency "" is not valid: it takes 1 to 200 of the characters A-Z a-z 0-9 _ . -`,
		`tasks.yaml:2:63: task "broken" names queue "gpu", which is not declared`,
		`tasks.yaml:2:85: task "broken" names unknown parameter set "none"`,
		`tasks.yaml:3:42: task "twice" depends on unknown task "twice2": did you mean "twice"?`,
		`tasks.yaml:4:42: task "twice" depends on unknown task "twice3": did you mean "twice"?`,
		`tasks.yaml:4:58: task "twice" names queue "gpus", which is not declared`,
		`tasks.yaml:4:8: task "twice" is defined twice: first at tasks.yaml:3:8`,
		`tasks.yaml:5:112: a reference in the sensitive value of C is not known, or not in the form of one`,
		`tasks.yaml:5:141: ${env:1} in the value of D: this is no name of an environment variable`,
		`tasks.yaml:5:44: ${tasks.brokn.x} in the value of A: unknown task "brokn": did you mean "broken"?`,
		`tasks.yaml:5:67: ${RANDOM:0} in the value of B: RANDOM takes a number of characters from 1 to 256`,
		`tasks.yaml:6:36: ${tasks.brok.list} in the value of for_each: unknown task "brok"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if withheld := c.Withheld(KindTask); !slices.Equal(withheld, []string{"broken", "each", "refers", "twice"}) {
		t.Errorf("withheld are %q", withheld)
	}
}

func TestDuplicateInTwoFiles(t *testing.T) {
	t.Parallel()
	first, _ := Parse(KindTask, "b.yaml", []byte("id: a\ncommand: x"), Defaults{})
	second, _ := Parse(KindTask, "a.yaml", []byte("---\ncommand: x\nid: a"), Defaults{})
	c := NewCatalog(append(first, second...), CatalogOptions{})
	if diff := cmp.Diff([]string{`a.yaml:3:5: task "a" is defined twice: first at b.yaml:1:5`}, problemTexts(c.Problems())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a"}, c.Withheld(KindTask)); diff != "" {
		t.Error(diff)
	}
}

func TestBrokenDefinitionsAreKnown(t *testing.T) {
	t.Parallel()
	definitions, _ := Parse(KindTask, "f.yaml", []byte("- {id: a, command: x, priority: 9}\n- {id: b, command: x, dependencies: [a]}"), Defaults{})
	c := NewCatalog(definitions, CatalogOptions{})
	if diff := cmp.Diff([]string{`f.yaml:2:38: task "b" depends on task "a", which has a problem`}, problemTexts(c.Problems())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, c.Withheld(KindTask)); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Lookup(KindTask, "a"); err == nil || err.Error() != `f.yaml: the definition of task "a" has problems` {
		t.Errorf("got %v", err)
	}
}

// TestTasksOfUnreadDAGsAreNotUnknown: a reference may mean a task of a DAG whose text is broken.
func TestTasksOfUnreadDAGsAreNotUnknown(t *testing.T) {
	t.Parallel()
	tasks, problems := Parse(KindTask, "tasks.yaml", []byte(`
- {id: uses, command: x, env: {A: "${tasks.loose.k}"}}
`), Defaults{})
	dags, broken := Parse(KindDAG, "dags.yaml", []byte("id: d\ntasks:\n- {id: loose, command: \"x}\n"), Defaults{})
	if len(problems) != 0 || len(broken) != 1 {
		t.Fatalf("problems %v %v", problems, broken)
	}
	if problems := NewCatalog(append(tasks, dags...), CatalogOptions{}).Problems(); len(problems) != 0 {
		t.Errorf("problems %v", problems)
	}
	if problems := NewCatalog(tasks, CatalogOptions{}).Problems(); len(problems) != 1 {
		t.Errorf("problems without the DAG: %v", problems)
	}
}

// TestIDsAfterOtherFieldsAreFound: the id of a definition that can't be read need not be its first field.
func TestIDsAfterOtherFieldsAreFound(t *testing.T) {
	t.Parallel()
	definitions, problems := Parse(KindTask, "tasks.yaml", []byte("- name: One\n  id: one\n  env:\n    id: no\n- {\"id\": \"two\", command: x}\n- 'id': three\n  command: \"x\n"), Defaults{})
	var found []string
	for i := range definitions {
		found = append(found, definitions[i].ID)
	}
	if want := []string{"one", "two", "three"}; !slices.Equal(found, want) || len(problems) != 1 {
		t.Errorf("found %q, wanted %q; problems %v", found, want, problems)
	}
}

// TestStoredDefinitions checks that a catalog from stored bodies, which have no
// places, names the ids.
func TestStoredDefinitions(t *testing.T) {
	t.Parallel()
	var definitions []Definition
	for _, body := range []string{`{"id":"a","dependencies":["b","x"]}`, `{"id":"b","dependencies":["a"]}`, `{"id":"a"}`} {
		definition, err := Decode(KindTask, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		definitions = append(definitions, definition)
	}
	definition, err := Decode(KindDAG, []byte(`{"id":"d","tasks":[{"id":"a"},{"id":"a"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := NewCatalog(append(definitions, definition), CatalogOptions{})
	want := []string{
		`task "a" is defined twice: first at a definition without a file`,
		`task "a" depends on unknown task "x"`,
		`tasks depend on each other in a cycle: a -> b -> a`,
		`DAG "d" lists task "a", which has a problem`,
		`DAG "d" lists task "a" twice`,
	}
	if diff := cmp.Diff(want, problemTexts(c.Problems())); diff != "" {
		t.Error(diff)
	}
}

// TestBrokenDefinitionsAreStored: who wants to use one that was stored as broken is told why not.
func TestBrokenDefinitionsAreStored(t *testing.T) {
	t.Parallel()
	broken := Definition{Kind: KindTask, ID: "a", Broken: true, Reason: "tasks/a.yaml:1:2: it is bad"}
	stored, err := Decode(KindTask, broken.Encode())
	if err != nil || stored.Task != nil {
		t.Fatalf("got %v, %v", stored, err)
	}
	good, _ := Parse(KindTask, "f.yaml", []byte("{id: b, command: x, dependencies: [a]}"), Defaults{})
	c := NewCatalog(append(good, stored), CatalogOptions{})
	_, err = c.PlanTask("a")
	if err == nil || err.Error() != `task "a" cannot be used, since its definition has a problem: tasks/a.yaml:1:2: it is bad` {
		t.Error(err)
	}
	if _, err = c.PlanTask("b"); err == nil || !strings.Contains(err.Error(), `task "b" depends on task "a", which has a problem`) {
		t.Error(err)
	}
}

func TestTypedErrors(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, `
- {id: good, command: x}
- {id: goods, command: x}
- {id: a, command: x, dependencies: [b]}
- {id: b, command: x, dependencies: [a]}
- {id: after, command: x, dependencies: [a]}
- {id: lost, command: x, dependencies: [god]}
- {id: later, command: x, dependencies: [lost]}
`, "{id: d, tasks: [{id: a}]}", "{id: c, extends: c}")
	var unknown *UnknownError
	var cycle *CycleError
	for id, want := range map[string]UnknownError{
		"goood": {KindTask, "goood", []string{"good"}},
		"lost":  {KindTask, "god", []string{"good"}},
		"later": {KindTask, "god", []string{"good"}},
	} {
		_, err := c.PlanTask(id)
		if !errors.As(err, &unknown) {
			t.Errorf("%s: got %v", id, err)
			continue
		}
		if diff := cmp.Diff(want, *unknown); diff != "" {
			t.Error(diff)
		}
	}
	for _, id := range []string{"a", "b", "after"} {
		_, err := c.PlanTask(id)
		if !errors.As(err, &cycle) || cmp.Diff([]string{"a", "b", "a"}, cycle.Path) != "" {
			t.Errorf("%s: got %v", id, err)
		}
	}
	if _, err := c.PlanDAG("d"); !errors.As(err, &cycle) {
		t.Errorf("got %v", err)
	}
	if _, err := c.PlanDAG("x"); !errors.As(err, &unknown) || unknown.Kind != KindDAG {
		t.Errorf("got %v", err)
	}
	_, err := c.Values(Request{Plan: &workflow.Plan{}, Context: "c"})
	if !errors.As(err, &cycle) || cycle.Kind != KindContext {
		t.Errorf("got %v", err)
	}
	if _, err := c.Lookup(KindParameterSet, "x"); !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
}

func TestNilQueuesAllowAny(t *testing.T) {
	t.Parallel()
	definitions, _ := Parse(KindTask, "f", []byte("{id: a, command: x, queue: any}"), Defaults{})
	if problems := NewCatalog(definitions, CatalogOptions{}).Problems(); len(problems) > 0 {
		t.Error(problems)
	}
	if problems := NewCatalog(definitions, CatalogOptions{Queues: []string{}}).Problems(); len(problems) != 1 {
		t.Errorf("got %v", problems)
	}
}

// TestManyProblems holds that looking for near ids does not grow with the square.
func TestManyProblems(t *testing.T) {
	t.Parallel()
	const size = 20_000
	var definitions []Definition
	for i := range size {
		id := fmt.Sprintf("task_%05d", i)
		task := &workflow.Task{ID: id, Command: "x", Dependencies: []string{fmt.Sprintf("tusk_%05d", i)}}
		definitions = append(definitions, Definition{Kind: KindTask, ID: id, Task: task})
	}
	c := NewCatalog(definitions, CatalogOptions{})
	if len(c.Problems()) != size || c.suggestions != maxSuggestions {
		t.Errorf("%d problems, %d suggestions", len(c.Problems()), c.suggestions)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind Kind
		body string
		want string
	}{
		{KindTask, `{`, "decode a task: unexpected end of JSON input"},
		{KindTask, `{"id":"a b"}`, `decode a task: "a b" is no valid id`},
		{KindDAG, `{}`, `decode a DAG: "" is no valid id`},
		{KindParameterSet, `{}`, `decode a parameter set: "" is no valid id`},
		{"dagger", `{}`, `decode a definition: unknown kind "dagger"`},
	} {
		if _, err := Decode(test.kind, []byte(test.body)); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", test.body, err, test.want)
		}
	}
}
