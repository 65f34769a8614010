package workflow

import "fmt"

// Scheduling is the part of a TaskSpec that a writer needs.
type Scheduling struct {
	Spec     Hash
	Queue    string
	Requires []string
	Priority int
	Retries  Retries
}

// SchedulingOf is the part of spec that a writer needs; hash is the spec's.
func SchedulingOf(spec *TaskSpec, hash Hash) Scheduling {
	return Scheduling{Spec: hash, Queue: spec.Queue, Requires: spec.Requires, Priority: spec.Priority, Retries: spec.Retries}
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
		Specs: specs, spec: make([]int32, count),
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
	for number := range count {
		graph.dependAt[number+1] += graph.dependAt[number]
	}
	next := make([]int32, count)
	copy(next, graph.dependAt[:count])
	for number, node := range nodes {
		for _, parent := range node.Dependencies {
			graph.dependents[next[parent]] = int32(number) //nolint:gosec // a node number
			next[parent]++
		}
	}
	return graph, nil
}

// Len is the number of nodes.
func (g *Graph) Len() int { return len(g.spec) }

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
