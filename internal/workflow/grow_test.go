package workflow

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A graph that grew, in any steps, is the one that is made at once; and the one from which it grew stays as it was.
func TestGraphGrows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		whole := drawGraph(t)
		nodes := make([]Node, whole.Len())
		for number := range nodes {
			node := int32(number)
			nodes[number] = Node{Name: fmt.Sprint(number), Spec: whole.SpecIndex(node), Dependencies: whole.Parents(node)}
		}
		planned := rapid.IntRange(1, len(nodes)).Draw(t, "planned")
		known := rapid.IntRange(1, len(whole.Specs)).Draw(t, "specs")
		plan := make([]Node, planned)
		var later []GrownNode
		for number := range nodes {
			node := nodes[number]
			if number < planned {
				plan[number] = Node{Name: node.Name, Spec: 0}
				if int(node.Spec) < known && !slices.ContainsFunc(node.Dependencies, func(parent int32) bool { return int(parent) >= planned }) {
					plan[number] = node
					continue
				}
			}
			later = append(later, GrownNode{node, int32(number)})
		}
		graph, err := NewGraph(plan, whole.Specs[:known])
		if err != nil {
			t.Fatal(err)
		}
		again, err := NewGraph(plan, whole.Specs[:known])
		if err != nil {
			t.Fatal(err)
		}
		grown, err := graph.Grow(whole.Specs[known:], rapid.Permutation(later).Draw(t, "order"))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(graph, again) {
			t.Fatal("the graph from which another grew is another one")
		}
		if grown.Len() != whole.Len() || len(grown.Specs) != len(whole.Specs) {
			t.Fatalf("the graph grew to %d nodes and %d specifications", grown.Len(), len(grown.Specs))
		}
		for node := range int32(whole.Len()) {
			if grown.SpecIndex(node) != whole.SpecIndex(node) || !slices.Equal(grown.Parents(node), whole.Parents(node)) ||
				!slices.Equal(grown.Dependents(node), whole.Dependents(node)) {
				t.Fatalf("node %d differs", node)
			}
			want := ""
			if int(node) >= planned {
				want = nodes[node].Name
			}
			if got := grown.addedName(node); got != want {
				t.Fatalf("node %d is called %q", node, got)
			}
		}
		if grown.plain != whole.plain {
			t.Fatalf("that the graph is plain is %v", grown.plain)
		}
	})
}

func TestGraphGrowRefuses(t *testing.T) {
	t.Parallel()
	graph := mustGraph(t, []Node{{Name: "a"}, {Name: "b", Dependencies: []int32{0}}}, nil)
	for name, nodes := range map[string][]GrownNode{
		"a node below 0":           {{Number: -1}},
		"a node twice":             {{Number: 1}, {Number: 1}},
		"a new node twice":         {{Number: 2}, {Number: 2}},
		"a gap":                    {{Number: 3}},
		"an unknown specification": {{Number: 2, Node: Node{Spec: 1}}},
		"a negative one":           {{Number: 2, Node: Node{Spec: -1}}},
		"an unknown parent":        {{Number: 2, Node: Node{Dependencies: []int32{3}}}},
		"a negative parent":        {{Number: 0, Node: Node{Dependencies: []int32{-1}}}},
		"itself as parent":         {{Number: 2, Node: Node{Dependencies: []int32{2}}}},
	} {
		if _, err := graph.Grow(nil, nodes); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// What is looked for by name is the newest iteration of it, whether by searching or by the index of a long search.
func TestNodeNames(t *testing.T) {
	t.Parallel()
	plan := []string{"a", "g/a", "g/point", "b", "b[0]", "x#y"}
	nodes := make([]Node, len(plan))
	grown := []GrownNode{{Number: 6, Node: Node{Name: "a#2"}}, {Number: 7, Node: Node{Name: "b[0]#2"}}, {Number: 8, Node: Node{Name: "ab"}}}
	graph, err := mustGraph(t, nodes, nil).Grow(nil, grown)
	if err != nil {
		t.Fatal(err)
	}
	inGroup, outside := newNodeNames(plan, graph, 2), newNodeNames(plan, graph, 0)
	for range 10 { // so that it is searched and then indexed
		for _, test := range []struct {
			names *nodeNames
			name  string
			want  int32
		}{
			{outside, "a", 6}, {inGroup, "a", 1}, {inGroup, "g/a", 1}, {outside, "b", 3}, {outside, "b[0]", 7}, {outside, "x#y", 5},
			{outside, "ab", 8}, {inGroup, "ab", 8}, {outside, "c", -1}, {outside, "a#2", -1}, {outside, "", -1},
		} {
			if got, ok := test.names.find(test.name); ok != (test.want >= 0) || ok && got != test.want {
				t.Errorf("%q is node %d (%v), should be %d", test.name, got, ok, test.want)
			}
		}
	}
	if outside.index == nil {
		t.Error("a long search made no index")
	}
	names := []string{outside.again("a", 2), outside.again("a", 2), outside.again("b", 2), outside.again("new", 3)}
	if want := []string{"a#3", "a#4", "b#2", "new#3"}; !slices.Equal(names, want) {
		t.Errorf("iterations are called %q, should be %q", names, want)
	}
	unknown := UnknownNames(plan, 2, &Evaluation{NextTasks: []string{"a", "c", "b", "d", "c"}})
	if want := []string{"c", "d", "c"}; !slices.Equal(unknown, want) {
		t.Errorf("unknown are %q", unknown)
	}
}

// The result of an evaluation point keeps the difference between no list and an empty one.
func TestEvaluationJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `{"next_tasks":[]}`, `{"next_tasks":["a","b"]}`,
		`{"next_tasks":["a"],"parameters":{"t":{"k":1}},"context_updates":{"x":"y"},"metadata":{"rows":[1,2]}}`,
	} {
		var evaluation Evaluation
		if err := json.Unmarshal([]byte(text), &evaluation); err != nil {
			t.Fatal(err)
		}
		if back, err := json.Marshal(&evaluation); err != nil || string(back) != text {
			t.Errorf("%s becomes %s (%v)", text, back, err)
		}
	}
	var evaluation Evaluation
	if err := json.Unmarshal([]byte(`{"next_tasks":"a"}`), &evaluation); err == nil {
		t.Error("a text is taken for a list")
	}
}

