package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// encodedValues are the values of a run as they are stored: the sensitive ones apart. Empty for none.
func encodedValues(values *workflow.RunValues) (shown, sensitive string, err error) {
	if values.IsZero() {
		return "", "", nil
	}
	open, apart := *values, maps.Clone(values.Sensitive)
	open.Former = slices.Clone(values.Former)
	for i := range open.Former {
		if parameters := open.Former[i].Parameters; len(parameters) > 0 {
			if apart == nil {
				apart = map[string]map[string]workflow.Value{}
			}
			if apart[ofFormer] == nil {
				apart[ofFormer] = map[string]workflow.Value{}
			}
			text, err := json.Marshal(parameters)
			if err != nil {
				return "", "", errors.New("encode the values of the run: what an evaluation point set is not JSON")
			}
			apart[ofFormer][strconv.Itoa(i)], open.Former[i].Parameters = workflow.Value(text), nil
		}
	}
	body, err := json.Marshal(&open)
	if err != nil {
		return "", "", fmt.Errorf("encode the values of the run: %w", err)
	}
	if len(apart) == 0 {
		return string(body), "", nil
	}
	hidden, err := json.Marshal(apart)
	if err != nil {
		return "", "", errors.New("encode the sensitive values of the run: one of them is not JSON")
	}
	return string(body), string(hidden), nil
}

// ofFormer stands in the place of a task's id, which is never empty, for what evaluation points of an earlier run set: by its
// place among them.
const ofFormer = ""

// encodedUpdate is what an evaluation point changed as it is stored. The parameters are apart, because only who runs the task
// that they are of knows which of them are sensitive; empty for none.
func encodedUpdate(update *workflow.ValueUpdate) (shown, sensitive string, err error) {
	body, err := json.Marshal(&workflow.ValueUpdate{Variables: update.Variables})
	if err != nil {
		return "", "", errors.New("encode what an evaluation point changed: a value is not JSON")
	}
	if len(update.Parameters) == 0 {
		return string(body), "", nil
	}
	apart, err := json.Marshal(update.Parameters)
	if err != nil {
		return "", "", errors.New("encode what an evaluation point changed: a value is not JSON")
	}
	return string(body), string(apart), nil
}

// decodedValues is the inverse of encodedValues.
func decodedValues(shown, sensitive []byte) (*workflow.RunValues, error) {
	values := new(workflow.RunValues)
	if len(shown) > 0 {
		if err := json.Unmarshal(shown, values); err != nil {
			return nil, fmt.Errorf("decode the values of the run: %w", err)
		}
	}
	if len(sensitive) > 0 {
		if json.Unmarshal(sensitive, &values.Sensitive) != nil {
			return nil, errors.New("decode the sensitive values of the run: they are damaged")
		}
	}
	for place, text := range values.Sensitive[ofFormer] {
		i, err := strconv.Atoi(place)
		if err != nil || i < 0 || i >= len(values.Former) || json.Unmarshal([]byte(text), &values.Former[i].Parameters) != nil {
			return nil, errors.New("decode the sensitive values of the run: they are damaged")
		}
	}
	if delete(values.Sensitive, ofFormer); len(values.Sensitive) == 0 {
		values.Sensitive = nil
	}
	return values, nil
}

// knownRun is what somebody knows of a run.
type knownRun struct {
	*engine.RunInfo
	// version is 0 where the run had no values, else 1 more than that of the values.
	version int32
}

// add gives what is known with a row of what came after it. What was known stays as it is: tasks have it.
func (k knownRun) add(row *db.LoadRunInfosRow) (knownRun, error) {
	var info engine.RunInfo
	var values workflow.RunValues
	if k.version == 0 {
		id := workflow.RunID(row.RunID)
		info = engine.RunInfo{ID: id, Name: id.String(), DAG: row.DagID}
		if row.Name != nil {
			info.Name = *row.Name
		}
		first, err := decodedValues(row.RunValues, row.SensitiveValues)
		if err != nil {
			return k, err
		}
		values = *first
	} else {
		info, values = *k.RunInfo, *k.Values
	}
	if len(row.Updates) > 0 {
		var updates []workflow.ValueUpdate
		if err := json.Unmarshal(row.Updates, &updates); err != nil {
			return k, fmt.Errorf("decode what evaluation points changed: %w", err)
		}
		var apart []map[string]map[string]workflow.Value
		if json.Unmarshal(row.SensitiveUpdates, &apart) != nil || len(apart) != len(updates) {
			return k, errors.New("decode what evaluation points changed: the parameters are damaged")
		}
		for i := range apart {
			if apart[i] != nil {
				updates[i].Parameters = apart[i]
			}
		}
		values.Updates = workflow.FoldUpdates(slices.Concat(values.Updates, updates))
	}
	info.Values = &values
	return knownRun{&info, max(k.version, row.Version+1)}, nil
}

