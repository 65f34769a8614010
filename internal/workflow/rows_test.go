package workflow

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// rows keeps what Changes write, in the way of a backend, and refuses whatever a
// database with good constraints would refuse.
type rows struct {
	run      RunChange
	tasks    map[int32]TaskChange
	attempts map[attemptKey]AttemptChange
	timers   map[timerKey]time.Time
	events   []RunEvent
}

type attemptKey struct {
	node    int32
	attempt uint16
}

type timerKey struct {
	node int32
	kind TimerKind
}

func newRows() *rows {
	return &rows{
		tasks: map[int32]TaskChange{}, attempts: map[attemptKey]AttemptChange{}, timers: map[timerKey]time.Time{},
	}
}

// commit stores the change, and says everything that is wrong with it.
func (r *rows) commit(change *Change) error {
	var wrong []error
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	if r.run.Status.Ended() && !change.Empty() {
		report("the run has ended as %v, and yet there is a change", r.run.Status)
	}
	for _, attempt := range change.Attempts {
		key := attemptKey{attempt.Node, attempt.Attempt}
		if _, ok := r.attempts[key]; ok {
			report("attempt %d of node %d is superseded twice", attempt.Attempt, attempt.Node)
		}
		if current := r.tasks[attempt.Node]; current.Attempt != attempt.Attempt || current.Status != TaskQueued {
			report("attempt %d of node %d is superseded, but attempt %d is %v", attempt.Attempt, attempt.Node, current.Attempt, current.Status)
		}
		r.attempts[key] = attempt
	}
	queued := map[Member]bool{}
	seen := map[int32]bool{}
	for _, row := range change.Tasks {
		earlier, exists := r.tasks[row.Node]
		switch {
		case seen[row.Node]:
			report("node %d has two rows in one change", row.Node)
		case row.First == exists:
			report("node %d: first is %v, but it has a row: %v", row.Node, row.First, exists)
		case earlier.Status.Ended():
			report("node %d ended as %v, and now is %v", row.Node, earlier.Status, row.Status)
		case row.Attempt < earlier.Attempt, row.Attempt == earlier.Attempt && row.Delivery < earlier.Delivery:
			report("node %d went back from %d/%d to %d/%d", row.Node, earlier.Attempt, earlier.Delivery, row.Attempt, row.Delivery)
		}
		if row.Status.Ended() != !row.EndTime.IsZero() {
			report("node %d is %v with the end time %v", row.Node, row.Status, row.EndTime)
		}
		if exists && row.Status.Ended() && (row.Attempt != earlier.Attempt || row.Delivery != earlier.Delivery) {
			report("node %d ends as %d/%d, its row is %d/%d", row.Node, row.Attempt, row.Delivery, earlier.Attempt, earlier.Delivery)
		}
		if row.Attempt == 0 && row.Status != TaskCancelled && row.Status != TaskUpstreamFailed {
			report("node %d is %v without an attempt", row.Node, row.Status)
		}
		switch row.Status {
		case TaskPending, TaskRunning:
			report("node %d is stored as %v", row.Node, row.Status)
		case TaskQueued:
			if row.QueuedTime.IsZero() {
				report("node %d is queued without a time", row.Node)
			}
			queued[Member{change.ID, row.Node, row.Attempt, row.Delivery}] = true
		case TaskWaiting, TaskCompleted, TaskFailed, TaskSkipped, TaskUpstreamFailed, TaskCancelled:
		}
		seen[row.Node] = true
		if row.QueuedTime.IsZero() {
			row.QueuedTime = earlier.QueuedTime
		}
		r.tasks[row.Node] = row
	}
	for _, member := range change.Queue {
		if !queued[member] {
			report("%v is to be dispatched, but its row is not queued by this change", member)
		}
		delete(queued, member)
	}
	for member := range queued {
		report("%v became queued, but is not to be dispatched", member)
	}
	for _, member := range change.Withdraw {
		row := r.tasks[member.Node]
		if row.Status != TaskQueued || row.Attempt != member.Attempt || row.Delivery != member.Delivery {
			report("%v is to be withdrawn, but is %v %d/%d", member, row.Status, row.Attempt, row.Delivery)
		}
		if seen[member.Node] {
			report("%v is to be withdrawn by the change that queues it", member)
		}
	}
	r.commitTimers(change, report)
	r.commitRun(change, report)
	return errors.Join(wrong...)
}

func (r *rows) commitTimers(change *Change, report func(string, ...any)) {
	for _, timer := range change.DropTimers {
		key := timerKey{timer.Node, timer.Kind}
		if _, ok := r.timers[key]; !ok {
			report("the timer of node %d is dropped, but there is none", timer.Node)
		}
		delete(r.timers, key)
	}
	for _, timer := range change.SetTimers {
		key := timerKey{timer.Node, timer.Kind}
		if _, ok := r.timers[key]; ok {
			report("node %d gets a second timer", timer.Node)
		}
		r.timers[key] = timer.Due
	}
	for node, row := range r.tasks {
		_, timed := r.timers[timerKey{node, TimerRetry}]
		if timed != (row.Status == TaskWaiting) {
			report("node %d is %v; that it has a timer is %v", node, row.Status, timed)
		}
	}
}

