package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const planSets = `
- {id: small, parameters: {EPOCHS: 2, LR: 0.1, EXTRA: small}}
- {id: large, parameters: {EPOCHS: 100}}
- {id: usual, parameters: {LR: 0.5, BASE: usual}}
`

// specOf is the specification of the node with this name.
func specOf(t *testing.T, plan *workflow.Plan, name string) *workflow.TaskSpec {
	t.Helper()
	for _, node := range plan.Nodes {
		if node.Name == name {
			return plan.Specs[node.Spec]
		}
	}
	t.Fatalf("no node %s in %v", name, nodes(plan))
	return nil
}

func expectNodes(t *testing.T, plan *workflow.Plan, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, nodes(plan)); diff != "" {
		t.Error(diff)
	}
}

func TestPlanVariants(t *testing.T) {
	t.Parallel()
	c := catalogWithSets(t, `
- {id: data, command: d}
- id: train
  command: t
  dependencies: [data]
  parameter_sets: [usual]
  parameters: {EPOCHS: 1, LR: 0.9, OPEN: {required: true}, MODE: {default: a, options: [a, b]}}
- {id: report, command: r, dependencies: ['train:small', 'train:large', train]}
`, `
- id: d
  tasks:
  - {id: train, parameters: {LR: 7}, priority: 1}
  - {id: data}
  - {id: use, command: u, dependencies: ['train:small']}
- {id: exact, tasks: [{id: 'train:large', dependencies: [], parameters: {LR: 8}}]}
- {id: pulled, tasks: [{id: report}], include_dependencies: true}
`, "", planSets)
	plan, err := c.PlanTask("report")
	all := []string{"data", "train <- data", "train:large <- data", "train:small <- data", "report <- train, train:large, train:small"}
	expectNodes(t, plan, err, all...)
	checks := map[string]workflow.Check{"OPEN": {Required: true}, "MODE": {Options: []workflow.Value{`"a"`, `"b"`}}}
	for name, want := range map[string]map[string]workflow.Value{
		"train":       {"EPOCHS": "1", "LR": "0.5", "OPEN": "null", "MODE": `"a"`, "BASE": `"usual"`},
		"train:small": {"EPOCHS": "2", "LR": "0.1", "OPEN": "null", "MODE": `"a"`, "BASE": `"usual"`, "EXTRA": `"small"`},
		"train:large": {"EPOCHS": "100", "LR": "0.5", "OPEN": "null", "MODE": `"a"`, "BASE": `"usual"`},
	} {
		spec := specOf(t, plan, name)
		if diff := cmp.Diff(want, spec.Parameters) + cmp.Diff(checks, spec.Checks); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if spec.TaskID != "train" || nodeName("train", spec.Variant) != name {
			t.Errorf("%s is of %s:%s", name, spec.TaskID, spec.Variant)
		}
	}

	plan, err = c.PlanTask("train:large")
	expectNodes(t, plan, err, "data", "train:large <- data")
	if got := specOf(t, plan, "train:large"); got.Variant != "large" || got.Parameters["EPOCHS"] != "100" {
		t.Errorf("got %+v", got)
	}
	plan, err = c.PlanDAG("d")
	expectNodes(t, plan, err, "data", "train <- data", "train:small <- data", "use <- train:small")
	if got := specOf(t, plan, "train:small"); got.Parameters["LR"] != "7" || got.Parameters["EPOCHS"] != "2" || got.Priority != 1 {
		t.Errorf("got %+v", got)
	}
	plan, err = c.PlanDAG("exact")
	expectNodes(t, plan, err, "train:large")
	if got := specOf(t, plan, "train:large"); got.Parameters["LR"] != "8" || got.Parameters["EPOCHS"] != "100" {
		t.Errorf("got %+v", got)
	}
	plan, err = c.PlanDAG("pulled")
	expectNodes(t, plan, err, all...)

	var unknown *UnknownError
	if _, err := c.PlanTask("train:huge"); !errors.As(err, &unknown) || unknown.Kind != KindParameterSet {
		t.Errorf("got %v", err)
	}
	if _, err := c.PlanTask("tran:small"); !errors.As(err, &unknown) || unknown.Kind != KindTask || unknown.ID != "tran" {
		t.Errorf("got %v", err)
	}
}

