package spec

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// PlanTask plans a run of the task and, recursively, of all that it depends on,
// and of nothing else. The id may name a variant, TASK:SET. A node is named by its
// task's id, with ":SET" for a variant and "[0]" for an item. A node comes after
// those that it depends on: nodes are in the order of the longest chain under
// them, then of their ids, so the same definitions make the same plan, byte by
// byte. The error is one of Lookup's; where a dependency is missing or a cycle
// is in the way, errors.As finds the UnknownError or CycleError in it.
func (c *Catalog) PlanTask(id string) (*workflow.Plan, error) {
	target, set, err := c.target(id)
	if err != nil {
		return nil, err
	}
	scratch := c.scratch.Get().(*[]int32)
	numbers := *scratch
	members := c.graph.reach(target, numbers)
	plan := assemble(c.graph, c.levels, members, numbers, func(vertex int32, spec *workflow.TaskSpec) string {
		if vertex == target { // nothing that it depends on depends on it, so it may stand for its variant
			return c.fillTask(spec, vertex, cmp.Or(set, c.vertexSet(vertex)))
		}
		return c.fillTask(spec, vertex, c.vertexSet(vertex))
	})
	for _, vertex := range members {
		numbers[vertex] = 0
	}
	c.scratch.Put(scratch)
	return plan, nil
}

// PlanTaskAlone plans a run of the task without what it depends on, and else as PlanTask does.
func (c *Catalog) PlanTaskAlone(id string) (*workflow.Plan, error) {
	target, set, err := c.target(id)
	if err != nil {
		return nil, err
	}
	alone := newGraph(1)
	alone.add(nil)
	return assemble(alone, make([]int32, 1), make([]int32, 1), make([]int32, 1), func(_ int32, spec *workflow.TaskSpec) string {
		return c.fillTask(spec, target, set)
	}), nil
}

// target finds the task of an id and, where that names one, the parameter set.
func (c *Catalog) target(id string) (task int32, set string, err error) {
	name, set := splitVariant(id)
	if task, err = c.tasks.find(name); err != nil || set == "" {
		return task, set, err
	}
	if cause, message := c.checkVariant(c.tasks.definitions[task].Task, set); message != "" {
		if cause != nil {
			return 0, "", fmt.Errorf("plan task %q with its parameter set: %w", name, cause)
		}
		return 0, "", fmt.Errorf("plan %s", message)
	}
	return task, set, nil
}

func (c *Catalog) fillTask(spec *workflow.TaskSpec, vertex int32, set string) string {
	task := c.tasks.definitions[c.vertexTask(vertex)].Task
	c.fillSpec(spec, task, set, nil)
	return nodeName(task.ID, set)
}

// PlanDAG plans a run of the tasks that the DAG lists, as it overrides them, in
// the order that PlanTask has. A task of a DAG in it is named DAG/TASK, and has the
// variables of that DAG and its context; of the inner DAG's other rules none holds
// here. The error is one of Lookup's.
func (c *Catalog) PlanDAG(id string) (*workflow.Plan, error) {
	number, err := c.dags.find(id)
	if err != nil {
		return nil, err
	}
	d := &c.dags.definitions[number]
	if len(d.DAG.DAGs) > 0 {
		return c.planNested(d)
	}
	l, err := c.relink(d)
	if err != nil {
		return nil, err
	}
	return assemble(l.graph, l.levels, everything(len(l.tasks)), make([]int32, len(l.tasks)), func(vertex int32, spec *workflow.TaskSpec) string {
		return c.fillLinked(spec, &l.tasks[vertex])
	}), nil
}

// relink links a DAG that was found good.
func (c *Catalog) relink(d *Definition) (*linked, error) {
	var problem error
	l := c.link(d, func(_ place, _ error, _, message string) { problem = fmt.Errorf("plan: %s", message) })
	return l, problem
}

func (c *Catalog) fillLinked(spec *workflow.TaskSpec, linked *linkedTask) string {
	task := linked.task()
	c.fillSpec(spec, &task, linked.set, linked.overrides())
	return linked.name()
}

