package workflow

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// BenchmarkLoop turns a loop of two tasks many times. The time of an iteration is that of the last ones: it should hardly
// depend on how many there were before.
func BenchmarkLoop(b *testing.B) {
	for _, turns := range []int{20, 100, 1000} {
		b.Run(fmt.Sprintf("turns=%d", turns), func(b *testing.B) {
			var last time.Duration
			const measured = 10
			b.ReportAllocs()
			for b.Loop() {
				last += loop(b, turns, measured)
			}
			b.ReportMetric(float64(last.Nanoseconds())/float64(b.N*measured), "ns/turn")
		})
	}
}

// loop turns so many times, and gives the time of the last turns.
func loop(tb testing.TB, turns, measured int) time.Duration {
	tasks := &scenarioTasks{}
	for _, words := range [][]string{{"data"}, {"train", "needs", "data"}, {"check", "needs", "train", "eval"}, {"out", "needs", "check"}} {
		if err := tasks.add(words, true); err != nil {
			tb.Fatal(err)
		}
	}
	s := &scenario{tasks: *tasks, now: scenarioStart, change: &Change{}, limits: DefaultLimits}
	if err := s.begin(); err != nil {
		tb.Fatal(err)
	}
	run, names, again := s.live, s.names, &Evaluation{NextTasks: []string{"train"}, Chosen: true}
	events := []Event{{Kind: EventStart}}
	var began time.Time
	for turn := 0; turn < turns; {
		change, _ := Advance(run, scenarioStart, events, s.limits)
		run.Apply(change)
		for _, node := range change.Nodes {
			if int(node.Number) == len(names) {
				names = append(names, node.Name)
			}
		}
		events = events[:0]
		for _, member := range change.Queue {
			event := Event{Kind: EventEnd, Node: member.Node, Attempt: 1, Delivery: 1, Result: Result{Status: TaskCompleted, StartTime: scenarioStart, EndTime: scenarioStart, Agent: 1}}
			if run.Graph.Scheduling(member.Node).EvaluationPoint {
				event.Result.Evaluation, event.Known = again, &Known{Names: names}
				if turn++; turn == turns-measured {
					began = time.Now()
				}
			}
			events = append(events, event)
		}
		if len(events) != 1 {
			tb.Fatalf("%d tasks are queued in turn %d", len(events), turn)
		}
	}
	return time.Since(began)
}

// BenchmarkEvaluationAdds is one call of Advance for an evaluation point that names so many tasks which are not in the run.
func BenchmarkEvaluationAdds(b *testing.B) {
	const added = 5000
	point := NewSpecOf(&TaskSpec{TaskID: "check", EvaluationPoint: true})
	graph := mustGraph(b, []Node{{Name: "check"}}, []Scheduling{point.Scheduling})
	evaluation := &Evaluation{Chosen: true}
	known := &Known{Names: []string{"check"}, Plans: map[string]*KnownPlan{}}
	for number := range added {
		name := "task" + strconv.Itoa(number)
		spec := NewSpecOf(&TaskSpec{TaskID: name})
		evaluation.NextTasks = append(evaluation.NextTasks, name)
		known.Plans[name] = &KnownPlan{Plan: &Plan{Specs: []*TaskSpec{spec.Task}, Nodes: []Node{{Name: name}}}, Specs: []*NewSpec{spec}}
	}
	end := Event{Kind: EventEnd, Attempt: 1, Delivery: 1, Known: known, Result: Result{Status: TaskCompleted, StartTime: scenarioStart, EndTime: scenarioStart, Agent: 1, Evaluation: evaluation}}
	b.ReportAllocs()
	for b.Loop() {
		run := startedRun(b, graph)
		change, _ := Advance(run, scenarioStart, []Event{end}, DefaultLimits)
		run.Apply(change)
		if len(run.Nodes) != 1+added {
			b.Fatalf("%d nodes", len(run.Nodes))
		}
	}
}

// BenchmarkItems is one call of Advance for the items of a task.
func BenchmarkItems(b *testing.B) {
	const items = 10_000
	spec := &TaskSpec{TaskID: "work", ForEach: &ForEach{Reference: "${tasks.list.items}"}}
	group, each := expandSpec(spec, itemValues(items))
	graph := mustGraph(b, []Node{{Name: "work"}}, []Scheduling{NewSpecOf(spec).Scheduling})
	event := Event{Kind: EventItems, Known: &Known{Names: []string{"work"}, Group: group, Items: each}}
	b.ReportAllocs()
	for b.Loop() {
		run := startedRun(b, graph)
		change, _ := Advance(run, scenarioStart, []Event{event}, DefaultLimits)
		run.Apply(change)
		if len(run.Nodes) != 1+items {
			b.Fatalf("%d nodes", len(run.Nodes))
		}
	}
}

func startedRun(tb testing.TB, graph *Graph) *Run {
	tb.Helper()
	run := NewRun(RunID{15: 1}, "bench", graph, false)
	change, _ := Advance(run, scenarioStart, []Event{{Kind: EventStart}}, DefaultLimits)
	run.Apply(change)
	return run
}
