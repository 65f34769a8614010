package workflow

import (
	"fmt"
	"testing"
	"time"
)

// The shapes of the benchmark of docs/benchmarks.md, without a backend: what
// deciding alone costs for each task.

func BenchmarkAdvance(b *testing.B) {
	for _, shape := range []struct {
		name  string
		nodes []Node
		batch int // ends that one call of Advance sees at the most
	}{
		{"tasks=10", fanOutIn(8), 8},
		{"tasks=10/batch=1", fanOutIn(8), 1},
		{"fan=20000", fanOutIn(20_000), 500},
		{"chain=100", chain(100), 1},
	} {
		b.Run(shape.name, func(b *testing.B) {
			graph := mustGraph(b, shape.nodes, nil)
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			id := NewRunID(at, 1)
			events := make([]Event, 0, shape.batch)
			b.ReportAllocs()
			for b.Loop() {
				runToEnd(b, NewRun(id, "bench", graph, false), at, events, shape.batch)
			}
			tasks := float64(b.N) * float64(len(shape.nodes))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/tasks, "ns/task")
		})
	}
}

// runToEnd completes every task as soon as it is queued, up to batch of them in a call.
func runToEnd(tb testing.TB, run *Run, at time.Time, events []Event, batch int) {
	var queued []Member
	events = append(events[:0], Event{Kind: EventStart})
	for calls := 0; !run.Status.Ended(); calls++ {
		if calls > 4*len(run.Nodes)+4 {
			tb.Fatalf("the run does not end: %d of %d nodes have", run.tally.ended, len(run.Nodes))
		}
		change, used := Advance(run, at, events, DefaultLimits)
		run.Apply(change)
		queued = append(queued, change.Queue...)
		events = append(events[:0], events[used:]...)
		for len(queued) > 0 && len(events) < batch {
			member := queued[0]
			queued = queued[1:]
			events = append(events, Event{
				Kind: EventEnd, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery,
				Result: Result{Status: TaskCompleted, Started: true, StartTime: at, EndTime: at, Agent: 1},
			})
		}
	}
}

// fanOutIn is one node, then width nodes, then one that waits for them all.
func fanOutIn(width int) []Node {
	nodes := make([]Node, width+2)
	join := make([]int32, 0, width)
	for number := 1; number <= width; number++ {
		nodes[number] = Node{Name: fmt.Sprint(number), Dependencies: []int32{0}}
		join = append(join, int32(number))
	}
	nodes[width+1] = Node{Name: "join", Dependencies: join}
	return nodes
}

func chain(length int) []Node {
	nodes := make([]Node, length)
	for number := 1; number < length; number++ {
		nodes[number] = Node{Name: fmt.Sprint(number), Dependencies: []int32{int32(number - 1)}}
	}
	return nodes
}

// mustGraph makes a graph of nodes that all have the one specification with
// default values, or those given.
func mustGraph(tb testing.TB, nodes []Node, specs []Scheduling) *Graph {
	tb.Helper()
	if specs == nil {
		specs = []Scheduling{{Queue: DefaultQueue, Priority: DefaultPriority}}
	}
	graph, err := NewGraph(nodes, specs)
	if err != nil {
		tb.Fatal(err)
	}
	return graph
}
