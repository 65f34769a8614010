package postgres

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// changeRows are the rows of the changes of a commit, by statement.
type changeRows struct {
	queued   db.InsertQueuedTaskRunsParams
	waiting  db.InsertWaitingTaskRunsParams
	closed   db.InsertEndedTaskRunsParams
	ended    db.EndTaskRunsParams
	reasons  db.ExplainTaskRunsParams
	requeued db.RequeueTaskRunsParams
	attempts db.InsertAttemptsParams
	states   db.WriteRunStatesParams
	gone     db.DeleteLiveRunsParams
	events   db.InsertRunEventsParams
	set      db.WriteTimersParams
	drop     db.DeleteTimersParams

	// What few commits have.
	reopened  []db.ReopenRunParams
	reset     []db.ResetTaskRunsParams
	retired   []db.RetireTaskRunsParams
	described db.DescribeRunStatesParams
	updates   db.InsertRunUpdatesParams
	outputs   db.WriteOutputsParams
	dates     db.WriteDatesParams
	grown     []*grownRun

	queuesOf, endsOf bool // the run at hand has its id in queued, in ended
}

const noExitCode = -1

func rowsOf(commit *engine.Commit) *changeRows {
	rows := &changeRows{}
	rows.grow(commit.Changes)
	rows.queued.QueuedTime, rows.waiting.QueuedTime, rows.closed.EndTime, rows.requeued.QueuedTime = commit.At, commit.At, commit.At, commit.At
	for _, change := range commit.Changes {
		run := db.UUID(change.ID)
		rows.begin()
		for i := range change.Tasks {
			rows.task(run, &change.Tasks[i])
		}
		for i := range change.Attempts {
			rows.attempt(run, &change.Attempts[i])
		}
		if len(change.Reset) > 0 {
			rows.reset = append(rows.reset, db.ResetTaskRunsParams{RunID: run, Nodes: change.Reset})
		}
		if len(change.Retire) > 0 {
			rows.retired = append(rows.retired, db.RetireTaskRunsParams{RunID: run, Nodes: change.Retire})
		}
		if change.Run != nil {
			rows.state(run, change)
		}
		rows.values(run, change)
		for i := range change.Events {
			rows.event(run, &change.Events[i], 0, workflow.CauseNone)
		}
		for _, timer := range change.SetTimers {
			rows.set.Buckets, rows.set.RunIDs = append(rows.set.Buckets, int16(change.ID.Bucket())), append(rows.set.RunIDs, run) //nolint:gosec // 12 bits
			rows.set.Nodes, rows.set.Kinds = append(rows.set.Nodes, timer.Node), append(rows.set.Kinds, int16(timer.Kind))
			rows.set.Dues = append(rows.set.Dues, timer.Due)
		}
		for _, timer := range change.DropTimers {
			rows.drop.RunIDs = append(rows.drop.RunIDs, run)
			rows.drop.Nodes, rows.drop.Kinds = append(rows.drop.Nodes, timer.Node), append(rows.drop.Kinds, int16(timer.Kind))
		}
	}
	return rows
}

// grow makes room for the rows of the hottest statements.
func (r *changeRows) grow(changes []*workflow.Change) {
	queued, ended := 0, 0
	for _, change := range changes {
		for i := range change.Tasks {
			switch task := &change.Tasks[i]; {
			case task.First && task.Status == workflow.TaskQueued:
				queued++
			case task.Status.Ended():
				ended++
			}
		}
	}
	q, e := &r.queued, &r.ended
	q.Runs, q.Nodes = make([]int32, 0, queued), make([]int32, 0, queued)
	e.Runs, e.Nodes, e.Codes = make([]int32, 0, ended), make([]int32, 0, ended), make([]int64, 0, ended)
	e.StartTimes, e.EndTimes, e.Agents = make([]int64, 0, ended), make([]int64, 0, ended), make([]int64, 0, ended)
}

// begin tells that the rows of another run follow.
func (r *changeRows) begin() { r.queuesOf, r.endsOf = false, false }

