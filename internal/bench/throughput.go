package bench

import (
	"context"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The sizes of the figures.
const (
	riverJobs = 100_000
	fanRuns   = 10_000
	fanWidth  = 8
	wideTasks = 20_000
	chains    = 200
	chainLen  = 100
	slots     = 64
)

const bareRiver = "River jobs/s"

// measured is what one load took.
type measured struct{ tasksPerSecond, walPerTask, submitsPerSecond float64 }

// load submits the runs ahead, as River's jobs are, then starts orchestrator and agent, and measures from
// the first claim to the last end.
func (b *bencher) load(ctx context.Context, c *cluster, runs int, plan *workflow.Plan, start func() error) (measured, error) {
	since := c.backend.Now()
	begun := time.Now()
	if err := c.submit(ctx, runs, submission("bench", plan)); err != nil {
		return measured{}, err
	}
	result := measured{submitsPerSecond: float64(runs) / time.Since(begun).Seconds()}
	before, err := walPosition(ctx, c.sql)
	if err != nil {
		return result, err
	}
	if err := start(); err != nil {
		return result, err
	}
	if err := c.await(ctx); err != nil {
		return result, err
	}
	after, err := walPosition(ctx, c.sql)
	if err != nil {
		return result, err
	}
	if err := c.halt(); err != nil {
		return result, err
	}
	tasks := runs * len(plan.Nodes)
	span, err := c.span(ctx, tasks, since)
	if err != nil {
		return result, err
	}
	result.tasksPerSecond = float64(tasks) / span.Seconds()
	result.walPerTask = float64(after-before) / float64(tasks)
	return result, nil
}

// noops starts orchestrator and agent in this process; the agent's tasks do nothing.
func (b *bencher) noops(ctx context.Context, c *cluster) func() error {
	return func() error {
		if err := c.orchestrate(ctx); err != nil {
			return err
		}
		return c.work(ctx, agent.Noop(), slots)
	}
}

// throughput measures the three shapes of load, each round beside bare River.
func throughput(ctx context.Context, b *bencher) error {
	shapes := []struct {
		name string
		runs int
		plan *workflow.Plan
		bar  float64
	}{
		{"10,000 runs of 10 tasks (1 → 8 → 1)", b.scaled(fanRuns), fan(fanWidth, ""), 3},
		{"one run of 20,000 tasks out and in", 1, fan(b.scaled(wideTasks), ""), 3},
		{"200 chains of 100", b.scaled(chains), chain(chainLen, ""), 1.5},
	}
	speeds, ratios := make([][]float64, len(shapes)), make([][]float64, len(shapes))
	var rivers, riverWAL, wal, submits []float64
	for range b.options.Rounds {
		err := b.with(ctx, func(c *cluster) error {
			river, err := measureRiver(ctx, c, b.scaled(riverJobs))
			if err != nil {
				return err
			}
			rivers, riverWAL = append(rivers, river.jobsPerSecond), append(riverWAL, river.walPerJob)
			for i, shape := range shapes {
				result, err := b.load(ctx, c, shape.runs, shape.plan, b.noops(ctx, c))
				if err != nil {
					return err
				}
				speeds[i] = append(speeds[i], result.tasksPerSecond)
				ratios[i] = append(ratios[i], result.tasksPerSecond/river.jobsPerSecond)
				if i == 0 {
					wal, submits = append(wal, result.walPerTask), append(submits, result.submitsPerSecond)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.add(Row{Name: "bare River", Value: median(rivers), Unit: "jobs/s", Rounds: rivers},
		Row{Name: "bare River, WAL", Value: median(riverWAL), Unit: "bytes/job", Rounds: riverWAL})
	for i, shape := range shapes {
		// The ratio is the median of the rounds' ratios: each round has its own yardstick.
		row := Row{Name: shape.name, Value: median(speeds[i]), Unit: "tasks/s", Against: bareRiver, Yardstick: median(rivers), Ratio: median(ratios[i]), Rounds: ratios[i]}
		b.add(row.atLeast(shape.bar))
	}
	b.add(Row{Name: "WAL of a no-op task", Value: median(wal), Unit: "bytes/task", Rounds: wal}.atMost(600),
		Row{Name: "submitting those runs", Value: median(submits), Unit: "runs/s", Rounds: submits})
	return nil
}
