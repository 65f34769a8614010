package spec

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// nodes shows a plan as "name <- dependencies".
func nodes(plan *workflow.Plan) (shown []string) {
	for _, node := range plan.Nodes {
		text := node.Name
		for i, parent := range node.Dependencies {
			text += map[bool]string{true: " <- ", false: ", "}[i == 0] + plan.Nodes[parent].Name
		}
		shown = append(shown, text)
	}
	return shown
}

func TestPlanTask(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, `
- {id: report, command: r, dependencies: [join, clean, join]}
- {id: other, command: x, dependencies: [fetch]}
- {id: join, command: j, dependencies: [by_zone, by_country]}
- {id: by_country, command: c, dependencies: [clean]}
- {id: by_zone, command: z, dependencies: [clean]}
- id: clean
  command: clean
  queue: cpu_tasks
  requires: [gpu]
  priority: 3
  timeout_seconds: 9
  retries: 2
  parameters: {K: 1, open: {description: x}}
  env: {E: v}
  dependencies: [fetch]
- {id: fetch, command: f}
`, "", "")
	plan, err := c.PlanTask("report")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"fetch", "clean <- fetch", "by_country <- clean", "by_zone <- clean", "join <- by_country, by_zone", "report <- clean, join"}
	if diff := cmp.Diff(want, nodes(plan)); diff != "" {
		t.Error(diff)
	}
	wantSpec := &workflow.TaskSpec{
		TaskID: "clean", Command: "clean", Queue: "cpu_tasks", Requires: []string{"gpu"}, Priority: 3, TimeoutSeconds: 9,
		Retries:    workflow.Retries{Count: 2, DelaySeconds: 1},
		Parameters: map[string]workflow.Value{"K": "1", "open": "null"}, Env: map[string]string{"E": "v"},
	}
	if diff := cmp.Diff(wantSpec, plan.Specs[plan.Nodes[1].Spec]); diff != "" {
		t.Error(diff)
	}
	if plan, err = c.PlanTask("fetch"); err != nil || len(plan.Nodes) != 1 {
		t.Errorf("got %v, %v", plan, err)
	}
}

func TestPlanDAG(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, `
- {id: fetch, command: f, retries: 5, parameters: {A: 1, B: {default: 2, description: b}}, env: {X: x, Y: y}, tags: [t]}
- {id: clean, command: c, dependencies: [fetch], priority: 4}
- {id: deep, command: d, dependencies: [clean]}
`, `
- id: override
  tasks:
  - {id: clean}
  - {id: own, command: o, dependencies: [clean, fetch]}
  - {id: fetch, queue: cpu_tasks, retries: 0, timeout_seconds: 7, parameters: {B: 3, C: 4}, env: {Y: yy}}
- {id: pulled, tasks: [{id: deep, priority: 1}], include_dependencies: true}
- {id: cut, tasks: [{id: deep, dependencies: []}]}
- {id: shadow, tasks: [{id: fetch, command: mine}, {id: clean}]}
`, "")
	for id, want := range map[string][]string{
		"override": {"fetch", "clean <- fetch", "own <- clean, fetch"},
		"pulled":   {"fetch", "clean <- fetch", "deep <- clean"},
		"cut":      {"deep"},
		"shadow":   {"fetch", "clean <- fetch"},
	} {
		plan, err := c.PlanDAG(id)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if id == "override" {
			want[2] = "own <- fetch, clean"
		}
		if diff := cmp.Diff(want, nodes(plan)); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
	plan, err := c.PlanDAG("override")
	if err != nil {
		t.Fatal(err)
	}
	want := &workflow.TaskSpec{
		TaskID: "fetch", Command: "f", Queue: "cpu_tasks", Priority: 2, TimeoutSeconds: 7,
		Parameters: map[string]workflow.Value{"A": "1", "B": "3", "C": "4"},
		Env:        map[string]string{"X": "x", "Y": "yy"},
	}
	if diff := cmp.Diff(want, plan.Specs[0]); diff != "" {
		t.Error(diff)
	}
	if got := plan.Specs[2]; got.Command != "o" || got.Queue != "default" || got.Priority != 2 || got.TaskID != "own" {
		t.Errorf("got %+v", got)
	}
	if plan, _ = c.PlanDAG("shadow"); plan.Specs[0].Command != "mine" || plan.Specs[0].Retries.Count != 0 {
		t.Errorf("got %+v", plan.Specs[0])
	}
	if task, err := c.PlanTask("fetch"); err != nil || task.Specs[0].Retries.Count != 5 || len(task.Specs[0].Env) != 2 || task.Specs[0].Env["Y"] != "y" {
		t.Errorf("planning a DAG changed the task: %+v, %v", task.Specs[0], err)
	}
}

