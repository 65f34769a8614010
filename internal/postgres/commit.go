package postgres

import (
	"context"
	"fmt"

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
	if len(commit.Changes) > 0 {
		// At once after the fence: a commit that is outdated costs little, and definitions that are published while one is under
		// way do not undo it. Else a long one could be tried again for as long as somebody publishes.
		feed := db.InsertFeedParams{Writer: w.number, Seq: w.seq + 1, At: commit.At, Body: packFeed(commit.Changes)}
		p.add(func(on db.DBTX) error {
			if commit.Revision == nil {
				return q.InsertFeed(ctx, on, feed)
			}
			return q.InsertFeedAtRevision(ctx, on, db.InsertFeedAtRevisionParams{
				Writer: feed.Writer, Seq: feed.Seq, At: feed.At, Body: feed.Body, Revision: *commit.Revision,
			})
		})
	}
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
