package spec

import "slices"

// graph holds for each of its vertices, which are numbers, those that it depends
// on: in order and without duplicates. Nothing in it recurses, since a chain may
// have 100,000 links.
type graph struct {
	starts []int32 // the edges of vertex i are edges[starts[i]:starts[i+1]]
	edges  []int32
}

func newGraph(vertices int) *graph {
	return &graph{starts: append(make([]int32, 0, vertices+1), 0)}
}

// add gives the next vertex with what it depends on; it reorders dependencies.
func (g *graph) add(dependencies []int32) {
	slices.Sort(dependencies)
	g.edges = append(g.edges, slices.Compact(dependencies)...)
	g.starts = append(g.starts, int32(len(g.edges))) //nolint:gosec // bounded by what files can hold
}

func (g *graph) size() int { return len(g.starts) - 1 }

func (g *graph) dependencies(vertex int32) []int32 {
	return g.edges[g.starts[vertex]:g.starts[vertex+1]]
}

// components calls visit for each strongly connected component, after those that
// it depends on. A component of several vertices holds a cycle, and so does one
// of a vertex that depends on itself. (Tarjan's algorithm, with a stack of its own.)
func (g *graph) components(visit func(component []int32)) {
	type frame struct{ vertex, edge int32 }
	const done = int32(1<<31 - 1)
	var (
		calls   []frame
		pending []int32 // visited, in no component yet
		order   = make([]int32, g.size())
		lowest  = make([]int32, g.size())
		count   int32
	)
	enter := func(vertex int32) {
		count++
		order[vertex], lowest[vertex] = count, count
		pending = append(pending, vertex)
		calls = append(calls, frame{vertex, g.starts[vertex]})
	}
	for root := range int32(g.size()) { //nolint:gosec // bounded
		if order[root] != 0 {
			continue
		}
		enter(root)
		for len(calls) > 0 {
			top := &calls[len(calls)-1]
			vertex := top.vertex
			if top.edge < g.starts[vertex+1] {
				next := g.edges[top.edge]
				top.edge++
				if order[next] == 0 {
					enter(next)
				} else if order[next] != done {
					lowest[vertex] = min(lowest[vertex], order[next])
				}
				continue
			}
			calls = calls[:len(calls)-1]
			if len(calls) > 0 {
				caller := calls[len(calls)-1].vertex
				lowest[caller] = min(lowest[caller], lowest[vertex])
			}
			if lowest[vertex] != order[vertex] {
				continue
			}
			first := len(pending) - 1
			for pending[first] != vertex {
				first--
			}
			for _, member := range pending[first:] {
				order[member] = done
			}
			visit(pending[first:])
			pending = pending[:first]
		}
	}
}

// level gives a vertex the length of the longest chain under it; those that it depends on have theirs.
func (g *graph) level(vertex int32, levels []int32) {
	for _, parent := range g.dependencies(vertex) {
		levels[vertex] = max(levels[vertex], levels[parent]+1)
	}
}

// cyclic tells whether a component holds a cycle.
func (g *graph) cyclic(component []int32) bool {
	if len(component) > 1 {
		return true
	}
	_, self := slices.BinarySearch(g.dependencies(component[0]), component[0])
	return self
}

// cycle is a shortest cycle through the first vertex of a cyclic component. The
// vertex begins it, and is not repeated at its end.
func (g *graph) cycle(component []int32) []int32 {
	start := slices.Min(component)
	inside := make(map[int32]bool, len(component))
	for _, vertex := range component {
		inside[vertex] = true
	}
	from := make(map[int32]int32)
	queue := []int32{start}
	for head := 0; head < len(queue); head++ {
		vertex := queue[head]
		for _, next := range g.dependencies(vertex) {
			if next == start {
				path := []int32{vertex}
				for vertex != start {
					vertex = from[vertex]
					path = append(path, vertex)
				}
				slices.Reverse(path)
				return path
			}
			if _, seen := from[next]; !seen && inside[next] {
				from[next] = vertex
				queue = append(queue, next)
			}
		}
	}
	return []int32{start} // no component without a cycle comes here
}
