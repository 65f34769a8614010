package spec

import (
	"fmt"
	"iter"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// kindListener is a DAG as one that waits for runs of others.
const kindListener Kind = "listener"

// checkTriggers tells DAGs that listen to unknown ones, and those that would start each other for ever. A DAG that has a
// problem still has runs, by its last good version, so that who listens to it stays as it is.
func (c *Catalog) checkTriggers() {
	s := &c.dags
	listening := newGraph(len(s.definitions))
	for i := range s.definitions {
		d, number := &s.definitions[i], int32(i) //nolint:gosec // bounded
		var heard []int32
		for k, id := range listensTo(d) {
			if other, ok := s.index[id]; ok {
				heard = append(heard, other)
				continue
			}
			if d.at == nil {
				continue // it is stored, and was checked when it was; only the other one has gone, or is broken
			}
			unknown := c.unknown(KindDAG, id, s.ids())
			s.withhold(number, c.problem(d, d.places().listen(k), unknown, "the trigger dag_completed of DAG %q names %v", d.ID, unknown))
		}
		listening.add(heard)
	}
	listening.components(func(component []int32) {
		if !listening.cyclic(component) {
			return
		}
		path := listening.cycle(component)
		cycle := &CycleError{Kind: kindListener}
		for _, vertex := range path {
			cycle.Path = append(cycle.Path, s.definitions[vertex].ID)
		}
		cycle.Path = append(cycle.Path, cycle.Path[0])
		d := &s.definitions[path[0]]
		reason := c.problem(d, d.places().listen(slices.Index(listensTo(d), cycle.Path[1])), cycle, "%v", cycle)
		c.hint(fmt.Sprintf("a run of any of them would start runs for ever: take one out of dag_completed of %q", d.ID))
		for _, vertex := range component {
			s.withhold(vertex, reason)
		}
	})
}

func listensTo(d *Definition) []string {
	if d.Broken || d.DAG == nil || d.DAG.Triggers == nil {
		return nil
	}
	return d.DAG.Triggers.DAGCompleted
}

// Webhook gives the webhook of a DAG, also of one that a problem between definitions keeps from running: who calls it is to
// be told, if it knows the secret. It is nil where there is none.
func (c *Catalog) Webhook(id string) *workflow.Webhook {
	i, ok := c.dags.index[id]
	if !ok {
		return nil
	}
	d := &c.dags.definitions[i]
	if d.Broken || d.DAG.Triggers == nil {
		return nil
	}
	return d.DAG.Triggers.Webhook
}

// Triggered are the usable DAGs that have triggers, by id.
func (c *Catalog) Triggered() iter.Seq[*DAG] {
	return func(yield func(*DAG) bool) {
		for definition := range c.Definitions(KindDAG) {
			if definition.DAG.Triggers != nil && !yield(definition.DAG) {
				return
			}
		}
	}
}
