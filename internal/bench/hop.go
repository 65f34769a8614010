package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/internal/agent"
)

// hops gives the times in milliseconds from the end of each task to the start of the next, of all runs made since.
func (c *cluster) hops(ctx context.Context, since time.Time) ([]float64, error) {
	rows, err := c.sql.Query(ctx, `SELECT extract(epoch FROM start_time - lag(end_time) OVER (PARTITION BY run_id ORDER BY node))::float8 * 1000
		FROM `+pgx.Identifier{c.schema(), "task_runs"}.Sanitize()+` WHERE queued_time >= $1`, since)
	if err != nil {
		return nil, fmt.Errorf("read the hops: %w", err)
	}
	var hops []float64
	for rows.Next() {
		var hop *float64
		if err := rows.Scan(&hop); err != nil {
			return nil, fmt.Errorf("read the hops: %w", err)
		}
		if hop != nil {
			hops = append(hops, *hop)
		}
	}
	if err := rows.Err(); err != nil || len(hops) == 0 {
		return nil, fmt.Errorf("read the hops: there are %d: %w", len(hops), err)
	}
	return hops, nil
}

// hopChains runs single chains on an otherwise idle cluster, one after the other.
func (b *bencher) hopChains(ctx context.Context, c *cluster) ([]float64, error) {
	plan := chain(chainLen, "")
	if err := c.submit(ctx, 1, submission("warm", plan)); err != nil {
		return nil, err
	}
	if err := c.await(ctx); err != nil {
		return nil, err
	}
	since := c.backend.Now()
	for range 3 * b.options.Rounds {
		if err := c.submit(ctx, 1, submission("hop", plan)); err != nil {
			return nil, err
		}
		if err := c.await(ctx); err != nil {
			return nil, err
		}
	}
	return c.hops(ctx, since)
}

func hop(ctx context.Context, b *bencher) error {
	return b.with(ctx, func(c *cluster) error {
		if err := c.orchestrate(ctx); err != nil {
			return err
		}
		if err := c.work(ctx, agent.Noop(), slots); err != nil {
			return err
		}
		hops, err := b.hopChains(ctx, c)
		if err != nil {
			return err
		}
		b.add(Row{Name: "idle hop, median", Value: median(hops), Unit: "ms"}.atMost(2),
			Row{Name: "idle hop, 99th percentile", Value: percentile(hops, 99), Unit: "ms"}.atMost(6))
		return nil
	})
}
