package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The backend's own jobs.
const (
	jobPartitions = "partitions"
	jobRetention  = "retention"
	jobCleanup    = "cleanup"
)

// jobArgs carry a job of the product through River: the kind is one of River's for all, so that
// the handlers stay a table of ours.
type jobArgs struct {
	Name string `json:"name" river:"unique"`
	// Key makes a job unique while it has not ended, beside its name.
	Key  string          `json:"key,omitempty" river:"unique"`
	Body json.RawMessage `json:"body,omitempty"`
}

// Kind implements river.JobArgs.
func (jobArgs) Kind() string { return "cyclonetix" }

type jobWorker struct {
	river.WorkerDefaults[jobArgs]
	handlers map[string]engine.JobHandler
	logger   *slog.Logger
}

// longJob bounds the jobs that may wait for readers or have much to remove; River's bound for the others is a minute. It is
// below the hour after which River takes a job for one whose process died: without a bound it never would, and as only one
// such job is there at once, that would be the last.
const longJob = 50 * time.Minute

// Timeout implements river.Worker.
func (*jobWorker) Timeout(job *river.Job[jobArgs]) time.Duration {
	switch job.Args.Name {
	case jobPartitions, jobRetention, jobCleanup:
		return longJob
	}
	return 0
}

// Work implements river.Worker.
func (w *jobWorker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	handler, ok := w.handlers[job.Args.Name]
	if !ok {
		// A newer program enqueued it; that one will have a handler.
		return river.JobSnooze(time.Minute)
	}
	if err := handler(ctx, job.Args.Body); err != nil {
		if job.Attempt >= job.MaxAttempts {
			w.logger.Error("a job has failed too often and is given up; River keeps it for a while as discarded", "job", job.Args.Name, "id", job.ID,
				"arguments", string(job.Args.Body), "error", err)
		}
		return fmt.Errorf("job %s: %w", job.Args.Name, err)
	}
	return nil
}

// StartJobs implements engine.Backend, by River.
func (b *Backend) StartJobs(ctx context.Context, jobs *engine.Jobs, policy engine.Retention) error {
	b.registerJobs(jobs, policy)
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &jobWorker{handlers: jobs.Handlers(), logger: b.logger}); err != nil {
		return fmt.Errorf("register the jobs: %w", err)
	}
	var periodic []*river.PeriodicJob
	for kind, interval := range jobs.Periods() {
		periodic = append(periodic, river.NewPeriodicJob(
			river.PeriodicInterval(interval),
			func() (river.JobArgs, *river.InsertOpts) {
				return jobArgs{Name: kind}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: unfinishedJobs}}
			},
			&river.PeriodicJobOpts{RunOnStart: true, ID: kind}))
	}
	client, err := river.NewClient(riverpgxv5.New(b.pool), &river.Config{
		Schema:       b.schema.river(),
		Queues:       map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 10, FetchPollInterval: 10 * time.Second}},
		Workers:      workers,
		PeriodicJobs: periodic,
		Logger:       quietLogger(b.logger),
		// Quiet when idle, and history that never slows the present.
		CompletedJobRetentionPeriod: time.Hour,
		// The pool may go through a pooler even where there is a direct way beside it.
		PollOnly: !b.options.PreparedStatements,
	})
	if err != nil {
		return fmt.Errorf("set River up: %w", err)
	}
	if err := client.Start(b.closing); err != nil {
		return fmt.Errorf("start River: %w", err)
	}
	b.goroutine.Go(func() {
		select {
		case <-ctx.Done():
		case <-b.closing.Done():
		}
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := client.StopAndCancel(stopping); err != nil {
			b.logger.Debug("River did not stop in time", "error", err)
		}
	})
	return nil
}

// quietLogger leaves out what River says while all is well.
func quietLogger(logger *slog.Logger) *slog.Logger { return slog.New(quiet{logger.Handler()}) }

type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

// A unique job is one that has not ended; River wants these states together.
var unfinishedJobs = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

func (b *Backend) registerJobs(jobs *engine.Jobs, policy engine.Retention) {
	jobs.HandleJob(jobPartitions, func(ctx context.Context, _ []byte) error { return b.EnsurePartitions(ctx) })
	jobs.Every(time.Hour, jobPartitions)
	jobs.HandleJob(jobRetention, func(ctx context.Context, _ []byte) error {
		if policy.Days <= 0 {
			return b.dropFeedPartitions(ctx)
		}
		return b.DropPartitions(ctx, b.clock.now().AddDate(0, 0, -policy.Days))
	})
	jobs.Every(time.Hour, jobRetention)
	jobs.HandleJob(jobCleanup, func(ctx context.Context, _ []byte) error { return b.cleanup(ctx, policy) })
	jobs.Every(time.Hour, jobCleanup)
}

// agentsKept is how long a registration that ended is kept: task runs name it.
func agentsKept(policy engine.Retention) time.Duration {
	return time.Duration(policy.Days+1) * 24 * time.Hour
}

// cleanup removes what nothing refers to any more.
func (b *Backend) cleanup(ctx context.Context, policy engine.Retention) error {
	on := b.on(b.pool)
	if policy.Days > 0 {
		now := b.clock.now()
		if err := b.deleteUnusedPlans(ctx, now.AddDate(0, 0, -policy.Days)); err != nil {
			return err
		}
		if err := b.queries.DeleteOldAgents(ctx, on, now.Add(-agentsKept(policy))); err != nil {
			return fmt.Errorf("delete agents that ended long ago: %w", err)
		}
	}
	if err := b.queries.DeleteOldAgentBeats(ctx, on); err != nil {
		return fmt.Errorf("delete the heartbeats of agents that are gone: %w", err)
	}
	if err := b.queries.DeleteStrayFileArrivals(ctx, on); err != nil {
		return fmt.Errorf("forget the files of DAGs that are gone: %w", err)
	}
	if err := b.queries.DeleteOldOrders(ctx, on); err != nil {
		return fmt.Errorf("delete the orders for agents that are gone: %w", err)
	}
	return nil
}

// enqueueJobs puts the jobs of a commit into the commit.
func (b *Backend) enqueueJobs(ctx context.Context, tx pgx.Tx, changes []*workflow.Change) error {
	client, err := river.NewClient(riverpgxv5.New(b.pool), &river.Config{Schema: b.schema.river(), Logger: quietLogger(b.logger)})
	if err != nil {
		return fmt.Errorf("set River up: %w", err)
	}
	var params []river.InsertManyParams
	for _, change := range changes {
		for _, job := range change.Jobs {
			if len(job.Args) > 0 && !json.Valid(job.Args) {
				return fmt.Errorf("%w: the arguments of job %s are not JSON", engine.ErrRefused, job.Kind)
			}
			insert := river.InsertManyParams{Args: jobArgs{Name: job.Kind, Key: job.Key, Body: job.Args}}
			if job.Key != "" {
				insert.InsertOpts = &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: unfinishedJobs}}
			}
			params = append(params, insert)
		}
	}
	if _, err := client.InsertManyTx(ctx, tx, params); err != nil {
		return fmt.Errorf("enqueue jobs: %w", err)
	}
	return nil
}
