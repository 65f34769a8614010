package workflow

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// BaseName is a node's name without its iteration: "train" of "train#2".
func BaseName(name string) string {
	base, _ := splitIteration(name)
	return base
}

func splitIteration(name string) (base string, iteration int) {
	if at := strings.LastIndexByte(name, '#'); at > 0 {
		if number, err := strconv.Atoi(name[at+1:]); err == nil {
			return name[:at], number
		}
	}
	return name, 1
}

// LongerNames are those of the tasks that have no output, and whose names go on after a dot from that of one that has one: of the
// two a reference means the longer one, if there is such a task.
func LongerNames(tasks []string, outputs map[string]Value) (longer []string) {
	for _, task := range tasks {
		if _, known := outputs[task]; known {
			continue
		}
		for other := range outputs {
			if strings.HasPrefix(task, other+".") {
				longer = append(longer, task)
				break
			}
		}
	}
	return longer
}

// nodeNames finds the newest iteration of a node by its name. A later iteration has a higher number.
type nodeNames struct {
	names []string // of the nodes that an event knows
	graph *Graph   // knows the others
	group string   // of the node that asks: its names go before others
	added map[string]int32
	given map[string]int // iterations
	// index is made once so much was searched through that it pays: in a loop, what is looked for is near the end.
	index    map[string]int32
	searched int
}

func newNodeNames(names []string, graph *Graph, asking int32) *nodeNames {
	n := &nodeNames{names: names, graph: graph}
	if name := n.of(asking); strings.Contains(name, "/") {
		n.group = name[:strings.LastIndexByte(name, '/')+1]
	}
	return n
}

// UnknownNames are those of an evaluation's next tasks, and of the tasks of its parameters, that no node of the run has:
// Known.Plans has to tell of them.
func UnknownNames(names []string, point int32, evaluation *Evaluation) []string {
	index := newNodeNames(names, &Graph{spec: make([]int32, len(names))}, point)
	names = slices.AppendSeq(slices.Clone(evaluation.NextTasks), maps.Keys(evaluation.Parameters))
	return slices.DeleteFunc(names, func(name string) bool {
		_, known := index.find(name)
		return known
	})
}

// of is a node's name.
func (n *nodeNames) of(number int32) string {
	if int(number) < len(n.names) {
		return n.names[number]
	}
	return n.graph.addedName(number)
}

// find gives the newest node with the name, in the group of the node that asks or else as it stands.
func (n *nodeNames) find(name string) (number int32, ok bool) {
	if n.group != "" {
		if number, ok = n.newest(n.group + name); ok {
			return number, true
		}
	}
	return n.newest(name)
}

// newest gives the newest node with the base name.
func (n *nodeNames) newest(base string) (number int32, ok bool) {
	if number, ok = n.added[base]; ok {
		return number, true
	}
	if n.index == nil && n.searched > 4*n.graph.Len() {
		n.index = make(map[string]int32, n.graph.Len())
		for number := range int32(n.graph.Len()) { //nolint:gosec // a number of nodes
			n.index[BaseName(n.of(number))] = number
		}
	}
	if n.index != nil {
		number, ok = n.index[base]
		return number, ok
	}
	for number = int32(n.graph.Len()) - 1; number >= 0; number-- { //nolint:gosec // a number of nodes
		n.searched++
		if name := n.of(number); strings.HasPrefix(name, base) && BaseName(name) == base {
			return number, true
		}
	}
	return 0, false
}

// add makes a new node known by its name.
func (n *nodeNames) add(name string, number int32) {
	if n.added == nil {
		n.added = map[string]int32{}
	}
	n.added[name] = number
}

// again is a name for the next iteration of what has the name, which is at least the given one.
func (n *nodeNames) again(base string, least int) string {
	last, given := n.given[base]
	if !given {
		if newest, ok := n.newest(base); ok {
			_, last = splitIteration(n.of(newest))
		}
	}
	last = max(least, last+1)
	if n.given == nil {
		n.given = map[string]int{}
	}
	n.given[base] = last
	return base + "#" + strconv.Itoa(last)
}