func TestPlanTaskAlone(t *testing.T) {
	t.Parallel()
	c := catalogWithSets(t, "- {id: a, command: x}\n- {id: b, command: x, dependencies: [a], for_each: [1, 2]}\n- {id: c, command: x, dependencies: [b]}", "", "", planSets)
	plan, err := c.PlanTaskAlone("c")
	expectNodes(t, plan, err, "c")
	plan, err = c.PlanTaskAlone("b")
	expectNodes(t, plan, err, "b[0]", "b[1]", "b <- b[0], b[1]")
	plan, err = c.PlanTaskAlone("c:small")
	expectNodes(t, plan, err, "c:small")
	if plan.Specs[0].Variant != "small" || plan.Specs[0].Parameters["EPOCHS"] != "2" {
		t.Errorf("got %+v", plan.Specs[0])
	}
	if _, err := c.PlanTaskAlone("d"); err == nil {
		t.Error("an unknown task was planned")
	}
}

func TestPlanForEach(t *testing.T) {
	t.Parallel()
	c := catalogWithSets(t, `
- {id: list, command: l}
- {id: each, command: e, dependencies: [list], for_each: [a, {b: 1}], trigger_rule: all_done, approval: {message: m}, evaluation_point: true, queue: cpu_tasks}
- {id: none, command: n, dependencies: [each, list], for_each: [], trigger_rule: one_failed}
- {id: later, command: r, dependencies: [list], for_each: "${tasks.list.files}", trigger_rule: all_done}
- {id: end, command: x, dependencies: [none, later, 'each:small']}
`, "", "", planSets)
	plan, err := c.PlanTask("end")
	expectNodes(t, plan, err,
		"list",
		"each[0] <- list", "each[1] <- list", "each <- each[0], each[1]",
		"later <- list",
		"each:small[0] <- list", "each:small[1] <- list", "each:small <- each:small[0], each:small[1]",
		"none <- list, each",
		"end <- later, each:small, none")
	common := workflow.TaskSpec{TaskID: "each", Command: "e", Queue: "cpu_tasks", Priority: 2}
	group := common
	group.ForEach = &workflow.ForEach{}
	item := common
	item.TriggerRule, item.Approval, item.EvaluationPoint = workflow.RuleAllDone, &workflow.Approval{Message: "m"}, true
	item.Item = &workflow.Item{Value: `{"b":1}`, Index: 1}
	for name, want := range map[string]workflow.TaskSpec{"each": group, "each[1]": item} {
		if diff := cmp.Diff(&want, specOf(t, plan, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := specOf(t, plan, "none"); got.TriggerRule != "" || got.ForEach == nil || len(got.ForEach.Items) > 0 {
		t.Errorf("got %+v", got)
	}
	if got := specOf(t, plan, "each:small[0]"); got.Parameters["EPOCHS"] != "2" || got.Item.Value != `"a"` {
		t.Errorf("got %+v", got)
	}
	later := specOf(t, plan, "later")
	if later.ForEach.Reference != "${tasks.list.files}" || later.TriggerRule != workflow.RuleAllDone {
		t.Errorf("got %+v", later)
	}

	whole, each := ExpandItems(later, []workflow.Value{"1", "2"})
	if whole.ForEach == nil || len(whole.ForEach.Items)+len(whole.ForEach.Reference) > 0 || whole.TriggerRule != "" {
		t.Errorf("got %+v", whole)
	}
	for i, one := range each {
		if one.ForEach != nil || one.Item.Index != i || one.Item.Value != workflow.Value(fmt.Sprint(i+1)) || one.TriggerRule != workflow.RuleAllDone {
			t.Errorf("got %+v", one)
		}
	}
	if len(each) != 2 || later.ForEach.Reference == "" || later.Item != nil {
		t.Errorf("%d items; the specification became %+v", len(each), later)
	}
	if plan, err = c.PlanTask("none"); err != nil || specOf(t, plan, "none").TriggerRule != "" {
		t.Error(err)
	}
	if task, _ := c.Lookup(KindTask, "each"); task.Task.ForEach == nil || len(task.Task.ForEach.Items) != 2 {
		t.Errorf("planning changed the task: %+v", task.Task)
	}
}

func TestPlanEmptyForEachAlone(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, "{id: a, command: x, for_each: [], approval: {}, evaluation_point: true, trigger_rule: all_done}", "", "")
	plan, err := c.PlanTask("a")
	expectNodes(t, plan, err, "a")
	want := &workflow.TaskSpec{TaskID: "a", Command: "x", Queue: "default", Priority: 2, ForEach: &workflow.ForEach{}}
	if diff := cmp.Diff(want, plan.Specs[0]); diff != "" {
		t.Error(diff)
	}
}

func TestPlanNestedDAGs(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, "{id: t, command: x}", `
- id: fork
  context: inner
  variables: {V: fork}
  tasks:
  - {id: top, command: x}
  - {id: left, command: x, dependencies: [top]}
  - {id: right, command: x, dependencies: [top]}
- {id: pair, tasks: [{id: t}, {id: each, command: x, for_each: [1, 2]}], max_parallel: 1}
- {id: deep, variables: {V: deep, D: deep}, dags: [{id: fork}, {id: pair, dependencies: [fork]}]}
- id: outer
  variables: {V: outer}
  tasks: [{id: own, command: x}, {id: t, dependencies: [own]}]
  dags: [{id: deep, dependencies: [pair]}, {id: pair}]
`, "- {id: base, variables: {A: base, V: base}}\n- {id: inner, extends: base, variables: {B: inner}}")
	plan, err := c.PlanDAG("deep")
	expectNodes(t, plan, err, "fork/top", "fork/left <- fork/top", "fork/right <- fork/top",
		"pair/each[0] <- fork/left, fork/right", "pair/each[1] <- fork/left, fork/right", "pair/each <- pair/each[0], pair/each[1]",
		"pair/t <- fork/left, fork/right")
	plan, err = c.PlanDAG("outer")
	expectNodes(t, plan, err, "own", "pair/each[0]", "pair/each[1]", "pair/each <- pair/each[0], pair/each[1]", "pair/t",
		"t <- own", "deep/fork/top <- pair/each, pair/t",
		"deep/fork/left <- deep/fork/top", "deep/fork/right <- deep/fork/top",
		"deep/pair/each[0] <- deep/fork/left, deep/fork/right", "deep/pair/each[1] <- deep/fork/left, deep/fork/right",
		"deep/pair/each <- deep/pair/each[0], deep/pair/each[1]", "deep/pair/t <- deep/fork/left, deep/fork/right")
	for name, want := range map[string]map[string]workflow.Value{
		"own": nil, "t": nil, "pair/t": nil,
		"deep/pair/t":    {"V": `"deep"`, "D": `"deep"`},
		"deep/fork/left": {"V": `"fork"`, "D": `"deep"`, "A": `"base"`, "B": `"inner"`},
	} {
		spec := specOf(t, plan, name)
		if diff := cmp.Diff(want, spec.Variables); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if spec.TaskID != name {
			t.Errorf("%s is of task %s", name, spec.TaskID)
		}
	}
}

// drawCatalog draws tasks, variants of them, items, and DAGs that hold each other.
func drawCatalog(t *rapid.T) (definitions []Definition, tasks, dags []string) {
	sets := []string{"s1", "s2"}
	for _, id := range sets {
		definitions = append(definitions, Definition{Kind: KindParameterSet, ID: id, ParameterSet: &workflow.ParameterSet{
			ID: id, Parameters: map[string]workflow.Value{"K": workflow.StringValue(id)},
		}})
	}
	for id, task := range drawTasks(t) {
		tasks = append(tasks, id)
		definitions = append(definitions, Definition{Kind: KindTask, ID: id, Task: task})
	}
	slices.Sort(tasks)
	slices.SortFunc(definitions, func(a, b Definition) int { return strings.Compare(a.ID, b.ID) })
	for i := range definitions {
		if task := definitions[i].Task; task != nil {
			for k := range task.Dependencies {
				if set := rapid.SampledFrom([]string{"", "", "s1", "s2"}).Draw(t, "set"); set != "" {
					task.Dependencies[k] += ":" + set
				}
			}
			switch rapid.IntRange(0, 5).Draw(t, "each") {
			case 0:
				task.ForEach = &workflow.ForEach{Items: []workflow.Value{"1", "2", "3"}[:rapid.IntRange(0, 3).Draw(t, "items")]}
			case 1:
				task.ForEach = &workflow.ForEach{Reference: "${X}"}
			}
		}
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "dags") {
		dag := &DAG{DAG: workflow.DAG{ID: fmt.Sprint("dag", i)}, IncludeDependencies: true}
		for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom(tasks), 0, 4, rapid.ID[string]).Draw(t, "listed") {
			dag.Tasks = append(dag.Tasks, workflow.DAGTask{ID: id})
		}
		if i > 0 {
			inner := rapid.SliceOfNDistinct(rapid.SampledFrom(dags), 0, 3, rapid.ID[string]).Draw(t, "inner")
			for k, id := range inner {
				group := workflow.DAGGroup{ID: id}
				if k > 0 {
					group.Dependencies = rapid.SliceOfNDistinct(rapid.SampledFrom(inner[:k]), 0, -1, rapid.ID[string]).Draw(t, "after")
				}
				dag.DAGs = append(dag.DAGs, group)
			}
		}
		if len(dag.Tasks)+len(dag.DAGs) == 0 {
			dag.Tasks = []workflow.DAGTask{{ID: tasks[0]}}
		}
		dags = append(dags, dag.ID)
		definitions = append(definitions, Definition{Kind: KindDAG, ID: dag.ID, DAG: dag})
	}
	return definitions, tasks, dags
}

