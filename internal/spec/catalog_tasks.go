package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// maxEdges bounds what a plan may wait for: the items of a task times its dependencies, the last tasks of a group
// times the first ones of the next.
const maxEdges = 10_000_000

// variant is a task with a parameter set; both are numbers on their shelves.
type variant struct{ task, set int32 }

// checkTasks checks what tasks name, and makes their graph. Its first vertices are the tasks, the others the variants
// that some task depends on; a variant depends on what its task does.
func (c *Catalog) checkTasks() {
	s := &c.tasks
	c.findVariants()
	c.graph = newGraph(len(s.definitions) + len(c.variants))
	var dependencies []int32
	for i := range s.definitions {
		d, number := &s.definitions[i], int32(i) //nolint:gosec // bounded
		dependencies = dependencies[:0]
		if d.Task != nil {
			dependencies = c.checkTask(number, d, dependencies)
		}
		c.graph.add(dependencies)
	}
	ordered := c.graph
	if len(c.variants) > 0 {
		ordered = c.addVariants()
	}
	c.levels = make([]int32, c.graph.size())
	ordered.components(func(component []int32) {
		if ordered.cyclic(component) {
			c.withholdCycle(s, ordered, component, vertices{
				name: c.vertexName, owner: c.vertexTask,
				place: func(d *Definition, next string) place {
					return d.places().dependency(slices.Index(d.Task.Dependencies, next))
				},
			})
			return
		}
		c.checkParents(component[0])
	})
}

// checkParents levels a vertex, and tells a dependency that has a problem.
func (c *Catalog) checkParents(vertex int32) {
	s := &c.tasks
	if vertex >= int32(len(s.definitions)) { //nolint:gosec // bounded
		c.levels[vertex] = c.levels[c.vertexTask(vertex)] // it depends on the same, and its task was here before
		return
	}
	for _, parent := range c.graph.dependencies(vertex) {
		c.levels[vertex] = max(c.levels[vertex], c.levels[parent]+1)
		if reason := s.causes[c.vertexTask(parent)]; reason != nil {
			d, name := &s.definitions[vertex], c.vertexName(parent)
			s.withhold(vertex, c.problem(d, d.places().dependency(slices.Index(d.Task.Dependencies, name)), cause(reason),
				"task %q depends on task %q, which has a problem", d.ID, name))
		}
	}
}

// findVariants finds the variants that tasks depend on, but for those of which the task or the set is not usable.
func (c *Catalog) findVariants() {
	c.names = make(map[string]int32)
	if len(c.sets.definitions) == 0 {
		return // there are no variants
	}
	for i := range c.tasks.definitions {
		if c.tasks.definitions[i].Task == nil {
			continue
		}
		for _, name := range c.tasks.definitions[i].Task.Dependencies {
			if strings.IndexByte(name, ':') < 0 {
				continue
			}
			id, set := splitVariant(name)
			task, ok := c.tasks.index[id]
			number, err := c.sets.find(set)
			if _, seen := c.names[name]; ok && err == nil && !seen {
				c.names[name] = 0
				c.variants = append(c.variants, variant{task, number})
			}
		}
	}
	slices.SortFunc(c.variants, func(a, b variant) int {
		return cmp.Or(cmp.Compare(a.task, b.task), cmp.Compare(a.set, b.set))
	})
	for i := range c.variants {
		vertex := int32(len(c.tasks.definitions) + i) //nolint:gosec // bounded
		c.names[c.vertexName(vertex)] = vertex
	}
}

// addVariants adds the variants to the graph. It gives another in which each variant depends on its task too, so
// that the task is looked at first. That graph has a cycle just where the first one has: a task that needs a variant of
// itself needs it for the variant as well.
func (c *Catalog) addVariants() *graph {
	ordered := newGraph(c.graph.size() + len(c.variants))
	for vertex := range int32(c.graph.size()) { //nolint:gosec // bounded
		ordered.add(slices.Clone(c.graph.dependencies(vertex)))
	}
	for _, variant := range c.variants {
		dependencies := slices.Clone(c.graph.dependencies(variant.task))
		c.graph.add(dependencies)
		ordered.add(append(dependencies, variant.task))
	}
	return ordered
}

// vertexTask is the number of a vertex's task.
func (c *Catalog) vertexTask(vertex int32) int32 {
	if past := int(vertex) - len(c.tasks.definitions); past >= 0 {
		return c.variants[past].task
	}
	return vertex
}

