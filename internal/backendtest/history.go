package backendtest

import (
	"flag"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var histories = flag.Int("backendtest.histories", 30, "number of random histories whose stored runs are compared with those in memory")

// storedEqualsLive lets random things happen to random runs, and compares what is stored after each. Now and then
// it goes on with what is stored, as a successor would.
func storedEqualsLive(w *world) {
	w.open()
	generator := rapid.Custom(drawHistory)
	for seed := range *histories {
		history := generator.Example(seed)
		of := submission(history.plan)
		of.Options = history.options
		run := w.startOf(of)
		var wanted []int32 // nodes whose items are to be told
		for step, choices := range history.steps {
			stored, err := w.stored(run)
			if err != nil {
				w.Fatalf("seed %d: before step %d the stored run differs: %v", seed, step, err)
			}
			if choices[0]%3 == 0 {
				run = stored
			}
			change := w.advance(run, nil, w.eventsOf(run, choices, &wanted)...)
			wanted = append(wanted, change.Items...)
		}
		if _, err := w.stored(run); err != nil {
			w.Fatalf("seed %d: at last the stored run differs: %v", seed, err)
		}
		if view := w.view(run.ID); view.Status != run.Status || view.TaskCount != len(run.Nodes) && run.Status.Ended() {
			w.Fatalf("seed %d: the run is %s with %d nodes, and is seen as %+v", seed, run.Status, len(run.Nodes), view)
		}
	}
}

// history is a graph, and numbers that choose what happens to it.
type history struct {
	plan    *workflow.Plan
	options workflow.RunOptions
	steps   [][]int
}

func drawHistory(t *rapid.T) history {
	h := history{plan: drawPlan(t)}
	for number, spec := range h.plan.Specs {
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0, 1:
			spec.EvaluationPoint = true
		case 2:
			spec.Approval = &workflow.Approval{TimeoutSeconds: rapid.SampledFrom([]float64{0, 1000}).Draw(t, "time for an approval")}
		case 3:
			spec.ForEach = &workflow.ForEach{Reference: "${tasks.list.items}"}
		}
		if rapid.IntRange(0, 2).Draw(t, "has a rule") == 0 {
			spec.TriggerRule = rapid.SampledFrom(workflow.TriggerRules).Draw(t, "rule")
		}
		if rapid.IntRange(0, 9).Draw(t, "kept") == 0 {
			kept := workflow.KeptNode{Node: int32(number)} //nolint:gosec // small
			if rapid.Bool().Draw(t, "completed") {
				kept.From = workflow.RunID{1}
			}
			h.options.Kept = append(h.options.Kept, kept)
		}
	}
	h.options.TimeoutSeconds = rapid.SampledFrom([]float64{0, 0, 1000}).Draw(t, "time-out")
	h.options.OnFailure = rapid.SampledFrom([]workflow.OnFailure{"", workflow.OnFailureContinue, workflow.OnFailureStop}).Draw(t, "on failure")
	h.steps = rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 1<<20), 1, 4), 5, 30).Draw(t, "steps")
	return h
}

// eventsOf chooses events that fit the run.
func (w *world) eventsOf(run *workflow.Run, choices []int, wanted *[]int32) []workflow.Event {
	w.Helper()
	var events []workflow.Event
	for _, node := range *wanted {
		if choices[0]%4 > 0 {
			events = append(events, w.items(run, node, choices[0]%4-1))
		}
	}
	*wanted = nil
	for _, choice := range choices {
		node := int32(choice % len(run.Nodes)) //nolint:gosec // bounded
		choice /= len(run.Nodes)
		var event workflow.Event
		switch state := run.Nodes[node]; {
		case choice%13 == 0:
			event = asked([]workflow.EventKind{workflow.EventPause, workflow.EventResume, workflow.EventCancel, workflow.EventCount}[choice/13%4], workflow.RunNode)
		case choice%29 == 0:
			event = asked(workflow.EventCancel, workflow.RunNode)
		case run.Status == workflow.RunPaused && choice%5 == 0:
			event = asked(workflow.EventResume, workflow.RunNode)
		case state.Status == workflow.TaskQueued:
			event = w.endOf(run, node, choice)
		case state.Status == workflow.TaskWaiting:
			event = waitEnds(node, state.Cause, choice)
		case state.Status.Ended():
			event = asked([]workflow.EventKind{workflow.EventRetry, workflow.EventSkip, workflow.EventCount}[choice%3], node)
		case run.Options.TimeoutSeconds > 0 && choice%31 == 0:
			event = workflow.Event{Kind: workflow.EventTimer, Node: workflow.RunNode, Timer: workflow.TimerRun}
		case choice%7 == 0:
			event = asked(workflow.EventSkip, node)
		default:
			event = workflow.Event{Kind: workflow.EventCount}
		}
		events = append(events, event)
	}
	return events
}