// A result whose names nobody looked up fails its task, and not the orchestrator.
func TestEvaluationWithoutNames(t *testing.T) {
	t.Parallel()
	graph := mustGraph(t, []Node{{Name: "check"}}, []Scheduling{{EvaluationPoint: true, Rule: RuleAllSuccess}})
	run := startedRun(t, graph)
	end := Event{Kind: EventEnd, Attempt: 1, Delivery: 1, Result: Result{Status: TaskCompleted, Evaluation: &Evaluation{Chosen: true, NextTasks: []string{"a"}}}}
	change, _ := Advance(run, scenarioStart, []Event{end, {Kind: EventItems}}, DefaultLimits)
	if len(change.Tasks) != 1 || change.Tasks[0].Status != TaskFailed || change.Tasks[0].Cause != CauseEvaluation {
		t.Fatalf("the rows are %+v", change.Tasks)
	}
}

// Items that would wait for too much fail their task, and not the orchestrator.
func TestItemsThatAreTooWide(t *testing.T) {
	t.Parallel()
	const parents = 1001
	nodes := make([]Node, parents+1)
	group := &nodes[parents]
	group.Spec = 1
	for number := range int32(parents) {
		group.Dependencies = append(group.Dependencies, number)
	}
	each := TaskSpec{TaskID: "work", ForEach: &ForEach{Reference: "${tasks.list.items}"}}
	run := startedRun(t, mustGraph(t, nodes, []Scheduling{{Rule: RuleAllSuccess}, NewSpecOf(&each).Scheduling}))
	var ends []Event
	for _, member := range run.Queued() {
		ends = append(ends, Event{Kind: EventEnd, Node: member.Node, Attempt: 1, Delivery: 1, Result: Result{Status: TaskCompleted}})
	}
	change, _ := Advance(run, scenarioStart, ends, DefaultLimits)
	run.Apply(change)
	whole, items := expandSpec(&each, itemValues(1))
	known := &Known{Names: make([]string, len(nodes)), Group: whole, Items: slices.Repeat(items, 9999)}
	known.Names[parents] = "work"
	for _, test := range []struct {
		count int
		grows bool
	}{{9999, false}, {9990, true}} {
		known.Items = known.Items[:test.count]
		change, _ = Advance(run, scenarioStart, []Event{{Kind: EventItems, Node: parents, Known: known}}, DefaultLimits)
		if grows := len(change.Nodes) == test.count+1; grows != test.grows {
			t.Fatalf("that the run grows by %d items is %v", test.count, grows)
		}
		if !test.grows && (len(change.Tasks) != 1 || change.Tasks[0].Status != TaskFailed || !strings.Contains(change.Tasks[0].Reason, "10008999 in all")) {
			t.Fatalf("the rows are %+v", change.Tasks)
		}
	}
}
