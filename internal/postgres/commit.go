package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Commit implements engine.Writer, by one pipelined batch, which is a transaction.
func (w *Writer) Commit(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	var result engine.CommitResult
	stored := &storing{Commit: commit}
	var err error
	if stored.classes, err = w.backend.classNumbers(ctx, commit.Dispatches); err != nil {
		return result, err
	}
	if stored.grown, err = w.grownRows(ctx, commit.Changes); err != nil {
		return result, err
	}
	if commit.ReadMail > 0 {
		if reading, some := w.mail.takeRung(commit.ReadMail); some {
			stored.reading = &reading
		}
	}
	if err := w.backend.retryMissingPartition(ctx, func() error { return w.send(ctx, w.build(ctx, stored), commit) }); err != nil {
		if stored.reading != nil {
			w.mail.putBack(*stored.reading)
		}
		return result, fmt.Errorf("commit %d of writer %d: %w", w.seq+1, w.number, err)
	}
	w.seq++
	if len(commit.Dispatches) > 0 || len(commit.Orders) > 0 {
		w.backend.bell.ringWork()
	}
	result.Dispatched = stored.dispatched
	if result.Withdrawn, err = w.backend.deliveriesOf(ctx, stored.withdrawn); err != nil {
		return result, fmt.Errorf("%w: %w", engine.ErrUncertain, err)
	}
	if stored.reading != nil {
		if result.Mail, err = w.take(ctx, *stored.reading, stored.mail); err != nil {
			return result, fmt.Errorf("%w: %w", engine.ErrUncertain, err)
		}
	}
	for _, key := range commit.Mail {
		w.mail.forget(key)
	}
	for _, refused := range commit.Refused {
		for _, key := range refused.Mail {
			w.mail.forget(key)
		}
	}
	return result, nil
}

// storing is a commit on its way: what has to be known to store it, and what the database answered.
type storing struct {
	*engine.Commit
	classes []int32 // of its dispatches
	reading *mailRead
	grown   map[workflow.RunID]*grownRun

	dispatched []int64
	withdrawn  []db.WithdrawDispatchesRow
	mail       []db.ReadMailRow
}

func (w *Writer) send(ctx context.Context, p *pipeline, commit *engine.Commit) error {
	jobs := 0
	for _, change := range commit.Changes {
		jobs += len(change.Jobs)
	}
	if jobs == 0 {
		return interpretError(p.send(ctx, w.backend.pool))
	}
	return interpretError(pgx.BeginFunc(ctx, w.backend.pool, func(tx pgx.Tx) error {
		if err := p.send(ctx, tx); err != nil {
			return err
		}
		return w.backend.enqueueJobs(ctx, tx, commit.Changes)
	}))
}

