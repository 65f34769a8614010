package workflow

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLanguageProperties drives runs of random tasks (all rules, evaluation points with random results, groups, items from
// references, approvals, kept nodes, on_failure, time-outs) through random events: ends, losses, pauses, decisions, retries, skips, cancels,
// timers, several in a call, told twice or too late, with changes cut anywhere and crashes between any two. After each call it
// checks what rows.commit and sameRun check, and:
//
//   - no task starts before its trigger rule lets it, by a plain oracle;
//   - nothing is dispatched while the run is paused or ending;
//   - no more nodes are added than allowed;
//   - every run ends once all that was asked is answered;
//   - at the end each node stands where the oracle says, and so does the run.
func TestLanguageProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newLanguageWorld(t)
		w.feed(t, Event{Kind: EventStart})
		for steps := rapid.SampledFrom([]int{0, 10, 30, 60, 120}).Draw(t, "steps"); steps > 0 && !w.over(); steps-- {
			w.step(t)
		}
		w.finish(t)
		w.checkEnd(t)
	})
}

// languageWorld is a run with all that answers it.
type languageWorld struct {
	*scenario
	out     []Member // dispatched, and not answered
	taken   map[Member]bool
	wanted  []int32 // nodes whose items are asked for
	persons bool    // somebody retried or skipped something
	past    []Event
	// control is how many more times a person may intervene.
	control int
}

func newLanguageWorld(t *rapid.T) *languageWorld {
	s := &scenario{now: scenarioStart, change: &Change{}}
	s.limits = Limits{
		Rows: rapid.SampledFrom([]int{1, 2, 3, 5, 2000}).Draw(t, "rows"), MaxRescues: rapid.IntRange(0, 2).Draw(t, "rescues"),
		MaxDynamicTasks: rapid.SampledFrom([]int{5, 20, 40}).Draw(t, "dynamic"),
	}
	drawTasks(t, &s.tasks)
	if rapid.Bool().Draw(t, "stop") {
		s.options.OnFailure = OnFailureStop
	}
	if rapid.Bool().Draw(t, "timeout") {
		s.options.TimeoutSeconds = 100
	}
	if rapid.IntRange(0, 2).Draw(t, "with kept") == 0 {
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(s.tasks.inRun), 0, 4, rapid.ID).Draw(t, "kept") {
			kept := KeptNode{}
			if rapid.Bool().Draw(t, "needed") {
				kept.From = RunID{15: 9}
			}
			s.options.Kept, s.tasks.kept = append(s.options.Kept, kept), append(s.tasks.kept, name)
		}
	}
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
	return &languageWorld{scenario: s, taken: map[Member]bool{}, control: rapid.IntRange(0, 12).Draw(t, "control")}
}

// drawTasks makes tasks of the run, and some that are not in it.
func drawTasks(t *rapid.T, tasks *scenarioTasks) {
	tasks.specs, tasks.needs = map[string]*TaskSpec{}, map[string][]string{}
	group := rapid.SampledFrom([]string{"", "", "g/"}).Draw(t, "group")
	for number := range rapid.SampledFrom([]int{1, 2, 3, 5, 8}).Draw(t, "tasks") {
		name := fmt.Sprintf("t%d", number)
		if rapid.Bool().Draw(t, "in group") {
			name = group + name
		}
		drawTask(t, tasks, name)
		tasks.inRun = append(tasks.inRun, name)
	}
	for number := range rapid.IntRange(0, 3).Draw(t, "definitions") {
		drawTask(t, tasks, fmt.Sprintf("d%d", number))
	}
}

