package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// kept are the nodes of a new plan whose work need not be done again. What was skipped stays so where all that it
// waits for is kept, or an evaluation point that is kept did not choose it; else it is decided anew.
func (p *past) kept(request *Rerun) ([]workflow.KeptNode, error) {
	plan := p.plan
	again := make([]bool, len(plan.Nodes))
	switch {
	case request.FromTask != "":
		var err error
		if again, err = p.allAfter(request.FromTask); err != nil {
			return nil, err
		}
	case !request.FailedOnly:
		return nil, nil
	}
	p.addUnfinished(again)
	p.addUnheard(again)
	p.addJudges(again)
	var kept []workflow.KeptNode
	stays := make([]bool, len(plan.Nodes))
	for i := range plan.Nodes { // each comes after those that it waits for
		number, node := int32(i), &plan.Nodes[i] //nolint:gosec // bounded
		before := p.last[node.Name]
		if before == nil {
			continue
		}
		left := func(parent int32) bool { return !stays[parent] }
		judges := p.judges(node)
		switch {
		case before.Cause == workflow.CauseNotChosen && len(judges) > 0:
			// What runs again before it has no say in that, but who asks for this very task has.
			if stays[i] = !p.begin[node.Name] && !slices.ContainsFunc(judges, left); stays[i] {
				kept = append(kept, workflow.KeptNode{Node: number, NotChosen: true})
			}
		case again[i]:
		case before.Status == workflow.TaskCompleted:
			kept = append(kept, workflow.KeptNode{Node: number, From: p.run, FromNode: before.Node})
			stays[i] = true
		case before.Status == workflow.TaskSkipped && !slices.ContainsFunc(node.Dependencies, left):
			kept = append(kept, workflow.KeptNode{Node: number})
			stays[i] = true
		}
	}
	return kept, nil
}

// judges are the evaluation points that had decided on a node.
func (p *past) judges(node *workflow.Node) (judges []int32) {
	for _, parent := range node.Dependencies {
		before := p.last[p.plan.Nodes[parent].Name]
		if p.isPoint(parent) && before != nil && before.Status == workflow.TaskCompleted {
			judges = append(judges, parent)
		}
	}
	return judges
}

// untried tells whether a node of the old run ended without an attempt, so that an evaluation point which had not
// chosen it may not have been heard any more.
func untried(node *engine.TaskRunView) bool {
	return node != nil && node.Attempt == 0 && node.Status != workflow.TaskCompleted && node.Cause != workflow.CauseNotChosen && node.Cause != workflow.CauseKept
}

// hasUnheard tells whether it matters when evaluation points decided.
func (p *past) hasUnheard() bool {
	return slices.ContainsFunc(p.plan.Nodes, func(node workflow.Node) bool { return untried(p.last[node.Name]) && len(p.judges(&node)) > 0 })
}

// heardAt notes when evaluation points decided.
func (p *past) heardAt(events []engine.EventView) {
	p.decided = map[int32]time.Time{}
	for i := range events {
		if _, known := p.decided[events[i].Node]; !known && events[i].Kind == "evaluate" {
			p.decided[events[i].Node] = events[i].At
		}
	}
}

// addUnheard adds evaluation points that decided when a node after them had ended: nobody knows whether they had chosen it.
func (p *past) addUnheard(again []bool) {
	for i := range p.plan.Nodes {
		node := &p.plan.Nodes[i]
		before := p.last[node.Name]
		if !untried(before) || before.Status == workflow.TaskSkipped && p.holds(node, again) {
			continue
		}
		for _, judge := range p.judges(node) {
			point := p.last[p.plan.Nodes[judge].Name]
			at, known := p.decided[point.Node]
			if !known {
				at = point.EndTime
			}
			if before.EndTime.Before(at) {
				again[judge] = true
			}
		}
	}
}

// holds tells whether a node will stay skipped because nothing changes for it.
func (p *past) holds(node *workflow.Node, again []bool) bool {
	return !slices.ContainsFunc(node.Dependencies, func(parent int32) bool {
		before := p.last[p.plan.Nodes[parent].Name]
		return again[parent] || before == nil || before.Status != workflow.TaskCompleted && before.Status != workflow.TaskSkipped
	})
}

// addJudges adds evaluation points which had not chosen a node, or another had: where one of them decides anew, all do.
func (p *past) addJudges(again []bool) {
	for more := true; more; {
		more = false
		for i := range p.plan.Nodes {
			node := &p.plan.Nodes[i]
			if before := p.last[node.Name]; before == nil || before.Cause != workflow.CauseNotChosen {
				continue
			}
			judges := p.judges(node)
			if !slices.ContainsFunc(judges, func(judge int32) bool { return again[judge] }) {
				continue
			}
			for _, judge := range judges {
				more = more || !again[judge]
				again[judge] = true
			}
		}
	}
}

func (p *past) isPoint(node int32) bool { return p.plan.Specs[p.plan.Nodes[node].Spec].EvaluationPoint }

