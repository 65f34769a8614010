package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// LoadRuns implements engine.Writer.
func (w *Writer) LoadRuns(ctx context.Context, ids []workflow.RunID) ([]*workflow.Run, error) {
	return w.loadRuns(ctx, ids, false)
}

// LoadEnded implements engine.Writer.
func (w *Writer) LoadEnded(ctx context.Context, id workflow.RunID) (*workflow.Run, error) {
	runs, err := w.loadRuns(ctx, []workflow.RunID{id}, true)
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("load the ended run %s: %w", id, engine.ErrNotFound)
	}
	return runs[0], nil
}

func (w *Writer) loadRuns(ctx context.Context, ids []workflow.RunID, ended bool) ([]*workflow.Run, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	params := db.LoadRunsParams{RunIDs: make([]db.UUID, len(ids)), Ended: ended}
	for i, id := range ids {
		params.RunIDs[i] = db.UUID(id)
	}
	params.Least, params.Greatest = boundsOf(params.RunIDs)
	rows, err := w.backend.queries.LoadRuns(ctx, w.backend.on(w.backend.pool), params)
	if err != nil {
		return nil, fmt.Errorf("load runs: %w", interpretError(err))
	}
	runs := make([]*workflow.Run, 0, len(rows))
	for i := range rows {
		run, err := w.loadRun(ctx, &rows[i])
		if errors.Is(err, engine.ErrRefused) {
			return nil, &engine.BrokenRunError{ID: workflow.RunID(rows[i].RunID), Err: err}
		}
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	return runs, nil
}

func (w *Writer) loadRun(ctx context.Context, row *db.LoadRunsRow) (*workflow.Run, error) {
	id := workflow.RunID(row.RunID)
	stored := workflow.StoredRun{
		Status: workflow.RunStatus(row.Status), StartTime: orZero(row.StartTime), CancelTime: orZero(row.CancelTime),
		Stop: workflow.Cause(row.Stop), Version: row.Version, Revision: row.Revision, Retried: row.Retried,
	}
	if len(row.Options) > 0 {
		if err := json.Unmarshal(row.Options, &stored.Options); err != nil {
			return nil, fmt.Errorf("load the rules of run %s: %w: %w", id, engine.ErrRefused, err)
		}
	}
	graph, err := w.backend.graph(ctx, workflow.Hash(row.Plan))
	if err != nil {
		return nil, err
	}
	if row.Grown {
		stored.Planned = graph.Len()
		if graph, err = w.backend.grownGraph(ctx, id, graph); err != nil {
			return nil, err
		}
	}
	var taskRows []db.LoadTaskRunsRow
	if stored.Status != workflow.RunPending {
		if taskRows, err = w.backend.queries.LoadTaskRuns(ctx, w.backend.on(w.backend.pool), row.RunID); err != nil {
			return nil, fmt.Errorf("load the task runs of run %s: %w", id, interpretError(err))
		}
	}
	nodes := make([]workflow.StoredNode, len(taskRows))
	for i := range taskRows {
		nodes[i] = storedNode(&taskRows[i])
	}
	run, err := workflow.RestoreRun(id, row.DagID, graph, row.HasValues, stored, nodes)
	if err != nil {
		return nil, fmt.Errorf("load run %s: %w: %w", id, engine.ErrRefused, err)
	}
	return run, nil
}

func storedNode(row *db.LoadTaskRunsRow) workflow.StoredNode {
	return workflow.StoredNode{Node: row.Node, NodeState: workflow.NodeState{
		Status: workflow.TaskStatus(row.Status), Attempt: uint16(row.Attempt), Delivery: uint16(row.Delivery), //nolint:gosec // checked in the schema
		Retried: uint16(row.Retried), Rescued: uint16(row.Rescued), //nolint:gosec // bounded by attempts
		Cause: workflow.Cause(row.Cause),
	}}
}

// Details implements engine.Writer. It may be called beside other methods.
func (w *Writer) Details(ctx context.Context, id workflow.RunID) (*engine.RunDetails, error) {
	former := w.values.of(id)
	rows, err := w.backend.queries.LoadRunInfos(ctx, w.backend.on(w.backend.pool), db.LoadRunInfosParams{
		RunIDs: []db.UUID{db.UUID(id)}, KnownVersions: []int32{former.version}, Least: db.UUID(id), Greatest: db.UUID(id),
	})
	if err != nil {
		return nil, fmt.Errorf("load what run %s was made of: %w", id, interpretError(err))
	}
	if len(rows) == 0 {
		return nil, &engine.UnknownRunError{ID: id.String()}
	}
	info, err := former.add(&rows[0])
	if err != nil {
		return nil, fmt.Errorf("%w: run %s: %w", engine.ErrRefused, id, err)
	}
	w.values.keep(info, &rows[0])
	details := &engine.RunDetails{ID: info.ID, Name: info.Name, DAG: info.DAG, Revision: rows[0].Revision, Values: info.Values}
	if details.Names, err = w.backend.nodeNames(ctx, id, workflow.Hash(rows[0].Plan)); err != nil {
		return nil, err
	}
	return details, nil
}

// Spec implements engine.Writer. It may be called beside other methods.
func (w *Writer) Spec(ctx context.Context, hash workflow.Hash) (*workflow.TaskSpec, error) {
	specs, err := w.backend.taskSpecs(ctx, []workflow.Hash{hash})
	if err != nil {
		return nil, err
	}
	if specs[hash] == nil {
		return nil, fmt.Errorf("load the specification %s: %w", hash, engine.ErrNotFound)
	}
	return specs[hash], nil
}

// Outputs implements engine.Writer. It may be called beside other methods.
func (w *Writer) Outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error) {
	return w.backend.outputs(ctx, run, tasks)
}

