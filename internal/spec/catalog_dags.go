package spec

import (
	"fmt"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The bounds of DAGs that hold others, which could grow without end.
const (
	maxInlined = 200_000 // tasks and items
	maxNesting = 20      // levels
)

// shape is what a DAG comes to with the DAGs that it holds: its nodes, those that wait for none and those that none
// waits for, and the edges that joins of groups make.
type shape struct {
	nodes, roots, leaves, edges, depth int
}

func (c *Catalog) checkDAGs() {
	s := &c.dags
	c.shapes = make([]shape, len(s.definitions))
	nesting := newGraph(len(s.definitions))
	for i := range s.definitions {
		d, number := &s.definitions[i], int32(i) //nolint:gosec // bounded
		var inner []int32
		if d.DAG != nil {
			inner = c.checkDAG(number, d)
		}
		nesting.add(inner)
	}
	nesting.components(func(component []int32) {
		if nesting.cyclic(component) {
			c.withholdCycle(s, nesting, component, vertices{
				name:  func(vertex int32) string { return s.definitions[vertex].ID },
				owner: func(vertex int32) int32 { return vertex },
				place: func(d *Definition, next string) place { return d.places().group(groupOf(d.DAG, next)).id },
			})
			return
		}
		if number := component[0]; s.definitions[number].DAG != nil {
			c.checkNesting(number, &s.definitions[number])
		}
	})
}

// checkDAG checks a DAG but for what the DAGs in it come to, and gives their numbers. Of a broken one it checks what
// could be read.
func (c *Catalog) checkDAG(number int32, d *Definition) (inner []int32) {
	s := &c.dags
	refuse := func(at place, cause error, hint, message string) {
		s.withhold(number, c.problem(d, at, cause, "%s", message))
		c.hint(hint)
	}
	if id := d.DAG.Context; id != "" {
		if _, err := c.contexts.find(id); err != nil {
			refuse(d.places().context, asCause(err), "", fmt.Sprintf("DAG %q names %s", d.ID, c.contexts.trouble(id, err)))
		}
	}
	if l := c.link(d, refuse); l != nil {
		c.shapes[number] = l.shape()
	}
	for k := range d.DAG.DAGs {
		id := d.DAG.DAGs[k].ID
		if other, ok := s.index[id]; ok {
			inner = append(inner, other)
		} else if id != "" {
			unknown := c.unknown(KindDAG, id, s.ids())
			refuse(d.places().group(k).id, unknown, "", fmt.Sprintf("DAG %q holds %v", d.ID, unknown))
		}
	}
	c.linkGroups(d, refuse)
	c.checkReferences(s, number)
	return inner
}

// checkNesting adds to a DAG's shape those of the DAGs in it, and tells which have a problem.
func (c *Catalog) checkNesting(number int32, d *Definition) {
	if len(d.DAG.DAGs) == 0 {
		return
	}
	s, own := &c.dags, &c.shapes[number]
	for k := range d.DAG.DAGs {
		id := d.DAG.DAGs[k].ID
		if other, known := s.index[id]; known && s.causes[other] != nil {
			s.withhold(number, c.problem(d, d.places().group(k).id, cause(s.causes[other]), "DAG %q holds DAG %q, which has a problem", d.ID, id))
		}
	}
	if s.causes[number] != nil {
		return
	}
	groups := d.DAG.DAGs
	needed := make(map[string]bool)
	for k := range groups {
		inner := &c.shapes[s.index[groups[k].ID]]
		own.nodes += inner.nodes
		own.edges += inner.edges
		own.depth = max(own.depth, inner.depth+1)
		for _, id := range groups[k].Dependencies {
			needed[id] = true
			own.edges += inner.roots * c.shapes[s.index[id]].leaves
		}
		if len(groups[k].Dependencies) == 0 {
			own.roots += inner.roots
		}
	}
	for k := range groups {
		if !needed[groups[k].ID] {
			own.leaves += c.shapes[s.index[groups[k].ID]].leaves
		}
	}
	at := d.places().group(0).id
	switch {
	case own.depth > maxNesting:
		s.withhold(number, c.problem(d, at, nil, "DAG %q holds DAGs in more than %d levels", d.ID, maxNesting))
	case own.nodes > maxInlined:
		s.withhold(number, c.problem(d, at, nil, "DAG %q comes to %d tasks with the DAGs in it; at most %d can be", d.ID, own.nodes, maxInlined))
	case own.edges > maxEdges:
		s.withhold(number, c.problem(d, at, nil, "DAG %q joins so many last tasks of DAGs to first ones of others that these wait for %d in all; at most %d can be", d.ID, own.edges, maxEdges))
		c.hint("end or begin one of the DAGs with a single task")
	}
}

// groupOf is the index of the DAG in a DAG that has this id.
func groupOf(dag *DAG, id string) int {
	return slices.IndexFunc(dag.DAGs, func(group workflow.DAGGroup) bool { return group.ID == id })
}

// linkGroups checks the DAGs in a DAG against each other. It tells those that are there twice, and dependencies that are
// unknown or go round.
func (c *Catalog) linkGroups(d *Definition, tell tell) {
	groups := d.DAG.DAGs
	if len(groups) == 0 {
		return
	}
	index := make(map[string]int32, len(groups))
	for k := range groups {
		if groups[k].ID == "" {
			continue // it was told
		}
		if first, ok := index[groups[k].ID]; ok {
			message := fmt.Sprintf("DAG %q holds DAG %q twice", d.ID, groups[k].ID)
			if before := d.places().group(int(first)).id; before != (place{}) {
				message += fmt.Sprintf(": first on line %d, column %d", before.line, before.column)
			}
			tell(d.places().group(k).id, nil, "", message)
			continue
		}
		index[groups[k].ID] = int32(k) //nolint:gosec // bounded
	}
	g := newGraph(len(groups))
	for k := range groups {
		var dependencies []int32
		for i, id := range groups[k].Dependencies {
			if other, ok := index[id]; ok {
				dependencies = append(dependencies, other)
				continue
			}
			if id == "" {
				continue
			}
			unknown := c.unknown(kindGroup, id, func(yield func(string) bool) {
				for known := range index {
					if !yield(known) {
						return
					}
				}
			})
			tell(d.places().group(k).dependency(i), unknown, "list it under dags too", fmt.Sprintf("group %q of DAG %q depends on %v", groups[k].ID, d.ID, unknown))
		}
		g.add(dependencies)
	}
	g.components(func(component []int32) {
		if !g.cyclic(component) {
			return
		}
		cycle := &CycleError{Kind: kindGroup}
		path := g.cycle(component)
		for _, vertex := range path {
			cycle.Path = append(cycle.Path, groups[vertex].ID)
		}
		cycle.Path = append(cycle.Path, cycle.Path[0])
		at := d.places().group(int(path[0])).dependency(slices.Index(groups[path[0]].Dependencies, cycle.Path[1]))
		tell(at, cycle, "", fmt.Sprintf("DAG %q: %v", d.ID, cycle))
	})
}