// TestPlanLanguageProperties holds for random catalogs: each plan has each node once, after what it depends on, with its
// own specification; it is the same each time; a DAG holds all nodes of those in it, under their names; and these wait
// for all of the groups that they depend on.
func TestPlanLanguageProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		definitions, tasks, dags := drawCatalog(t)
		c := NewCatalog(definitions, CatalogOptions{})
		if len(c.Problems()) > 0 {
			t.Fatal(c.Problems())
		}
		again := NewCatalog(rapid.Permutation(definitions).Draw(t, "order"), CatalogOptions{})
		plans := map[string]map[string]bool{}
		for _, id := range tasks {
			for _, name := range []string{id, id + ":s1"} {
				plan, err := c.PlanTask(name)
				second, err2 := again.PlanTask(name)
				if err != nil || err2 != nil || hashOf(plan) != hashOf(second) {
					t.Fatal(name, err, err2)
				}
				checkShape(t, plan)
			}
		}
		for _, id := range dags {
			plan, err := c.PlanDAG(id)
			second, err2 := again.PlanDAG(id)
			if err != nil || err2 != nil || hashOf(plan) != hashOf(second) {
				t.Fatal(id, err, err2)
			}
			plans[id] = checkShape(t, plan)
			number := c.dags.index[id]
			if c.shapes[number].nodes != len(plan.Nodes) {
				t.Fatalf("%s has %d nodes, not %d", id, len(plan.Nodes), c.shapes[number].nodes)
			}
			checkGroups(t, c.dags.definitions[number].DAG, plan, plans)
		}
	})
}

