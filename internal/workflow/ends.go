package workflow

import (
	"fmt"
	"math"
	"time"
)

// end decides what follows from the end of an attempt. It is false when that has to wait until the change so far is
// committed.
func (d *draft) end(event *Event) bool {
	number, result := event.Node, &event.Result
	if result.Status != TaskCompleted {
		d.endWithoutSuccess(number, result)
		return true
	}
	var branch *branch
	switch evaluates := result.Evaluation != nil && d.graph.Scheduling(number).EvaluationPoint; {
	case evaluates && d.ending(): // there is nothing to choose any more
		d.event("evaluate", "", number, result.Evaluation.Metadata)
	case evaluates:
		var problem string
		if branch, problem = d.evaluate(event); problem != "" {
			failed := *result
			failed.Status, failed.Cause, failed.Reason = TaskFailed, CauseEvaluation, problem
			d.failed(number, &failed)
			return true
		}
		if _, ok := d.left(number, branch); !ok {
			return false
		}
	}
	if result.Output != "" {
		d.change.Outputs = append(d.change.Outputs, Output{Node: number, Body: result.Output})
	}
	if branch != nil {
		d.take(number, branch)
	}
	d.close(number, taskChangeOf(result))
	if branch != nil {
		left, _ := d.left(number, branch) // again: those that wait for the next iteration are no longer among them
		d.leave(left)
	}
	return true
}

func (d *draft) endWithoutSuccess(number int32, result *Result) {
	if d.ending() {
		closed := taskChangeOf(result)
		closed.Status = TaskFailed
		if result.Cause == CauseCancel {
			closed.Status, closed.Cause = TaskCancelled, d.cause()
		}
		d.close(number, closed)
		return
	}
	// One that was killed for a cancel that is not stored (it was lost with a primary
	// that died) has failed, too.
	failed := *result
	failed.Status = TaskFailed
	d.failed(number, &failed)
}

func (d *draft) failed(number int32, result *Result) {
	retries := d.graph.Scheduling(number).Retries
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
	state.Status, state.Cause = TaskWaiting, CauseNone
	d.change.Tasks = append(d.change.Tasks, TaskChange{
		Node: number, Status: TaskWaiting, Attempt: state.Attempt, Delivery: state.Delivery,
	})
	d.change.SetTimers = append(d.change.SetTimers, Timer{Node: number, Kind: TimerRetry, Due: d.change.At.Add(delay)})
}

func (d *draft) timer(event *Event) {
	if event.Timer == TimerRun {
		// One that has started, or lives again, only since this change has another timer.
		if before := d.run.Status; (before == RunRunning || before == RunPaused) && !d.killing() {
			d.change.DropTimers = append(d.change.DropTimers, Timer{Node: RunNode, Kind: TimerRun})
			d.stopRun(CauseRunTimeout)
		}
		return
	}
	if event.Node < 0 || int(event.Node) >= len(d.run.Nodes) || d.ending() {
		return // when the run is ending, settle ends what waits
	}
	// One that waits only since this change has another timer.
	stored, state := d.run.Nodes[event.Node], d.peek(event.Node)
	if stored.Status != TaskWaiting || state.Status != TaskWaiting {
		return
	}
	switch {
	case event.Timer == TimerRetry && state.Cause == CauseNone:
		d.change.DropTimers = append(d.change.DropTimers, Timer{Node: event.Node, Kind: TimerRetry})
		d.requeue(event.Node)
	case event.Timer == TimerApproval && state.Cause == CauseApproval:
		limit := seconds(d.graph.Scheduling(event.Node).ApprovalSeconds)
		d.close(event.Node, TaskChange{
			Status: TaskFailed, Cause: CauseTimeout, EndTime: d.change.At, Reason: fmt.Sprintf("nobody approved it within %v", limit),
		})
	}
}

// stopRun lets the run end early by itself.
func (d *draft) stopRun(cause Cause) {
	d.stop, d.runDirty = cause, true
	d.change.backlog.cancel = 0
	if d.status == RunPaused {
		d.status = RunRunning
	}
}

// stopAtFailure ends the run where it shall end when a task fails.
func (d *draft) stopAtFailure(number int32) {
	if d.run.Options.OnFailure == OnFailureStop && !d.ending() && !d.handled(number, false) {
		d.stopRun(CauseStopped)
	}
}

// stopWithoutHandler looks again at failures that the node would have dealt with, had it started.
func (d *draft) stopWithoutHandler(number int32) {
	if d.run.Options.OnFailure != OnFailureStop || d.graph.plain || !d.graph.Scheduling(number).Rule.handles() {
		return
	}
	for _, parent := range d.graph.Parents(number) {
		if d.peek(parent).Status == TaskFailed {
			d.stopAtFailure(parent)
		}
		if !d.graph.Scheduling(parent).Group {
			continue
		}
		for _, item := range d.graph.Parents(parent) {
			if d.standsFor(parent, item) && d.peek(item).Status == TaskFailed {
				d.stopAtFailure(item)
			}
		}
	}
}

func (d *draft) lost(event *Event) {
	state := d.node(event.Node)
	result := Result{
		Status: TaskFailed, Cause: CauseAgentLost, Reason: "the agent that ran it died",
		StartTime: event.Result.StartTime, EndTime: d.change.At, Agent: event.Result.Agent,
	}
	switch {
	case d.ending():
		closed := taskChangeOf(&result)
		closed.Status, closed.Cause = TaskCancelled, d.cause()
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
	case d.ending():
		closed := taskChangeOf(&event.Result)
		closed.Status, closed.Cause, closed.EndTime = TaskCancelled, d.cause(), d.change.At
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

// withdrawn answers Withdraw and Hold: nobody has claimed the member, and nobody will.
func (d *draft) withdrawn(number int32) {
	switch {
	case d.ending():
		d.close(number, TaskChange{Status: TaskCancelled, Cause: d.cause(), EndTime: d.change.At})
	case d.status == RunPaused:
		d.wait(number, d.node(number), CausePaused, false)
	default: // the run goes on already
		state := d.node(number)
		state.Delivery++
		d.queue(number, state, false)
	}
}

func seconds(count float64) time.Duration {
	const longest = 100 * 365 * 24 * time.Hour
	return time.Duration(min(count, longest.Seconds()) * float64(time.Second))
}
