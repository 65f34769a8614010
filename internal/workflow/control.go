package workflow

import (
	"math"
	"slices"
	"time"
)

// cancel asks for the run to end.
func (d *draft) cancel(event *Event) {
	if !d.cancelled.IsZero() || d.status.Ended() {
		return
	}
	d.cancelled, d.runDirty = d.change.At, true
	d.change.backlog.cancel = 0
	d.event("cancel", event.Actor, RunNode, "")
	d.start()
	if d.status == RunPaused {
		d.status = RunRunning
	}
}

// pause lets nothing more start. What runs goes on.
func (d *draft) pause(event *Event) {
	if d.status != RunRunning || d.ending() {
		return
	}
	d.status, d.runDirty = RunPaused, true
	d.event("pause", event.Actor, RunNode, "")
	d.change.Queue = nil
	for i := range d.change.Tasks {
		if row := &d.change.Tasks[i]; row.Status == TaskQueued {
			state := d.node(row.Node)
			state.Status, state.Cause = TaskWaiting, CausePaused
			row.Status, row.Cause = state.Status, state.Cause
		}
	}
	d.change.backlog.hold = 0
}

// settlePaused asks for what is queued when a pause begins.
func (d *draft) settlePaused() {
	next := &d.change.backlog.hold
	for ; d.status == RunPaused && int(*next) < d.graph.Len() && !d.full(); *next++ {
		if state := d.peek(*next); state.Status == TaskQueued {
			d.change.Hold = append(d.change.Hold, Member{d.run.ID, *next, state.Attempt, state.Delivery})
		}
	}
}

// resume undoes a pause.
func (d *draft) resume(event *Event) {
	if d.status != RunPaused {
		return
	}
	d.status, d.runDirty = RunRunning, true
	d.event("resume", event.Actor, RunNode, "")
	d.change.backlog.resume = 0
}

// settleResumed queues anew what waited for the run to be resumed. What this change has written already waits for
// the next one.
func (d *draft) settleResumed() {
	next := &d.change.backlog.resume
	for ; d.status == RunRunning && int(*next) < d.graph.Len() && !d.full(); *next++ {
		if peeked := d.peek(*next); peeked.Status == TaskWaiting && peeked.Cause == CausePaused {
			if d.written(*next) {
				return
			}
			state := d.node(*next)
			state.Delivery++
			d.queue(*next, state, false)
		}
	}
}

// decideApproval carries out what a person decided on a task that waits for that.
func (d *draft) decideApproval(event *Event) {
	if event.Node < 0 || int(event.Node) >= len(d.run.Nodes) || d.ending() {
		return
	}
	stored, state := d.run.Nodes[event.Node], d.node(event.Node)
	if stored.Cause != CauseApproval || state.Cause != CauseApproval || state.Status != TaskWaiting {
		return
	}
	if event.Kind == EventReject {
		d.event("reject", event.Actor, event.Node, "")
		d.close(event.Node, TaskChange{Status: TaskFailed, Cause: CauseRejected, EndTime: d.change.At, Reason: "rejected by " + event.Actor})
		return
	}
	d.event("approve", event.Actor, event.Node, "")
	d.dropTimer(event.Node, state)
	d.queue(event.Node, state, false)
}

// retry runs a task again that has ended, and decides anew on all that ended only because of it. What dealt with its end
// waits again. A run that has ended lives again. A task that has run before does not ask its trigger rule a second time.
func (d *draft) retry(event *Event) bool {
	number := event.Node
	if !d.controllable(number) {
		return true
	}
	undone, ok := d.undone(number, true)
	if !ok {
		return false
	}
	state, scheduling := d.peek(number), d.graph.Scheduling(number)
	switch {
	case !state.Status.Failure() && state.Status != TaskCompleted, state.Attempt == math.MaxInt16:
		return true
	case scheduling.Group && (!scheduling.Unexpanded || state.Status == TaskCompleted): // its items are tried again, each for itself
		return true
	case state.Attempt == 0 && state.Status == TaskCompleted && d.verdict(number) != verdictStart: // kept: it can't run yet
		return true
	}
	if undone, ok = d.undoBefore(undone); !ok {
		return false
	}
	state = d.peek(number)
	d.event("retry", event.Actor, number, "")
	d.reopen()
	if state.Attempt == 0 { // it never ran
		d.revive(number, append(undone, number))
		if !scheduling.Unexpanded && d.verdict(number) == verdictStart {
			d.begin(number) // at once, so that it has a row: one that an earlier run kept would be kept again
		}
		return true
	}
	d.await(number, d.retire(number), false)
	d.revive(number, undone)
	return true
}

