package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
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
// partitions. Runs come first: retention decides on them, and what is kept of the others follows. Rows of task_runs are
// updated once or twice: a page that is half empty at first keeps those updates on it (HOT).
var partitionedTables = []struct{ name, options string }{
	{"runs", "fillfactor = 100"},
	{"run_states", "fillfactor = 30"},
	{"task_runs", "fillfactor = 45"},
	{"attempts", "fillfactor = 100"},
	{"run_events", "fillfactor = 100"},
	{"run_nodes", "fillfactor = 90"},
	{"run_updates", "fillfactor = 100"},
	{"outputs", "fillfactor = 100"},
	{"logs", "fillfactor = 100"},
}

// EnsurePartitions makes the partitions of the current interval and of those ahead, where there are none. Those
// of another interval, from before the setting was changed, stay; new ones fill the gaps between them.
func (b *Backend) EnsurePartitions(ctx context.Context) error {
	// Nearly always there is nothing to do, and then nobody waits for one who drops partitions.
	missing, err := b.missingPartitions(ctx, b.on(b.pool))
	if err == nil && len(missing) > 0 {
		err = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.makePartitions(ctx, tx) })
	}
	if err != nil {
		return fmt.Errorf("make partitions: %w", err)
	}
	return nil
}

func (b *Backend) makePartitions(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", b.schema.key("partitions")); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	missing, err := b.missingPartitions(ctx, b.on(tx))
	if err != nil {
		return err
	}
	for _, partition := range missing {
		if _, err := b.queries.EnsurePartition(ctx, b.on(tx), partition); err != nil {
			return fmt.Errorf("%s_%s: %w", partition.Parent, partition.Suffix, err)
		}
	}
	return nil
}

// missingPartitions are those to be made.
func (b *Backend) missingPartitions(ctx context.Context, on connection) ([]db.EnsurePartitionParams, error) {
	var missing []db.EnsurePartitionParams
	now := b.clock.now()
	for _, table := range partitionedTables {
		existing, err := b.partitions(ctx, on, table.name)
		if err != nil {
			return nil, err
		}
		covered := make([]span, 0, len(existing))
		for _, part := range existing {
			lower, upper, err := part.bounds()
			if err != nil {
				return nil, err
			}
			covered = append(covered, span{lower.Time(), upper.Time()})
		}
		for _, gap := range b.options.Interval.gaps(now, covered) {
			missing = append(missing, db.EnsurePartitionParams{
				Parent: table.name, Suffix: partitionSuffix(gap.from), Options: table.options,
				LowerBound: workflow.FirstRunID(gap.from).String(), UpperBound: workflow.FirstRunID(gap.to).String(),
			})
		}
	}
	feed, err := b.partitions(ctx, on, "feed")
	if err != nil {
		return nil, err
	}
	return append(missing, missingFeedPartitions(now, feed)...), nil
}

// span is the time from (including) to (excluding).
type span struct{ from, to time.Time }

// gaps are the parts of the current interval and of those ahead that no span covers.
func (i Interval) gaps(now time.Time, covered []span) []span {
	slices.SortFunc(covered, func(a, b span) int { return a.from.Compare(b.from) })
	var gaps []span
	start := i.floor(now)
	for range partitionsAhead + 1 {
		end := i.next(start)
		at := start
		for _, part := range covered {
			if part.from.After(at) && part.from.Before(end) {
				gaps = append(gaps, span{at, part.from})
			}
			if part.from.Before(end) && part.to.After(at) {
				at = part.to
			}
		}
		if at.Before(end) {
			gaps = append(gaps, span{at, end})
		}
		start = end
	}
	return gaps
}

// The feed has partitions of an hour, which are dropped when they are two hours old.
func missingFeedPartitions(now time.Time, existing []partition) []db.EnsurePartitionParams {
	var missing []db.EnsurePartitionParams
	start := Hour.floor(now)
	for range partitionsAhead + 1 {
		end := start.Add(time.Hour)
		name := "feed_" + partitionSuffix(start)
		if !slices.ContainsFunc(existing, func(part partition) bool { return part.Name == name }) {
			missing = append(missing, db.EnsurePartitionParams{
				Parent: "feed", Suffix: partitionSuffix(start), Options: "fillfactor = 100",
				LowerBound: start.Format(time.RFC3339), UpperBound: end.Format(time.RFC3339),
			})
		}
		start = end
	}
	return missing
}

func partitionSuffix(start time.Time) string { return start.Format("20060102t15") }

// partition is one as the catalog has it.
type partition struct {
	Name         string `json:"name"`
	Bound        string `json:"bound"`
	Detaching    bool   `json:"detaching"` // it is out of sight of later statements already
	lower, upper string
}

// bounds are the ids that a partition of the history may hold: from lower to below upper.
func (p *partition) bounds() (lower, upper workflow.RunID, err error) {
	lower, lowerErr := workflow.ParseRunID(p.lower)
	upper, upperErr := workflow.ParseRunID(p.upper)
	if err := errors.Join(lowerErr, upperErr); err != nil {
		return lower, upper, fmt.Errorf("partition %s: %w", p.Name, err)
	}
	return lower, upper, nil
}

var boundPattern = regexp.MustCompile(`FROM \('([^']*)'\) TO \('([^']*)'\)`)

func (b *Backend) partitions(ctx context.Context, on connection, parent string) ([]partition, error) {
	text, err := b.queries.ListPartitions(ctx, on, parent)
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

// table is the name of a table of the state as SQL has it.
func (b *Backend) table(name string) string { return pgx.Identifier{b.schema.state(), name}.Sanitize() }
