package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
	body, err := json.Marshal(values)
	if err != nil {
		return "", "", fmt.Errorf("encode the values of the run: %w", err)
	}
	if len(values.Sensitive) == 0 {
		return string(body), "", nil
	}
	hidden, err := json.Marshal(values.Sensitive)
	if err != nil {
		return "", "", errors.New("encode the sensitive values of the run: one of them is not JSON")
	}
	return string(body), string(hidden), nil
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
	return values, nil
}

func runInfo(row *db.LoadRunInfosRow) (*engine.RunInfo, error) {
	id := workflow.RunID(row.RunID)
	info := &engine.RunInfo{ID: id, Name: id.String(), DAG: row.DagID}
	if row.Name != nil {
		info.Name = *row.Name
	}
	var err error
	if info.Values, err = decodedValues(row.RunValues, row.SensitiveValues); err != nil {
		return nil, err
	}
	if len(row.Updates) > 0 {
		if err := json.Unmarshal(row.Updates, &info.Values.Updates); err != nil {
			return nil, fmt.Errorf("decode what evaluation points changed: %w", err)
		}
	}
	return info, nil
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
	return outputs, nil
}
