package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// cloneValues copies what a run was made with, so that nobody's later change reaches it. Updates are not part of that.
func cloneValues(values *workflow.RunValues) workflow.RunValues {
	cloned := workflow.RunValues{
		Variables: maps.Clone(values.Variables), Env: maps.Clone(values.Env),
		Parameters: cloneByTask(values.Parameters), Sensitive: cloneByTask(values.Sensitive),
	}
	for i := range values.Former {
		former := &values.Former[i]
		cloned.Former = append(cloned.Former, workflow.FormerUpdate{Point: former.Point, ValueUpdate: cloneUpdate(&former.ValueUpdate)})
	}
	if values.Macros != nil {
		macros := *values.Macros
		cloned.Macros = &macros
	}
	if values.Trigger != nil {
		trigger := *values.Trigger
		cloned.Trigger = &trigger
	}
	return cloned
}

func cloneByTask(values map[string]map[string]workflow.Value) map[string]map[string]workflow.Value {
	cloned := maps.Clone(values)
	for task, parameters := range cloned {
		cloned[task] = maps.Clone(parameters)
	}
	return cloned
}

// updatedValues are the run's values with what evaluation points changed, as tasks see them.
func (r *run) updatedValues() *workflow.RunValues {
	values := cloneValues(&r.values)
	for i := range r.updates {
		values.Updates = append(values.Updates, cloneUpdate(&r.updates[i].ValueUpdate))
	}
	return &values
}

func cloneUpdate(update *workflow.ValueUpdate) workflow.ValueUpdate {
	return workflow.ValueUpdate{Variables: maps.Clone(update.Variables), Parameters: cloneByTask(update.Parameters)}
}

// Given implements engine.Reader.
func (b *Backend) Given(ctx context.Context, id workflow.RunID) (*workflow.RunValues, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("read the values of run %s: %w", id, err)
	}
	defer b.mutex.Unlock()
	r, err := b.stored(id)
	if err != nil {
		return nil, err
	}
	given := cloneValues(&r.values)
	return &given, nil
}

// Updates implements engine.Reader.
func (b *Backend) Updates(ctx context.Context, id workflow.RunID) ([]workflow.PointUpdate, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("read what evaluation points of run %s changed: %w", id, err)
	}
	defer b.mutex.Unlock()
	r, err := b.stored(id)
	if err != nil {
		return nil, err
	}
	updates := make([]workflow.PointUpdate, len(r.updates))
	for i := range r.updates {
		updates[i] = workflow.PointUpdate{Node: r.updates[i].Node, ValueUpdate: cloneUpdate(&r.updates[i].ValueUpdate)}
	}
	return updates, nil
}

// keepOutputs copies the outputs of task runs that an earlier run did the work of.
func (r *run) keepOutputs(runs map[workflow.RunID]*run) {
	for _, kept := range r.options.Kept {
		if from := runs[kept.From]; from != nil {
			if body, ok := from.outputs[kept.FromNode]; ok {
				r.setOutput(kept.Node, body)
			}
		}
	}
}

func (r *run) setOutput(node int32, body workflow.Value) {
	if r.outputs == nil {
		r.outputs = map[int32]workflow.Value{}
	}
	r.outputs[node] = body
}

// outputs gives those of the newest iterations that completed.
func (b *Backend) outputs(ctx context.Context, id workflow.RunID, tasks []string) (map[string]workflow.Value, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("read the outputs of run %s: %w", id, err)
	}
	defer b.mutex.Unlock()
	found := map[string]workflow.Value{}
	r, ok := b.runs[id]
	if !ok {
		return found, nil
	}
	wanted := make(map[string]bool, len(tasks))
	for _, task := range tasks {
		wanted[task] = true
	}
	newest := map[string]int32{}
	for number, node := range r.nodes { // a later iteration has a larger number
		base := workflow.BaseName(node.Name)
		if row := r.row(int32(number)); wanted[base] && row.Status == workflow.TaskCompleted { //nolint:gosec // a node number
			newest[base] = row.Node
		}
	}
	for task, node := range newest {
		if body, ok := r.outputs[node]; ok {
			found[task] = body
		}
	}
	longer := workflow.LongerNames(tasks, found)
	for _, node := range r.nodes {
		if base := workflow.BaseName(node.Name); slices.Contains(longer, base) {
			found[base] = ""
		}
	}
	return found, nil
}

// Outputs implements engine.Writer.
func (w *Writer) Outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error) {
	return w.backend.outputs(ctx, run, tasks)
}

// Details implements engine.Writer.
func (w *Writer) Details(ctx context.Context, id workflow.RunID) (*engine.RunDetails, error) {
	if err := w.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("load the details of run %s: %w", id, err)
	}
	defer w.backend.mutex.Unlock()
	r, err := w.backend.stored(id)
	if err != nil {
		return nil, err
	}
	details := &engine.RunDetails{ID: r.id, Name: r.publicName(), DAG: r.dag, Revision: r.revision, Values: r.updatedValues()}
	for _, node := range r.nodes {
		details.Names = append(details.Names, node.Name)
	}
	return details, nil
}

// Spec implements engine.Writer.
func (w *Writer) Spec(ctx context.Context, hash workflow.Hash) (*workflow.TaskSpec, error) {
	if err := w.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("load specification %s: %w", hash, err)
	}
	defer w.backend.mutex.Unlock()
	spec, ok := w.backend.specs[hash]
	if !ok {
		return nil, fmt.Errorf("specification %s: %w", hash, engine.ErrNotFound)
	}
	return spec, nil
}
