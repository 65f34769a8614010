package bench

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// idle looks at a server that has nothing to do, its jobs running too, for a minute.
func idle(ctx context.Context, b *bencher) error {
	return b.with(ctx, func(c *cluster) error {
		if err := c.orchestrate(ctx); err != nil {
			return err
		}
		if err := c.work(ctx, agent.Processes(), processSlots); err != nil {
			return err
		}
		jobs, stop := context.WithCancel(ctx)
		defer stop()
		if err := c.backend.StartJobs(jobs, new(engine.Jobs), engine.Retention{Days: 30}); err != nil {
			return fmt.Errorf("start the jobs: %w", err)
		}
		if err := pause(ctx, settleTime); err != nil {
			return err
		}
		calls := c.calls(ctx)
		cpu := processorTime()
		if err := pause(ctx, idleTime); err != nil {
			return err
		}
		used := processorTime() - cpu
		later := c.calls(ctx)
		seconds := idleTime.Seconds()
		if calls >= 0 {
			b.add(Row{Name: "idle server, queries", Value: float64(later-calls-1) / seconds, Unit: "/s"}.atMost(3))
		} else {
			b.options.Say("  queries are not counted: the extension pg_stat_statements is not loaded on this server")
		}
		b.add(Row{Name: "idle server, processor time of the process", Value: 100 * used.Seconds() / seconds, Unit: "%"}.atMost(1))
		return nil
	})
}

// calls is the number of statements that were executed in this database, without transaction control; -1 when it is not counted.
func (c *cluster) calls(ctx context.Context) int64 {
	if _, err := c.sql.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"); err != nil {
		return -1 // it is not there, or not ours to make
	}
	var calls int64
	err := c.sql.QueryRow(ctx, `SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
		WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND query !~* '^\s*(begin|commit|rollback|savepoint|release|start)\M'`).Scan(&calls)
	if err != nil {
		return -1 // it is not preloaded
	}
	return calls
}

// processorTime is what this process has used, in user and system mode.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func pause(ctx context.Context, span time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // says it all
	case <-time.After(span):
		return nil
	}
}
