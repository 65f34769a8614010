package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// reading bounds a statement for people. The driver asks the server to cancel it when the time is over.
func (b *Backend) reading(ctx context.Context) (context.Context, context.CancelFunc) {
	if b.options.StatementTimeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, b.options.StatementTimeout)
}

// FindRun implements engine.Reader.
func (b *Backend) FindRun(ctx context.Context, id string) (engine.RunView, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	run, err := workflow.ParseRunID(id)
	if err != nil {
		uuid, err := b.queries.FindRunByName(ctx, b.on(b.pool), db.FindRunByNameParams{Kind: nameCustom, Name: id})
		if errors.Is(err, pgx.ErrNoRows) {
			return engine.RunView{}, &engine.UnknownRunError{ID: id}
		}
		if err != nil {
			return engine.RunView{}, fmt.Errorf("look for run %s: %w", id, interpretError(err))
		}
		run = workflow.RunID(uuid)
	}
	row, err := b.queries.GetRunView(ctx, b.on(b.pool), db.UUID(run))
	if errors.Is(err, pgx.ErrNoRows) {
		return engine.RunView{}, b.goneOrUnknown(ctx, run, &engine.UnknownRunError{ID: id})
	}
	if err != nil {
		return engine.RunView{}, fmt.Errorf("read run %s: %w", id, interpretError(err))
	}
	return runView(&row)
}

func runView(row *db.CyclonetixRun) (engine.RunView, error) {
	status, err := workflow.ParseRunStatus(row.Status)
	if err != nil {
		return engine.RunView{}, fmt.Errorf("read run %s: %w", workflow.RunID(row.RunUuid), err)
	}
	var request *engine.Request
	if len(row.Request) > 0 {
		if err := json.Unmarshal(row.Request, &request); err != nil {
			return engine.RunView{}, fmt.Errorf("decode what was asked for with run %s: %w", workflow.RunID(row.RunUuid), err)
		}
	}
	return engine.RunView{
		ID: workflow.RunID(row.RunUuid), Name: orEmpty(row.RunID), DAG: row.DagID, ByOutcome: row.ByOutcome, Context: orEmpty(row.Context), Status: status,
		CreatedAt: row.CreatedAt.UTC(), StartTime: orZero(row.StartTime), EndTime: orZero(row.EndTime), CancelTime: orZero(row.CancelTime),
		TaskCount: int(row.TaskCount), CompletedTasks: int(row.CompletedTasks), FailedTasks: int(row.FailedTasks),
		Reason: orEmpty(row.Reason), Actor: row.Actor, Cause: row.Cause, Revision: row.Revision,
		LogicalDate: orZero(row.LogicalDate), RerunOf: orNoRun(row.RerunOf), RerunOfName: textOf(row.RerunOfID),
		Request: request,
	}, nil
}