func drawTask(t *rapid.T, tasks *scenarioTasks, name string) {
	spec := &TaskSpec{TaskID: name, Command: "true", Queue: DefaultQueue, Priority: DefaultPriority}
	spec.TriggerRule = rapid.SampledFrom(slices.Concat([]TriggerRule{"", "", "", RuleAllDone}, TriggerRules)).Draw(t, "rule")
	spec.Retries = Retries{Count: rapid.IntRange(0, 2).Draw(t, "retries"), DelaySeconds: float64(rapid.IntRange(0, 1).Draw(t, "delay"))}
	switch rapid.SampledFrom([]string{"", "", "", "", "eval", "eval", "approval", "timed approval", "each", "reference", "each eval"}).Draw(t, "kind") {
	case "eval":
		spec.EvaluationPoint = true
	case "approval":
		spec.Approval = &Approval{}
	case "timed approval":
		spec.Approval = &Approval{TimeoutSeconds: 10}
	case "each":
		spec.ForEach = &ForEach{Items: itemValues(rapid.IntRange(0, 3).Draw(t, "items"))}
	case "each eval":
		spec.ForEach, spec.EvaluationPoint = &ForEach{Items: itemValues(rapid.IntRange(1, 2).Draw(t, "items"))}, true
	case "reference":
		spec.ForEach = &ForEach{Reference: "${tasks.list.items}"}
	}
	if len(tasks.names) > 0 {
		tasks.needs[name] = rapid.SliceOfNDistinct(rapid.SampledFrom(tasks.names), 0, 3, rapid.ID).Draw(t, "needs")
	}
	tasks.names, tasks.specs[name] = append(tasks.names, name), spec
}

// over tells that nothing can happen any more.
func (w *languageWorld) over() bool { return w.live.Status.Ended() && w.control == 0 }