// everything is the numbers from 0 to size-1.
func everything(size int) []int32 {
	numbers := make([]int32, size)
	for i := range numbers {
		numbers[i] = int32(i) //nolint:gosec // bounded
	}
	return numbers
}

// RunOptions are the rules that a run of the DAG has from its definition, without
// what hangs on a date. They are none where the DAG is not usable, or the id is empty.
func (c *Catalog) RunOptions(dagID string) workflow.RunOptions {
	number, err := c.dags.find(dagID)
	if err != nil {
		return workflow.RunOptions{}
	}
	dag := c.dags.definitions[number].DAG
	options := workflow.RunOptions{MaxParallel: dag.MaxParallel, TimeoutSeconds: dag.TimeoutSeconds, OnFailure: dag.OnFailure}
	if dag.MaxActiveRuns > 0 {
		options.Groups = []workflow.RunGroup{{Name: "dag/" + dagID, MaxActive: dag.MaxActiveRuns}}
	}
	return options
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
// on among them; fill writes the specification of one and gives its name. It sorts
// members, and leaves their numbers in numbers.
func assemble(g *graph, levels, members, numbers []int32, fill func(vertex int32, spec *workflow.TaskSpec) string) *workflow.Plan {
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
	items, expanding := 0, false
	for number, vertex := range members {
		name := fill(vertex, &specs[number])
		plan.Specs[number] = &specs[number]
		if each := specs[number].ForEach; each != nil && each.Reference == "" {
			items, expanding = items+len(each.Items), true
		}
		first := len(parents)
		for _, parent := range g.dependencies(vertex) {
			parents = append(parents, numbers[parent])
		}
		own := parents[first:len(parents):len(parents)]
		slices.Sort(own)
		plan.Nodes[number] = workflow.Node{Name: name, Spec: int32(number), Dependencies: own} //nolint:gosec // bounded
	}
	if expanding {
		return expand(plan, items)
	}
	return plan
}

// fillSpec writes a task as a run keeps it. Its parameters are the defaults, under
// the values of the task's parameter sets, under those of the variant's set, under
// those that a DAG's entry gives. A set may hold values of parameters that the
// task does not declare: they are values, so the task gets them. A parameter
// without a value stands as a null, so that a run knows that it may be given.
func (c *Catalog) fillSpec(spec *workflow.TaskSpec, task *workflow.Task, set string, entry map[string]workflow.Parameter) {
	*spec = workflow.TaskSpec{
		TaskID:          task.ID,
		Command:         task.Command,
		Queue:           task.Queue,
		Requires:        task.Requires,
		Resources:       task.Resources,
		Priority:        task.Priority,
		TimeoutSeconds:  task.TimeoutSeconds,
		Retries:         task.Retries,
		Env:             task.Env,
		Variant:         set,
		EvaluationPoint: task.EvaluationPoint,
		Approval:        task.Approval,
		TriggerRule:     task.TriggerRule,
		FreshForSeconds: task.FreshForSeconds,
		ForEach:         task.ForEach,
		Git:             task.Git,
	}
	if len(task.Parameters) == 0 && len(task.ParameterSets) == 0 && set == "" {
		return
	}
	spec.Parameters = make(map[string]workflow.Value, len(task.Parameters))
	for name, parameter := range task.Parameters {
		spec.Parameters[name] = cmp.Or(parameter.Default, null)
		if !parameter.Check.IsZero() {
			if spec.Checks == nil {
				spec.Checks = make(map[string]workflow.Check)
			}
			spec.Checks[name] = parameter.Check
		}
	}
	for _, id := range task.ParameterSets {
		c.applySet(spec, id)
	}
	if set != "" {
		c.applySet(spec, set)
	}
	for name, parameter := range entry {
		if parameter.Default != "" {
			spec.Parameters[name] = parameter.Default
		}
	}
	spec.Parameters = orNil(spec.Parameters)
}

// applySet lays the values of a parameter set over a specification's.
func (c *Catalog) applySet(spec *workflow.TaskSpec, id string) {
	if number, ok := c.sets.index[id]; ok {
		maps.Copy(spec.Parameters, c.sets.definitions[number].ParameterSet.Parameters)
	}
}