// build puts the statements of a commit together. The fence comes first.
func (w *Writer) build(ctx context.Context, commit *storing) *pipeline {
	q, p := w.backend.queries, w.backend.pipeline()
	p.add(func(on db.DBTX) error {
		return q.Fence(ctx, on, db.FenceParams{Writer: w.number, Seq: w.seq + 1})
	})
	rows := rowsOf(commit.Commit)
	for _, change := range commit.Changes {
		if grown := commit.grown[change.ID]; grown != nil {
			rows.grown = append(rows.grown, grown)
		}
	}
	rows.addTo(ctx, q, p)
	if len(commit.Withdraw) > 0 {
		withdraw := make([]db.UUID, len(commit.Withdraw))
		for i, run := range commit.Withdraw {
			withdraw[i] = db.UUID(run)
		}
		p.add(func(on db.DBTX) (err error) {
			commit.withdrawn, err = q.WithdrawDispatches(ctx, on, withdraw)
			return err
		})
	}
	if len(commit.Orders) > 0 {
		p.add(func(on db.DBTX) error { return q.InsertKillOrders(ctx, on, killOrderRows(commit.Orders)) })
	}
	if len(commit.Remove) > 0 {
		ids := make([]int64, len(commit.Remove))
		for i, done := range commit.Remove {
			ids[i] = done.ID
		}
		p.add(func(on db.DBTX) error { return q.DeleteDispatches(ctx, on, ids) })
	}
	commit.dispatched = commit.dispatched[:0]
	for i := range commit.Dispatches {
		dispatch := &commit.Dispatches[i]
		params := packMembers(dispatch.Members)
		params.Class, params.Priority = commit.classes[i], int16(dispatch.Priority)                     //nolint:gosec // 1 to 4
		params.ReplyTo, params.QueuedAt = int16(w.ReplyTo(dispatch.Members[0].Run.Bucket())), commit.At //nolint:gosec // 12 bits
		p.add(func(on db.DBTX) error {
			id, err := q.InsertDispatch(ctx, on, params)
			if err == nil {
				commit.dispatched = append(commit.dispatched, id)
			}
			return err
		})
	}
	for i := range commit.Refused {
		w.refuse(ctx, p, commit.Commit, &commit.Refused[i])
	}
	if len(commit.Mail) > 0 {
		p.add(func(on db.DBTX) error { return q.DeleteMail(ctx, on, mailRows(commit.Mail)) })
	}
	if commit.Backlog != nil {
		p.add(func(on db.DBTX) error {
			return q.WriteBacklog(ctx, on, backlogRows(w.number, commit.Backlog))
		})
	}
	if len(commit.Changes) > 0 {
		feed := db.InsertFeedParams{Writer: w.number, Seq: w.seq + 1, At: commit.At, Body: packFeed(commit.Changes)}
		p.add(func(on db.DBTX) error { return q.InsertFeed(ctx, on, feed) })
	}
	if commit.reading != nil {
		p.add(func(on db.DBTX) (err error) {
			commit.mail, err = q.ReadMail(ctx, on, commit.reading.ReadMailParams)
			return err
		})
	}
	return p
}

// refuse fails a run whose changes can't be stored, and keeps its messages aside.
func (w *Writer) refuse(ctx context.Context, p *pipeline, commit *engine.Commit, refused *engine.RefusedRun) {
	q, id, reason := w.backend.queries, db.UUID(refused.ID), refused.Reason
	p.add(func(on db.DBTX) error {
		return q.RefuseRun(ctx, on, db.RefuseRunParams{At: commit.At, Reason: &reason, RunID: id})
	})
	p.add(func(on db.DBTX) error {
		return q.CancelUnendedTaskRuns(ctx, on, db.CancelUnendedTaskRunsParams{At: commit.At, RunID: id})
	})
	p.add(func(on db.DBTX) error {
		return q.DeleteLiveRuns(ctx, on, db.DeleteLiveRunsParams{Buckets: []int16{int16(refused.ID.Bucket())}, RunIDs: []db.UUID{id}}) //nolint:gosec // 12 bits
	})
	p.add(func(on db.DBTX) error { return q.DeleteRunTimers(ctx, on, id) })
	if len(refused.Mail) > 0 {
		mail := mailRows(refused.Mail)
		p.add(func(on db.DBTX) error {
			return q.KeepDeadLetters(ctx, on, db.KeepDeadLettersParams{RunID: id, Reason: reason, Buckets: mail.Buckets, XIDs: mail.XIDs, IDs: mail.IDs})
		})
		p.add(func(on db.DBTX) error { return q.DeleteMail(ctx, on, mail) })
	}
}

func mailRows(keys []engine.MailKey) db.DeleteMailParams {
	rows := db.DeleteMailParams{Wanted: int64(len(keys))}
	for _, key := range keys {
		rows.Buckets = append(rows.Buckets, int16(key.Bucket)) //nolint:gosec // 12 bits
		rows.XIDs = append(rows.XIDs, key.XID)
		rows.IDs = append(rows.IDs, key.ID)
	}
	return rows
}

func killOrderRows(orders []engine.KillOrder) db.InsertKillOrdersParams {
	var rows db.InsertKillOrdersParams
	for i := range orders {
		order := &orders[i]
		rows.RunIDs = append(rows.RunIDs, db.UUID(order.Run))
		rows.Nodes = append(rows.Nodes, order.Node)
		rows.Attempts = append(rows.Attempts, int16(order.Attempt))      //nolint:gosec // checked in the schema
		rows.Deliveries = append(rows.Deliveries, int16(order.Delivery)) //nolint:gosec // checked in the schema
	}
	return rows
}