// valueCache is what a writer knows of runs whose values change again and again, so that a loop does not become slower
// with each turn.
type valueCache struct {
	mutex sync.Mutex
	runs  map[workflow.RunID]knownRun
	held  int // bytes, as they were stored
}

// maxCachedValues is the size of the cache in bytes; beyond it, it begins anew.
const maxCachedValues = 64 << 20

func (c *valueCache) of(id workflow.RunID) knownRun {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.runs[id]
}

func (c *valueCache) keep(run knownRun, row *db.LoadRunInfosRow) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(run.Values.Updates) == 0 || run.version <= c.runs[run.ID].version {
		return // it may never be asked for again, or somebody else learned of more
	}
	if c.runs == nil || c.held > maxCachedValues {
		c.runs, c.held = map[workflow.RunID]knownRun{}, 0
	}
	c.runs[run.ID] = run
	c.held += len(row.RunValues) + len(row.SensitiveValues) + len(row.Updates) + len(row.SensitiveUpdates)
}

// Given implements engine.Reader.
func (b *Backend) Given(ctx context.Context, run workflow.RunID) (*workflow.RunValues, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	row, err := b.queries.GetGivenValues(ctx, b.on(b.pool), db.UUID(run))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &engine.UnknownRunError{ID: run.String()}
	}
	if err != nil {
		return nil, fmt.Errorf("read the values of run %s: %w", run, interpretError(err))
	}
	return decodedValues(row.RunValues, row.SensitiveValues)
}

// Updates implements engine.Reader.
func (b *Backend) Updates(ctx context.Context, run workflow.RunID) ([]workflow.PointUpdate, error) {
	ctx, cancel := b.reading(ctx)
	defer cancel()
	rows, err := b.queries.ListRunUpdates(ctx, b.on(b.pool), db.UUID(run))
	if err != nil {
		return nil, fmt.Errorf("read what evaluation points of run %s changed: %w", run, interpretError(err))
	}
	updates := make([]workflow.PointUpdate, len(rows))
	for i := range rows {
		updates[i].Node = rows[i].Node
		if err := json.Unmarshal(rows[i].Body, &updates[i].ValueUpdate); err != nil {
			return nil, fmt.Errorf("decode what %s changed: %w", workflow.TaskRunID(run, rows[i].Node), err)
		}
		if len(rows[i].Sensitive) > 0 && json.Unmarshal(rows[i].Sensitive, &updates[i].Parameters) != nil {
			return nil, fmt.Errorf("decode what %s changed: the parameters are damaged", workflow.TaskRunID(run, rows[i].Node))
		}
	}
	return updates, nil
}

// outputs gives, of each task, what its newest iteration gave of those that completed.
func (b *Backend) outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error) {
	rows, err := b.queries.ListOutputs(ctx, b.on(b.pool), db.ListOutputsParams{RunID: db.UUID(run), Tasks: tasks})
	if err != nil {
		return nil, fmt.Errorf("read the outputs of run %s: %w", run, interpretError(err))
	}
	outputs := make(map[string]workflow.Value, len(rows))
	for _, row := range rows {
		outputs[row.Task] = workflow.Value(row.Body)
	}
	longer := workflow.LongerNames(tasks, outputs)
	if len(longer) == 0 {
		return outputs, nil
	}
	there, err := b.queries.ListNodesAmong(ctx, b.on(b.pool), db.ListNodesAmongParams{RunID: db.UUID(run), Names: longer})
	if err != nil {
		return nil, fmt.Errorf("read which tasks run %s has: %w", run, interpretError(err))
	}
	for _, task := range there {
		outputs[task] = ""
	}
	return outputs, nil
}
