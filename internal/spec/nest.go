package spec

import (
	"cmp"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// nest gathers the tasks of a DAG and of the DAGs in it.
type nest struct {
	catalog *Catalog
	tasks   []nestedTask
	parents [][]int32
}

// nestedTask is a task of a DAG in a DAG.
type nestedTask struct {
	*linkedTask
	prefix    string
	variables map[string]workflow.Value
}

// planNested plans a DAG that holds others.
func (c *Catalog) planNested(d *Definition) (*workflow.Plan, error) {
	n := nest{catalog: c}
	if err := n.inline(d, "", nil); err != nil {
		return nil, err
	}
	g, levels := newGraph(len(n.tasks)), make([]int32, len(n.tasks))
	for _, parents := range n.parents {
		g.add(parents)
	}
	g.components(func(component []int32) { g.level(component[0], levels) })
	return assemble(g, levels, everything(len(n.tasks)), make([]int32, len(n.tasks)), func(vertex int32, spec *workflow.TaskSpec) string {
		task := &n.tasks[vertex]
		name := task.prefix + c.fillLinked(spec, task.linkedTask)
		spec.TaskID = task.prefix + spec.TaskID // so that values and outputs can be given and named for it alone
		spec.Variables = task.variables
		return name
	}), nil
}

// inline adds the tasks of a DAG, then those of the DAGs in it, by id. Which are in how many levels the catalog has
// bounded.
func (n *nest) inline(d *Definition, prefix string, variables map[string]workflow.Value) error {
	l, err := n.catalog.relink(d)
	if err != nil {
		return err
	}
	first := int32(len(n.tasks)) //nolint:gosec // bounded
	for i := range l.tasks {
		parents := slices.Clone(l.graph.dependencies(int32(i))) //nolint:gosec // bounded
		for k := range parents {
			parents[k] += first
		}
		n.tasks, n.parents = append(n.tasks, nestedTask{&l.tasks[i], prefix, variables}), append(n.parents, parents)
	}
	groups := slices.SortedFunc(slices.Values(d.DAG.DAGs), func(a, b workflow.DAGGroup) int { return cmp.Compare(a.ID, b.ID) })
	ends := make(map[string]joint, len(groups))
	for _, group := range groups {
		if ends[group.ID], err = n.group(group.ID, prefix, variables); err != nil {
			return err
		}
	}
	for _, group := range groups {
		for _, root := range ends[group.ID].roots {
			for _, dependency := range group.Dependencies {
				n.parents[root] = append(n.parents[root], ends[dependency].leaves...)
			}
		}
	}
	return nil
}

// joint is where a group can be joined to others.
type joint struct{ roots, leaves []int32 }

// group adds the tasks of one DAG in another.
func (n *nest) group(id, prefix string, outer map[string]workflow.Value) (joint, error) {
	number, err := n.catalog.dags.find(id)
	if err != nil {
		return joint{}, err
	}
	d := &n.catalog.dags.definitions[number]
	own, err := n.catalog.contextVariables(d.DAG.Context)
	if err != nil {
		return joint{}, err
	}
	maps.Copy(own, d.DAG.Variables)
	first := len(n.tasks)
	if err := n.inline(d, prefix+id+"/", orNil(mergeMaps(outer, own))); err != nil {
		return joint{}, err
	}
	var ends joint
	needed := make([]bool, len(n.tasks)-first)
	for vertex := first; vertex < len(n.tasks); vertex++ {
		if len(n.parents[vertex]) == 0 {
			ends.roots = append(ends.roots, int32(vertex)) //nolint:gosec // bounded
		}
		for _, parent := range n.parents[vertex] {
			needed[int(parent)-first] = true
		}
	}
	for i, one := range needed {
		if !one {
			ends.leaves = append(ends.leaves, int32(first+i)) //nolint:gosec // bounded
		}
	}
	return ends, nil
}
