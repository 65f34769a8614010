package workflow

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Limits bound what Advance does.
type Limits struct {
	// Rows is the number of task rows after which a change is cut.
	Rows int
	// MaxRescues is the number of new attempts of a task whose agents died.
	MaxRescues int
}

// DefaultLimits are the limits when nothing else is configured.
var DefaultLimits = Limits{Rows: 2000, MaxRescues: 3}

// countEvery is how often the counts of a running run are written at the most.
const countEvery = time.Second

// Advance says what follows when the events happen to the run at the given time
// (of the database's clock). It reads the run and changes nothing; the change
// takes effect by Apply, after it was committed. Events that no longer fit (an
// old attempt or delivery, an ended run) change nothing.
//
// used is the number of events that the change accounts for: less than all of
// them when the change was cut, and then Change.More is set.
func Advance(run *Run, at time.Time, events []Event, limits Limits) (change *Change, used int) {
	d := draft{
		run: run, limits: limits, scratch: takeScratch(run),
		change: &Change{ID: run.ID, At: at, tally: run.tally, backlog: backlog{cancel: run.backlog.cancel}},
		status: run.Status, started: run.StartTime, cancelled: run.CancelTime,
	}
	defer d.scratch.release()
	d.grow(min(len(events)+2, limits.Rows)) // most ends queue no more than one other
	// A cancel comes first: what else happened happens to a run that is being cancelled, so
	// nothing is queued again that would have to be withdrawn at once.
	for index := range events {
		if events[index].Kind == EventCancel {
			d.cancel(&events[index])
		}
	}
	for used < len(events) && !d.full() {
		d.apply(&events[used])
		used++
	}
	d.settle()
	d.finish()
	d.change.More = used < len(events) || d.unsettled()
	d.change.backlog.ready = slices.Concat(d.scratch.ready) // a copy; nil when empty
	d.change.backlog.doomed = slices.Concat(d.scratch.doomed)
	return d.change, used
}

// draft is a run with the changes so far laid over it.
type draft struct {
	run       *Run
	limits    Limits
	change    *Change
	scratch   *scratch
	status    RunStatus
	started   time.Time
	cancelled time.Time
	runDirty  bool
	count     bool
}

// room is the number of rows that the change may still get.
func (d *draft) room() int {
	return max(0, d.limits.Rows-len(d.change.Tasks)-len(d.change.Withdraw))
}

func (d *draft) full() bool { return d.room() == 0 }

func (d *draft) cancelling() bool { return !d.cancelled.IsZero() }

// grow makes room for so many more task rows.
func (d *draft) grow(rows int) {
	d.change.Tasks = slices.Grow(d.change.Tasks, rows)
	d.change.states = slices.Grow(d.change.states, rows)
}

// node gives the node's state, to be changed. The pointer is good until the next call.
func (d *draft) node(number int32) *NodeState {
	index, ok := d.scratch.find(number)
	if !ok {
		index = int32(len(d.change.states)) //nolint:gosec // bounded by the number of nodes
		d.scratch.add(number, index)
		d.change.states = append(d.change.states, StoredNode{number, d.run.Nodes[number]})
	}
	return &d.change.states[index].NodeState
}

func (d *draft) peek(number int32) *NodeState {
	if index, ok := d.scratch.find(number); ok {
		return &d.change.states[index].NodeState
	}
	return &d.run.Nodes[number]
}

func (d *draft) apply(event *Event) {
	if d.status.Ended() {
		return
	}
	switch event.Kind {
	case EventStart:
		d.start()
	case EventEnd:
		if d.current(event) {
			d.end(event.Node, &event.Result)
		}
	case EventLost:
		if d.current(event) {
			d.lost(event)
		}
	case EventReturn:
		if d.current(event) {
			d.handBack(event)
		}
	case EventTimer:
		d.timer(event)
	case EventCancel: // see Advance
	case EventWithdraw:
		if d.current(event) {
			d.close(event.Node, TaskChange{Status: TaskCancelled, Cause: CauseCancel, EndTime: d.change.At})
		}
	case EventCount:
		d.count = true
	}
}

// current tells whether the event speaks of what is queued: in the run as it was committed,
// because only that was ever dispatched, and still now. So a node gets one row in a change.
func (d *draft) current(event *Event) bool {
	if event.Node < 0 || int(event.Node) >= len(d.run.Nodes) {
		return false
	}
	stored, state := &d.run.Nodes[event.Node], d.peek(event.Node)
	return stored.Status == TaskQueued && stored.Attempt == event.Attempt && stored.Delivery == event.Delivery &&
		state.Status == TaskQueued && state.Attempt == event.Attempt && state.Delivery == event.Delivery
}

func (d *draft) start() {
	if d.status == RunPending {
		d.status, d.started, d.runDirty = RunRunning, d.change.At, true
	}
}