// retire makes the attempt with which a node ended one that another follows.
func (d *draft) retire(number int32) *NodeState {
	state := d.node(number)
	d.change.Retire = append(d.change.Retire, number)
	d.change.tally.add(state.Status, -1)
	state.Attempt++
	state.Delivery, state.Retried = 1, 0
	return state
}

// skip lets a task count as absent that has failed, or not started. A group has started when one of its items has; with it
// its items are skipped.
func (d *draft) skip(event *Event) bool {
	number := event.Node
	if !d.controllable(number) {
		return true
	}
	undone, ok := d.undone(number, false)
	if !ok {
		return false
	}
	skipped := TaskChange{Status: TaskSkipped, Cause: CauseSkip, EndTime: d.change.At, Reason: "skipped by " + event.Actor}
	switch state := d.peek(number); {
	case state.Status == TaskQueued, state.Status == TaskCompleted, state.Status == TaskSkipped, d.hasStarted(number):
		return true
	case !d.skipItems(number, skipped):
		return false
	}
	state := d.node(number)
	switch {
	case state.Status == TaskPending, state.Status == TaskWaiting:
		d.event("skip", event.Actor, number, "")
		d.close(number, skipped)
	case state.Status.Failure():
		if undone, ok = d.undoBefore(undone); !ok {
			return false
		}
		d.event("skip", event.Actor, number, "")
		d.reopen()
		d.skipEnded(number, skipped, undone)
	}
	return true
}

// hasStarted tells whether the node is a group of which an item has started and not ended.
func (d *draft) hasStarted(group int32) bool {
	return slices.ContainsFunc(d.graph.Parents(group), func(parent int32) bool {
		return d.standsFor(group, parent) && d.peek(parent).Status == TaskQueued
	})
}

// skipItems skips the items of a group that have not started. It is false when some have to wait until the change so
// far is committed.
func (d *draft) skipItems(group int32, skipped TaskChange) bool {
	for _, item := range d.graph.Parents(group) {
		status := d.peek(item).Status
		switch {
		case !d.standsFor(group, item) || status != TaskPending && status != TaskWaiting:
		case d.full() || d.written(item):
			return false
		default:
			d.close(item, skipped)
		}
	}
	return true
}

// skipEnded lets a node that has ended count as absent, and decides anew on what is undone by that.
func (d *draft) skipEnded(number int32, skipped TaskChange, undone []int32) {
	state := d.node(number)
	if state.Attempt > 0 {
		d.change.Retire = append(d.change.Retire, number)
	} else {
		d.change.Reset = append(d.change.Reset, number)
	}
	d.change.tally.add(state.Status, -1)
	d.change.tally.add(TaskSkipped, 1)
	skipped.Node, skipped.First, skipped.Attempt, skipped.Delivery = number, state.Attempt == 0, state.Attempt, state.Delivery
	state.Status, state.Cause, state.Retried = TaskSkipped, lasting(TaskSkipped, skipped.Cause), 0
	d.change.Tasks = append(d.change.Tasks, skipped)
	d.revive(number, undone)
}

// controllable tells whether a person may let the node run again, or leave it out.
func (d *draft) controllable(number int32) bool {
	return number >= 0 && int(number) < len(d.run.Nodes) && (!d.ending() || d.status.Ended())
}

// undone are all nodes after the given one whose end falls with it, as it is to end anew (again) or counts as absent: those
// that ended without having run, unless somebody decided that for good; and those that dealt with the end of what is to
// end anew. It is false when the change has written one of them already.
func (d *draft) undone(number int32, again bool) (undone []int32, ok bool) {
	if d.settleKept(); d.keeping() || d.written(number) { // what is kept would end later what a person decides on now
		return nil, false
	}
	// The value tells whether the node decides anew on what it did not choose.
	seen := map[int32]bool{number: true}
	for next := []int32{number}; len(next) > 0; {
		last := len(next) - 1
		parent := next[last]
		next = next[:last]
		for _, dependent := range d.graph.Dependents(parent) {
			state := d.peek(dependent)
			if _, known := seen[dependent]; known || d.stays(dependent, state, seen[parent] && d.graph.Scheduling(parent).EvaluationPoint) {
				continue
			}
			handled := (parent != number || again) && d.dealtWith(dependent, state)
			neverRan := state.Status.Ended() && state.Attempt == 0 && (state.Status != TaskCompleted || d.graph.Scheduling(dependent).Group)
			if !handled && !neverRan {
				continue
			}
			if d.written(dependent) {
				return nil, false
			}
			seen[dependent] = handled && state.Status == TaskCompleted
			undone, next = append(undone, dependent), append(next, dependent)
		}
	}
	return undone, true
}