// endOf chooses what becomes of a member that is queued.
func (w *world) endOf(run *workflow.Run, node int32, choice int) workflow.Event {
	of := current(run, node)
	event := w.completed(of)
	switch choice % 9 {
	case 0:
		return w.failed(of, 3)
	case 1:
		event.Kind = workflow.EventLost
	case 2:
		event.Kind = workflow.EventReturn
	case 3:
		event.Kind, event.Result = workflow.EventReturn, workflow.Result{Agent: 1}
	case 4:
		if run.Status == workflow.RunPaused || !run.CancelTime.IsZero() || run.Stop != workflow.CauseNone {
			event.Kind = workflow.EventWithdraw
		}
	case 5:
		event.Result.Output = workflow.Value(fmt.Sprintf(`{"choice":%d}`, choice))
	}
	if event.Kind != workflow.EventEnd || !run.Graph.Scheduling(node).EvaluationPoint {
		return event
	}
	return w.drawnEvaluation(run, node, choice/9)
}

// drawnEvaluation is an end of an evaluation point that names some of what depends on it, something that came before,
// or a task that is not in the run.
func (w *world) drawnEvaluation(run *workflow.Run, node int32, choice int) workflow.Event {
	w.Helper()
	names := w.details(run.ID).Names
	evaluation := workflow.Evaluation{Metadata: workflow.Value(fmt.Sprintf(`{"choice":%d}`, choice))}
	if choice%2 == 0 {
		evaluation.Variables = map[string]workflow.Value{"A": workflow.Value(fmt.Sprint(choice))}
	}
	if choice%4 > 0 {
		evaluation.Chosen = true
		for index, dependent := range run.Graph.Dependents(node) {
			if choice>>(index%16)%2 == 0 && run.Nodes[dependent].Status == workflow.TaskPending {
				evaluation.NextTasks = append(evaluation.NextTasks, workflow.BaseName(names[dependent]))
			}
		}
	}
	var plans []*workflow.Plan
	switch choice % 5 {
	case 1:
		evaluation.NextTasks = append(evaluation.NextTasks, workflow.BaseName(names[choice%len(names)])) // a loop, or an error
	case 2:
		name := fmt.Sprintf("extra%d", choice%7)
		evaluation.NextTasks = append(evaluation.NextTasks, name)
		plans = append(plans, planOf("deep", name+": deep"))
	}
	evaluation.NextTasks = slices.Compact(slices.Sorted(slices.Values(evaluation.NextTasks)))
	return w.evaluated(run, node, evaluation, plans...)
}

// waitEnds chooses what becomes of a task run that waits.
func waitEnds(node int32, waits workflow.Cause, choice int) workflow.Event {
	switch {
	case choice%11 == 0:
		return asked(workflow.EventSkip, node)
	case waits == workflow.CausePaused:
		return asked(workflow.EventResume, workflow.RunNode)
	case waits == workflow.CauseApproval:
		return []workflow.Event{
			asked(workflow.EventApprove, node), asked(workflow.EventApprove, node), asked(workflow.EventReject, node),
			{Kind: workflow.EventTimer, Node: node, Timer: workflow.TimerApproval},
		}[choice%4]
	default:
		return workflow.Event{Kind: workflow.EventTimer, Node: node, Timer: workflow.TimerRetry}
	}
}