func (d *draft) end(number int32, result *Result) {
	switch {
	case result.Status == TaskCompleted:
		d.close(number, taskChangeOf(result))
	case d.cancelling():
		closed := taskChangeOf(result)
		closed.Status = TaskFailed
		if result.Cause == CauseCancel {
			closed.Status = TaskCancelled
		}
		d.close(number, closed)
	default:
		// One that was killed for a cancel that is not stored (it was lost with a primary
		// that died) has failed, too.
		failed := *result
		failed.Status = TaskFailed
		d.failed(number, &failed)
	}
}

func (d *draft) failed(number int32, result *Result) {
	retries := d.run.Graph.Scheduling(number).Retries
	state := d.node(number)
	if int(state.Retried) >= retries.Count || state.Attempt == math.MaxInt16 { // attempts are stored in 16 bits, with a sign
		d.close(number, taskChangeOf(result))
		return
	}
	d.supersede(number, state.Attempt, result)
	state.Retried++
	delay := retryDelay(retries, d.run.ID, number, state.Retried)
	if delay <= 0 {
		d.requeue(number)
		return
	}
	state.Status = TaskWaiting
	d.change.Tasks = append(d.change.Tasks, TaskChange{
		Node: number, Status: TaskWaiting, Attempt: state.Attempt, Delivery: state.Delivery,
	})
	d.change.SetTimers = append(d.change.SetTimers, Timer{Node: number, Kind: TimerRetry, Due: d.change.At.Add(delay)})
}

func (d *draft) timer(event *Event) {
	if event.Timer != TimerRetry || event.Node < 0 || int(event.Node) >= len(d.run.Nodes) {
		return
	}
	// One that waits only since this change has another timer. When the run is being cancelled, settle ends it.
	if d.run.Nodes[event.Node].Status == TaskWaiting && d.peek(event.Node).Status == TaskWaiting && !d.cancelling() {
		d.change.DropTimers = append(d.change.DropTimers, Timer{Node: event.Node, Kind: TimerRetry})
		d.requeue(event.Node)
	}
}

func (d *draft) lost(event *Event) {
	state := d.node(event.Node)
	result := Result{
		Status: TaskFailed, Cause: CauseAgentLost, Reason: "the agent that ran it died",
		StartTime: event.Result.StartTime, EndTime: d.change.At, Agent: event.Result.Agent,
	}
	switch {
	case d.cancelling():
		closed := taskChangeOf(&result)
		closed.Status, closed.Cause = TaskCancelled, CauseCancel
		d.close(event.Node, closed)
	case int(state.Rescued) >= d.limits.MaxRescues:
		closed := taskChangeOf(&result)
		closed.Cause = CauseRescues
		closed.Reason = fmt.Sprintf("the agents that ran it died %d times; agent.max_rescues is %d", state.Rescued+1, d.limits.MaxRescues)
		d.close(event.Node, closed)
	default:
		d.supersede(event.Node, state.Attempt, &result)
		state.Rescued++
		d.requeue(event.Node)
	}
}

func (d *draft) handBack(event *Event) {
	state := d.node(event.Node)
	switch {
	case d.cancelling():
		closed := taskChangeOf(&event.Result)
		closed.Status, closed.Cause, closed.EndTime = TaskCancelled, CauseCancel, d.change.At
		d.close(event.Node, closed)
	case event.Result.Started:
		result := event.Result
		result.Status, result.Cause = TaskFailed, CauseAgentStopped
		d.supersede(event.Node, state.Attempt, &result)
		d.requeue(event.Node)
	default:
		state.Delivery++
		d.queue(event.Node, state, false)
	}
}

func (d *draft) cancel(event *Event) {
	if d.cancelling() || d.status.Ended() {
		return
	}
	d.cancelled, d.runDirty = d.change.At, true
	d.change.backlog.cancel = 0
	d.change.Events = append(d.change.Events, RunEvent{Kind: "cancel", Actor: event.Actor, At: d.change.At})
	d.start()
}

// requeue queues the next attempt of a task run that has a row.
func (d *draft) requeue(number int32) {
	state := d.node(number)
	state.Attempt++
	state.Delivery = 1
	d.queue(number, state, false)
}

func (d *draft) queue(number int32, state *NodeState, first bool) {
	state.Status = TaskQueued
	d.change.Tasks = append(d.change.Tasks, TaskChange{
		Node: number, Status: TaskQueued, First: first, Attempt: state.Attempt, Delivery: state.Delivery, QueuedTime: d.change.At,
	})
	d.change.Queue = append(d.change.Queue, Member{d.run.ID, number, state.Attempt, state.Delivery})
}

