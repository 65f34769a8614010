package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// The settings of the River yardstick: jobs that do nothing, inserted ahead.
const (
	riverWorkers  = 2000
	riverCooldown = time.Millisecond
	riverPoll     = 20 * time.Millisecond
)

type riverArgs struct {
	Number int `json:"number"`
}

// Kind implements river.JobArgs.
func (riverArgs) Kind() string { return "noop" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	left *atomic.Int64
	done chan struct{}
}

// Work implements river.Worker.
func (w *riverWorker) Work(context.Context, *river.Job[riverArgs]) error {
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
	return nil
}

// riverYardstick is how bare River does on the same server.
type riverYardstick struct{ jobsPerSecond, walPerJob float64 }

// measureRiver works the given number of jobs off, with a client of its own in the cluster's schema of River.
func measureRiver(ctx context.Context, c *cluster, jobs int) (riverYardstick, error) {
	pool, err := pgxpool.New(ctx, c.url)
	if err != nil {
		return riverYardstick{}, fmt.Errorf("connect: %w", err)
	}
	defer pool.Close()
	schema := "cyclonetix_" + c.id + "__river"
	worker := &riverWorker{left: new(atomic.Int64), done: make(chan struct{})}
	worker.left.Store(int64(jobs))
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: schema, Workers: workers, Queues: map[string]river.QueueConfig{"bench": {MaxWorkers: riverWorkers}},
		FetchCooldown: riverCooldown, FetchPollInterval: riverPoll, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return riverYardstick{}, fmt.Errorf("set River up: %w", err)
	}
	const batch = 1000
	for made := 0; made < jobs; made += batch {
		params := make([]river.InsertManyParams, min(batch, jobs-made))
		for i := range params {
			params[i] = river.InsertManyParams{Args: riverArgs{made + i}, InsertOpts: &river.InsertOpts{Queue: "bench"}}
		}
		if _, err := client.InsertManyFast(ctx, params); err != nil {
			return riverYardstick{}, fmt.Errorf("insert River's jobs: %w", err)
		}
	}
	before, err := walPosition(ctx, c.sql)
	if err != nil {
		return riverYardstick{}, err
	}
	started := time.Now()
	if err := client.Start(ctx); err != nil {
		return riverYardstick{}, fmt.Errorf("start River: %w", err)
	}
	select {
	case <-worker.done:
	case <-ctx.Done():
		return riverYardstick{}, ctx.Err() //nolint:wrapcheck // says it all
	}
	took := time.Since(started)
	if err := client.Stop(ctx); err != nil {
		return riverYardstick{}, fmt.Errorf("stop River: %w", err)
	}
	after, err := walPosition(ctx, c.sql)
	if err != nil {
		return riverYardstick{}, err
	}
	if _, err := pool.Exec(ctx, "TRUNCATE "+pgx.Identifier{schema, "river_job"}.Sanitize()); err != nil {
		return riverYardstick{}, fmt.Errorf("clear River's jobs: %w", err)
	}
	return riverYardstick{jobsPerSecond: float64(jobs) / took.Seconds(), walPerJob: float64(after-before) / float64(jobs)}, nil
}

// walPosition is how many bytes of WAL the server has written.
func walPosition(ctx context.Context, sql *pgxpool.Pool) (int64, error) {
	var position int64
	if err := sql.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&position); err != nil {
		return 0, fmt.Errorf("read the position of the WAL: %w", err)
	}
	return position, nil
}

// measureStarts is the number of processes a second that os/exec starts, with their output captured.
func measureStarts(ctx context.Context, workers, count int) (float64, error) {
	var next atomic.Int64
	var failure atomic.Pointer[error]
	var running sync.WaitGroup
	started := time.Now()
	for range workers {
		running.Go(func() {
			for next.Add(1) <= int64(count) {
				if _, err := exec.CommandContext(ctx, "sh", "-c", "true").CombinedOutput(); err != nil {
					failure.Store(&err)
					return
				}
			}
		})
	}
	running.Wait()
	if err := failure.Load(); err != nil {
		return 0, fmt.Errorf("start processes: %w", *err)
	}
	return float64(count) / time.Since(started).Seconds(), nil
}
