package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The kinds of run_names.
const (
	nameCustom         = 1
	nameIdempotencyKey = 2
)

// submitGauge knows roughly how many submissions are unread, without counting at each of them.
type submitGauge struct {
	unread    atomic.Int64
	sinceRead atomic.Int64
}

// gaugeEvery is the number of submissions after which the unread ones are counted anew.
const gaugeEvery = 10_000

// Submit implements engine.Submitter.
func (b *Backend) Submit(ctx context.Context, submissions []engine.Submission) ([]engine.Submitted, error) {
	if err := b.checkPending(ctx, len(submissions)); err != nil {
		return nil, err
	}
	if earlier, err := b.findIdempotent(ctx, submissions); err != nil || earlier != nil {
		return earlier, err
	}
	rows, err := b.prepareSubmit(ctx, submissions)
	if err != nil {
		return nil, err
	}
	err = b.retryMissingPartition(ctx, func() error {
		return interpretError(pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.submitPipeline(ctx, rows).send(ctx, tx) }))
	})
	if errors.Is(err, engine.ErrNameTaken) {
		// Somebody used the same idempotency key at the same time: theirs is the run.
		if earlier, findErr := b.findIdempotent(ctx, submissions); findErr == nil && earlier != nil {
			return earlier, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	b.bell.ringMail(rows.rung()...)
	return rows.submitted, nil
}

// submitRows are the rows of a submission.
type submitRows struct {
	submitted []engine.Submitted
	names     db.InsertRunNamesParams
	runs      db.InsertRunsParams
	states    db.InsertRunStatesParams
	live      db.InsertLiveRunsParams
	mail      db.InsertSubmitMailParams
}

func (b *Backend) prepareSubmit(ctx context.Context, submissions []engine.Submission) (*submitRows, error) {
	rows := &submitRows{}
	if b.clock.stale() {
		if err := b.readClock(ctx); err != nil {
			return nil, fmt.Errorf("read the clock of the database: %w", interpretError(err))
		}
	}
	now := b.clock.now()
	rows.runs.CreatedAt = now
	for i := range submissions {
		submission := &submissions[i]
		plan, err := b.storePlan(ctx, submission.Plan)
		if err != nil {
			return nil, err
		}
		id := workflow.NewRunID(now, rand.IntN(b.buckets)) //nolint:gosec // spreads load, hides nothing
		if err := rows.append(id, db.UUID(plan), submission); err != nil {
			return nil, err
		}
		name := submission.Name
		if name == "" {
			name = id.String()
		}
		rows.submitted = append(rows.submitted, engine.Submitted{ID: id, Name: name, CreatedAt: now})
	}
	return rows, nil
}

func (r *submitRows) append(id workflow.RunID, plan db.UUID, submission *engine.Submission) error {
	values := ""
	if !submission.Values.IsZero() {
		encoded, err := json.Marshal(submission.Values)
		if err != nil {
			return fmt.Errorf("encode the values of the run: %w", err)
		}
		values = string(encoded)
	}
	dag := submission.DAG
	if dag == "" {
		dag = submission.Task
	}
	uuid, bucket := db.UUID(id), int16(id.Bucket()) //nolint:gosec // 12 bits
	for kind, name := range map[int16]string{nameCustom: submission.Name, nameIdempotencyKey: submission.IdempotencyKey} {
		if name != "" {
			r.names.Kinds, r.names.Names, r.names.RunIDs = append(r.names.Kinds, kind), append(r.names.Names, name), append(r.names.RunIDs, uuid)
		}
	}
	r.runs.RunIDs = append(r.runs.RunIDs, uuid)
	r.runs.Plans = append(r.runs.Plans, plan)
	r.runs.Revisions = append(r.runs.Revisions, submission.Revision)
	r.runs.ByOutcomes = append(r.runs.ByOutcomes, submission.DAG == "")
	r.runs.DagIds = append(r.runs.DagIds, dag)
	r.runs.Names = append(r.runs.Names, submission.Name)
	r.runs.Contexts = append(r.runs.Contexts, submission.Context)
	r.runs.Actors = append(r.runs.Actors, submission.Actor)
	r.runs.Causes = append(r.runs.Causes, submission.Cause)
	r.runs.RunValues = append(r.runs.RunValues, values)
	r.states.RunIDs = append(r.states.RunIDs, uuid)
	r.states.TaskCounts = append(r.states.TaskCounts, int32(len(submission.Plan.Nodes))) //nolint:gosec // bounded by memory
	r.live.Buckets, r.live.RunIDs = append(r.live.Buckets, bucket), append(r.live.RunIDs, uuid)
	r.mail.Buckets, r.mail.RunIDs = append(r.mail.Buckets, bucket), append(r.mail.RunIDs, uuid)
	r.mail.Plans, r.mail.DagIds = append(r.mail.Plans, plan), append(r.mail.DagIds, dag)
	r.mail.HasValues = append(r.mail.HasValues, values != "" || submission.Name != "")
	return nil
}

func (r *submitRows) rung() []int {
	seen := map[int16]bool{}
	var buckets []int
	for _, bucket := range r.mail.Buckets {
		if !seen[bucket] {
			seen[bucket] = true
			buckets = append(buckets, int(bucket))
		}
	}
	return buckets
}

func (b *Backend) submitPipeline(ctx context.Context, rows *submitRows) *pipeline {
	p := b.pipeline()
	if len(rows.names.Names) > 0 {
		p.add(func(on db.DBTX) error { return b.queries.InsertRunNames(ctx, on, rows.names) })
	}
	p.add(func(on db.DBTX) error { return b.queries.InsertRuns(ctx, on, rows.runs) })
	p.add(func(on db.DBTX) error { return b.queries.InsertRunStates(ctx, on, rows.states) })
	p.add(func(on db.DBTX) error { return b.queries.InsertLiveRuns(ctx, on, rows.live) })
	p.add(func(on db.DBTX) error { return b.queries.InsertSubmitMail(ctx, on, rows.mail) })
	return p
}

func (b *Backend) checkPending(ctx context.Context, more int) error {
	limit := int64(b.options.MaxPendingSubmits)
	if limit <= 0 {
		return nil
	}
	if since := b.submits.sinceRead.Add(int64(more)); since > min(gaugeEvery, limit/10) || b.submits.unread.Load()+since > limit {
		unread, err := b.queries.CountUnreadSubmits(ctx, b.on(b.pool), int32(min(limit+1, 1<<30))) //nolint:gosec // bounded
		if err != nil {
			return fmt.Errorf("count pending runs: %w", interpretError(err))
		}
		b.submits.unread.Store(unread)
		b.submits.sinceRead.Store(int64(more))
	}
	if b.submits.unread.Load()+int64(more) > limit {
		return fmt.Errorf("%w: %d wait to be started, orchestrator.max_pending_submits is %d; try again later", engine.ErrTooManyPending, b.submits.unread.Load(), limit)
	}
	return nil
}

// findIdempotent gives the earlier run of a single submission whose key is known.
func (b *Backend) findIdempotent(ctx context.Context, submissions []engine.Submission) ([]engine.Submitted, error) {
	if len(submissions) != 1 || submissions[0].IdempotencyKey == "" {
		return nil, nil
	}
	id, err := b.queries.FindRunByName(ctx, b.on(b.pool), db.FindRunByNameParams{Kind: nameIdempotencyKey, Name: submissions[0].IdempotencyKey})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the idempotency key: %w", interpretError(err))
	}
	run, err := b.FindRun(ctx, workflow.RunID(id).String())
	if err != nil {
		return nil, err
	}
	return []engine.Submitted{{ID: run.ID, Name: run.Name, CreatedAt: run.CreatedAt, Existing: true}}, nil
}

// retryMissingPartition runs something that inserts, and once more after making partitions when there was none.
func (b *Backend) retryMissingPartition(ctx context.Context, run func() error) error {
	err := run()
	if isMissingPartition(err) {
		if ensureErr := b.EnsurePartitions(ctx); ensureErr != nil {
			return errors.Join(err, ensureErr)
		}
		err = run()
	}
	return err
}

// Cancel implements engine.Submitter.
func (b *Backend) Cancel(ctx context.Context, run workflow.RunID, actor string) error {
	view, err := b.FindRun(ctx, run.String())
	if err != nil {
		return err
	}
	if view.Status.Ended() {
		return fmt.Errorf("run %s %w: it is %s", view.Name, engine.ErrEnded, view.Status)
	}
	id := db.UUID(run)
	err = b.queries.InsertMail(ctx, b.on(b.pool), db.InsertMailParams{
		Bucket: int16(run.Bucket()), Kind: int16(engine.MailCancel), RunID: &id, Actor: &actor, //nolint:gosec // 12 bits
	})
	if err != nil {
		return fmt.Errorf("cancel run %s: %w", view.Name, interpretError(err))
	}
	b.bell.ringMail(run.Bucket())
	return nil
}
