package workflow

import (
	"cmp"
	"fmt"
	"slices"
)

// Scheduling is the part of a TaskSpec that a writer needs.
type Scheduling struct {
	Spec     Hash
	Queue    string
	Requires []string
	// Resources are what an agent sets aside for it.
	Resources Resources
	Priority  int
	Retries   Retries
	Rule      TriggerRule // never empty
	// EvaluationPoint tells that the task's result decides what goes on.
	EvaluationPoint bool
	// Group marks the node that stands for the items of a task; Unexpanded one whose items are not known yet. Item marks
	// one of the items.
	Group, Unexpanded, Item bool
	// Template is, for a group whose items came from a reference, the specification with that reference.
	Template Hash
	// Approval tells that the task waits for a person, at most ApprovalSeconds where that is not 0.
	Approval        bool
	ApprovalSeconds float64
}

// SchedulingOf is the part of spec that a writer needs; hash is the spec's.
func SchedulingOf(spec *TaskSpec, hash Hash) Scheduling {
	scheduling := Scheduling{
		Spec: hash, Queue: spec.Queue, Requires: spec.Requires, Resources: spec.Resources, Priority: spec.Priority, Retries: spec.Retries,
		Rule: cmp.Or(spec.TriggerRule, RuleAllSuccess), EvaluationPoint: spec.EvaluationPoint, Group: spec.ForEach != nil, Item: spec.Item != nil,
	}
	if spec.ForEach != nil {
		scheduling.Unexpanded = spec.ForEach.Reference != ""
		if template, err := parseUUID(spec.ForEach.Template); err == nil {
			scheduling.Template = template
		}
	}
	if spec.Approval != nil {
		scheduling.Approval, scheduling.ApprovalSeconds = true, spec.Approval.TimeoutSeconds
	}
	return scheduling
}

// MissingTemplates are the specifications with which groups among the given ones began, and that are not among them. No
// node has them any more; the next iteration of such a group does.
func MissingTemplates(lists ...[]Scheduling) []Hash {
	known := map[Hash]bool{{}: true}
	var missing []Hash
	for _, specs := range lists {
		for i := range specs {
			if specs[i].Unexpanded {
				known[specs[i].Spec] = true
			}
		}
	}
	for _, specs := range lists {
		for i := range specs {
			if template := specs[i].Template; !known[template] {
				known[template], missing = true, append(missing, template)
			}
		}
	}
	return missing
}

// GrownNode is a node that was added to a run, or one whose parents changed.
type GrownNode struct {
	Node
	Number int32
}

// Graph is a plan in the form that a writer keeps in memory: integers only, about
// 12 bytes a node and 8 bytes an edge. It is immutable and shared by all runs of one plan.
type Graph struct {
	// Specs are what the nodes' spec indices point to.
	Specs []Scheduling

	spec       []int32
	parentAt   []int32
	parent     []int32
	dependAt   []int32
	dependents []int32
	// plain tells that all rules are RuleAllSuccess and no node is more than a task.
	plain bool
	// names are those of the nodes that were added, which begin at number named.
	names []string
	named int
}

// NewGraph makes a graph of nodes (their names are not kept). It errs when an
// index is out of range, which a stored plan never has.
func NewGraph(nodes []Node, specs []Scheduling) (*Graph, error) {
	count := len(nodes)
	edges := 0
	for _, node := range nodes {
		edges += len(node.Dependencies)
	}
	graph := &Graph{
		Specs: specs, spec: make([]int32, count), named: count,
		parentAt: make([]int32, count+1), parent: make([]int32, 0, edges),
		dependAt: make([]int32, count+1), dependents: make([]int32, edges),
	}
	for number, node := range nodes {
		if node.Spec < 0 || int(node.Spec) >= len(specs) {
			return nil, fmt.Errorf("node %d has the unknown specification %d", number, node.Spec)
		}
		graph.spec[number] = node.Spec
		for _, parent := range node.Dependencies {
			if parent < 0 || int(parent) >= count || int(parent) == number {
				return nil, fmt.Errorf("node %d depends on the impossible node %d", number, parent)
			}
			graph.dependAt[parent+1]++
		}
		graph.parent = append(graph.parent, node.Dependencies...)
		graph.parentAt[number+1] = int32(len(graph.parent)) //nolint:gosec // bounded by the plan's size
	}
	graph.link()
	return graph, nil
}

