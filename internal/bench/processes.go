package bench

import (
	"context"

	"github.com/cyclonetix/cyclonetix/internal/agent"
)

// The load of real processes.
const (
	processRuns   = 700
	processSlots  = 16
	processRounds = 5
)

// processes runs sh -c true under the keeper, its output kept, and raw starts before and after, in rounds.
func processes(ctx context.Context, b *bencher) error {
	var ratios, speeds, raws []float64
	err := b.with(ctx, func(c *cluster) error {
		plan := fan(fanWidth, "true")
		runs := b.scaled(processRuns)
		count := runs * len(plan.Nodes)
		if _, err := measureStarts(ctx, processSlots, count/10+1); err != nil { // warm
			return err
		}
		for range processRounds {
			before, err := measureStarts(ctx, processSlots, count/4+1)
			if err != nil {
				return err
			}
			result, err := b.load(ctx, c, runs, plan, func() error {
				if err := c.orchestrate(ctx); err != nil {
					return err
				}
				return c.work(ctx, agent.Processes(), processSlots)
			})
			if err != nil {
				return err
			}
			after, err := measureStarts(ctx, processSlots, count/4+1)
			if err != nil {
				return err
			}
			raw := (before + after) / 2
			raws, speeds, ratios = append(raws, raw), append(speeds, result.tasksPerSecond), append(ratios, result.tasksPerSecond/raw)
		}
		return nil
	})
	if err != nil {
		return err
	}
	row := Row{
		Name: "real processes (sh -c true)", Value: median(speeds), Unit: "tasks/s", Against: "raw starts/s",
		Yardstick: median(raws), Ratio: median(ratios), Rounds: ratios,
	}
	b.add(row.atLeast(0.85))
	return nil
}