func (r *changeRows) task(run db.UUID, task *workflow.TaskChange) {
	switch {
	case task.First && task.Status == workflow.TaskQueued:
		q := &r.queued
		if !r.queuesOf {
			r.queuesOf, q.RunIDs = true, append(q.RunIDs, run)
		}
		q.Wanted++
		q.Runs, q.Nodes = append(q.Runs, int32(len(q.RunIDs))), append(q.Nodes, task.Node) //nolint:gosec // bounded by the commit
	case task.First && task.Status == workflow.TaskWaiting:
		r.wait(run, task)
		w := &r.waiting
		w.RunIDs, w.Nodes, w.Causes = append(w.RunIDs, run), append(w.Nodes, task.Node), append(w.Causes, int16(task.Cause))
		w.Attempts, w.Deliveries = append(w.Attempts, int16(task.Attempt)), append(w.Deliveries, int16(task.Delivery)) //nolint:gosec // checked in the schema
	case task.First:
		c := &r.closed
		c.RunIDs, c.Nodes = append(c.RunIDs, run), append(c.Nodes, task.Node)
		c.Statuses, c.Causes, c.Reasons = append(c.Statuses, int16(task.Status)), append(c.Causes, int16(task.Cause)), append(c.Reasons, task.Reason)
		c.Attempts, c.Deliveries = append(c.Attempts, int16(task.Attempt)), append(c.Deliveries, int16(task.Delivery)) //nolint:gosec // checked in the schema
	case task.Status.Ended():
		r.end(run, task)
	default:
		r.wait(run, task)
		r.requeued.Wanted++
		r.requeued.RunIDs, r.requeued.Nodes = append(r.requeued.RunIDs, run), append(r.requeued.Nodes, task.Node)
		r.requeued.Statuses, r.requeued.Causes = append(r.requeued.Statuses, int16(task.Status)), append(r.requeued.Causes, int16(task.Cause))
		r.requeued.Attempts = append(r.requeued.Attempts, int16(task.Attempt))      //nolint:gosec // checked in the schema
		r.requeued.Deliveries = append(r.requeued.Deliveries, int16(task.Delivery)) //nolint:gosec // checked in the schema
	}
}

// wait keeps when a task run began to wait: its row forgets that when it goes on.
func (r *changeRows) wait(run db.UUID, task *workflow.TaskChange) {
	if task.Status == workflow.TaskWaiting {
		r.event(run, &workflow.RunEvent{Kind: eventWaiting, At: r.waiting.QueuedTime, Node: task.Node}, task.Attempt, task.Cause)
	}
}

// eventWaiting is known to the view of events, too.
const eventWaiting = "waiting"

func (r *changeRows) event(run db.UUID, event *workflow.RunEvent, attempt uint16, cause workflow.Cause) {
	e := &r.events
	e.RunIDs, e.Ats, e.Nodes = append(e.RunIDs, run), append(e.Ats, event.At), append(e.Nodes, event.Node)
	e.Kinds, e.Actors = append(e.Kinds, event.Kind), append(e.Actors, event.Actor)
	e.Attempts, e.Causes = append(e.Attempts, int16(attempt)), append(e.Causes, int16(cause)) //nolint:gosec // checked in the schema
	e.Details = append(e.Details, string(event.Detail))
}

// inOrder is the end of what began at start: not before it, though the database's clock may have been set back in between.
func inOrder(start, end time.Time) time.Time {
	if !end.IsZero() && end.Before(start) {
		return start
	}
	return end
}

func (r *changeRows) end(run db.UUID, task *workflow.TaskChange) {
	e := &r.ended
	if !r.endsOf {
		r.endsOf, e.RunIDs = true, append(e.RunIDs, run)
	}
	code := int64(task.Status) | int64(task.Cause)<<8 | int64(task.Attempt)<<16 | int64(task.Delivery)<<32
	if task.ExitCode != nil {
		code |= int64(*task.ExitCode+1) << 48
	}
	e.Wanted++
	e.Runs, e.Nodes, e.Codes = append(e.Runs, int32(len(e.RunIDs))), append(e.Nodes, task.Node), append(e.Codes, code) //nolint:gosec // bounded by the commit
	e.StartTimes, e.EndTimes = append(e.StartTimes, microseconds(task.StartTime)), append(e.EndTimes, microseconds(inOrder(task.StartTime, task.EndTime)))
	e.Agents = append(e.Agents, task.Agent)
	if task.Reason != "" {
		r.reasons.Wanted++
		r.reasons.RunIDs, r.reasons.Nodes = append(r.reasons.RunIDs, run), append(r.reasons.Nodes, task.Node)
		r.reasons.Reasons = append(r.reasons.Reasons, task.Reason)
	}
}

