// Package trigger starts runs of DAGs when something happens: a run of another DAG has completed, or a file has come.
//
// A run that completes is told by a job, which is enqueued in the commit that ends it. Files are looked at by each
// orchestrator, without a question to the backend while nothing changes on the disk. Both may start the same run more
// than once, after a crash or side by side: the occasion is part of its idempotency key, so that there is one.
package trigger

import (
	"context"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

// Starter starts the runs of triggers. An occasion that has its run already is no error.
type Starter interface {
	StartTriggered(ctx context.Context, run *api.TriggeredRun) (*api.Scheduled, error)
	// StartAllTriggered starts many in one step: after an error none is started.
	StartAllTriggered(ctx context.Context, runs []api.TriggeredRun) error
}