// checkShape checks the nodes of a plan and gives their names.
func checkShape(t *rapid.T, plan *workflow.Plan) map[string]bool {
	names, used := map[string]bool{}, map[int32]bool{}
	for number, node := range plan.Nodes {
		if names[node.Name] || used[node.Spec] {
			t.Fatalf("%s is there twice", node.Name)
		}
		names[node.Name], used[node.Spec] = true, true
		for i, parent := range node.Dependencies {
			if int(parent) >= number || i > 0 && node.Dependencies[i-1] >= parent {
				t.Fatalf("%s depends on %v", node.Name, node.Dependencies)
			}
		}
		spec := plan.Specs[node.Spec]
		want := nodeName(spec.TaskID, spec.Variant)
		if spec.Item != nil {
			want = ItemName(want, spec.Item.Index)
		}
		if node.Name != want {
			t.Fatalf("%s has the specification of %s", node.Name, want)
		}
		if spec.Variant != "" && spec.Parameters["K"] != workflow.StringValue(spec.Variant) {
			t.Fatalf("%s has the values %v", node.Name, spec.Parameters)
		}
		if each := spec.ForEach; each != nil && len(each.Items) > 0 {
			t.Fatalf("%s still has items", node.Name)
		}
	}
	if len(plan.Specs) != len(plan.Nodes) {
		t.Fatalf("%d specifications for %d nodes", len(plan.Specs), len(plan.Nodes))
	}
	return names
}

// checkGroups checks the DAGs in a DAG, whose own plans are known.
func checkGroups(t *rapid.T, dag *DAG, plan *workflow.Plan, plans map[string]map[string]bool) {
	under := make([]map[int32]bool, len(plan.Nodes)) // all that each node waits for
	groups := map[string][]int32{}
	for number, node := range plan.Nodes {
		under[number] = map[int32]bool{}
		for _, parent := range node.Dependencies {
			under[number][parent] = true
			maps.Copy(under[number], under[parent])
		}
		if group, _, inside := strings.Cut(node.Name, "/"); inside {
			groups[group] = append(groups[group], int32(number))
		}
	}
	for _, group := range dag.DAGs {
		if len(groups[group.ID]) != len(plans[group.ID]) {
			t.Fatalf("group %s has %d nodes, its DAG %d", group.ID, len(groups[group.ID]), len(plans[group.ID]))
		}
		for _, number := range groups[group.ID] {
			if name := strings.TrimPrefix(plan.Nodes[number].Name, group.ID+"/"); !plans[group.ID][name] {
				t.Fatalf("%s is not in the DAG", name)
			}
			for other, members := range groups {
				for _, member := range members {
					if slices.Contains(group.Dependencies, other) && !under[number][member] {
						t.Fatalf("%s does not wait for %s", plan.Nodes[number].Name, plan.Nodes[member].Name)
					}
				}
			}
		}
	}
}