// vertexSet is the id of the parameter set that makes a vertex a variant, or empty.
func (c *Catalog) vertexSet(vertex int32) string {
	if past := int(vertex) - len(c.tasks.definitions); past >= 0 {
		return c.sets.definitions[c.variants[past].set].ID
	}
	return ""
}

// vertexName is TASK or TASK:SET.
func (c *Catalog) vertexName(vertex int32) string {
	return nodeName(c.tasks.definitions[c.vertexTask(vertex)].ID, c.vertexSet(vertex))
}

func nodeName(task, set string) string {
	if set == "" {
		return task
	}
	return task + ":" + set
}

// checkTask checks what a task names, and appends the vertices of its dependencies. Of a broken one it checks what
// could be read.
func (c *Catalog) checkTask(number int32, d *Definition, dependencies []int32) []int32 {
	s := &c.tasks
	refuse := func(at place, cause error, hint, message string) {
		s.withhold(number, c.problem(d, at, cause, "%s", message))
		c.hint(hint)
	}
	for k, name := range d.Task.Dependencies {
		if name == "" {
			continue // it was told
		}
		if parent, ok := s.index[name]; ok {
			dependencies = append(dependencies, parent)
			continue
		}
		if vertex, ok := c.names[name]; ok {
			dependencies = append(dependencies, vertex)
			task, set := c.tasks.definitions[c.vertexTask(vertex)].Task, c.sets.definitions[c.variants[int(vertex)-len(s.definitions)].set].ParameterSet
			if task != nil && !c.tasks.definitions[c.vertexTask(vertex)].Broken {
				if text := setBreach(set, task.Parameters); text != "" {
					refuse(d.places().dependency(k), nil, "", fmt.Sprintf("task %q depends on task %q with parameter set %q%s", d.ID, task.ID, set.ID, text))
				}
			}
			continue
		}
		cause, message := c.unknownVariant(name)
		refuse(d.places().dependency(k), cause, "", fmt.Sprintf("task %q depends on %s", d.ID, message))
	}
	c.checkSets(d.Task.ParameterSets, d.Task.Parameters, func(k int, cause error, message string) {
		refuse(d.places().set(k), cause, "", fmt.Sprintf("task %q names %s", d.ID, message))
	})
	c.checkQueue(d.Task.Queue, func(hint, message string) {
		refuse(cmp.Or(d.places().queue, d.places().id), nil, hint, fmt.Sprintf("task %q %s", d.ID, message))
	})
	c.checkReferences(s, number)
	if tooWide(d.Task.ForEach, len(d.Task.Dependencies)) {
		refuse(d.places().id, nil, wideHint, fmt.Sprintf("task %q has %d items that wait for %d tasks each: that is too much", d.ID, len(d.Task.ForEach.Items), len(d.Task.Dependencies)))
	}
	return dependencies
}

const wideHint = "put a task between them that the items depend on"

// tooWide tells whether the items of a task wait for more than a plan may.
func tooWide(each *workflow.ForEach, dependencies int) bool {
	return each != nil && len(each.Items)*dependencies > maxEdges
}

// checkSets tells which of a task's parameter sets cannot be used.
func (c *Catalog) checkSets(ids []string, parameters map[string]workflow.Parameter, tell func(k int, cause error, message string)) {
	for k, id := range ids {
		if id == "" {
			continue // it was told
		}
		number, err := c.sets.find(id)
		if err != nil {
			tell(k, asCause(err), c.sets.trouble(id, err))
		} else if text := setBreach(c.sets.definitions[number].ParameterSet, parameters); text != "" {
			tell(k, nil, fmt.Sprintf("parameter set %q%s", id, text))
		}
	}
}

// unknownVariant says what of a dependency TASK or TASK:SET is not known or not usable.
func (c *Catalog) unknownVariant(name string) (cause error, message string) { //nolint:revive,staticcheck // the message is what the error is told as
	id, set := splitVariant(name)
	if _, known := c.tasks.index[id]; !known {
		unknown := c.unknown(KindTask, id, c.tasks.ids())
		return unknown, unknown.Error()
	}
	number, known := c.sets.index[set]
	if !known {
		unknown := c.unknown(KindParameterSet, set, c.sets.ids())
		return unknown, fmt.Sprintf("task %q with %v", id, unknown)
	}
	reason := c.sets.causes[number]
	return asCause(reason), fmt.Sprintf("task %q with %s", id, c.sets.trouble(set, reason))
}
