package workflow

import (
	"fmt"
	"slices"
	"time"
)

// Limits bound what Advance does.
type Limits struct {
	// Rows is the number of task rows after which a change is cut.
	Rows int
	// MaxRescues is the number of new attempts of a task whose agents died.
	MaxRescues int
	// MaxDynamicTasks is the number of nodes that may be added to a run.
	MaxDynamicTasks int
}

// DefaultLimits are the limits when nothing else is configured.
var DefaultLimits = Limits{Rows: 2000, MaxRescues: 3, MaxDynamicTasks: 10_000}

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
		run: run, graph: run.Graph, limits: limits, scratch: takeScratch(run),
		change: &Change{ID: run.ID, At: at, tally: run.tally, backlog: backlog{
			kept: run.backlog.kept, cancel: run.backlog.cancel, resume: run.backlog.resume, hold: run.backlog.hold,
		}},
		status: run.Status, started: run.StartTime, cancelled: run.CancelTime, stop: run.Stop, version: run.Version,
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
	for used < len(events) && !d.full() && d.apply(&events[used]) {
		used++
	}
	d.settle()
	d.finish()
	d.change.More = used < len(events) || d.unsettled()
	d.change.backlog.decided = d.scratch.kept()
	return d.change, used
}

// draft is a run with the changes so far laid over it.
type draft struct {
	run       *Run
	graph     *Graph // the run's, or one that grew from it
	limits    Limits
	change    *Change
	scratch   *scratch
	status    RunStatus
	started   time.Time
	cancelled time.Time
	stop      Cause
	version   int32
	reason    string
	reopened  bool
	undoing   bool // what a person wants undone takes more than one change: nothing else follows before it is done
	runDirty  bool
	count     bool
}

// room is the number of rows that the change may still get.
func (d *draft) room() int {
	c := d.change
	return max(0, d.limits.Rows-len(c.Tasks)-len(c.Withdraw)-len(c.Hold)-len(c.Reset)-len(c.Nodes))
}

func (d *draft) full() bool { return d.room() == 0 }

// ending tells that nothing more is to start: the run was cancelled, or stopped by itself.
func (d *draft) ending() bool { return !d.cancelled.IsZero() || d.stop != CauseNone }

// killing tells that what runs is to end, too.
func (d *draft) killing() bool {
	return !d.cancelled.IsZero() || d.stop != CauseNone && d.stop != CauseStopped
}

// cause is why a task run ends that had no end of its own while the run is ending.
func (d *draft) cause() Cause {
	if !d.cancelled.IsZero() {
		return CauseCancel
	}
	return d.stop
}

// grow makes room for so many more task rows.
func (d *draft) grow(rows int) {
	d.change.Tasks = slices.Grow(d.change.Tasks, rows)
	d.change.states = slices.Grow(d.change.states, rows)
}

// written tells whether the change has a row for the node, or takes its row away. It gets no second one.
func (d *draft) written(number int32) bool {
	index, ok := d.scratch.find(number)
	if !ok {
		return false
	}
	now, before := d.change.states[index].NodeState, d.stored(number)
	return now.Status != before.Status || now.Attempt != before.Attempt || now.Delivery != before.Delivery || now.Cause != before.Cause
}

// node gives the node's state, to be changed. The pointer is good until the next call.
func (d *draft) node(number int32) *NodeState {
	index, ok := d.scratch.find(number)
	if !ok {
		index = int32(len(d.change.states)) //nolint:gosec // bounded by the number of nodes
		d.scratch.add(number, index)
		d.change.states = append(d.change.states, StoredNode{number, d.stored(number)})
	}
	return &d.change.states[index].NodeState
}

func (d *draft) peek(number int32) *NodeState {
	if index, ok := d.scratch.find(number); ok {
		return &d.change.states[index].NodeState
	}
	if int(number) < len(d.run.Nodes) {
		return &d.run.Nodes[number]
	}
	return &NodeState{}
}

// stored is the node's state before the change.
func (d *draft) stored(number int32) NodeState {
	if int(number) < len(d.run.Nodes) {
		return d.run.Nodes[number]
	}
	return NodeState{}
}

