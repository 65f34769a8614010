package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	historyTasks = 5_000_000
	historyDays  = 10
	tasksOfRun   = 10
	snapshotTime = time.Minute
	idleTime     = time.Minute
)

// history compares a cluster with 5 million finished task runs in older partitions with one without, and a load on
// empty partitions with the one before on those that held a few.
func history(ctx context.Context, b *bencher) error {
	return b.with(ctx, func(without *cluster) error {
		return b.with(ctx, func(with *cluster) error {
			b.options.Say("  making the history")
			if err := with.makeHistory(ctx, b.scaled(historyTasks)); err != nil {
				return err
			}
			plan := fan(fanWidth, "")
			var speeds [2][]float64
			var ratios, young, youth []float64
			for round := range b.options.Rounds + 1 {
				var now [2]float64
				for i, c := range []*cluster{without, with} {
					result, err := b.load(ctx, c, b.scaled(fanRuns), plan, b.noops(ctx, c))
					if err != nil {
						return err
					}
					now[i] = result.tasksPerSecond
				}
				if round == 0 {
					continue // warm
				}
				speeds[0], speeds[1] = append(speeds[0], now[0]), append(speeds[1], now[1])
				ratios = append(ratios, now[1]/now[0])
				if err := without.emptyPartition(ctx); err != nil {
					return err
				}
				result, err := b.load(ctx, without, b.scaled(fanRuns), plan, b.noops(ctx, without))
				if err != nil {
					return err
				}
				young, youth = append(young, result.tasksPerSecond), append(youth, result.tasksPerSecond/now[0])
			}
			row := Row{
				Name: "with 5 million finished task runs", Value: median(speeds[1]), Unit: "tasks/s", Against: "tasks/s without",
				Yardstick: median(speeds[0]), Ratio: median(ratios), Rounds: ratios,
			}
			first := Row{
				Name: "in the first minute of a partition", Value: median(young), Unit: "tasks/s", Against: "tasks/s later",
				Yardstick: median(speeds[0]), Ratio: median(youth), Rounds: youth,
			}
			b.add(row.atLeast(0.9), first.atLeast(0.9))
			return nil
		})
	})
}

// emptyPartition makes the partitions of today as if they had just been made: empty, and unknown to the planner.
func (c *cluster) emptyPartition(ctx context.Context) error {
	for _, table := range []string{"runs", "run_states", "task_runs"} {
		leaf := table + "_" + c.backend.Now().Truncate(24*time.Hour).Format("20060102t15")
		if _, err := c.sql.Exec(ctx, "TRUNCATE "+pgx.Identifier{c.schema(), leaf}.Sanitize()); err != nil {
			return fmt.Errorf("empty a partition: %w", err)
		}
	}
	return nil
}

// makeHistory fills the partitions of former days with runs that ended.
func (c *cluster) makeHistory(ctx context.Context, tasks int) error {
	state := func(table string) string { return pgx.Identifier{c.schema(), table}.Sanitize() }
	today := c.backend.Now().Truncate(24 * time.Hour)
	runs := tasks / tasksOfRun / historyDays
	for day := 1; day <= historyDays; day++ {
		from := today.AddDate(0, 0, -day)
		lower, upper := workflow.FirstRunID(from), workflow.FirstRunID(from.AddDate(0, 0, 1))
		for table, options := range map[string]string{"runs": "fillfactor = 100", "run_states": "fillfactor = 50", "task_runs": "fillfactor = 45", "attempts": "fillfactor = 100", "run_events": "fillfactor = 100", "logs": "fillfactor = 100"} {
			if _, err := c.sql.Exec(ctx, "SELECT "+state("ensure_partition")+"($1, $2, $3, $4, $5)", table, from.Format("20060102"), lower.String(), upper.String(), options); err != nil {
				return fmt.Errorf("make a partition of the history: %w", err)
			}
		}
		prefix := lower.String()[:13] + "-7000-8000-"
		for _, statement := range []string{
			`INSERT INTO ` + state("runs") + ` (run_id, plan, revision, created_at, by_outcome, dag_id, actor, cause)
				SELECT ($1 || lpad(to_hex(i), 12, '0'))::uuid, '00000000-0000-0000-0000-000000000000', 1, $2, false, 'history', 'bench', 'bench' FROM generate_series(1, $3::int) i`,
			`INSERT INTO ` + state("run_states") + ` (run_id, status, task_count, completed_tasks, failed_tasks, start_time, end_time)
				SELECT ($1 || lpad(to_hex(i), 12, '0'))::uuid, 10, 10, 10, 0, $2, $2 FROM generate_series(1, $3::int) i`,
			`INSERT INTO ` + state("task_runs") + ` (run_id, queued_time, node, status, attempt, delivery, cause, exit_code, start_time, end_time, agent)
				SELECT ($1 || lpad(to_hex(i), 12, '0'))::uuid, $2, n, 10, 1, 1, 0, 0, $2, $2, 1 FROM generate_series(1, $3::int) i, generate_series(0, 9) n`,
		} {
			if _, err := c.sql.Exec(ctx, statement, prefix, from, runs); err != nil {
				return fmt.Errorf("fill a partition of the history: %w", err)
			}
		}
	}
	for _, statement := range []string{"ANALYZE " + state("runs") + ", " + state("run_states") + ", " + state("task_runs"), "CHECKPOINT"} {
		if _, err := c.sql.Exec(ctx, statement); err != nil {
			return fmt.Errorf("settle the history: %w", err)
		}
	}
	return nil
}

// snapshot measures while a session holds a snapshot open, so that no dead row can be removed.
func snapshot(ctx context.Context, b *bencher) error {
	return b.with(ctx, func(c *cluster) error {
		plan := fan(fanWidth, "")
		// Loads follow each other for the given time; the figure is the median of their speeds.
		loads := func(span time.Duration) (speeds []float64, err error) {
			for begun := time.Now(); time.Since(begun) < span || len(speeds) == 0; {
				result, err := b.load(ctx, c, b.scaled(fanRuns), plan, b.noops(ctx, c))
				if err != nil {
					return nil, err
				}
				speeds = append(speeds, result.tasksPerSecond)
			}
			return speeds, nil
		}
		without, err := loads(snapshotTime / 3)
		if err != nil {
			return err
		}
		tx, err := c.sql.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return fmt.Errorf("open a snapshot: %w", err)
		}
		defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it only read
		if _, err := tx.Exec(ctx, "SELECT count(*) FROM "+pgx.Identifier{c.schema(), "settings"}.Sanitize()); err != nil {
			return fmt.Errorf("open a snapshot: %w", err)
		}
		held, err := loads(snapshotTime)
		if err != nil {
			return err
		}
		if err := tx.Rollback(ctx); err != nil {
			return fmt.Errorf("close the snapshot: %w", err)
		}
		after, err := loads(snapshotTime / 3)
		if err != nil {
			return err
		}
		b.add(Row{Name: "while a snapshot is held for a minute", Value: median(held), Unit: "tasks/s", Rounds: held}.
			over("tasks/s without", median(append(without, after...))).atLeast(0.7))
		return nil
	})
}
