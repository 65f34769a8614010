package spec

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// PlanTask plans a run of the task and, recursively, of all that it depends on,
// and of nothing else. Each node is named by its task's id. A node comes after
// those that it depends on: nodes are in the order of the longest chain under
// them, then of their ids, so the same definitions make the same plan, byte by
// byte. The error is one of Lookup's; where a dependency is missing or a cycle
// is in the way, errors.As finds the UnknownError or CycleError in it.
func (c *Catalog) PlanTask(id string) (*workflow.Plan, error) {
	target, err := c.tasks.find(id)
	if err != nil {
		return nil, err
	}
	scratch := c.scratch.Get().(*[]int32)
	numbers := *scratch
	members := c.graph.reach(target, numbers)
	plan := assemble(c.graph, c.levels, members, numbers, func(vertex int32, spec *workflow.TaskSpec) {
		fillSpec(spec, c.tasks.definitions[vertex].Task)
	})
	for _, vertex := range members {
		numbers[vertex] = 0
	}
	c.scratch.Put(scratch)
	return plan, nil
}

// PlanDAG plans a run of the tasks that the DAG lists, as it overrides them, in
// the order that PlanTask has. The error is one of Lookup's.
func (c *Catalog) PlanDAG(id string) (*workflow.Plan, error) {
	number, err := c.dags.find(id)
	if err != nil {
		return nil, err
	}
	var problem error
	l := c.link(&c.dags.definitions[number], func(_ place, _ error, _, message string) {
		problem = fmt.Errorf("plan: %s", message)
	})
	if l == nil {
		return nil, problem
	}
	members := make([]int32, len(l.tasks))
	for i := range members {
		members[i] = int32(i) //nolint:gosec // bounded
	}
	return assemble(l.graph, l.levels, members, make([]int32, len(members)), func(vertex int32, spec *workflow.TaskSpec) {
		task := l.tasks[vertex].task()
		fillSpec(spec, &task)
	}), nil
}

// reach gives the vertex and all that it depends on, directly or not. It marks
// them in seen, which must be zero.
func (g *graph) reach(vertex int32, seen []int32) []int32 {
	seen[vertex] = 1
	members := []int32{vertex}
	for head := 0; head < len(members); head++ {
		for _, next := range g.dependencies(members[head]) {
			if seen[next] == 0 {
				seen[next] = 1
				members = append(members, next)
			}
		}
	}
	return members
}

// assemble makes the plan of some vertices of a graph, with all that these depend
// on among them. It sorts members, and leaves their numbers in numbers.
func assemble(g *graph, levels, members, numbers []int32, fill func(vertex int32, spec *workflow.TaskSpec)) *workflow.Plan {
	slices.SortFunc(members, func(a, b int32) int {
		return cmp.Or(cmp.Compare(levels[a], levels[b]), cmp.Compare(a, b))
	})
	edges := 0
	for number, vertex := range members {
		numbers[vertex] = int32(number) //nolint:gosec // bounded
		edges += len(g.dependencies(vertex))
	}
	plan := &workflow.Plan{Specs: make([]*workflow.TaskSpec, len(members)), Nodes: make([]workflow.Node, len(members))}
	specs := make([]workflow.TaskSpec, len(members))
	parents := make([]int32, 0, edges)
	for number, vertex := range members {
		fill(vertex, &specs[number])
		plan.Specs[number] = &specs[number]
		first := len(parents)
		for _, parent := range g.dependencies(vertex) {
			parents = append(parents, numbers[parent])
		}
		own := parents[first:len(parents):len(parents)]
		slices.Sort(own)
		plan.Nodes[number] = workflow.Node{Name: specs[number].TaskID, Spec: int32(number), Dependencies: own} //nolint:gosec // bounded
	}
	return plan
}

// fillSpec writes a task as a run keeps it. A parameter without a default stands
// as a null, so that a run knows that it may be given.
func fillSpec(spec *workflow.TaskSpec, task *workflow.Task) {
	*spec = workflow.TaskSpec{
		TaskID:         task.ID,
		Command:        task.Command,
		Queue:          task.Queue,
		Requires:       task.Requires,
		Priority:       task.Priority,
		TimeoutSeconds: task.TimeoutSeconds,
		Retries:        task.Retries,
		Env:            task.Env,
	}
	if len(task.Parameters) == 0 {
		return
	}
	spec.Parameters = make(map[string]workflow.Value, len(task.Parameters))
	for name, parameter := range task.Parameters {
		spec.Parameters[name] = cmp.Or(parameter.Default, null)
	}
}