// microseconds since 1970; 0 for no time.
func microseconds(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMicro()
}

func (r *changeRows) attempt(run db.UUID, attempt *workflow.AttemptChange) {
	exit := int32(noExitCode)
	if attempt.ExitCode != nil {
		exit = *attempt.ExitCode
	}
	a := &r.attempts
	a.RunIDs, a.Nodes = append(a.RunIDs, run), append(a.Nodes, attempt.Node)
	a.Attempts, a.Statuses, a.Causes = append(a.Attempts, int16(attempt.Attempt)), append(a.Statuses, int16(attempt.Status)), append(a.Causes, int16(attempt.Cause)) //nolint:gosec // checked in the schema
	a.ExitCodes, a.Agents, a.Reasons = append(a.ExitCodes, exit), append(a.Agents, attempt.Agent), append(a.Reasons, attempt.Reason)
	a.StartTimes, a.EndTimes = append(a.StartTimes, attempt.StartTime), append(a.EndTimes, inOrder(attempt.StartTime, attempt.EndTime))
}

func (r *changeRows) state(run db.UUID, change *workflow.Change) {
	state, s := change.Run, &r.states
	s.Wanted++
	s.RunIDs, s.Statuses = append(s.RunIDs, run), append(s.Statuses, int16(state.Status))
	s.TaskCounts = append(s.TaskCounts, int32(state.Total))             //nolint:gosec // bounded by memory
	s.CompletedTasks = append(s.CompletedTasks, int32(state.Completed)) //nolint:gosec // bounded by memory
	s.FailedTasks = append(s.FailedTasks, int32(state.Failed))          //nolint:gosec // bounded by memory
	s.StartTimes, s.EndTimes = append(s.StartTimes, microseconds(state.StartTime)), append(s.EndTimes, microseconds(inOrder(state.StartTime, state.EndTime)))
	s.CancelTimes = append(s.CancelTimes, microseconds(state.CancelTime))
	if state.Reopened {
		r.reopened = append(r.reopened, db.ReopenRunParams{RunID: run, Bucket: int16(change.ID.Bucket())}) //nolint:gosec // 12 bits
	}
	if state.Stop != workflow.CauseNone || state.Version != 0 || state.Reason != "" {
		d := &r.described
		d.Wanted++
		d.RunIDs, d.Stops, d.Versions = append(d.RunIDs, run), append(d.Stops, int16(state.Stop)), append(d.Versions, state.Version)
		d.Reasons = append(d.Reasons, state.Reason)
	}
	if !state.LogicalDate.IsZero() {
		r.dates.Wanted++
		r.dates.RunIDs, r.dates.LogicalDates = append(r.dates.RunIDs, run), append(r.dates.LogicalDates, state.LogicalDate)
	}
	if state.Status.Ended() {
		r.gone.Buckets, r.gone.RunIDs = append(r.gone.Buckets, int16(change.ID.Bucket())), append(r.gone.RunIDs, run) //nolint:gosec // 12 bits
	}
}

// boundsOf are the least and the greatest of ids. A statement that looks runs up needs them: without, it would look into all
// partitions.
func boundsOf(ids []db.UUID) (least, greatest db.UUID) {
	compare := func(one, other db.UUID) int { return bytes.Compare(one[:], other[:]) }
	return slices.MinFunc(ids, compare), slices.MaxFunc(ids, compare)
}