func (d *draft) supersede(number int32, attempt uint16, result *Result) {
	d.change.Attempts = append(d.change.Attempts, AttemptChange{
		Node: number, Attempt: attempt, Status: result.Status, StartTime: result.StartTime, EndTime: result.EndTime,
		ExitCode: result.ExitCode, Agent: result.Agent, Cause: result.Cause, Reason: result.Reason,
	})
}

// close ends a task run, and tells its dependents.
func (d *draft) close(number int32, closed TaskChange) {
	state := d.node(number)
	if state.Status == TaskWaiting {
		d.change.DropTimers = append(d.change.DropTimers, Timer{Node: number, Kind: TimerRetry})
	}
	closed.Node, closed.First = number, state.Status == TaskPending
	closed.Attempt, closed.Delivery = state.Attempt, state.Delivery
	state.Status = closed.Status
	d.change.Tasks = append(d.change.Tasks, closed)
	d.change.tally.add(closed.Status)
	failure := closed.Status.Failure()
	for _, dependent := range d.run.Graph.Dependents(number) {
		child := d.node(dependent)
		child.open--
		switch {
		case child.Status != TaskPending:
		case failure:
			d.scratch.doomed = append(d.scratch.doomed, dependent)
		case child.open == 0:
			d.scratch.ready = append(d.scratch.ready, dependent)
		}
	}
}

// settle works off what follows from the states, as far as the change has room.
func (d *draft) settle() {
	if d.status != RunRunning {
		return
	}
	work := d.scratch
	if d.cancelling() {
		d.settleCancel()
		work.ready, work.doomed = work.ready[:0], work.doomed[:0]
		return
	}
	d.grow(min(len(work.doomed)+len(work.ready), d.room()))
	done := 0
	for ; done < len(work.doomed) && !d.full(); done++ {
		if number := work.doomed[done]; d.peek(number).Status == TaskPending {
			d.close(number, TaskChange{Status: TaskUpstreamFailed, Cause: CauseUpstream, EndTime: d.change.At})
		}
	}
	work.doomed = slices.Delete(work.doomed, 0, done)
	d.change.Queue = slices.Grow(d.change.Queue, min(len(work.ready), d.room()))
	for done = 0; done < len(work.ready) && !d.full(); done++ {
		if number := work.ready[done]; d.peek(number).Status == TaskPending {
			state := d.node(number)
			state.Attempt, state.Delivery = 1, 1
			d.queue(number, state, true)
		}
	}
	work.ready = slices.Delete(work.ready, 0, done)
}

func (d *draft) settleCancel() {
	next := &d.change.backlog.cancel
	for int(*next) < len(d.run.Nodes) && !d.full() {
		number := *next
		*next++
		switch state := d.peek(number); state.Status {
		case TaskPending, TaskWaiting:
			d.close(number, TaskChange{Status: TaskCancelled, Cause: CauseCancel, EndTime: d.change.At})
		case TaskQueued:
			d.change.Withdraw = append(d.change.Withdraw, Member{d.run.ID, number, state.Attempt, state.Delivery})
		case TaskRunning, TaskCompleted, TaskFailed, TaskSkipped, TaskUpstreamFailed, TaskCancelled:
		}
	}
}

func (d *draft) unsettled() bool {
	if d.status != RunRunning {
		return false
	}
	if d.cancelling() {
		return int(d.change.backlog.cancel) < len(d.run.Nodes)
	}
	return len(d.scratch.ready) > 0 || len(d.scratch.doomed) > 0
}

// finish ends the run when all its nodes have ended, and writes its own state when it changed.
func (d *draft) finish() {
	tally := &d.change.tally
	var end time.Time
	if d.status == RunRunning && tally.ended == len(d.run.Nodes) {
		end, d.runDirty = d.change.At, true
		switch {
		case d.cancelling() && tally.cancelled > 0:
			d.status = RunCancelled
		case tally.failed > 0:
			d.status = RunFailed
		default:
			d.status = RunCompleted
		}
	}
	stale := *tally != d.run.counted && d.status == RunRunning
	if !d.runDirty && (!stale || !d.count && d.change.At.Sub(d.run.countedAt) < countEvery) {
		return
	}
	d.change.Run = &RunChange{
		Status: d.status, StartTime: d.started, EndTime: end, CancelTime: d.cancelled,
		Total: len(d.run.Nodes), Completed: tally.completed, Failed: tally.failed,
	}
}

// CountsStale tells that the stored counts of a running run are behind: an
// EventCount writes them.
func (r *Run) CountsStale() bool { return r.Status == RunRunning && r.tally != r.counted }

func taskChangeOf(result *Result) TaskChange {
	return TaskChange{
		Status: result.Status, StartTime: result.StartTime, EndTime: result.EndTime,
		ExitCode: result.ExitCode, Agent: result.Agent, Cause: result.Cause, Reason: result.Reason,
	}
}
