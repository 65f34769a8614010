package workflow

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Dependents and parents are the same edges, seen from both ends.
func TestGraphEdges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		graph := drawGraph(t)
		for node := range int32(graph.Len()) {
			for _, parent := range graph.Parents(node) {
				if !slices.Contains(graph.Dependents(parent), node) {
					t.Fatalf("%d depends on %d, which has the dependents %v", node, parent, graph.Dependents(parent))
				}
			}
			for _, dependent := range graph.Dependents(node) {
				if !slices.Contains(graph.Parents(dependent), node) {
					t.Fatalf("%d has the dependent %d, which depends on %v", node, dependent, graph.Parents(dependent))
				}
			}
		}
	})
}

func TestGraphRefuses(t *testing.T) {
	t.Parallel()
	for name, nodes := range map[string][]Node{
		"an unknown specification": {{Spec: 1}}, "a negative one": {{Spec: -1}},
		"an unknown parent": {{Dependencies: []int32{1}}}, "a negative parent": {{Dependencies: []int32{-1}}},
		"itself as parent": {{Dependencies: []int32{0}}},
	} {
		if _, err := NewGraph(nodes, []Scheduling{{}}); err == nil {
			t.Errorf("a node with %s is taken", name)
		}
	}
}

// Plans are one exactly when everything in them is.
func TestPlanHash(t *testing.T) {
	t.Parallel()
	plan := func(change func(*Plan)) Hash {
		plan := &Plan{
			Specs: []*TaskSpec{{TaskID: "a", Command: "true"}},
			Nodes: []Node{{Name: "a"}, {Name: "b", Dependencies: []int32{0}}, {Name: "c", Dependencies: []int32{0, 1}}},
		}
		change(plan)
		hashes := make([]Hash, len(plan.Specs))
		for number, spec := range plan.Specs {
			_, hashes[number] = spec.Encode()
		}
		return plan.Hash(hashes)
	}
	same := func(*Plan) {}
	if first := plan(same); first != plan(same) {
		t.Error("a plan has two hashes")
	}
	for name, change := range map[string]func(*Plan){
		"another command": func(p *Plan) { p.Specs[0].Command = "false" },
		"another name":    func(p *Plan) { p.Nodes[0].Name = "z" },
		"names that join": func(p *Plan) { p.Nodes[0].Name, p.Nodes[1].Name = "ab", "" },
		"one edge less":   func(p *Plan) { p.Nodes[2].Dependencies = []int32{0} },
		"another edge":    func(p *Plan) { p.Nodes[1].Dependencies = []int32{2} },
		"one node more":   func(p *Plan) { p.Nodes = append(p.Nodes, Node{Name: "d"}) },
	} {
		if plan(change) == plan(same) {
			t.Errorf("a plan with %s has the same hash", name)
		}
	}
}

func TestRetryDelayIsBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		retries := Retries{
			DelaySeconds: rapid.Float64Range(0, 1e9).Draw(t, "delay"), ExponentialBackoff: rapid.Bool().Draw(t, "backoff"),
			MaxDelaySeconds: rapid.Float64Range(0, 1e6).Draw(t, "max"),
		}
		run := NewRunID(scenarioStart, 3)
		retry := rapid.Uint16Range(1, 65535).Draw(t, "retry")
		delay := retryDelay(retries, run, 5, retry)
		if delay != retryDelay(retries, run, 5, retry) {
			t.Fatal("the delay differs from call to call")
		}
		if delay < 0 || delay > 365*24*time.Hour {
			t.Fatalf("the delay is %v", delay)
		}
		if most := time.Duration(retries.MaxDelaySeconds * 1.2 * float64(time.Second)); retries.MaxDelaySeconds > 0 && delay > most {
			t.Fatalf("the delay is %v, over %v", delay, most)
		}
		if retries.DelaySeconds == 0 && delay != 0 || retries.DelaySeconds > 1e-3 && retries.MaxDelaySeconds == 0 && delay == 0 {
			t.Fatalf("the delay of %v seconds is %v", retries.DelaySeconds, delay)
		}
	})
}

// A task with more retries than attempts can be counted still comes to an end.
func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	graph := mustGraph(t, make([]Node, 1), []Scheduling{{Retries: Retries{Count: 1 << 20}}})
	last := StoredNode{Node: 0, NodeState: NodeState{Status: TaskQueued, Attempt: math.MaxInt16 - 1, Delivery: 1, Retried: math.MaxInt16 - 2}}
	run, err := RestoreRun(RunID{15: 1}, "test", graph, false, StoredRun{Status: RunRunning, StartTime: scenarioStart}, []StoredNode{last})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		state := run.Nodes[0]
		end := Event{Kind: EventEnd, Attempt: state.Attempt, Delivery: state.Delivery, Result: Result{Status: TaskFailed}}
		change, _ := Advance(run, scenarioStart, []Event{end}, DefaultLimits)
		run.Apply(change)
	}
	if run.Status != RunFailed || run.Nodes[0].Attempt != math.MaxInt16 {
		t.Fatalf("the run is %v after the attempt %d", run.Status, run.Nodes[0].Attempt)
	}
}