func (r *rows) commitRun(change *Change, report func(string, ...any)) {
	r.events = append(r.events, change.Events...)
	if change.Run == nil {
		return
	}
	run := *change.Run
	if run.Status < r.run.Status || run.Status == RunPending || r.run.Status.Ended() {
		report("the run goes from %v to %v", r.run.Status, run.Status)
	}
	if run.Status.Ended() != !run.EndTime.IsZero() || run.StartTime.IsZero() {
		report("the run is %v with the times %v and %v", run.Status, run.StartTime, run.EndTime)
	}
	if !r.run.StartTime.IsZero() && !run.StartTime.Equal(r.run.StartTime) {
		report("the run starts a second time")
	}
	if completed, failed := r.count(TaskCompleted), r.count(TaskFailed); run.Completed != completed || run.Failed != failed {
		report("the counts say %d completed and %d failed, the rows %d and %d", run.Completed, run.Failed, completed, failed)
	}
	if run.Status.Ended() {
		ended := 0
		for _, row := range r.tasks {
			if row.Status.Ended() {
				ended++
			}
		}
		if ended != run.Total {
			report("the run ends as %v with %d of %d task runs ended", run.Status, ended, run.Total)
		}
	}
	r.run = run
}

func (r *rows) count(status TaskStatus) (count int) {
	for _, row := range r.tasks {
		if row.Status == status {
			count++
		}
	}
	return count
}

// restore makes a run of the rows alone, as a writer does after a crash.
func (r *rows) restore(id RunID, graph *Graph) (*Run, error) {
	nodes := make([]StoredNode, 0, len(r.tasks))
	for _, number := range slices.Sorted(maps.Keys(r.tasks)) {
		row := r.tasks[number]
		state := NodeState{Status: row.Status, Attempt: row.Attempt, Delivery: row.Delivery}
		for attempt := uint16(1); attempt <= row.Attempt; attempt++ {
			superseded, ok := r.attempts[attemptKey{number, attempt}]
			switch {
			case !ok || superseded.Cause == CauseAgentStopped:
			case superseded.Cause == CauseAgentLost:
				state.Rescued++
			default:
				state.Retried++
			}
		}
		nodes = append(nodes, StoredNode{number, state})
	}
	return RestoreRun(id, "test", graph, false, StoredRun{r.run.Status, r.run.StartTime, r.run.CancelTime}, nodes)
}

// sameRun says how the restored run differs from the live one in what matters for
// all that can follow.
func sameRun(live, restored *Run) error {
	var wrong []error
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if live.Status != restored.Status || !live.StartTime.Equal(restored.StartTime) || !live.CancelTime.Equal(restored.CancelTime) {
		report("the restored run is %v (%v, %v), the live one %v (%v, %v)",
			restored.Status, restored.StartTime, restored.CancelTime, live.Status, live.StartTime, live.CancelTime)
	}
	if live.tally != restored.tally {
		report("the restored tally is %+v, the live one %+v", restored.tally, live.tally)
	}
	for number := range live.Nodes {
		one, other := live.Nodes[number], restored.Nodes[number]
		if one.Status != TaskPending {
			one.open, other.open = 0, 0 // nobody looks at it any more
		}
		if one != other {
			report("node %d is restored as %+v, and is %+v", number, other, one)
		}
	}
	if live.CancelTime.IsZero() {
		// While a run is being cancelled its pending nodes are found by walking over all of them.
		ready, doomed := todo(live)
		readyRestored, doomedRestored := todo(restored)
		if !maps.Equal(ready, readyRestored) || !maps.Equal(doomed, doomedRestored) {
			report("after restoring %v are to be queued and %v to be given up, live %v and %v", readyRestored, doomedRestored, ready, doomed)
		}
	} else {
		for number := range live.Nodes[:live.backlog.cancel] {
			if status := live.Nodes[number].Status; status == TaskPending || status == TaskWaiting {
				report("the cancel passed node %d, which is still %v", number, status)
			}
		}
	}
	return errors.Join(wrong...)
}

// todo is what the run's backlog still asks for. The lists may name a node twice, or one
// that was decided since; and what is given up is not queued.
func todo(run *Run) (ready, doomed map[int32]bool) {
	ready, doomed = map[int32]bool{}, map[int32]bool{}
	for _, number := range run.backlog.doomed {
		if run.Nodes[number].Status == TaskPending {
			doomed[number] = true
		}
	}
	for _, number := range run.backlog.ready {
		if run.Nodes[number].Status == TaskPending && !doomed[number] {
			ready[number] = true
		}
	}
	return ready, doomed
}