// drawTasks draws tasks without cycles, in an order that tells nothing of their graph.
func drawTasks(t *rapid.T) map[string]*workflow.Task {
	size := rapid.IntRange(1, 30).Draw(t, "size")
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-c._-]{1,4}`), size, size, rapid.ID[string]).Draw(t, "names")
	tasks := make(map[string]*workflow.Task, size)
	for i, name := range names {
		task := &workflow.Task{ID: name, Command: "x", Queue: "default", Priority: 2}
		if i > 0 {
			task.Dependencies = rapid.SliceOfN(rapid.SampledFrom(names[:i]), 0, 5).Draw(t, "dependencies")
		}
		tasks[name] = task
	}
	return tasks
}

func definitionsOf(tasks map[string]*workflow.Task) (definitions []Definition) {
	for id, task := range tasks { // in any order
		definitions = append(definitions, Definition{Kind: KindTask, ID: id, Task: task})
	}
	return definitions
}

// TestPlanProperties checks plans of random tasks: each node after what it
// depends on; all that is needed and nothing else; the dependencies of the
// definition and nothing else; the same each time.
func TestPlanProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tasks := drawTasks(t)
		c := NewCatalog(definitionsOf(tasks), CatalogOptions{})
		if len(c.Problems()) > 0 {
			t.Fatal(c.Problems())
		}
		for target := range tasks {
			plan, err := c.PlanTask(target)
			if err != nil {
				t.Fatal(err)
			}
			checkPlan(t, plan, func(name string) []string { return tasks[name].Dependencies })
			needed := map[string]bool{}
			for pending := []string{target}; len(pending) > 0; {
				name := pending[len(pending)-1]
				pending = pending[:len(pending)-1]
				if !needed[name] {
					needed[name] = true
					pending = append(pending, tasks[name].Dependencies...)
				}
			}
			if len(plan.Nodes) != len(needed) {
				t.Fatalf("plan of %s has %d nodes, %d are needed", target, len(plan.Nodes), len(needed))
			}
			for _, node := range plan.Nodes {
				if !needed[node.Name] {
					t.Fatalf("plan of %s has %s", target, node.Name)
				}
			}
			for _, again := range []*Catalog{c, NewCatalog(definitionsOf(tasks), CatalogOptions{})} {
				second, err := again.PlanTask(target)
				if err != nil || hashOf(second) != hashOf(plan) {
					t.Fatalf("second plan of %s differs, error %v", target, err)
				}
			}
		}
	})
}

func hashOf(plan *workflow.Plan) workflow.Hash {
	var hashes []workflow.Hash
	for _, spec := range plan.Specs {
		_, hash := spec.Encode()
		hashes = append(hashes, hash)
	}
	return plan.Hash(hashes)
}

// checkPlan checks order and edges of a plan.
func checkPlan(t *rapid.T, plan *workflow.Plan, dependencies func(name string) []string) {
	for number, node := range plan.Nodes {
		if plan.Specs[node.Spec].TaskID != node.Name {
			t.Fatalf("node %s has the specification of %s", node.Name, plan.Specs[node.Spec].TaskID)
		}
		var names []string
		for i, parent := range node.Dependencies {
			if int(parent) >= number {
				t.Fatalf("node %d depends on node %d", number, parent)
			}
			if i > 0 && node.Dependencies[i-1] >= parent {
				t.Fatalf("dependencies of node %d: %v", number, node.Dependencies)
			}
			names = append(names, plan.Nodes[parent].Name)
		}
		want := slices.Compact(slices.Sorted(slices.Values(dependencies(node.Name))))
		slices.Sort(names)
		if !slices.Equal(want, names) {
			t.Fatalf("node %s depends on %v, want %v", node.Name, names, want)
		}
	}
}

// TestPlanDAGProperties checks plans of DAGs that list some tasks and pull in
// the others.
func TestPlanDAGProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tasks := drawTasks(t)
		all := slices.Sorted(func(yield func(string) bool) {
			for id := range tasks {
				if !yield(id) {
					return
				}
			}
		})
		listed := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, -1, rapid.ID[string]).Draw(t, "listed")
		dag := &DAG{DAG: workflow.DAG{ID: "d"}, IncludeDependencies: rapid.Bool().Draw(t, "include")}
		for _, id := range listed {
			dag.Tasks = append(dag.Tasks, workflow.DAGTask{ID: id})
		}
		c := NewCatalog(append(definitionsOf(tasks), Definition{Kind: KindDAG, ID: "d", DAG: dag}), CatalogOptions{})
		complete := true
		for _, id := range listed {
			for _, dependency := range tasks[id].Dependencies {
				complete = complete && slices.Contains(listed, dependency)
			}
		}
		plan, err := c.PlanDAG("d")
		if !complete && !dag.IncludeDependencies {
			if err == nil {
				t.Fatal("a DAG without a dependency was planned")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		checkPlan(t, plan, func(name string) []string { return tasks[name].Dependencies })
		if complete && len(plan.Nodes) != len(listed) {
			t.Fatalf("%d nodes for %d tasks", len(plan.Nodes), len(listed))
		}
		for _, id := range listed {
			if !slices.ContainsFunc(plan.Nodes, func(node workflow.Node) bool { return node.Name == id }) {
				t.Fatalf("%s is missing", id)
			}
		}
	})
}

// TestCyclesAreFound adds one edge to tasks without cycles, and compares the
// verdict with whether the edge closes one.
func TestCyclesAreFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tasks := drawTasks(t)
		var all []string
		for id := range tasks {
			all = append(all, id)
		}
		slices.Sort(all)
		from, to := rapid.SampledFrom(all).Draw(t, "from"), rapid.SampledFrom(all).Draw(t, "to")
		plan, err := NewCatalog(definitionsOf(tasks), CatalogOptions{}).PlanTask(to)
		if err != nil {
			t.Fatal(err)
		}
		closes := slices.ContainsFunc(plan.Nodes, func(node workflow.Node) bool { return node.Name == from })
		tasks[from].Dependencies = append(slices.Clone(tasks[from].Dependencies), to)
		problems := NewCatalog(definitionsOf(tasks), CatalogOptions{}).Problems()
		found := false
		for _, problem := range problems {
			cycle := &CycleError{}
			ok := errors.As(problem.Cause, &cycle)
			if !ok || problem.Message != cycle.Error() {
				continue
			}
			found = true
			for i, id := range cycle.Path[1:] {
				if !slices.Contains(tasks[cycle.Path[i]].Dependencies, id) {
					t.Fatalf("%v is no cycle", cycle.Path)
				}
			}
			if cycle.Path[0] != cycle.Path[len(cycle.Path)-1] {
				t.Fatalf("%v does not end where it began", cycle.Path)
			}
		}
		if found != closes {
			t.Fatalf("cycle found: %v, want %v: %v", found, closes, problems)
		}
	})
}

// large makes big sets of tasks, the target of which is called "target".
var large = map[string]func(size int) []Definition{
	"chain": func(size int) []Definition {
		return generate(size, func(i int) []int {
			if i%50 == 0 {
				return []int{max(0, i-1), i / 2, i / 3}
			}
			return []int{max(0, i-1)}
		})
	},
	"wide": func(size int) []Definition {
		return generate(size, func(i int) []int {
			if i == size-1 {
				all := make([]int, i)
				for k := range all {
					all[k] = k
				}
				return all
			}
			return []int{0}
		})
	},
	"random": func(size int) []Definition {
		random := rand.New(rand.NewPCG(1, 2))
		return generate(size, func(i int) []int {
			if i == size-1 {
				all := make([]int, 0, i)
				for k := i - min(i, 5000); k < i; k++ {
					all = append(all, k)
				}
				return all
			}
			parents := make([]int, 0, 11)
			for range 10 {
				parents = append(parents, max(0, i-1-random.IntN(max(1, i))))
			}
			return append(parents, max(0, i-1-random.IntN(20)))
		})
	},
}

func generate(size int, parents func(i int) []int) []Definition {
	names := make([]string, size)
	for i := range names {
		names[i] = fmt.Sprintf("task_%06d", (i*7919)%size)
	}
	names[size-1] = "target"
	definitions := make([]Definition, size)
	for i := range definitions {
		task := &workflow.Task{
			ID: names[i], Command: "true", Queue: "default", Priority: 2,
			Parameters: map[string]workflow.Parameter{"N": {Default: "1"}},
		}
		if i > 0 {
			for _, parent := range parents(i) {
				task.Dependencies = append(task.Dependencies, names[parent])
			}
		}
		definitions[i] = Definition{Kind: KindTask, ID: task.ID, Task: task}
	}
	return definitions
}

func TestLargePlans(t *testing.T) {
	t.Parallel()
	const size = 100_000
	for shape, build := range large {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			c := NewCatalog(build(size), CatalogOptions{})
			plan, err := c.PlanTask("target")
			if err != nil {
				t.Fatal(err, len(c.Problems()))
			}
			if got := len(plan.Nodes); got < size/2 {
				t.Errorf("%d nodes", got)
			}
			if last := plan.Nodes[len(plan.Nodes)-1]; last.Name != "target" {
				t.Errorf("the last node is %s", last.Name)
			}
		})
	}
	t.Run("cycle", func(t *testing.T) {
		t.Parallel()
		definitions := large["chain"](size)
		definitions[0].Task.Dependencies = []string{"target"}
		problems := NewCatalog(definitions, CatalogOptions{}).Problems()
		if len(problems) != 1 {
			t.Errorf("%d problems", len(problems))
		}
	})
}

func BenchmarkPlanTask(b *testing.B) {
	for _, shape := range []string{"chain", "wide", "random"} {
		definitions := large[shape](100_000)
		b.Run(shape+"/catalog and plan", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewCatalog(definitions, CatalogOptions{}).PlanTask("target"); err != nil {
					b.Fatal(err)
				}
			}
		})
		c := NewCatalog(definitions, CatalogOptions{})
		b.Run(shape+"/plan", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.PlanTask("target"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(shape+"/plan of one task", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.PlanTask("task_000000"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