// values are what tasks gave to later ones, and what evaluation points changed.
func (r *changeRows) values(run db.UUID, change *workflow.Change) {
	for _, output := range change.Outputs {
		o := &r.outputs
		o.Wanted++
		o.RunIDs, o.Nodes, o.Bodies = append(o.RunIDs, run), append(o.Nodes, output.Node), append(o.Bodies, string(output.Body))
	}
	for i := range change.Updates {
		body, sensitive, err := encodedUpdate(&change.Updates[i].ValueUpdate)
		if err != nil {
			body, sensitive = "", "" // a value that is no JSON: the database refuses the empty text
		}
		version := int32(0) // which the database refuses
		if change.Run != nil {
			version = change.Run.Version - int32(len(change.Updates)-1-i) //nolint:gosec // a number of nodes
		}
		u := &r.updates
		u.RunIDs, u.Versions, u.Bodies = append(u.RunIDs, run), append(u.Versions, version), append(u.Bodies, body)
		u.Sensitives, u.Nodes = append(u.Sensitives, sensitive), append(u.Nodes, change.Updates[i].Node)
	}
}

// addTo adds the statements in an order in which each finds what it needs: what people undid goes first, then what grew.
func (r *changeRows) addTo(ctx context.Context, q *db.Queries, p *pipeline) {
	for _, run := range r.reopened {
		p.add(func(on db.DBTX) error { return q.ReopenRun(ctx, on, run) })
	}
	for _, run := range r.reset {
		p.add(func(on db.DBTX) error { return q.ResetTaskRuns(ctx, on, run) })
	}
	for _, run := range r.retired {
		p.add(func(on db.DBTX) error { return q.RetireTaskRuns(ctx, on, run) })
	}
	if len(r.grown) > 0 {
		addGrown(ctx, q, p, r.grown)
	}
	if len(r.attempts.RunIDs) > 0 {
		r.attempts.Least, r.attempts.Greatest = boundsOf(r.attempts.RunIDs)
		p.add(func(on db.DBTX) error { return q.InsertAttempts(ctx, on, r.attempts) })
	}
	if len(r.ended.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.EndTaskRuns(ctx, on, r.ended) })
	}
	if len(r.reasons.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.ExplainTaskRuns(ctx, on, r.reasons) })
	}
	if len(r.requeued.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.RequeueTaskRuns(ctx, on, r.requeued) })
	}
	if len(r.queued.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.InsertQueuedTaskRuns(ctx, on, r.queued) })
	}
	if len(r.waiting.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.InsertWaitingTaskRuns(ctx, on, r.waiting) })
	}
	if len(r.closed.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.InsertEndedTaskRuns(ctx, on, r.closed) })
	}
	if len(r.states.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.WriteRunStates(ctx, on, r.states) })
	}
	if len(r.described.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.DescribeRunStates(ctx, on, r.described) })
	}
	if len(r.updates.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.InsertRunUpdates(ctx, on, r.updates) })
		// Deliveries tell 1 more than the version: see packMembers.
		seen := db.RaiseDispatchVersionsParams{RunIDs: r.updates.RunIDs}
		for _, version := range r.updates.Versions {
			seen.Versions = append(seen.Versions, version+1)
		}
		p.add(func(on db.DBTX) error { return q.RaiseDispatchVersions(ctx, on, seen) })
	}
	if len(r.outputs.RunIDs) > 0 {
		r.outputs.Least, r.outputs.Greatest = boundsOf(r.outputs.RunIDs)
		p.add(func(on db.DBTX) error { return q.WriteOutputs(ctx, on, r.outputs) })
	}
	if len(r.dates.RunIDs) > 0 {
		r.dates.Least, r.dates.Greatest = boundsOf(r.dates.RunIDs)
		p.add(func(on db.DBTX) error { return q.WriteDates(ctx, on, r.dates) })
	}
	if len(r.gone.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.DeleteLiveRuns(ctx, on, r.gone) })
	}
	if len(r.events.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.InsertRunEvents(ctx, on, r.events) })
	}
	if len(r.drop.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.DeleteTimers(ctx, on, r.drop) })
	}
	if len(r.set.RunIDs) > 0 {
		p.add(func(on db.DBTX) error { return q.WriteTimers(ctx, on, r.set) })
	}
}
