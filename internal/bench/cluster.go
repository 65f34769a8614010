package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/orchestrator"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

type engineSubmission = engine.Submission

// cluster is a set of schemas of the benchmark's own, with an orchestrator and an agent in this process.
type cluster struct {
	url     string
	id      string
	backend *postgres.Backend
	sql     *pgxpool.Pool // beside the backend, to look
	logger  *slog.Logger

	submitted int64
	ended     atomic.Int64 // runs
	progress  chan struct{}

	stop    context.CancelFunc
	running sync.WaitGroup
	failure error
	once    sync.Once
}

// newCluster makes the schemas. Close drops them.
func newCluster(ctx context.Context, url string, logger *slog.Logger) (*cluster, error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	c := &cluster{url: url, id: "bench_" + hex.EncodeToString(random[:]), logger: logger, progress: make(chan struct{}, 1)}
	if err := postgres.MigrateUp(ctx, c.options()); err != nil {
		return nil, fmt.Errorf("make the benchmark's schema: %w", err)
	}
	var err error
	if c.backend, err = postgres.Open(ctx, c.options()); err != nil {
		return nil, fmt.Errorf("open the benchmark's schema: %w", err)
	}
	if c.sql, err = pgxpool.New(ctx, url); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

func (c *cluster) options() postgres.Options {
	return postgres.Options{URL: c.url, Cluster: c.id, PreparedStatements: true, Logger: c.logger}
}

// schema is the schema of the tables.
func (c *cluster) schema() string { return "cyclonetix_" + c.id + "__state" }

// orchestrate starts an orchestrator in this process.
func (c *cluster) orchestrate(ctx context.Context) error {
	ready := make(chan struct{})
	ctx = c.context(ctx)
	c.run(func() error {
		return orchestrator.New(c.backend, orchestrator.Options{ID: "bench", Logger: c.logger, Observer: c}).Run(ctx, func() { close(ready) })
	})
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start the orchestrator: %w", c.failure)
	}
}

// work starts an agent in this process.
func (c *cluster) work(ctx context.Context, executor agent.Executor, slots int) error {
	ctx = c.context(ctx)
	worker, err := agent.New(agent.Options{
		Open: c.backend.OpenAgent, Executor: executor, Logger: c.logger, CleanupTempFiles: true,
		Info: engine.AgentInfo{ID: "bench-" + c.id, Slots: slots, Version: "bench"},
	})
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	c.run(func() error { return worker.Run(ctx) })
	return nil
}

func (c *cluster) context(ctx context.Context) context.Context {
	running, stop := context.WithCancel(ctx)
	if c.stop == nil {
		c.stop = stop
		return running
	}
	former := c.stop
	c.stop = func() { stop(); former() }
	return running
}

func (c *cluster) run(part func() error) {
	stop := c.stop
	c.running.Go(func() {
		if err := part(); err != nil {
			c.once.Do(func() { c.failure = err })
			stop()
		}
	})
}

// halt stops the orchestrator and the agent.
func (c *cluster) halt() error {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
	c.running.Wait()
	return c.failure
}

// submit makes count runs ahead of the measurement, as River's jobs are.
func (c *cluster) submit(ctx context.Context, count int, submission engine.Submission) error {
	const batch = 500
	for made := 0; made < count; made += batch {
		part := make([]engine.Submission, min(batch, count-made))
		for i := range part {
			part[i] = submission
		}
		if _, err := c.backend.Submit(ctx, part); err != nil {
			return fmt.Errorf("submit runs: %w", err)
		}
		c.submitted += int64(len(part))
	}
	return nil
}

// Committed implements orchestrator.Observer: it counts the runs that ended.
func (c *cluster) Committed(_ time.Duration, changes []*workflow.Change) {
	for _, change := range changes {
		if change.Ends() {
			c.ended.Add(1)
		}
	}
	select {
	case c.progress <- struct{}{}:
	default:
	}
}

// await waits until all runs have ended, without asking the database.
func (c *cluster) await(ctx context.Context) error {
	for c.ended.Load() < c.submitted {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.progress:
		}
	}
	return nil
}

// span is the time from the first claim to the last end of the runs made since start.
func (c *cluster) span(ctx context.Context, tasks int, since time.Time) (time.Duration, error) {
	var seconds float64
	var count int
	err := c.sql.QueryRow(ctx, "SELECT count(*), extract(epoch FROM max(end_time) - min(start_time)) FROM "+
		pgx.Identifier{c.schema(), "task_runs"}.Sanitize()+" WHERE status = 10 AND queued_time >= $1", since).Scan(&count, &seconds)
	if err != nil {
		return 0, fmt.Errorf("read the times of the tasks: %w", err)
	}
	if count != tasks {
		return 0, fmt.Errorf("%d of %d tasks completed", count, tasks)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// close drops the schemas.
func (c *cluster) close(ctx context.Context) error {
	err := c.halt()
	if c.sql != nil {
		for _, suffix := range []string{"", "__state", "__river"} {
			if _, dropErr := c.sql.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{"cyclonetix_" + c.id + suffix}.Sanitize()+" CASCADE"); dropErr != nil && err == nil {
				err = dropErr
			}
		}
		c.sql.Close()
	}
	if c.backend != nil {
		c.backend.Close()
	}
	return err
}