// apply lets the event take effect. It is false when that has to wait until the change so far is committed.
func (d *draft) apply(event *Event) bool {
	if d.status.Ended() && event.Kind != EventRetry && event.Kind != EventSkip {
		return true
	}
	if event.Kind != EventRetry && event.Kind != EventSkip {
		d.redecide()
	}
	switch event.Kind {
	case EventStart:
		d.start()
	case EventEnd:
		if d.current(event) {
			return d.end(event)
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
	case EventCancel:
		d.cancel(event) // again: an earlier event may have let an ended run live
	case EventWithdraw:
		if d.current(event) {
			d.withdrawn(event.Node)
		}
	case EventCount:
		d.count = true
	case EventPause:
		d.pause(event)
	case EventResume:
		d.resume(event)
	case EventApprove, EventReject:
		d.decideApproval(event)
	case EventRetry:
		return d.retry(event)
	case EventSkip:
		return d.skip(event)
	case EventItems:
		d.expand(event)
	}
	return true
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
	if d.status != RunPending {
		return
	}
	d.status, d.started, d.runDirty = RunRunning, d.change.At, true
	if limit := d.run.Options.TimeoutSeconds; limit > 0 {
		d.change.SetTimers = append(d.change.SetTimers, Timer{Node: RunNode, Kind: TimerRun, Due: d.change.At.Add(seconds(limit))})
	}
}

// requeue queues the next attempt of a task run that has a row.
func (d *draft) requeue(number int32) {
	state := d.node(number)
	state.Attempt++
	state.Delivery = 1
	d.queue(number, state, false)
}

// queue makes a task run wait for an agent, or, while the run is paused, for its going on.
func (d *draft) queue(number int32, state *NodeState, first bool) {
	if d.status == RunPaused {
		d.wait(number, state, CausePaused, first)
		return
	}
	state.Status, state.Cause = TaskQueued, CauseNone
	d.change.Tasks = append(d.change.Tasks, TaskChange{
		Node: number, Status: TaskQueued, First: first, Attempt: state.Attempt, Delivery: state.Delivery, QueuedTime: d.change.At,
	})
	d.change.Queue = append(d.change.Queue, Member{d.run.ID, number, state.Attempt, state.Delivery})
}

// wait makes a task run wait for something that is no agent.
func (d *draft) wait(number int32, state *NodeState, waits Cause, first bool) {
	state.Status, state.Cause = TaskWaiting, waits
	d.change.Tasks = append(d.change.Tasks, TaskChange{
		Node: number, Status: TaskWaiting, First: first, Attempt: state.Attempt, Delivery: state.Delivery, QueuedTime: d.change.At, Cause: waits,
	})
}

func (d *draft) supersede(number int32, attempt uint16, result *Result) {
	d.change.Attempts = append(d.change.Attempts, AttemptChange{
		Node: number, Attempt: attempt, Status: result.Status, StartTime: result.StartTime, EndTime: result.EndTime,
		ExitCode: result.ExitCode, Agent: result.Agent, Cause: result.Cause, Reason: result.Reason,
	})
}

// event keeps what someone did, or what has no column.
func (d *draft) event(kind, actor string, node int32, detail Value) {
	d.change.Events = append(d.change.Events, RunEvent{Kind: kind, Actor: actor, At: d.change.At, Node: node, Detail: detail})
}

// close ends a task run, and tells its dependents.
func (d *draft) close(number int32, closed TaskChange) {
	state := d.node(number)
	if state.Status == TaskWaiting {
		d.dropTimer(number, state)
	}
	closed.Node, closed.First = number, state.Status == TaskPending
	closed.Attempt, closed.Delivery = state.Attempt, state.Delivery
	state.Status, state.Cause = closed.Status, lasting(closed.Status, closed.Cause)
	d.change.Tasks = append(d.change.Tasks, closed)
	d.change.tally.add(closed.Status, 1)
	if closed.Status == TaskFailed {
		d.stopAtFailure(number)
	}
	if state.Attempt == 0 || closed.Status == TaskSkipped {
		d.stopWithoutHandler(number)
	}
	for _, dependent := range d.graph.Dependents(number) {
		d.parentEnded(dependent, closed.Status)
	}
}

// dropTimer forgets the timer of a task run that waits.
func (d *draft) dropTimer(number int32, state *NodeState) {
	switch state.Cause {
	case CauseNone:
		d.change.DropTimers = append(d.change.DropTimers, Timer{Node: number, Kind: TimerRetry})
	case CauseApproval:
		if d.graph.Scheduling(number).ApprovalSeconds > 0 {
			d.change.DropTimers = append(d.change.DropTimers, Timer{Node: number, Kind: TimerApproval})
		}
	default:
	}
}

// parentEnded decides on a node when one of its parents has ended. Its parents are only counted when all of them
// have: until then what this one tells is enough.
func (d *draft) parentEnded(number int32, status TaskStatus) {
	state := d.node(number)
	state.open--
	if !state.undecided() {
		return
	}
	rule := RuleAllSuccess
	if !d.graph.plain {
		rule = d.graph.Scheduling(number).Rule
	}
	switch {
	case rule != RuleAllSuccess && state.open > 0:
		one := census{open: state.open}
		one.add(status)
		d.scratch.decide(number, one.verdict(rule))
	case rule != RuleAllSuccess:
		d.reconsider(number)
	case status.Failure():
		d.scratch.doomed = append(d.scratch.doomed, number)
	case state.open > 0:
	case status == TaskCompleted: // one that failed would have decided before, and skipped ones do not count
		d.scratch.ready = append(d.scratch.ready, number)
	default:
		d.reconsider(number)
	}
}

// reconsider decides on an undecided node by all of its parents.
func (d *draft) reconsider(number int32) {
	decided := d.verdict(number)
	if d.peek(number).undecided() {
		d.scratch.decide(number, decided)
	}
}

// verdict is what the node's parents say of it. It brings their number up to date.
func (d *draft) verdict(number int32) verdict {
	var parents census
	for _, parent := range d.graph.Parents(number) {
		parents.add(d.peek(parent).Status)
	}
	d.node(number).open = parents.open
	return parents.verdict(d.graph.Scheduling(number).Rule)
}

// settle works off what follows from the states, as far as the change has room.
func (d *draft) settle() {
	d.redecide()
	if d.undoing || d.status != RunRunning && d.status != RunPaused {
		return
	}
	work := d.scratch
	if !d.ending() {
		d.settleKept()
		d.settleResumed()
		d.settlePaused()
	}
	for !d.ending() && !d.full() && d.decided() {
		d.grow(min(len(work.doomed)+len(work.ready), d.room()))
		d.drain(&work.doomed, func(number int32) {
			d.close(number, TaskChange{Status: TaskUpstreamFailed, Cause: CauseUpstream, EndTime: d.change.At})
		})
		d.drain(&work.skip, func(number int32) {
			if d.unwait(number) {
				state, stored := d.node(number), d.stored(number) // it has not begun to wait for another attempt
				state.Attempt, state.Delivery = stored.Attempt, stored.Delivery
			}
			d.close(number, TaskChange{Status: TaskSkipped, Cause: CauseTriggerRule, EndTime: d.change.At})
		})
		if d.status == RunRunning && !d.ending() { // what was skipped may have stopped the run
			d.change.Queue = slices.Grow(d.change.Queue, min(len(work.ready), d.room()))
			d.drain(&work.ready, d.begin)
		}
	}
	if d.ending() {
		d.settleEnding()
		work.decided = decided{work.ready[:0], work.doomed[:0], work.skip[:0]} // all of them end now, or have
	}
}

// decided tells whether there are nodes of which it is known what becomes of them now.
func (d *draft) decided() bool {
	work := d.scratch
	return len(work.doomed) > 0 || len(work.skip) > 0 || d.status == RunRunning && len(work.ready) > 0
}

// drain works off a list, which may grow meanwhile.
func (d *draft) drain(list *[]int32, do func(number int32)) {
	done := 0
	for ; done < len(*list) && !d.full(); done++ {
		if number := (*list)[done]; d.peek(number).undecided() {
			do(number)
		}
	}
	*list = slices.Delete(*list, 0, done)
}

// begin lets an undecided node go on that its parents no longer hold.
func (d *draft) begin(number int32) {
	if d.graph.plain {
		state := d.node(number)
		state.Attempt, state.Delivery = 1, 1
		d.queue(number, state, true)
		return
	}
	scheduling := d.graph.Scheduling(number)
	switch {
	case scheduling.Unexpanded:
		d.change.Items = append(d.change.Items, number)
		return
	case scheduling.Group:
		d.close(number, TaskChange{Status: TaskCompleted, Cause: CauseGroup, EndTime: d.change.At})
		return
	}
	state := d.node(number)
	if state.Status == TaskWaiting { // its attempt was counted when it began to wait
		d.unwait(number)
		d.await(number, state, false)
		return
	}
	state.Attempt, state.Delivery = 1, 1
	d.await(number, state, true)
}

// await makes a task run wait for a person, where it has to, and else for an agent.
func (d *draft) await(number int32, state *NodeState, first bool) {
	scheduling := d.graph.Scheduling(number)
	if !scheduling.Approval {
		d.queue(number, state, first)
		return
	}
	d.wait(number, state, CauseApproval, first)
	if limit := scheduling.ApprovalSeconds; limit > 0 {
		d.change.SetTimers = append(d.change.SetTimers, Timer{Node: number, Kind: TimerApproval, Due: d.change.At.Add(seconds(limit))})
	}
}

// settleKept ends what an earlier run did.
func (d *draft) settleKept() {
	for d.keeping() && !d.full() {
		d.keep()
	}
}

func (d *draft) keeping() bool { return int(d.change.backlog.kept) < len(d.run.Options.Kept) }

// keep ends the next of the kept nodes.
func (d *draft) keep() {
	kept := &d.run.Options.Kept[d.change.backlog.kept]
	d.change.backlog.kept++
	if kept.Node < 0 || int(kept.Node) >= d.graph.Len() || d.peek(kept.Node).Status != TaskPending {
		return
	}
	status, cause := TaskCompleted, CauseKept
	if kept.From.IsZero() {
		status = TaskSkipped
	}
	if kept.NotChosen {
		cause = CauseNotChosen
	}
	d.close(kept.Node, TaskChange{Status: status, Cause: cause, EndTime: d.change.At})
}

// settleEnding ends what has not started, and asks for what is queued. What this change has written already waits
// for the next one.
func (d *draft) settleEnding() {
	next := &d.change.backlog.cancel
	for ; int(*next) < d.graph.Len() && !d.full(); *next++ {
		number := *next
		switch state := d.peek(number); state.Status {
		case TaskPending:
			d.close(number, TaskChange{Status: TaskCancelled, Cause: d.cause(), EndTime: d.change.At})
		case TaskWaiting:
			if d.written(number) {
				return
			}
			d.close(number, TaskChange{Status: TaskCancelled, Cause: d.cause(), EndTime: d.change.At})
		case TaskQueued:
			member := Member{d.run.ID, number, state.Attempt, state.Delivery}
			switch {
			case d.written(number):
				return
			case d.killing():
				d.change.Withdraw = append(d.change.Withdraw, member)
			default:
				d.change.Hold = append(d.change.Hold, member)
			}
		case TaskRunning, TaskCompleted, TaskFailed, TaskSkipped, TaskUpstreamFailed, TaskCancelled:
		}
	}
}

func (d *draft) unsettled() bool {
	switch {
	case d.status != RunRunning && d.status != RunPaused:
		return false
	case d.ending():
		return int(d.change.backlog.cancel) < d.graph.Len()
	}
	return d.keeping() || d.decided() || d.status == RunPaused && int(d.change.backlog.hold) < d.graph.Len() ||
		d.status == RunRunning && int(d.change.backlog.resume) < d.graph.Len()
}

// finish ends the run when all its nodes have ended, and writes its own state when it changed.
func (d *draft) finish() {
	tally := &d.change.tally
	var end time.Time
	if (d.status == RunRunning || d.status == RunPaused) && int(tally.ended) == d.graph.Len() {
		end, d.runDirty = d.change.At, true
		d.status = d.finalStatus()
		d.dropRunTimer()
	}
	stale := *tally != d.run.counted && (d.status == RunRunning || d.status == RunPaused)
	if !d.runDirty && (!stale || !d.count && d.change.At.Sub(d.run.countedAt) < countEvery) {
		return
	}
	d.change.Run = &RunChange{
		Status: d.status, StartTime: d.started, EndTime: end, CancelTime: d.cancelled, Stop: d.stop, Version: d.version,
		Total: d.graph.Len(), Completed: int(tally.completed), Failed: int(tally.failed), Reason: d.reason, Reopened: d.reopened,
	}
	if d.status == RunCompleted {
		d.change.Run.LogicalDate = d.run.Options.LogicalDate
	}
}

// finalStatus is that of a run all of whose nodes have ended.
func (d *draft) finalStatus() RunStatus {
	tally := &d.change.tally
	switch {
	case !d.cancelled.IsZero() && tally.cancelled > 0:
		return RunCancelled
	case d.stop == CauseRunTimeout && tally.cancelled > 0:
		d.reason = fmt.Sprintf("it came to its timeout_seconds, %v", seconds(d.run.Options.TimeoutSeconds))
		return RunFailed
	case d.stop == CauseTooMany:
		d.reason = fmt.Sprintf("it came to max_dynamic_tasks, %d", d.limits.MaxDynamicTasks)
		return RunFailed
	case tally.failed > 0 && d.unhandled():
		return RunFailed
	case tally.cancelled > 0:
		d.reason = "task runs that were cancelled before it was reopened did not run again"
		return RunCancelled
	}
	return RunCompleted
}

// dropRunTimer forgets the time that the whole run has, unless that has passed.
func (d *draft) dropRunTimer() {
	if d.run.Options.TimeoutSeconds <= 0 || d.stop == CauseRunTimeout {
		return
	}
	set := len(d.change.SetTimers)
	d.change.SetTimers = slices.DeleteFunc(d.change.SetTimers, func(timer Timer) bool { return timer.Kind == TimerRun })
	if len(d.change.SetTimers) == set {
		d.change.DropTimers = append(d.change.DropTimers, Timer{Node: RunNode, Kind: TimerRun})
	}
}

// unhandled tells whether a task run failed and no direct dependent dealt with that.
func (d *draft) unhandled() bool {
	for number := range int32(d.graph.Len()) { //nolint:gosec // a number of nodes
		if d.peek(number).Status == TaskFailed && !d.handled(number, true) {
			return true
		}
	}
	return false
}

// handled tells whether a direct dependent dealt with the node's failure, or, before it could start, may. A
// failed item is the matter of the dependents of its group.
func (d *draft) handled(number int32, over bool) bool {
	if d.graph.plain {
		return false
	}
	item := d.graph.Scheduling(number).Item
	for _, dependent := range d.graph.Dependents(number) {
		scheduling, state := d.graph.Scheduling(dependent), d.peek(dependent)
		switch {
		case item && scheduling.Group:
			if d.handled(dependent, over) {
				return true
			}
		case !scheduling.Rule.handles():
		case state.Status == TaskCompleted, state.Attempt > 0 && state.Status != TaskSkipped, !over && !state.Status.Ended():
			return true
		}
	}
	return false
}

// CountsStale tells that the stored counts of a run that is under way are behind: an
// EventCount writes them.
func (r *Run) CountsStale() bool {
	return (r.Status == RunRunning || r.Status == RunPaused) && r.tally != r.counted
}

func taskChangeOf(result *Result) TaskChange {
	return TaskChange{
		Status: result.Status, StartTime: result.StartTime, EndTime: result.EndTime,
		ExitCode: result.ExitCode, Agent: result.Agent, Cause: result.Cause, Reason: result.Reason,
	}
}