// step lets something happen.
func (w *languageWorld) step(t *rapid.T) {
	var events []Event
	for range rapid.SampledFrom([]int{1, 1, 1, 1, 2, 3}).Draw(t, "events") {
		if event, ok := w.draw(t); ok {
			events = append(events, event)
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "crash") == 0 {
		if err := w.restore(); err != nil {
			t.Fatal(err)
		}
	}
	w.past = append(w.past, events...)
	w.feed(t, events...)
}

func (w *languageWorld) draw(t *rapid.T) (Event, bool) {
	choices := []string{"nothing", "past", "items"}
	if len(w.out) > 0 {
		choices = append(choices, "answer", "answer", "answer", "answer", "answer")
	}
	if len(w.rows.timers) > 0 {
		choices = append(choices, "timer")
	}
	if w.control > 0 {
		choices = append(choices, "person", "person")
	}
	switch rapid.SampledFrom(choices).Draw(t, "what") {
	case "past":
		if len(w.past) > 0 {
			return rapid.SampledFrom(w.past).Draw(t, "past event"), true
		}
	case "items":
		if len(w.wanted) > 0 {
			return w.drawItems(rapid.SampledFrom(w.wanted).Draw(t, "node"), rapid.IntRange(-1, 3).Draw(t, "items")), true
		}
	case "answer":
		return w.drawAnswer(t), true
	case "timer":
		key := w.drawTimer(t)
		return Event{Kind: EventTimer, Node: key.node, Timer: key.kind}, true
	case "person":
		w.control--
		return w.drawControl(t), true
	}
	return Event{}, false
}

func (w *languageWorld) drawTimer(t *rapid.T) timerKey {
	keys := slices.SortedFunc(maps.Keys(w.rows.timers), func(a, b timerKey) int { return int(a.node-b.node)*10 + int(a.kind-b.kind) })
	return rapid.SampledFrom(keys).Draw(t, "timer")
}

func (w *languageWorld) drawItems(node int32, count int) Event {
	text := "problem"
	if count >= 0 {
		text = fmt.Sprint(count)
	}
	return Event{Kind: EventItems, Node: node, Known: w.items(node, text)}
}

func (w *languageWorld) drawControl(t *rapid.T) Event {
	kind := rapid.SampledFrom([]EventKind{
		EventPause, EventPause, EventResume, EventResume, EventCancel, EventApprove, EventApprove, EventReject, EventRetry, EventRetry, EventSkip,
	}).Draw(t, "control")
	event := Event{Kind: kind, Node: RunNode, Actor: "ann"}
	if kind == EventApprove || kind == EventReject || kind == EventRetry || kind == EventSkip {
		event.Node = rapid.SampledFrom(numbers(w.live.Graph.Len())).Draw(t, "node")
	}
	w.persons = w.persons || kind == EventRetry || kind == EventSkip
	return event
}

// drawAnswer answers a member that is out.
func (w *languageWorld) drawAnswer(t *rapid.T) Event {
	place := rapid.IntRange(0, len(w.out)-1).Draw(t, "member")
	member := w.out[place]
	w.out = slices.Delete(w.out, place, place+1)
	event := Event{Kind: EventEnd, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery}
	event.Result = Result{Status: TaskCompleted, Started: true, StartTime: w.now, EndTime: w.now, Agent: 9}
	answers := []string{"completed", "completed", "completed", "completed", "failed", "failed", "lost", "returned", "returned started"}
	if w.taken[member] {
		answers = append(answers, "withdrawn", "withdrawn", "withdrawn", "killed", "killed")
	}
	switch rapid.SampledFrom(answers).Draw(t, "answer") {
	case "completed":
		if w.live.Graph.Scheduling(member.Node).EvaluationPoint && rapid.IntRange(0, 3).Draw(t, "evaluates") > 0 {
			w.drawEvaluation(t, &event)
		}
		if rapid.Bool().Draw(t, "output") {
			event.Result.Output = `{"rows":5}`
		}
	case "failed":
		event.Result.Status, event.Result.Cause = TaskFailed, CauseExit
	case "killed":
		event.Result.Status, event.Result.Cause = TaskCancelled, CauseCancel
	case "lost":
		event.Kind, event.Result = EventLost, Result{StartTime: w.now, Agent: 9}
	case "returned":
		event.Kind, event.Result = EventReturn, Result{}
	case "returned started":
		event.Kind = EventReturn
	case "withdrawn":
		event.Kind, event.Result = EventWithdraw, Result{}
	}
	return event
}

func (w *languageWorld) drawEvaluation(t *rapid.T, event *Event) {
	evaluation := &Evaluation{Chosen: rapid.IntRange(0, 4).Draw(t, "chosen") > 0, Metadata: `{"k":1}`}
	if rapid.Bool().Draw(t, "update") {
		evaluation.Variables = map[string]Value{"x": "1"}
	}
	if evaluation.Chosen {
		var names []string
		for _, dependent := range w.live.Graph.Dependents(event.Node) {
			names = append(names, BaseName(w.names[dependent]))
		}
		all := slices.Clone(w.tasks.names)
		for _, name := range w.names {
			base := BaseName(name)
			all = append(all, base, strings.TrimPrefix(base, "g/"))
		}
		for number := range w.live.Nodes {
			if w.live.Nodes[number].Status.Ended() {
				names = append(names, BaseName(w.names[number]))
			}
		}
		names = append(names, rapid.SliceOfN(rapid.SampledFrom(all), 0, 2).Draw(t, "other names")...)
		if len(names) > 0 {
			evaluation.NextTasks = rapid.SliceOfN(rapid.SampledFrom(names), 0, 3).Draw(t, "next tasks")
		}
		event.Known = w.known(event.Node, evaluation)
	}
	event.Result.Evaluation = evaluation
}

// feed gives the events to Advance until nothing more follows. A crash between the calls loses events that were not
// used, as their messages are still there: they are told again.
func (w *languageWorld) feed(t *rapid.T, events ...Event) {
	resumes := slices.ContainsFunc(events, func(event Event) bool { return event.Kind == EventResume })
	retried := map[int32]bool{}
	for _, event := range events {
		if event.Kind == EventRetry {
			retried[event.Node] = true
		}
	}
	for more := true; more; more = w.change.More {
		before := cloneRun(w.live)
		w.left = nil
		if err := w.call(events); err != nil {
			t.Fatalf("after %+v of %v: %v", events, w.names, err)
		}
		events = w.left
		w.out = append(w.out, w.change.Queue...)
		for _, member := range slices.Concat(w.change.Withdraw, w.change.Hold) {
			w.taken[member] = true
		}
		w.wanted = append(w.wanted, w.change.Items...)
		if len(w.change.Queue) > 0 && (before.Status == RunPaused && !resumes || !before.CancelTime.IsZero() && before.Status == RunRunning || before.Stop != CauseNone && before.Status == RunRunning) {
			t.Fatalf("%v is dispatched though the run was %v, cancelled at %v, stopped for %v", w.change.Queue, before.Status, before.CancelTime, before.Stop)
		}
		if added := w.live.Graph.Len() - w.live.planned; added > w.limits.MaxDynamicTasks {
			t.Fatalf("%d nodes were added", added)
		}
		for _, row := range w.change.Tasks {
			waitedAgain := int(row.Node) < len(before.Nodes) && before.Nodes[row.Node].Cause == CauseTriggerRule
			if !row.First && !waitedAgain || row.Status != TaskQueued && row.Status != TaskWaiting || retried[row.Node] {
				continue
			}
			parents := w.rows.parentsOf(w.live.Graph, row.Node)
			if rule := w.live.Graph.Scheduling(row.Node).Rule; fateOf(rule, parents) != fateStarts {
				t.Fatalf("%s (%s) starts while what it depends on is %v", w.names[row.Node], rule, parents)
			}
		}
		if w.change.More && rapid.IntRange(0, 3).Draw(t, "crash between") == 0 {
			if err := w.restore(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// finish answers everything, without any more choices.
func (w *languageWorld) finish(t *rapid.T) {
	for rounds := 0; !w.live.Status.Ended(); rounds++ {
		if rounds > 2000 {
			t.Fatalf("the run does not end: %v %+v", w.names, w.live)
		}
		var events []Event
		if w.live.Status == RunPaused {
			events = append(events, Event{Kind: EventResume, Actor: "ann"})
		}
		for _, member := range w.out {
			event := Event{Kind: EventEnd, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery}
			event.Result = Result{Status: TaskCompleted, Started: true, StartTime: w.now, EndTime: w.now, Agent: 9}
			events = append(events, event)
		}
		for _, node := range w.wanted {
			events = append(events, w.drawItems(node, 1))
		}
		w.out, w.wanted = nil, nil
		for number := range w.live.Nodes {
			switch state := &w.live.Nodes[number]; {
			case state.Cause == CauseApproval:
				events = append(events, Event{Kind: EventApprove, Node: int32(number), Actor: "ann"})
			case state.Status == TaskWaiting && state.Cause == CauseNone:
				events = append(events, Event{Kind: EventTimer, Node: int32(number), Timer: TimerRetry})
			}
		}
		w.now = w.now.Add(time.Second)
		w.feed(t, events...)
	}
}

// checkEnd compares the end of the run with what the rules say.
func (w *languageWorld) checkEnd(t *rapid.T) {
	graph := w.live.Graph
	if len(w.rows.timers) > 0 {
		t.Fatalf("timers are left after the end: %v", w.rows.timers)
	}
	cancelled := w.rows.count(TaskCancelled) > 0
	want := RunCompleted
	switch {
	case !w.live.CancelTime.IsZero() && cancelled:
		want = RunCancelled
	case w.live.Stop == CauseRunTimeout && cancelled, w.live.Stop == CauseTooMany, w.rows.failures(graph):
		want = RunFailed
	case cancelled:
		want = RunCancelled
	}
	if w.live.Status != want {
		t.Fatalf("the run ended as %v, should be %v", w.live.Status, want)
	}
	if w.persons || cancelled {
		return // what ended since may have had its reason in what was undone
	}
	for number := range graph.Len() {
		node := int32(number)
		row := w.rows.tasks[node]
		parents := w.rows.parentsOf(graph, node)
		got := fateStarts
		switch {
		case row.Cause == CauseKept, row.Cause == CauseNotChosen, row.Cause == CauseGroup && !slices.ContainsFunc(graph.Parents(node), func(parent int32) bool { return graph.Scheduling(parent).Item }):
			continue // another reason, or a group whose rule is that of the items which it does not have
		case row.Cause == CauseTriggerRule:
			got = fateSkips
		case row.Status == TaskUpstreamFailed:
			got = fateFails
		}
		if want := fateOf(graph.Scheduling(node).Rule, parents); got != want {
			t.Fatalf("%s ended as %v (%v): it %v, and should be: it %v (%s of %v)", w.names[node], row.Status, row.Cause, got, want, graph.Scheduling(node).Rule, parents)
		}
	}
}