// planOf is the plan of a run.
func (b *Backend) planOf(ctx context.Context, run workflow.RunID) (workflow.Hash, error) {
	plan, err := b.queries.GetRunPlan(ctx, b.on(b.pool), db.UUID(run))
	if errors.Is(err, pgx.ErrNoRows) {
		return workflow.Hash{}, &engine.UnknownRunError{ID: run.String()}
	}
	if err != nil {
		return workflow.Hash{}, fmt.Errorf("look for the plan of run %s: %w", run, interpretError(err))
	}
	return workflow.Hash(plan), nil
}

// nodeNames gives the names of all nodes of a run, by number. A node keeps its name, so only those are read that
// were added since the last time: a loop does not become slower with each turn. Do not change the slice.
func (b *Backend) nodeNames(ctx context.Context, run workflow.RunID, plan workflow.Hash) ([]string, error) {
	b.plans.mutex.Lock()
	names, known := b.plans.runNames[run]
	if !known {
		names, known = b.plans.names[plan]
	}
	b.plans.mutex.Unlock()
	if !known {
		var err error
		if names, err = b.queries.ListPlanNames(ctx, b.on(b.pool), db.UUID(plan)); err != nil {
			return nil, fmt.Errorf("load the names of plan %s: %w", plan, interpretError(err))
		}
		b.keepNames(len(names), func(cache *planCache) { cache.names[plan] = slices.Clip(names) })
	}
	rows, err := b.queries.ListRunNodeNames(ctx, b.on(b.pool), db.ListRunNodeNamesParams{RunID: db.UUID(run), First: int32(len(names))}) //nolint:gosec // bounded by memory
	if err != nil {
		return nil, fmt.Errorf("load the names of the nodes of run %s: %w", run, interpretError(err))
	}
	if len(rows) == 0 {
		return names, nil
	}
	names = slices.Clone(names)
	for _, row := range rows {
		if int(row.Node) != len(names) {
			return nil, fmt.Errorf("%w: node %d of run %s is missing", engine.ErrRefused, len(names), run)
		}
		names = append(names, row.Name)
	}
	b.keepNames(len(rows), func(cache *planCache) { cache.runNames[run] = slices.Clip(names) })
	return names, nil
}

// keepNames puts names into the cache. It begins anew when there are too many.
func (b *Backend) keepNames(count int, keep func(cache *planCache)) {
	cache := &b.plans
	cache.mutex.Lock()
	defer cache.mutex.Unlock()
	if cache.names == nil || cache.held > maxCachedNames {
		cache.names, cache.runNames, cache.held = map[workflow.Hash][]string{}, map[workflow.RunID][]string{}, 0
	}
	cache.held += count
	keep(cache)
}
