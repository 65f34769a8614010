package memory

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// check says what a database would have against the change of a run.
func (r *run) check(change *workflow.Change) error {
	reopened := change.Run != nil && change.Run.Reopened
	switch {
	case r.state.Status.Ended() && !reopened && !change.Empty():
		return refuse("run %s has ended", r.id)
	case !r.state.Status.Ended() && reopened:
		return refuse("run %s has not ended, and is reopened", r.id)
	}
	for _, check := range []func(*workflow.Change) error{r.checkGrowth, r.checkTasks, r.checkAttempts, r.checkValues, r.checkTimers} {
		if err := check(change); err != nil {
			return err
		}
	}
	if change.Run != nil {
		if err := checkState(change.Run, reopened || r.reopened); err != nil {
			return fmt.Errorf("run %s: %w", r.id, err)
		}
	}
	return nil
}

// checkGrowth sees to it that the run's graph is one after the change, too.
func (r *run) checkGrowth(change *workflow.Change) error {
	if len(change.Nodes) == 0 {
		return nil
	}
	for _, grown := range change.Nodes {
		if grown.Number < 0 || int(grown.Number) >= len(r.nodes)+len(change.Nodes) {
			return refuse("node %d can't be added to the %d of run %s", grown.Number, len(r.nodes), r.id)
		}
	}
	nodes, scheduling, added := r.grownNodes(change), slices.Clone(r.graph.Specs), maps.Clone(r.grown)
	names := make(map[string]bool, len(nodes))
	for number, node := range nodes {
		if node.Name == "" || names[node.Name] {
			return refuse("node %d of run %s has the name %q, which is not its own", number, r.id, node.Name)
		}
		names[node.Name] = true
	}
	for _, spec := range change.Specs {
		scheduling = append(scheduling, spec.Scheduling)
	}
	if added == nil {
		added = map[int32]bool{}
	}
	for _, grown := range change.Nodes {
		added[grown.Number] = true
	}
	if _, err := r.grownGraph(nodes, scheduling, added); err != nil {
		return refuse("%v", err)
	}
	return nil
}

// checkTasks compares each row with the one that it replaces.
func (r *run) checkTasks(change *workflow.Change) error {
	count := len(r.nodes)
	for _, grown := range change.Nodes {
		count = max(count, int(grown.Number)+1)
	}
	written := map[int32]bool{}
	for index := range change.Tasks {
		row := &change.Tasks[index]
		if row.Node < 0 || int(row.Node) >= count || written[row.Node] {
			return refuse("%s is unknown, or written twice", workflow.TaskRunID(r.id, row.Node))
		}
		written[row.Node] = true
	}
	gone := map[int32]bool{}
	for _, node := range change.Reset {
		if row := r.row(node); !r.has(node) || gone[node] || !row.Status.Ended() || row.Attempt > 0 {
			return refuse("the row of %s can't go", workflow.TaskRunID(r.id, node))
		}
		gone[node] = true
	}
	retired := map[int32]bool{}
	for _, node := range change.Retire {
		if row := r.row(node); !r.has(node) || retired[node] || !written[node] || !row.Status.Ended() || row.Attempt == 0 {
			return refuse("the row of %s can't become an attempt", workflow.TaskRunID(r.id, node))
		}
		retired[node] = true
	}
	for index := range change.Tasks {
		row := &change.Tasks[index]
		stored := r.row(row.Node)
		if gone[row.Node] {
			stored = workflow.TaskChange{}
		}
		if err := checkReplaced(row, stored, retired[row.Node]); err != nil {
			return fmt.Errorf("task run %s: %w", workflow.TaskRunID(r.id, row.Node), err)
		}
		if err := checkTask(row); err != nil {
			return fmt.Errorf("task run %s: %w", workflow.TaskRunID(r.id, row.Node), err)
		}
	}
	return nil
}

// checkReplaced compares a row with the one that is stored.
func checkReplaced(row *workflow.TaskChange, stored workflow.TaskChange, retired bool) error {
	exists := stored.Status != workflow.TaskPending
	switch {
	case row.First && exists:
		return refuse("its row is not the first")
	case !row.First && !exists:
		return refuse("it has no row yet")
	case stored.Status.Ended() && !retired:
		return refuse("it has ended")
	case exists && row.Status.Ended() && (row.Attempt != stored.Attempt || row.Delivery != stored.Delivery):
		return refuse("attempt %d, delivery %d ends, but %d, %d is stored", row.Attempt, row.Delivery, stored.Attempt, stored.Delivery)
	case row.Attempt > 0 && row.QueuedTime.IsZero() && stored.QueuedTime.IsZero():
		return refuse("it has the attempt %d and was never queued", row.Attempt)
	}
	return nil
}

