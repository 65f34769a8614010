package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// soon is the time in which a run begins that waits for nothing.
	soon = time.Second
	// namedRuns bounds the runs that are named as those that are waited for.
	namedRuns = 3
)

// waitsFor says for people what a pending run waits for; empty when it may begin at any moment.
func (d *Direct) waitsFor(ctx context.Context, run *engine.RunView) (string, error) {
	if run.Status != workflow.RunPending || d.backend.Now().Sub(run.CreatedAt) < soon {
		return "", nil
	}
	pending, err := d.backend.Pending(ctx, run.ID)
	switch {
	case err != nil:
		return "", err
	case !pending.Orchestrated:
		return "an orchestrator, and none runs: `cyclonetix serve` starts one", nil
	}
	if !pending.After.IsZero() {
		dates, err := d.backend.Dates(ctx, []engine.LogicalDate{{DAG: run.DAG, Date: pending.After}})
		if err != nil {
			return "", err
		}
		if before := dates[0].Latest; dates[0].PassedOver(pending.After) && !before.IsZero() {
			pending.After = before
			if dates, err = d.backend.Dates(ctx, []engine.LogicalDate{{DAG: run.DAG, Date: before}}); err != nil {
				return "", err
			}
		}
		if !dates[0].Succeeded && !dates[0].Latest.IsZero() {
			return fmt.Sprintf("a success of the run for %s (depends_on_past)", pending.After.UTC().Format(time.RFC3339)), nil
		}
	}
	for _, group := range pending.Groups {
		if group.Name != pin(run.DAG) {
			return fmt.Sprintf("its turn in its backfill, of which %d may run at once", group.MaxActive), nil
		}
		others, err := d.underWay(ctx, run.DAG)
		if err != nil {
			return "", err
		}
		if slices.Contains(others, run.Name) {
			return "", nil // it has begun meanwhile
		}
		if len(others) >= group.MaxActive {
			names := strings.Join(others[:min(namedRuns, len(others))], ", ")
			if len(others) > namedRuns {
				names += fmt.Sprintf(" and %d more", len(others)-namedRuns)
			}
			return fmt.Sprintf("the end of %s (max_active_runs is %d)", names, group.MaxActive), nil
		}
	}
	return "", nil
}

// underWay names the runs of a DAG that have begun and not ended, the oldest first.
func (d *Direct) underWay(ctx context.Context, dag string) ([]string, error) {
	found, err := d.backend.Runs(ctx, engine.RunFilter{
		Status: []workflow.RunStatus{workflow.RunRunning, workflow.RunPaused}, DAG: dag, Limit: MaxLimit,
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range slices.Backward(found.Runs) {
		if !found.Runs[i].ByOutcome { // that is of the task with the same id
			names = append(names, found.Runs[i].Name)
		}
	}
	return names, nil
}
