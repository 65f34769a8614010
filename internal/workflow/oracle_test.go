package workflow

// The rules once more, said as plainly as the specification says them and not as the engine works: of a node whose
// parents stand so, what becomes of it?

type fate string

const (
	fateWaits  fate = "waits"
	fateStarts fate = "starts"
	fateSkips  fate = "is skipped"
	fateFails  fate = "is upstream_failed"
)

func fateOf(rule TriggerRule, parents []TaskStatus) fate {
	if len(parents) == 0 {
		return fateStarts
	}
	var present, succeeded, failed, open int // a skipped parent counts as absent
	for _, status := range parents {
		switch status {
		case TaskSkipped:
			continue
		case TaskCompleted:
			succeeded++
		case TaskFailed, TaskUpstreamFailed, TaskCancelled:
			failed++
		default:
			open++
		}
		present++
	}
	switch {
	case present == 0:
		return fateSkips
	case rule == RuleAllDone && open == 0:
		return fateStarts
	case rule == RuleOneSuccess && succeeded > 0:
		return fateStarts
	case rule == RuleOneSuccess && open == 0:
		return fateFails
	case rule == RuleOneFailed && failed > 0:
		return fateStarts
	case rule == RuleOneFailed && open == 0:
		return fateSkips
	case rule == RuleAllFailed && succeeded > 0:
		return fateSkips
	case rule == RuleAllFailed && failed == present:
		return fateStarts
	case rule == RuleAllDone, rule == RuleOneSuccess, rule == RuleOneFailed, rule == RuleAllFailed:
		return fateWaits
	case failed > 0:
		return fateFails
	case succeeded == present:
		return fateStarts
	}
	return fateWaits
}

// parentsOf are the states of a node's parents as rows tell them.
func (r *rows) parentsOf(graph *Graph, node int32) []TaskStatus {
	var parents []TaskStatus
	for _, parent := range graph.Parents(node) {
		parents = append(parents, r.tasks[parent].Status)
	}
	return parents
}

// failures tells whether a task run failed that no direct dependent dealt with, by the rows alone.
func (r *rows) failures(graph *Graph) bool {
	var handled func(node int32) bool
	handled = func(node int32) bool {
		for _, dependent := range graph.Dependents(node) {
			spec, row := graph.Scheduling(dependent), r.tasks[dependent]
			wants := spec.Rule == RuleAllDone || spec.Rule == RuleOneFailed || spec.Rule == RuleAllFailed
			started := row.Attempt > 0 && row.Status != TaskSkipped || row.Cause == CauseKept && row.Status == TaskCompleted
			if wants && started || spec.Group && graph.Scheduling(node).Item && handled(dependent) {
				return true
			}
		}
		return false
	}
	for node, row := range r.tasks {
		if row.Status == TaskFailed && !handled(node) {
			return true
		}
	}
	return false
}
