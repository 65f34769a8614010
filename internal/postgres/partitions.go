package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Interval is the size of the history's partitions.
type Interval string

// The intervals. Weeks begin on Monday; all of them are in UTC.
const (
	Hour  Interval = "hour"
	Day   Interval = "day"
	Week  Interval = "week"
	Month Interval = "month"
)

// floor is the beginning of the interval that holds the time.
func (i Interval) floor(at time.Time) time.Time {
	at = at.UTC()
	day := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
	switch i {
	case Hour:
		return at.Truncate(time.Hour)
	case Week:
		return day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
	case Month:
		return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	case Day:
	}
	return day
}

// next is the beginning of the interval after the one that begins at start.
func (i Interval) next(start time.Time) time.Time {
	switch i {
	case Hour:
		return start.Add(time.Hour)
	case Week:
		return start.AddDate(0, 0, 7)
	case Month:
		return start.AddDate(0, 1, 0)
	case Day:
	}
	return start.AddDate(0, 0, 1)
}

// partitionsAhead is how many intervals beyond the current one have partitions.
const partitionsAhead = 7

// partitionedTables are the tables of the history, with the storage options of their
// partitions. Rows of task_runs are updated once or twice: a page that is half
// empty at first keeps those updates on it (HOT).
var partitionedTables = []struct{ name, options string }{
	{"runs", "fillfactor = 100"},
	{"run_states", "fillfactor = 30"},
	{"task_runs", "fillfactor = 45"},
	{"attempts", "fillfactor = 100"},
	{"run_events", "fillfactor = 100"},
	{"logs", "fillfactor = 100"},
}

// EnsurePartitions makes the partitions of the current interval and of those ahead.
func (b *Backend) EnsurePartitions(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		on := b.on(tx)
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", b.schema.key("partitions")); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		now := b.clock.now()
		start := b.options.Interval.floor(now)
		for range partitionsAhead + 1 {
			end := b.options.Interval.next(start)
			for _, table := range partitionedTables {
				_, err := b.queries.EnsurePartition(ctx, on, db.EnsurePartitionParams{
					Parent: table.name, Suffix: partitionSuffix(start), Options: table.options,
					LowerBound: workflow.FirstRunID(start).String(), UpperBound: workflow.FirstRunID(end).String(),
				})
				if err != nil {
					return fmt.Errorf("%s from %s: %w", table.name, start.Format(time.RFC3339), err)
				}
			}
			start = end
		}
		return b.ensureFeedPartitions(ctx, on, now)
	})
	if err != nil {
		return fmt.Errorf("make partitions: %w", err)
	}
	return nil
}

// The feed has partitions of an hour, which are dropped when they are two hours old.
func (b *Backend) ensureFeedPartitions(ctx context.Context, on connection, now time.Time) error {
	start := Hour.floor(now)
	for range partitionsAhead + 1 {
		end := start.Add(time.Hour)
		_, err := b.queries.EnsurePartition(ctx, on, db.EnsurePartitionParams{
			Parent: "feed", Suffix: partitionSuffix(start), Options: "fillfactor = 100",
			LowerBound: start.Format(time.RFC3339), UpperBound: end.Format(time.RFC3339),
		})
		if err != nil {
			return fmt.Errorf("feed from %s: %w", start.Format(time.RFC3339), err)
		}
		start = end
	}
	return nil
}

func partitionSuffix(start time.Time) string { return start.Format("20060102t15") }

// partition is one as the catalog has it.
type partition struct {
	Name         string `json:"name"`
	Bound        string `json:"bound"`
	Detaching    bool   `json:"detaching"`
	lower, upper string
}

var boundPattern = regexp.MustCompile(`FROM \('([^']*)'\) TO \('([^']*)'\)`)

func (b *Backend) partitions(ctx context.Context, parent string) ([]partition, error) {
	text, err := b.queries.ListPartitions(ctx, b.on(b.pool), parent)
	if err != nil {
		return nil, fmt.Errorf("list the partitions of %s: %w", parent, err)
	}
	var partitions []partition
	if err := json.Unmarshal([]byte(text), &partitions); err != nil {
		return nil, fmt.Errorf("list the partitions of %s: %w", parent, err)
	}
	for i := range partitions {
		bounds := boundPattern.FindStringSubmatch(partitions[i].Bound)
		if bounds == nil {
			return nil, fmt.Errorf("partition %s of %s has a bound that is not a range: %s", partitions[i].Name, parent, partitions[i].Bound)
		}
		partitions[i].lower, partitions[i].upper = bounds[1], bounds[2]
	}
	return partitions, nil
}

// DropPartitions drops the partitions of the history that ended before the given time, but for
// those that hold a live run, and the feed's that are two hours old. It detaches them
// concurrently, so that commits go on, and finishes what a crash left half done.
func (b *Backend) DropPartitions(ctx context.Context, before time.Time) error {
	for _, table := range partitionedTables {
		partitions, err := b.partitions(ctx, table.name)
		if err != nil {
			return err
		}
		for _, part := range partitions {
			upper, err := workflow.ParseRunID(part.upper)
			if err != nil || upper.Time().After(before) {
				continue
			}
			lower, err := workflow.ParseRunID(part.lower)
			if err != nil {
				continue
			}
			live, err := b.queries.CountLiveRunsBetween(ctx, b.on(b.pool), db.CountLiveRunsBetweenParams{LowerBound: db.UUID(lower), UpperBound: db.UUID(upper)})
			if err != nil {
				return fmt.Errorf("look for live runs in partition %s: %w", part.Name, err)
			}
			if live > 0 {
				b.logger.Info("retention keeps a partition because runs in it have not ended", "partition", part.Name, "live_runs", live)
				continue
			}
			if table.name == "runs" {
				if _, err := b.queries.DeleteRunNames(ctx, b.on(b.pool), db.DeleteRunNamesParams{LowerBound: db.UUID(lower), UpperBound: db.UUID(upper)}); err != nil {
					return fmt.Errorf("delete the names of dropped runs: %w", err)
				}
			}
			if err := b.dropPartition(ctx, table.name, part); err != nil {
				return err
			}
		}
	}
	return b.dropFeedPartitions(ctx)
}

const feedKept = 2 * time.Hour

func (b *Backend) dropFeedPartitions(ctx context.Context) error {
	partitions, err := b.partitions(ctx, "feed")
	if err != nil {
		return err
	}
	suffix := "feed_" + partitionSuffix(b.clock.now().Add(-feedKept))
	for _, part := range partitions {
		// The name holds the beginning in UTC; the bound is printed in the session's zone.
		if part.Name < suffix {
			if err := b.dropPartition(ctx, "feed", part); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Backend) dropPartition(ctx context.Context, parent string, part partition) error {
	table := pgx.Identifier{b.schema.state(), parent}.Sanitize()
	leaf := pgx.Identifier{b.schema.state(), part.Name}.Sanitize()
	detach := "ALTER TABLE " + table + " DETACH PARTITION " + leaf + " CONCURRENTLY"
	if part.Detaching {
		detach = "ALTER TABLE " + table + " DETACH PARTITION " + leaf + " FINALIZE"
	}
	// Without prepared statements, because DETACH … CONCURRENTLY can't run in a transaction.
	for _, statement := range []string{detach, "DROP TABLE " + leaf} {
		if _, err := b.pool.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("drop partition %s: %w", part.Name, err)
		}
	}
	b.logger.Info("retention dropped a partition", "partition", part.Name)
	return nil
}