// checkTask looks at a row by itself.
func checkTask(row *workflow.TaskChange) error {
	ended := row.Status.Ended()
	switch {
	case row.Status == workflow.TaskPending || row.Status == workflow.TaskRunning:
		return refuse("%s is never stored", row.Status)
	case ended == row.EndTime.IsZero():
		return refuse("it is %s, and its end time is %v", row.Status, row.EndTime)
	case !ended && !row.StartTime.IsZero():
		return refuse("it is %s, and its start time is %v", row.Status, row.StartTime)
	case row.Status == workflow.TaskQueued && row.Cause != workflow.CauseNone, row.Status == workflow.TaskWaiting && !waitsFor(row.Cause):
		return refuse("it is %s because of %s", row.Status, row.Cause)
	case (row.Attempt == 0) != (row.Delivery == 0):
		return refuse("it has the attempt %d and the delivery %d", row.Attempt, row.Delivery)
	case row.Attempt == 0 && (!row.QueuedTime.IsZero() || !row.StartTime.IsZero() || row.Agent != 0 || row.ExitCode != nil || !endsUntried(row)):
		return refuse("it is %s because of %q without an attempt", row.Status, row.Cause)
	case row.Status == workflow.TaskCompleted && row.StartTime.IsZero() && row.Attempt > 0:
		return refuse("it completed without a start")
	case !row.StartTime.IsZero() && row.Agent == 0:
		return refuse("it was started by nobody")
	}
	return nil
}

// waitsFor tells whether a task run can wait because of that.
func waitsFor(cause workflow.Cause) bool {
	return cause == workflow.CauseNone || cause == workflow.CauseApproval || cause == workflow.CausePaused ||
		cause == workflow.CauseTriggerRule
}

// endsUntried tells whether a task run can end so without an attempt.
func endsUntried(row *workflow.TaskChange) bool {
	switch row.Status {
	case workflow.TaskSkipped, workflow.TaskUpstreamFailed, workflow.TaskCancelled:
		return true
	case workflow.TaskCompleted:
		return row.Cause == workflow.CauseGroup || row.Cause == workflow.CauseKept
	case workflow.TaskFailed:
		return row.Cause == workflow.CauseEvaluation
	default:
		return false
	}
}

// checkAttempts sees to it that an attempt is superseded once.
func (r *run) checkAttempts(change *workflow.Change) error {
	type key struct {
		node    int32
		attempt uint16
	}
	known := map[key]bool{}
	for i := range change.Attempts {
		next := &change.Attempts[i]
		if !r.has(next.Node) {
			return refuse("an attempt of %s, which is unknown, is superseded", workflow.TaskRunID(r.id, next.Node))
		}
		same := func(earlier attempt) bool { return earlier.Attempt == next.Attempt }
		if known[key{next.Node, next.Attempt}] || slices.ContainsFunc(r.attempts[next.Node], same) || next.Attempt < 1 || !next.Status.Ended() {
			return refuse("attempt %d of %s can't be superseded as %s", next.Attempt, workflow.TaskRunID(r.id, next.Node), next.Status)
		}
		known[key{next.Node, next.Attempt}] = true
	}
	return nil
}

// checkValues looks at what tasks gave, and at what evaluation points changed.
func (r *run) checkValues(change *workflow.Change) error {
	for _, output := range change.Outputs {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(output.Body), &object); err != nil || object == nil || !r.has(output.Node) {
			return refuse("the output of %s is no JSON object, or it is unknown", workflow.TaskRunID(r.id, output.Node))
		}
	}
	switch {
	case change.Run != nil && change.Run.Version < r.state.Version:
		return refuse("the version of the values of run %s goes back from %d to %d", r.id, r.state.Version, change.Run.Version)
	case len(change.Updates) > 0 && (change.Run == nil || change.Run.Version-r.state.Version < int32(len(change.Updates))): //nolint:gosec // a number of nodes
		return refuse("the values of run %s change without a new version", r.id)
	}
	return nil
}

// checkTimers sees to it that a timer is of a node, or of the run.
func (r *run) checkTimers(change *workflow.Change) error {
	for _, timer := range change.SetTimers {
		ofRun := timer.Kind == workflow.TimerRun
		if timer.Kind < workflow.TimerRetry || timer.Kind > workflow.TimerRun || ofRun != (timer.Node == workflow.RunNode) || timer.Node < workflow.RunNode {
			return refuse("run %s has no timer of the kind %d and node %d", r.id, timer.Kind, timer.Node)
		}
	}
	return nil
}

// checkState looks at the state of a run by itself.
func checkState(state *workflow.RunChange, reopened bool) error {
	switch {
	case state.Status.Ended() == state.EndTime.IsZero():
		return refuse("it is %s, and its end time is %v", state.Status, state.EndTime)
	case (state.Status == workflow.RunPending) != state.StartTime.IsZero():
		return refuse("it is %s, and its start time is %v", state.Status, state.StartTime)
	case state.Status == workflow.RunCancelled && state.CancelTime.IsZero() && !reopened: // what was cancelled before may stay so
		return refuse("nobody cancelled it")
	case !state.LogicalDate.IsZero() && state.Status != workflow.RunCompleted:
		return refuse("it is %s, and its logical date has succeeded", state.Status)
	case state.Completed < 0 || state.Failed < 0 || state.Completed+state.Failed > state.Total:
		return refuse("%d completed and %d failed of %d", state.Completed, state.Failed, state.Total)
	}
	return nil
}