// link derives the dependents from the parents, whose number per node stands in dependAt, one place on.
func (g *Graph) link() {
	count := len(g.spec)
	for number := range count {
		g.dependAt[number+1] += g.dependAt[number]
	}
	next := make([]int32, count)
	copy(next, g.dependAt[:count])
	for number := range count {
		for _, parent := range g.Parents(int32(number)) { //nolint:gosec // a node number
			g.dependents[next[parent]] = int32(number) //nolint:gosec // a node number
			next[parent]++
		}
	}
	g.plain = true
	for i := range g.Specs {
		spec := &g.Specs[i]
		if spec.Rule != RuleAllSuccess && spec.Rule != "" || spec.EvaluationPoint || spec.Group || spec.Approval {
			g.plain = false
		}
	}
}

// Grow is a graph with more specifications, and with nodes that are new or have other parents than before. New
// nodes continue the numbers. It errs when an index is out of range, which a stored run never has.
func (g *Graph) Grow(specs []Scheduling, nodes []GrownNode) (*Graph, error) {
	order := make([]*GrownNode, len(nodes))
	edges := len(g.parent)
	for i := range nodes {
		order[i] = &nodes[i]
		edges += len(nodes[i].Dependencies)
	}
	slices.SortFunc(order, func(one, other *GrownNode) int { return cmp.Compare(one.Number, other.Number) })
	count := g.Len()
	if len(order) > 0 {
		count = max(count, int(order[len(order)-1].Number)+1)
	}
	grown := &Graph{
		Specs: append(slices.Clip(g.Specs), specs...), spec: make([]int32, 0, count),
		parentAt: make([]int32, 1, count+1), parent: make([]int32, 0, edges), dependAt: make([]int32, count+1),
		names: append(make([]string, 0, count-g.named), g.names...), named: g.named,
	}
	for _, node := range order {
		grown.keep(g, min(int(node.Number), g.Len()))
		if err := grown.put(node, count); err != nil {
			return nil, err
		}
	}
	grown.keep(g, g.Len())
	for _, parent := range grown.parent {
		grown.dependAt[parent+1]++
	}
	grown.dependents = make([]int32, len(grown.parent))
	grown.link()
	return grown, nil
}

// keep takes over nodes up to a number as they were.
func (g *Graph) keep(from *Graph, end int) {
	first := g.Len()
	if first >= end {
		return
	}
	shift := int32(len(g.parent)) - from.parentAt[first] //nolint:gosec // bounded by the run's size
	g.spec = append(g.spec, from.spec[first:end]...)
	g.parent = append(g.parent, from.parent[from.parentAt[first]:from.parentAt[end]]...)
	for _, at := range from.parentAt[first+1 : end+1] {
		g.parentAt = append(g.parentAt, at+shift)
	}
}

// put adds the next node to a graph that will have so many.
func (g *Graph) put(node *GrownNode, count int) error {
	switch {
	case int(node.Number) < g.Len():
		return fmt.Errorf("node %d is there twice, or below 0", node.Number)
	case int(node.Number) > g.Len():
		return fmt.Errorf("node %d is missing", g.Len())
	case node.Spec < 0 || int(node.Spec) >= len(g.Specs):
		return fmt.Errorf("node %d has the unknown specification %d", node.Number, node.Spec)
	}
	for _, parent := range node.Dependencies {
		if parent < 0 || int(parent) >= count || parent == node.Number {
			return fmt.Errorf("node %d depends on the impossible node %d", node.Number, parent)
		}
	}
	g.spec, g.parent = append(g.spec, node.Spec), append(g.parent, node.Dependencies...)
	g.parentAt = append(g.parentAt, int32(len(g.parent))) //nolint:gosec // bounded by the run's size
	if at := int(node.Number) - g.named; at == len(g.names) {
		g.names = append(g.names, node.Name)
	} else if at >= 0 {
		g.names[at] = node.Name
	}
	return nil
}

// Len is the number of nodes.
func (g *Graph) Len() int { return len(g.spec) }

// addedName is the name of a node that was added; empty for one of the plan.
func (g *Graph) addedName(node int32) string {
	if at := int(node) - g.named; at >= 0 && at < len(g.names) {
		return g.names[at]
	}
	return ""
}

// SpecIndex is the index in Specs of the node's specification.
func (g *Graph) SpecIndex(node int32) int32 { return g.spec[node] }

// Scheduling is the node's specification.
func (g *Graph) Scheduling(node int32) *Scheduling { return &g.Specs[g.spec[node]] }

// Parents are the nodes that node waits for. Do not change the slice.
func (g *Graph) Parents(node int32) []int32 { return g.parent[g.parentAt[node]:g.parentAt[node+1]] }

// Dependents are the nodes that wait for node. Do not change the slice.
func (g *Graph) Dependents(node int32) []int32 {
	return g.dependents[g.dependAt[node]:g.dependAt[node+1]]
}
