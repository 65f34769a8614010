package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

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
	for {
		earlier, err := b.findIdempotent(ctx, submissions)
		if err != nil {
			return nil, err
		}
		fresh, err := b.submitFresh(ctx, submissions, earlier)
		if errors.Is(err, engine.ErrNameTaken) {
			// If somebody used the same idempotency key at the same time, theirs is the run.
			if now, findErr := b.findIdempotent(ctx, submissions); findErr == nil && len(now) > len(earlier) {
				continue
			}
		}
		if err != nil {
			return nil, fmt.Errorf("submit: %w", err)
		}
		answers := make([]engine.Submitted, 0, len(submissions))
		for i := range submissions {
			answer, existing := earlier[submissions[i].IdempotencyKey]
			if !existing {
				answer, fresh = fresh[0], fresh[1:]
			}
			answers = append(answers, answer)
		}
		return answers, nil
	}
}

// submitFresh stores the submissions that are not known from earlier.
func (b *Backend) submitFresh(ctx context.Context, submissions []engine.Submission, earlier map[string]engine.Submitted) ([]engine.Submitted, error) {
	if len(earlier) > 0 {
		submissions = slices.DeleteFunc(slices.Clone(submissions), func(submission engine.Submission) bool {
			_, known := earlier[submission.IdempotencyKey]
			return known
		})
	}
	if len(submissions) == 0 {
		return nil, nil
	}
	rows, err := b.prepareSubmit(ctx, submissions)
	if err != nil {
		return nil, err
	}
	err = b.retryMissingPartition(ctx, func() error {
		return interpretError(pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.submitPipeline(ctx, rows).send(ctx, tx) }))
	})
	if err != nil {
		return nil, err
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
	outputs   db.CopyOutputsParams
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
		id := workflow.NewRunID(now, b.drawBucket(submission.Pin))
		if err := rows.append(id, db.UUID(plan), submission); err != nil {
			return nil, err
		}
		name := submission.Name
		if name == "" {
			name = id.String()
		}
		rows.submitted = append(rows.submitted, engine.Submitted{ID: id, Name: name, CreatedAt: now})
	}
	rows.trim()
	return rows, nil
}

// trim leaves out the columns that no submission has a value for: the server fills them with nulls.
func (r *submitRows) trim() {
	some := func(text string) bool { return text != "" }
	if !slices.ContainsFunc(r.runs.SensitiveValues, some) {
		r.runs.SensitiveValues = nil
	}
	if !slices.ContainsFunc(r.runs.Options, some) {
		r.runs.Options, r.mail.Options = nil, nil
	}
	if !slices.ContainsFunc(r.runs.LogicalDates, func(at time.Time) bool { return !at.IsZero() }) {
		r.runs.LogicalDates = nil
	}
	if !slices.ContainsFunc(r.runs.RerunOfs, func(id db.UUID) bool { return id != db.UUID{} }) {
		r.runs.RerunOfs = nil
	}
}

// drawBucket gives the bucket of a new run: always the same for the same pin, and chance where there is none.
func (b *Backend) drawBucket(pin string) int {
	if pin == "" {
		return rand.IntN(b.buckets) //nolint:gosec // spreads load, hides nothing
	}
	digest := fnv.New64a()
	digest.Write([]byte(pin))
	return int(digest.Sum64() % uint64(b.buckets)) //nolint:gosec // a small number
}

