package spec

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// planned is a vertex of a plan of several tasks: one of the catalog's, or a variant that no task depends on.
type planned struct {
	vertex int32
	set    string
}

// Unusable says for people why a task, or the variant of one, cannot be planned; empty when there is none, or it can be.
func (c *Catalog) Unusable(id string) string {
	name, _ := splitVariant(id)
	_, _, err := c.target(id)
	if _, known := c.tasks.index[name]; err == nil || !known {
		return ""
	}
	if problem, ok := errors.AsType[Problem](err); ok {
		return problem.Message
	}
	return err.Error()
}

// PlanTasks plans several tasks, each with all that it depends on, as one plan: what they have in common is in it once.
// What one of them needs of it is what PlanTask gives, in the same order. Found are the ids that can be planned: each is
// the name of a node. The plan is nil when none can be.
func (c *Catalog) PlanTasks(ids []string) (plan *workflow.Plan, found map[string]bool) {
	found = make(map[string]bool, len(ids))
	scratch := c.scratch.Get().(*[]int32)
	numbers := *scratch
	var members []int32
	reach := func(vertex int32) {
		if numbers[vertex] == 0 {
			members = append(members, c.graph.reach(vertex, numbers)...)
		}
	}
	others := map[string]planned{} // variants that no task depends on, by name
	for _, id := range ids {
		vertex, set, err := c.target(id)
		if err != nil || nodeName(c.tasks.definitions[vertex].Task.ID, set) != id {
			continue
		}
		found[id] = true
		if variant, ok := c.names[id]; ok && set != "" {
			vertex, set = variant, ""
		}
		if set == "" {
			reach(vertex)
			continue
		}
		others[id] = planned{vertex, set}
		for _, parent := range c.graph.dependencies(vertex) {
			reach(parent)
		}
	}
	if len(found) == 0 {
		c.scratch.Put(scratch)
		return nil, found
	}
	slices.SortFunc(members, func(a, b int32) int { return cmp.Or(cmp.Compare(c.levels[a], c.levels[b]), cmp.Compare(a, b)) })
	all := make([]planned, 0, len(members)+len(others))
	for number, vertex := range members {
		all = append(all, planned{vertex, c.vertexSet(vertex)})
		numbers[vertex] = int32(number) //nolint:gosec // bounded
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		all = append(all, others[name])
	}
	together, levels := newGraph(len(all)), make([]int32, len(all))
	for i, one := range all {
		parents := slices.Clone(c.graph.dependencies(one.vertex))
		for k, parent := range parents {
			parents[k] = numbers[parent]
		}
		together.add(parents)
		levels[i] = c.levels[one.vertex]
	}
	for _, vertex := range members {
		numbers[vertex] = 0
	}
	c.scratch.Put(scratch)
	return assemble(together, levels, everything(len(all)), make([]int32, len(all)), func(vertex int32, spec *workflow.TaskSpec) string {
		return c.fillTask(spec, all[vertex].vertex, all[vertex].set)
	}), found
}