func backlogRows(writer int64, backlog []engine.Backlog) db.WriteBacklogParams {
	rows := db.WriteBacklogParams{Writer: writer}
	for i := range backlog {
		rows.Queues = append(rows.Queues, backlog[i].Queue)
		rows.Priorities = append(rows.Priorities, int16(backlog[i].Priority)) //nolint:gosec // 1 to 4
		rows.Waitings = append(rows.Waitings, int32(backlog[i].Waiting))      //nolint:gosec // bounded by memory
		rows.Oldests = append(rows.Oldests, backlog[i].Oldest)
	}
	return rows
}

// classNumbers gives the numbers of the dispatches' classes, new ones too.
func (b *Backend) classNumbers(ctx context.Context, dispatches []engine.Dispatch) ([]int32, error) {
	numbers := make([]int32, len(dispatches))
	b.classes.mutex.Lock()
	defer b.classes.mutex.Unlock()
	if b.classes.numbers == nil {
		b.classes.numbers, b.classes.classes = map[engine.Class]int32{}, map[int32]engine.Class{}
	}
	for i := range dispatches {
		class := dispatches[i].Class
		number, ok := b.classes.numbers[class]
		if !ok {
			var err error
			number, err = b.queries.EnsureClass(ctx, b.on(b.pool), db.EnsureClassParams{Queue: class.Queue, Requires: splitTags(class.Requires)})
			if errors.Is(err, pgx.ErrNoRows) {
				// Somebody else made it at the same time, after this statement's snapshot.
				number, err = b.queries.EnsureClass(ctx, b.on(b.pool), db.EnsureClassParams{Queue: class.Queue, Requires: splitTags(class.Requires)})
			}
			if err != nil {
				return nil, fmt.Errorf("make the class of queue %s: %w", class.Queue, interpretError(err))
			}
			b.classes.numbers[class], b.classes.classes[number] = number, class
		}
		numbers[i] = number
	}
	return numbers, nil
}

func (b *Backend) classByID(ctx context.Context, number int32) (engine.Class, error) {
	b.classes.mutex.Lock()
	defer b.classes.mutex.Unlock()
	if class, ok := b.classes.classes[number]; ok {
		return class, nil
	}
	rows, err := b.queries.ListClasses(ctx, b.on(b.pool))
	if err != nil {
		return engine.Class{}, fmt.Errorf("list the classes of the queue: %w", interpretError(err))
	}
	if b.classes.numbers == nil {
		b.classes.numbers, b.classes.classes = map[engine.Class]int32{}, map[int32]engine.Class{}
	}
	for _, row := range rows {
		class := engine.Class{Queue: row.Queue, Requires: joinTags(row.Requires)}
		b.classes.numbers[class], b.classes.classes[row.Class] = row.Class, class
	}
	class, ok := b.classes.classes[number]
	if !ok {
		return class, fmt.Errorf("class %d of the queue: %w", number, engine.ErrNotFound)
	}
	return class, nil
}

func (b *Backend) deliveriesOf(ctx context.Context, rows []db.WithdrawDispatchesRow) ([]engine.Delivery, error) {
	deliveries := make([]engine.Delivery, 0, len(rows))
	for i := range rows {
		row := &rows[i]
		members, err := unpackMembers(row.Runs, row.Dags, row.Versions, row.Specs, row.Members)
		if err != nil {
			return nil, fmt.Errorf("delivery %d: %w", row.ID, err)
		}
		class, err := b.classByID(ctx, row.Class)
		if err != nil {
			return nil, err
		}
		deliveries = append(deliveries, engine.Delivery{ID: row.ID, Class: class, Priority: int(row.Priority), Members: members})
	}
	return deliveries, nil
}

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
		body, err := json.Marshal(&change.Updates[i].ValueUpdate)
		if err != nil {
			body = nil // a value that is no JSON: the database refuses the empty text
		}
		version := int32(0) // which the database refuses
		if change.Run != nil {
			version = change.Run.Version - int32(len(change.Updates)-1-i) //nolint:gosec // a number of nodes
		}
		u := &r.updates
		u.RunIDs, u.Versions, u.Bodies = append(u.RunIDs, run), append(u.Versions, version), append(u.Bodies, string(body))
		u.Nodes = append(u.Nodes, change.Updates[i].Node)
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