// addUnfinished adds the nodes of a new plan that made nodes which the new plan has not, and which did not complete
// or are after what runs again: an evaluation point must choose them again, a task with items run them.
func (p *past) addUnfinished(again []bool) {
	numbers := p.numbers
	after := map[string]bool{}
	var isAfter func(name string) bool
	isAfter = func(name string) bool {
		if number, planned := numbers[workflow.BaseName(name)]; planned {
			return again[number]
		}
		known, seen := after[name]
		if !seen {
			after[name] = false
			known = slices.ContainsFunc(p.parents[name], isAfter)
			after[name] = known
		}
		return known
	}
	unfinished := map[string]bool{}
	for _, node := range p.last {
		if numbers.has(node.Name) || isItem(node.Name, numbers) {
			continue
		}
		ended := node.Status == workflow.TaskCompleted || node.Status == workflow.TaskSkipped
		if !ended || !numbers.has(workflow.BaseName(node.Name)) && isAfter(node.Name) {
			for _, name := range p.climb(node.Name) {
				unfinished[name] = true
			}
		}
	}
	for name := range unfinished {
		again[numbers[name]] = true
	}
}

// makers are the names of those nodes of the plan that a node of the old run comes from: itself, the one whose item it is, or
// the evaluation points that added it. Where there is none of these, they are all nodes that it waited for.
func (p *past) makers(name string) []string {
	base := workflow.BaseName(name)
	if p.numbers.has(base) {
		return []string{base}
	}
	if isItem(name, p.numbers) {
		group, _, _ := strings.Cut(base, "[")
		return []string{group}
	}
	return p.climb(name)
}

// climb gives the makers of a node that the plan has not, or not in that iteration.
func (p *past) climb(name string) []string {
	found, seen := map[string]bool{}, map[string]bool{}
	var climb func(name string)
	climb = func(name string) {
		for _, parent := range p.parents[name] {
			if base := workflow.BaseName(parent); p.numbers.has(base) {
				found[base] = true
			} else if !seen[parent] {
				seen[parent] = true
				climb(parent)
			}
		}
	}
	climb(name)
	makers := slices.Sorted(maps.Keys(found))
	points := slices.DeleteFunc(slices.Clone(makers), func(name string) bool { return !p.isPoint(p.numbers[name]) })
	if len(points) > 0 {
		return points
	}
	return makers
}

// nodeNumbers are the nodes of a plan by name.
type nodeNumbers map[string]int32

// rerunAs takes the plan of the new run.
func (p *past) rerunAs(plan *workflow.Plan) {
	p.plan, p.numbers = plan, make(nodeNumbers, len(plan.Nodes))
	for i := range plan.Nodes {
		p.numbers[plan.Nodes[i].Name] = int32(i) //nolint:gosec // bounded
	}
}

func (n nodeNumbers) has(name string) bool {
	_, ok := n[name]
	return ok
}

// isItem tells whether a node that a plan has not is of an item of a node that it has, which will expand it.
func isItem(name string, planned nodeNumbers) bool {
	group, _, found := strings.Cut(workflow.BaseName(name), "[")
	return found && planned.has(group)
}

// allAfter tells which nodes of a plan are of the task, or wait for one of it, directly or not. For a task that was
// added while the run went on it is those that made it.
func (p *past) allAfter(task string) ([]bool, error) {
	plan, base := p.plan, workflow.BaseName(task)
	own := map[string]bool{}
	p.begin = own
	for i := range plan.Nodes {
		if node := &plan.Nodes[i]; node.Name == base || plan.Specs[node.Spec].TaskID == base {
			own[node.Name] = true
		}
	}
	if len(own) == 0 {
		for name, node := range p.last {
			if name == base || node.TaskID == base {
				for _, maker := range p.makers(node.Name) {
					own[maker] = true
				}
			}
		}
	}
	if len(own) == 0 {
		return nil, p.unknownTask(task, base)
	}
	after := make([]bool, len(plan.Nodes))
	for i := range plan.Nodes {
		node := &plan.Nodes[i]
		after[i] = own[node.Name] || slices.ContainsFunc(node.Dependencies, func(parent int32) bool { return after[parent] })
	}
	return after, nil
}

// unknownTask is the error of a rerun from a task that it cannot begin with.
func (p *past) unknownTask(task, base string) *Error {
	failure := &Error{Status: http.StatusUnprocessableEntity, Code: CodeInvalid, Details: &Details{Field: "from_task"}}
	if p.last[base] != nil {
		failure.Message = fmt.Sprintf("from_task: by today's definitions the run has no task %q, nor what added it", task)
		return failure
	}
	near := nearest.Names(task, func(yield func(string) bool) {
		for i := range p.plan.Nodes {
			if !yield(p.plan.Nodes[i].Name) {
				return
			}
		}
	})
	failure.Details.Nearest = near
	failure.Message = fmt.Sprintf("from_task: the run has no task %q", task)
	if len(near) > 0 {
		failure.Message += fmt.Sprintf(": did you mean %q?", near[0])
	}
	return failure
}