// dealtWith tells whether the node was started by the end of a task, whatever that was or because it was a failure, or kept
// as what an earlier run started so. It does not once it is in the queue, or waits for its own retry: that goes on.
func (d *draft) dealtWith(number int32, state *NodeState) bool {
	switch scheduling := d.graph.Scheduling(number); {
	case !scheduling.Rule.handles() || scheduling.Group, state.Attempt == math.MaxInt16:
		return false
	case state.Status == TaskWaiting:
		return state.Cause == CauseApproval || state.Cause == CausePaused
	default:
		return state.Status.Ended() && (state.Attempt > 0 || state.Status == TaskCompleted)
	}
}

// stays tells whether the node was skipped by a decision that does not fall: by a person, or by an evaluation point that
// does not choose anew. What an earlier run skipped may have been either: it stays when a point is among what it waits for.
func (d *draft) stays(number int32, state *NodeState, chosenAnew bool) bool {
	switch state.Cause {
	case CauseSkip:
		return true
	case CauseNotChosen, CauseKept:
		return !chosenAnew && (state.Cause == CauseNotChosen || slices.ContainsFunc(d.graph.Parents(number), func(parent int32) bool {
			return d.graph.Scheduling(parent).EvaluationPoint
		}))
	default:
		return false
	}
}

// revive takes back how nodes ended, because of the given one: those that never ran are pending, the others wait for their
// trigger rule once more. On them and on all that waits for one of them is decided anew.
func (d *draft) revive(number int32, undone []int32) {
	touched := &d.scratch.touched
	for _, node := range undone {
		state := d.node(node)
		switch {
		case state.Status == TaskWaiting:
			d.dropTimer(node, state)
			state.Delivery++
			d.wait(node, state, CauseTriggerRule, false)
		case state.Attempt > 0:
			d.wait(node, d.retire(node), CauseTriggerRule, false)
		default:
			d.reset(node)
		}
		*touched = append(append(*touched, node), d.graph.Dependents(node)...)
	}
	*touched = append(*touched, d.graph.Dependents(number)...)
}

// undoBefore cuts what is undone with a node, where it is large: some is made pending before the node itself changes, and
// then it is false, as the rest has to wait until the change so far is committed. That is what the same would become again
// if the event were lost: so a crash between the changes does no harm, and the event comes once more. Else it gives all of it.
func (d *draft) undoBefore(undone []int32) (rest []int32, ok bool) {
	if len(undone) < d.room() {
		return undone, true
	}
	var some []int32
	for _, node := range slices.Backward(undone) { // what is left is still found from the node
		if state := d.peek(node); len(some) == d.room() || state.Cause != CauseNone ||
			state.Status != TaskUpstreamFailed && (state.Status != TaskSkipped || state.Attempt > 0) {
			continue
		}
		some = append(some, node)
	}
	if len(some) == 0 {
		return undone, true
	}
	d.undoing = true
	d.reopen()
	for _, node := range some {
		d.reset(node)
	}
	return nil, false
}

// reset makes a node pending that ended without having run.
func (d *draft) reset(node int32) {
	state := d.node(node)
	d.change.tally.add(state.Status, -1)
	*state = NodeState{}
	d.change.Reset = append(d.change.Reset, node)
	d.scratch.touched = append(append(d.scratch.touched, node), d.graph.Dependents(node)...)
}

// unwait takes back the row that says that a node waits for its trigger rule, where the same change decides on it: a node gets
// one row in a change. It tells whether there was one.
func (d *draft) unwait(number int32) bool {
	if d.peek(number).Status != TaskWaiting || !d.written(number) {
		return false
	}
	d.change.Tasks = slices.DeleteFunc(d.change.Tasks, func(row TaskChange) bool { return row.Node == number })
	return true
}

// redecide decides anew on what was touched: once for all that persons did in a row, because a node may wait for many of
// those that they let run again.
func (d *draft) redecide() {
	touched := d.scratch.touched
	if len(touched) == 0 {
		return
	}
	slices.Sort(touched)
	touched = slices.Compact(touched)
	d.scratch.forget(func(node int32) bool {
		_, found := slices.BinarySearch(touched, node)
		return found
	})
	for _, node := range touched {
		if d.peek(node).undecided() {
			d.reconsider(node)
		}
	}
	d.scratch.touched = touched[:0]
}

// reopen lets a run live again that has ended.
func (d *draft) reopen() {
	if !d.status.Ended() {
		return
	}
	d.status, d.reopened, d.runDirty = RunRunning, true, true
	d.cancelled, d.stop = time.Time{}, CauseNone
	if limit := d.run.Options.TimeoutSeconds; limit > 0 {
		d.change.SetTimers = append(d.change.SetTimers, Timer{Node: RunNode, Kind: TimerRun, Due: d.change.At.Add(seconds(limit))})
	}
}
