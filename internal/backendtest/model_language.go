package backendtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// act is what makes a node of a script more than a task that runs.
type act struct {
	// reject tells that a person rejects it who is asked for an approval.
	reject bool
	// again tells that it fails until a person wants it to run again.
	again bool
	// loops is how often an evaluation point names itself, before it names chosen.
	loops  int
	chosen []string
	// extra is a task that is not in the run and that it names then, or empty.
	extra string
	// kept tells that an earlier run did its work, or skipped it.
	kept, skipped bool
}

// drawActs lets a run use the whole language, as far as its end stays certain. rows is where changes are cut.
func drawActs(t *rapid.T, run *scriptedRun, rows int) {
	run.acts = make([]act, len(run.plan.Nodes))
	run.options.TimeoutSeconds = rapid.SampledFrom([]float64{0, 1000}).Draw(t, "time-out")
	for number, spec := range run.plan.Specs {
		act := &run.acts[number]
		switch rapid.IntRange(0, 5).Draw(t, "act") {
		case 0:
			spec.Approval = &workflow.Approval{}
			act.reject = rapid.IntRange(0, 3).Draw(t, "reject") == 0
		case 1:
			if run.decides(number) {
				drawPoint(t, run, number)
			}
		case 2:
			if !run.afterPoint(number) && !spec.EvaluationPoint {
				act.kept, act.skipped = true, rapid.Bool().Draw(t, "skipped")
				kept := workflow.KeptNode{Node: int32(number)} //nolint:gosec // small
				if !act.skipped {
					kept.From = workflow.RunID{1}
				}
				run.options.Kept = append(run.options.Kept, kept)
			}
		}
	}
	if rapid.Bool().Draw(t, "rules") {
		for number, spec := range run.plan.Specs {
			if run.acts[number].loops == 0 { // the next iteration starts because the last succeeded
				spec.TriggerRule = rapid.SampledFrom(workflow.TriggerRules).Draw(t, "rule")
			}
		}
		return
	}
	if run.cancel >= 0 || rows < len(run.plan.Nodes)*2 || slices.ContainsFunc(run.acts, func(act act) bool { return act.skipped }) {
		return
	}
	for number := range run.acts { // only where it does not matter who hears first of a failure
		if act := &run.acts[number]; rapid.IntRange(0, 5).Draw(t, "again") == 0 && !act.kept && !act.reject {
			act.again = true
			run.nodes[number].failures = run.plan.Specs[number].Retries.Count + 1
		}
	}
}

// decides tells whether nothing but the node holds its dependents, so that it can choose among them.
func (r *scriptedRun) decides(number int) bool {
	for later := number + 1; later < len(r.plan.Nodes); later++ {
		parents := r.plan.Nodes[later].Dependencies
		if slices.Contains(parents, int32(number)) && len(parents) > 1 { //nolint:gosec // small
			return false
		}
	}
	return true
}

// afterPoint tells whether an evaluation point decides on the node.
func (r *scriptedRun) afterPoint(number int) bool {
	return slices.ContainsFunc(r.plan.Nodes[number].Dependencies, func(parent int32) bool { return r.plan.Specs[parent].EvaluationPoint })
}