func (r *submitRows) append(id workflow.RunID, plan db.UUID, submission *engine.Submission) error {
	values, sensitive, err := encodedValues(&submission.Values)
	if err != nil {
		return err
	}
	var options []byte
	if !submission.Options.IsZero() {
		if options, err = json.Marshal(&submission.Options); err != nil {
			return fmt.Errorf("encode the rules of the run: %w", err)
		}
	}
	request, err := json.Marshal(&submission.Request)
	if err != nil {
		return fmt.Errorf("encode what was asked for: %w", err)
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
	r.runs.RunValues, r.runs.SensitiveValues = append(r.runs.RunValues, values), append(r.runs.SensitiveValues, sensitive)
	r.runs.Options, r.runs.LogicalDates = append(r.runs.Options, string(options)), append(r.runs.LogicalDates, submission.Options.LogicalDate)
	r.runs.RerunOfs = append(r.runs.RerunOfs, db.UUID(submission.RerunOf))
	r.runs.Requests = append(r.runs.Requests, string(request))
	r.states.RunIDs = append(r.states.RunIDs, uuid)
	r.states.TaskCounts = append(r.states.TaskCounts, int32(len(submission.Plan.Nodes))) //nolint:gosec // bounded by memory
	r.live.Buckets, r.live.RunIDs = append(r.live.Buckets, bucket), append(r.live.RunIDs, uuid)
	r.mail.Buckets, r.mail.RunIDs = append(r.mail.Buckets, bucket), append(r.mail.RunIDs, uuid)
	r.mail.Plans, r.mail.DagIds = append(r.mail.Plans, plan), append(r.mail.DagIds, dag)
	r.mail.HasValues = append(r.mail.HasValues, values != "" || submission.Name != "")
	r.mail.Options = append(r.mail.Options, options)
	r.keep(uuid, submission)
	return nil
}

// keep lets the run have the outputs of the task runs that it need not do again.
func (r *submitRows) keep(run db.UUID, submission *engine.Submission) {
	for _, kept := range submission.Options.Kept {
		if kept.From.IsZero() || kept.Node < 0 || int(kept.Node) >= len(submission.Plan.Nodes) {
			continue
		}
		o := &r.outputs
		o.RunIDs, o.Nodes, o.Tasks = append(o.RunIDs, run), append(o.Nodes, kept.Node), append(o.Tasks, submission.Plan.Nodes[kept.Node].Name)
		o.FromRuns, o.FromNodes = append(o.FromRuns, db.UUID(kept.From)), append(o.FromNodes, kept.FromNode)
	}
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
	if len(rows.outputs.Nodes) > 0 {
		rows.outputs.Least, rows.outputs.Greatest = boundsOf(rows.outputs.FromRuns)
		p.add(func(on db.DBTX) error { return b.queries.CopyOutputs(ctx, on, rows.outputs) })
	}
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

// findIdempotent gives the earlier runs of submissions whose keys are known, by key.
func (b *Backend) findIdempotent(ctx context.Context, submissions []engine.Submission) (map[string]engine.Submitted, error) {
	var keys []string
	for i := range submissions {
		if key := submissions[i].IdempotencyKey; key != "" {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, nil //nolint:nilnil // nothing is asked for
	}
	rows, err := b.queries.ListRunsByName(ctx, b.on(b.pool), db.ListRunsByNameParams{Kind: nameIdempotencyKey, Names: keys})
	if err != nil {
		return nil, fmt.Errorf("look for the idempotency keys: %w", interpretError(err))
	}
	earlier := make(map[string]engine.Submitted, len(rows))
	for _, row := range rows {
		run, err := b.FindRun(ctx, workflow.RunID(row.RunID).String())
		if errors.Is(err, engine.ErrGone) {
			// Retention was broken off before it came to the names: with the run its key is free.
			free := db.FreeRunNameParams{Kind: nameIdempotencyKey, Name: row.Name, RunID: row.RunID}
			if err := b.queries.FreeRunName(ctx, b.on(b.pool), free); err != nil {
				return nil, fmt.Errorf("free the idempotency key of a dropped run: %w", interpretError(err))
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		earlier[row.Name] = engine.Submitted{ID: run.ID, Name: run.Name, CreatedAt: run.CreatedAt, Existing: true}
	}
	return earlier, nil
}

// retryMissingPartition runs something that inserts, and once more after making partitions when there was none. What has no
// place then never will: its range was dropped, or lies far ahead. Error then: engine.ErrRefused.
func (b *Backend) retryMissingPartition(ctx context.Context, run func() error) error {
	err := run()
	if isMissingPartition(err) {
		if ensureErr := b.EnsurePartitions(ctx); ensureErr != nil {
			return errors.Join(err, ensureErr)
		}
		if err = run(); isMissingPartition(err) {
			err = fmt.Errorf("%w: %w", engine.ErrRefused, err)
		}
	}
	return err
}
