package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// HandleCompleted registers the job that starts a run because one of another DAG has completed. While the run can't be
// started, the job is done again.
func HandleCompleted(jobs *engine.Jobs, runs engine.Reader, starter Starter, logger *slog.Logger) {
	jobs.HandleJob(engine.JobDAGCompleted, func(ctx context.Context, args []byte) error {
		var completed engine.DAGCompleted
		if err := json.Unmarshal(args, &completed); err != nil {
			return fmt.Errorf("read which run has completed: %w", err)
		}
		run, err := runs.FindRun(ctx, completed.Run.String())
		switch {
		case errors.Is(err, engine.ErrNotFound), errors.Is(err, engine.ErrGone):
			logger.Error("retention has dropped a run before the run that it triggers could be started", "run", completed.Run, "dag", completed.DAG)
			return nil
		case err != nil:
			return fmt.Errorf("find run %s, which has completed: %w", completed.Run, err)
		case run.ByOutcome:
			return nil // it was a task that has the same id as the DAG
		}
		_, err = starter.StartTriggered(ctx, &api.TriggeredRun{
			DAGID: completed.DAG, Occasion: completed.Run.String(),
			Trigger: workflow.Trigger{Kind: workflow.TriggerDAGCompleted, DAG: completed.Of, Run: run.Name},
		})
		if err != nil && ctx.Err() == nil {
			logger.Warn("a run has completed, and the one that it triggers can't be started; it is tried again",
				"dag", completed.DAG, "completed_dag", completed.Of, "completed_run", run.Name, "error", err, "hint", hintOf(err))
		}
		return err //nolint:wrapcheck // it says what it did
	})
}

// hintOf says what to do about an error.
func hintOf(err error) string {
	if known, ok := errors.AsType[*api.Error](err); ok && known.Hint() != "" {
		return known.Hint()
	}
	return "`cyclonetix verify-config` shows what is wrong with the definitions and the backend"
}