func drawPoint(t *rapid.T, run *scriptedRun, number int) {
	run.plan.Specs[number].EvaluationPoint = true
	act := &run.acts[number]
	act.loops = rapid.IntRange(0, 2).Draw(t, "loops")
	for _, node := range run.plan.Nodes[number+1:] {
		if slices.Contains(node.Dependencies, int32(number)) && rapid.Bool().Draw(t, "chosen") { //nolint:gosec // small
			act.chosen = append(act.chosen, node.Name)
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "extra") == 0 {
		act.extra = "extra-" + run.plan.Nodes[number].Name
	}
}

// numberOf finds the node that a name is an iteration of; false for an added task.
func (r *scriptedRun) numberOf(name string) (number, iteration int, ok bool) {
	base := workflow.BaseName(name)
	iteration = 1
	if base != name {
		_, _ = fmt.Sscanf(strings.TrimPrefix(name, base), "#%d", &iteration)
	}
	number = slices.IndexFunc(r.plan.Nodes, func(node workflow.Node) bool { return node.Name == base })
	return number, iteration, number >= 0
}

// behaviour is how attempts of a node go, whatever its iteration.
func (r *scriptedRun) behaviour(name string) behaviour {
	number, iteration, ok := r.numberOf(name)
	if !ok {
		return behaviour{ruled: true}
	}
	how := r.nodes[number]
	if r.acts == nil {
		return how
	}
	how.ruled = true
	if act := &r.acts[number]; r.plan.Specs[number].EvaluationPoint {
		evaluation := workflow.Evaluation{Chosen: true, NextTasks: act.chosen, Metadata: `{"by":"script"}`}
		if iteration <= act.loops {
			evaluation.NextTasks = []string{r.plan.Nodes[number].Name}
		} else if act.extra != "" {
			evaluation.NextTasks = append(slices.Clone(act.chosen), act.extra)
		}
		evaluation.Variables = map[string]workflow.Value{"turn": workflow.Value(fmt.Sprint(iteration))}
		how.evaluation = &evaluation
	}
	return how
}

// expectedOf is how a node ends, given how those before it end: status, cause, exit code.
func (r *scriptedRun) expectedOf(number int, end []taskEnding) taskEnding {
	node, act := r.plan.Nodes[number], &r.acts[number]
	as := func(status workflow.TaskStatus, cause workflow.Cause, exit int32) taskEnding {
		return taskEnding{node.Name, status, cause, exit}
	}
	switch {
	case act.skipped:
		return as(workflow.TaskSkipped, workflow.CauseKept, -1)
	case act.kept:
		return as(workflow.TaskCompleted, workflow.CauseKept, -1)
	}
	var succeeded, failed int
	for _, parent := range node.Dependencies {
		point := r.plan.Specs[parent].EvaluationPoint && end[parent].status == workflow.TaskCompleted
		switch status := end[parent].status; {
		case point && !slices.Contains(r.acts[parent].chosen, node.Name):
			return as(workflow.TaskSkipped, workflow.CauseNotChosen, -1)
		case status == workflow.TaskCompleted:
			succeeded++
		case status.Failure():
			failed++
		}
	}
	if len(node.Dependencies) > 0 {
		rule := r.plan.Specs[number].TriggerRule
		skip := succeeded+failed == 0
		fail := false
		switch rule {
		case workflow.RuleAllDone:
		case workflow.RuleOneSuccess:
			fail = succeeded == 0
		case workflow.RuleOneFailed:
			skip = skip || failed == 0
		case workflow.RuleAllFailed:
			skip = skip || succeeded > 0
		default:
			fail = failed > 0
		}
		switch {
		case skip:
			return as(workflow.TaskSkipped, workflow.CauseTriggerRule, -1)
		case fail:
			return as(workflow.TaskUpstreamFailed, workflow.CauseUpstream, -1)
		}
	}
	switch {
	case act.reject && r.plan.Specs[number].Approval != nil:
		return as(workflow.TaskFailed, workflow.CauseRejected, -1)
	case r.nodes[number].failures == always:
		return as(workflow.TaskFailed, workflow.CauseExit, 3)
	}
	return as(workflow.TaskCompleted, workflow.CauseNone, 0)
}

// expectedOfLanguage is the end of a run with acts.
func (r *scriptedRun) expectedOfLanguage() ending {
	var tasks []taskEnding
	for number := range r.plan.Nodes {
		tasks = append(tasks, r.expectedOf(number, tasks))
	}
	end := ending{status: workflow.RunCompleted, tasks: slices.Clone(tasks)}
	for number, task := range tasks {
		act := &r.acts[number]
		if r.plan.Specs[number].EvaluationPoint && task.status == workflow.TaskCompleted {
			for iteration := 2; iteration <= act.loops+1; iteration++ {
				end.tasks = append(end.tasks, taskEnding{name: fmt.Sprintf("%s#%d", task.name, iteration), status: workflow.TaskCompleted})
			}
			if act.extra != "" {
				end.tasks = append(end.tasks, taskEnding{name: act.extra, status: workflow.TaskCompleted})
			}
		}
		if task.status == workflow.TaskFailed && !r.handled(number, tasks) {
			end.status = workflow.RunFailed
		}
	}
	for _, task := range end.tasks {
		switch task.status {
		case workflow.TaskCompleted:
			end.completed++
		case workflow.TaskFailed:
			end.failed++
		default: // counts as neither
		}
	}
	end.sort()
	return end
}

// handled tells whether a direct dependent started because of the failure.
func (r *scriptedRun) handled(number int, tasks []taskEnding) bool {
	for later, node := range r.plan.Nodes {
		rule := r.plan.Specs[later].TriggerRule
		handles := rule == workflow.RuleAllDone || rule == workflow.RuleOneFailed || rule == workflow.RuleAllFailed
		ran := tasks[later].status == workflow.TaskCompleted || tasks[later].status == workflow.TaskFailed
		if handles && ran && !r.acts[later].skipped && slices.Contains(node.Dependencies, int32(number)) { //nolint:gosec // small
			return true
		}
	}
	return false
}

// sort brings nodes that were added in any order into the order of their names.
func (e *ending) sort() {
	slices.SortFunc(e.tasks, func(one, other taskEnding) int { return strings.Compare(one.name, other.name) })
}

// checkLanguage says what is impossible about the end of a cancelled run with acts.
func (r *scriptedRun) checkLanguage(end ending) error {
	counts := map[workflow.TaskStatus]int{}
	for _, task := range end.tasks {
		counts[task.status]++
		if !task.status.Ended() {
			return fmt.Errorf("%s is %s after the end", task.name, task.status)
		}
	}
	if (end.status == workflow.RunCancelled) != (counts[workflow.TaskCancelled] > 0) ||
		end.completed != counts[workflow.TaskCompleted] || end.failed != counts[workflow.TaskFailed] {
		return fmt.Errorf("it is %s with %d completed and %d failed, and has %v", end.status, end.completed, end.failed, counts)
	}
	return nil
}

// scriptLanguage knows the tasks that evaluation points of a script add: of any name.
type scriptLanguage struct{}

// Plan implements orchestrator.Language.
func (scriptLanguage) Plan(_ context.Context, _ int64, tasks []string) (*workflow.Plan, map[string]bool, map[string]string, error) {
	found := map[string]bool{}
	for _, task := range tasks {
		found[task] = true
	}
	return planOf(slices.Sorted(maps.Keys(found))...), found, nil, nil
}

// Items implements orchestrator.Language.
func (scriptLanguage) Items(*workflow.TaskSpec, *engine.RunDetails, func([]string) (map[string]workflow.Value, error)) (
	*workflow.TaskSpec, []*workflow.TaskSpec, string, error,
) {
	return nil, nil, "a script has no items", nil
}

// nodeOf gives the name and the parents of a node, as they are stored.
func (p *play) nodeOf(member workflow.Member) (string, []int32) {
	nodes, err := p.backend.Plan(p.ctx, member.Run)
	if err != nil || int(member.Node) >= len(nodes) {
		if p.ctx.Err() == nil {
			p.Errorf("node %d of run %s is claimed, and is not in its plan of %d: %v", member.Node, member.Run, len(nodes), err)
		}
		return "", nil
	}
	return nodes[member.Node].Name, nodes[member.Node].Dependencies
}

// persons do what people do to a run: they decide on approvals, and let tasks run again. It tells whether nothing of
// that is left to do.
func (p *play) persons(number int) bool {
	run := &p.script.runs[number]
	if run.acts == nil {
		return true
	}
	tasks, err := p.backend.TaskRuns(p.ctx, p.ids[number])
	if err != nil {
		p.Errorf("list the task runs of run %d: %v", number, err)
		return true
	}
	content := true
	for _, task := range tasks {
		node, _, ok := run.numberOf(task.Name)
		if !ok {
			continue
		}
		switch act := &run.acts[node]; {
		case task.Status == workflow.TaskWaiting && task.Cause == workflow.CauseApproval:
			content = false
			kind := engine.CommandApprove
			if act.reject {
				kind = engine.CommandReject
			}
			p.commandOnce(p.faulty, asking{p.ids[number], task.Node, task.Attempt, kind})
		case task.Status == workflow.TaskFailed && act.again:
			content = false
			p.commandOnce(p.backend, asking{p.ids[number], task.Node, task.Attempt, engine.CommandRetry})
		}
	}
	return content
}

// asking is what a person wants of an attempt.
type asking struct {
	run     workflow.RunID
	node    int32
	attempt int
	kind    engine.CommandKind
}

// commandOnce asks for something, unless that was asked before.
func (p *play) commandOnce(backend engine.Backend, of asking) {
	if p.asked[of] {
		return
	}
	for p.ctx.Err() == nil {
		if err := backend.Command(p.ctx, of.run, engine.Command{Kind: of.kind, Node: of.node, Actor: "ann"}); err == nil {
			p.asked[of] = true
			return
		}
	}
}

// pauseRun lets a run be paused for a while.
func (p *play) pauseRun(id workflow.RunID) {
	ask := func(kind engine.CommandKind) {
		for p.ctx.Err() == nil && p.faulty.Command(p.ctx, id, engine.Command{Kind: kind, Node: workflow.RunNode, Actor: "ann"}) != nil {
			if view, err := p.backend.FindRun(p.ctx, id.String()); err == nil && view.Status.Ended() {
				return
			}
		}
	}
	ask(engine.CommandPause)
	for range 20 {
		if view, err := p.backend.FindRun(p.ctx, id.String()); err != nil || view.Status == workflow.RunPaused || view.Status.Ended() {
			break
		}
		pause(p.ctx, nil, 5*time.Millisecond)
	}
	ask(engine.CommandResume)
}