func orEmpty(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func orNoRun(id *db.UUID) workflow.RunID {
	if id == nil {
		return workflow.RunID{}
	}
	return workflow.RunID(*id)
}

// The bounds of a list: totals are exact up to the first; the second is the limit when none is given.
const (
	exactTotal   = 10_000
	defaultLimit = 100
)

// Runs implements engine.Reader.
func (b *Backend) Runs(ctx context.Context, filter engine.RunFilter) (engine.RunList, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	since, until := workflow.FirstRunID(filter.Since), workflow.RunID{0: 0xff, 1: 0xff, 2: 0xff, 3: 0xff, 4: 0xff, 5: 0xff}
	if filter.Since.IsZero() {
		since = workflow.RunID{}
	}
	if !filter.Until.IsZero() {
		until = workflow.FirstRunID(filter.Until)
	}
	limit := filter.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	var rows []db.CyclonetixRun
	var total int64
	var err, countErr error
	bounds := db.CountRunViewsParams{Since: db.UUID(since), Until: db.UUID(until), DagID: filter.DAG, Most: exactTotal + 1}
	if len(filter.Status) == 0 || slices.Contains(filter.Status, workflow.RunCompleted) && len(filter.Status) == 6 {
		rows, err = b.queries.ListRunViews(ctx, b.on(b.pool), db.ListRunViewsParams{
			Since: bounds.Since, Until: bounds.Until, DagID: filter.DAG, Most: int32(limit), Skip: int32(filter.Offset), //nolint:gosec // bounded by the API
		})
		total, countErr = b.queries.CountRunViews(ctx, b.on(b.pool), bounds)
	} else {
		statuses := make([]int16, len(filter.Status))
		for i, status := range filter.Status {
			statuses[i] = int16(status)
		}
		rows, err = b.queries.ListRunViewsByStatus(ctx, b.on(b.pool), db.ListRunViewsByStatusParams{
			Statuses: statuses, Since: bounds.Since, Until: bounds.Until, DagID: filter.DAG, Most: int32(limit), //nolint:gosec // bounded by the API
			Skip: int32(filter.Offset), Reach: int32(limit + filter.Offset), //nolint:gosec // bounded by the API
		})
		total, countErr = b.queries.CountRunViewsByStatus(ctx, b.on(b.pool), db.CountRunViewsByStatusParams{
			Statuses: statuses, Since: bounds.Since, Until: bounds.Until, DagID: filter.DAG, Most: bounds.Most,
		})
	}
	if err := errors.Join(err, countErr); err != nil {
		return engine.RunList{}, fmt.Errorf("list runs: %w", interpretError(err))
	}
	list := engine.RunList{Runs: make([]engine.RunView, 0, len(rows)), Total: int(min(total, exactTotal)), TotalExact: total <= exactTotal}
	for i := range rows {
		view, err := runView(&rows[i])
		if err != nil {
			return list, err
		}
		list.Runs = append(list.Runs, view)
	}
	return list, nil
}

// Outcomes implements engine.Reader.
func (b *Backend) Outcomes(ctx context.Context, since time.Time, limit int) ([]engine.RunView, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	rows, err := b.queries.ListOutcomeViews(ctx, b.on(b.pool), db.ListOutcomeViewsParams{Since: db.UUID(workflow.FirstRunID(since)), Most: int32(limit)}) //nolint:gosec // small
	if err != nil {
		return nil, fmt.Errorf("list runs by outcome: %w", interpretError(err))
	}
	views := make([]engine.RunView, len(rows))
	for i := range rows {
		if views[i], err = runView(&rows[i]); err != nil {
			return nil, err
		}
	}
	return views, nil
}

// TaskRun implements engine.Reader.
func (b *Backend) TaskRun(ctx context.Context, run workflow.RunID, node int32) (engine.TaskRunView, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	row, err := b.queries.GetTaskRunView(ctx, b.on(b.pool), db.GetTaskRunViewParams{RunID: db.UUID(run), Node: node})
	if errors.Is(err, pgx.ErrNoRows) {
		return engine.TaskRunView{}, fmt.Errorf("task run %s: %w", workflow.TaskRunID(run, node), engine.ErrNotFound)
	}
	if err != nil {
		return engine.TaskRunView{}, fmt.Errorf("read task run %s: %w", workflow.TaskRunID(run, node), interpretError(err))
	}
	listed := db.ListTaskRunViewsRow(row)
	return taskRunView(run, &listed)
}

// TaskRuns implements engine.Reader.
func (b *Backend) TaskRuns(ctx context.Context, run workflow.RunID) ([]engine.TaskRunView, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	rows, err := b.queries.ListTaskRunViews(ctx, b.on(b.pool), db.UUID(run))
	if err != nil {
		return nil, fmt.Errorf("read the task runs of run %s: %w", run, interpretError(err))
	}
	views := make([]engine.TaskRunView, len(rows))
	for i := range rows {
		if views[i], err = taskRunView(run, &rows[i]); err != nil {
			return nil, err
		}
	}
	return views, nil
}

// Needs implements engine.Reader.
func (b *Backend) Needs(ctx context.Context, run workflow.RunID) (map[int32]engine.Class, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	rows, err := b.queries.ListRunNeeds(ctx, b.on(b.pool), db.UUID(run))
	if err != nil {
		return nil, fmt.Errorf("read what the task runs of run %s need: %w", run, interpretError(err))
	}
	needs := make(map[int32]engine.Class, len(rows))
	for _, row := range rows {
		var spec struct { // of a workflow.TaskSpec: there may be very many
			Queue     string             `json:"queue"`
			Requires  []string           `json:"requires"`
			Resources workflow.Resources `json:"resources"`
		}
		if err := json.Unmarshal(row.Body, &spec); err != nil {
			return nil, fmt.Errorf("read what task run %s needs: %w", workflow.TaskRunID(run, row.Node), err)
		}
		needs[row.Node] = engine.Class{Queue: spec.Queue, Requires: joinTags(spec.Requires), Resources: spec.Resources}
	}
	return needs, nil
}

func taskRunView(run workflow.RunID, row *db.ListTaskRunViewsRow) (engine.TaskRunView, error) {
	status, err := workflow.ParseTaskStatus(row.Status)
	if err != nil {
		return engine.TaskRunView{}, fmt.Errorf("read task run %s: %w", workflow.TaskRunID(run, row.Node), err)
	}
	view := engine.TaskRunView{
		Node: row.Node, Name: row.Name, TaskID: row.TaskID, Queue: row.Queue, Priority: int(row.Priority), Status: status, Attempt: int(row.Attempt),
		QueuedTime: orZero(row.QueuedTime), StartTime: timeOf(row.StartTime), EndTime: orZero(row.EndTime),
		ExitCode: row.ExitCode, AgentID: orEmpty(row.AgentID), Reason: orEmpty(row.Reason),
	}
	if err := view.Cause.UnmarshalText([]byte(row.Cause)); err != nil {
		return view, fmt.Errorf("read task run %s: %w", workflow.TaskRunID(run, row.Node), err)
	}
	return view, nil
}

// timeOf is the time in a column whose type sqlc does not know.
func timeOf(value any) time.Time {
	at, _ := value.(time.Time)
	if at.IsZero() {
		return time.Time{}
	}
	return at.UTC()
}

// textOf is the text in a column whose type sqlc does not know.
func textOf(value any) string {
	text, _ := value.(string)
	return text
}

// Plan implements engine.Reader.
func (b *Backend) Plan(ctx context.Context, run workflow.RunID) ([]engine.PlanNode, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	plan, err := b.planOf(ctx, run)
	if err != nil {
		return nil, err
	}
	rows, err := b.queries.ListRunPlan(ctx, b.on(b.pool), db.ListRunPlanParams{Plan: db.UUID(plan), RunID: db.UUID(run)})
	if err != nil {
		return nil, fmt.Errorf("read the plan of run %s: %w", run, interpretError(err))
	}
	nodes := make([]engine.PlanNode, len(rows))
	for i, row := range rows {
		nodes[i] = engine.PlanNode{Node: row.Node, Name: row.Name, TaskID: row.TaskID, Dependencies: row.Dependencies}
	}
	return nodes, nil
}

// Events implements engine.Reader.
func (b *Backend) Events(ctx context.Context, run workflow.RunID) ([]engine.EventView, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	rows, err := b.queries.ListEventViews(ctx, b.on(b.pool), db.UUID(run))
	if err != nil {
		return nil, fmt.Errorf("read the events of run %s: %w", run, interpretError(err))
	}
	if len(rows) == 0 {
		return nil, &engine.UnknownRunError{ID: run.String()} // a run was submitted, if nothing else
	}
	views := make([]engine.EventView, len(rows))
	for i := range rows {
		row := &rows[i]
		views[i] = engine.EventView{
			At: row.At.UTC(), Kind: row.Kind, Node: row.Node, Name: row.Name, Attempt: int(row.Attempt), Actor: row.Actor, Reason: row.Reason,
			Detail: workflow.Value(row.Detail),
		}
		if err := views[i].Cause.UnmarshalText([]byte(row.Cause)); err != nil {
			return nil, fmt.Errorf("read the events of run %s: %w", run, err)
		}
	}
	return views, nil
}

// Logs implements engine.Reader.
func (b *Backend) Logs(ctx context.Context, run workflow.RunID, node int32, after engine.LogPlace, limit int) ([]engine.LogChunk, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	rows, err := b.queries.ListLogs(ctx, b.on(b.logPool), db.ListLogsParams{
		RunID: db.UUID(run), Node: node, Attempt: int16(after.Attempt), Seq: after.Seq, Most: int32(limit), //nolint:gosec // small
	})
	if err != nil {
		return nil, fmt.Errorf("read the log of task run %s: %w", workflow.TaskRunID(run, node), interpretError(err))
	}
	chunks := make([]engine.LogChunk, len(rows))
	for i, row := range rows {
		chunks[i] = engine.LogChunk{
			Run: run, Node: node, Attempt: uint16(row.Attempt), Seq: row.Seq, Time: row.At.UTC(), Stream: engine.Stream(row.Stream), Body: row.Body, //nolint:gosec // checked in the schema
		}
	}
	return chunks, nil
}

// Queues implements engine.Reader.
func (b *Backend) Queues(ctx context.Context) ([]engine.QueueView, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	rows, err := b.queries.ListQueueViews(ctx, b.on(b.pool))
	if err != nil {
		return nil, fmt.Errorf("read the queues: %w", interpretError(err))
	}
	views := make([]engine.QueueView, len(rows))
	for i, row := range rows {
		views[i] = engine.QueueView{Name: row.Name, Depth: int(row.Depth), Running: int(row.Running), Oldest: timeOf(row.Oldest), Consumers: int(row.Consumers)}
	}
	return views, nil
}

// Agents implements engine.Reader.
func (b *Backend) Agents(ctx context.Context) ([]engine.AgentView, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	rows, err := b.queries.ListAgentViews(ctx, b.on(b.pool))
	if err != nil {
		return nil, fmt.Errorf("read the agents: %w", interpretError(err))
	}
	views := make([]engine.AgentView, len(rows))
	for i := range rows {
		row := &rows[i]
		views[i] = engine.AgentView{
			ID: row.AgentID, Incarnation: row.Incarnation, Status: row.Status, Queues: row.Queues, Tags: row.Tags, Slots: int(row.Slots),
			Resources: resourcesOf(int32(math.Round(row.Cpu*float64(workflow.Core))), row.MemoryMb, row.Gpu, row.DiskMb),
			Running:   int(row.Running), Version: row.Version, RegisteredAt: row.RegisteredAt.UTC(), LastHeartbeat: orZero(row.LastHeartbeat),
		}
	}
	return views, nil
}
