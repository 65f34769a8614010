package postgres

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Retention drops the history by partitions, in steps that a crash may come between, as a partition can't be detached
// concurrently in a transaction:
//
//	attached -> detaching (out of sight) -> loose (a table of its own) -> the names of its runs are deleted -> dropped
//
// A run may be reopened until its partition of runs is out of sight, see ReopenRun. So whether one lives is asked once more
// after that, whoever comes to finish the job, and where one does, the partition is attached again. The other tables follow:
// a partition of theirs goes when there is none of runs for its range, so a range is dropped as a whole or not at all.

// oldPart is a partition of the history on its way.
type oldPart struct {
	partition
	lower, upper workflow.RunID
	loose        bool // detached, and not dropped
}

// DropPartitions drops the partitions of the history that ended before the given time, but for
// those that hold a live run, and the feed's that are two hours old. It detaches them
// concurrently, so that commits go on, and finishes what a crash left half done.
func (b *Backend) DropPartitions(ctx context.Context, before time.Time) error {
	loose, err := b.loosePartitions(ctx)
	if err != nil {
		return err
	}
	var kept []oldPart // of runs
	for _, table := range partitionedTables {
		parts, err := b.oldParts(ctx, table.name, loose)
		if err != nil {
			return err
		}
		for i := range parts {
			part := &parts[i]
			stays := part.attached() && part.upper.Time().After(before)
			if !stays {
				if stays, err = b.settle(ctx, table.name, part, kept); err != nil {
					return err
				}
			}
			if stays && table.name == "runs" {
				kept = append(kept, *part)
			}
		}
	}
	return b.dropFeedPartitions(ctx)
}

func (p *oldPart) attached() bool { return !p.loose && !p.Detaching }

// oldParts are the partitions of a table, and those that were.
func (b *Backend) oldParts(ctx context.Context, parent string, loose map[string][]partition) ([]oldPart, error) {
	attached, err := b.partitions(ctx, b.on(b.pool), parent)
	if err != nil {
		return nil, err
	}
	var parts []oldPart
	for _, part := range slices.Concat(loose[parent], attached) {
		old := oldPart{partition: part, loose: len(parts) < len(loose[parent])}
		if old.lower, old.upper, err = part.bounds(); err != nil {
			return nil, err
		}
		parts = append(parts, old)
	}
	return parts, nil
}

// settle drops a partition unless it is needed, or else makes it a partition again. It tells whether it stays.
func (b *Backend) settle(ctx context.Context, parent string, part *oldPart, runs []oldPart) (stays bool, err error) {
	if part.attached() {
		if needed, err := b.isNeeded(ctx, parent, part, runs); err != nil || needed {
			return needed, err
		}
	}
	if parent == "runs" {
		// Before they are out of sight, so that nobody is told that there never were such runs.
		dropped := db.RaiseSettingParams{Name: settingDropped, Value: part.upper.Time().Format(time.RFC3339)}
		if err := b.queries.RaiseSetting(ctx, b.on(b.pool), dropped); err != nil {
			return true, fmt.Errorf("note what is dropped: %w", err)
		}
	}
	if !part.loose {
		if err := b.detachPartition(ctx, parent, &part.partition); err != nil {
			return true, err
		}
	}
	if needed, err := b.isNeeded(ctx, parent, part, runs); err != nil {
		return true, err
	} else if needed {
		return true, b.attachPartition(ctx, parent, &part.partition)
	}
	if parent == "runs" {
		if err := b.deleteNames(ctx, part); err != nil {
			return false, err
		}
	}
	return false, b.dropTable(ctx, part.Name)
}

// isNeeded tells whether a run that lives is in a partition of runs, and of another table, whether the runs of its range are
// kept.
func (b *Backend) isNeeded(ctx context.Context, parent string, part *oldPart, runs []oldPart) (bool, error) {
	if parent != "runs" {
		return slices.ContainsFunc(runs, func(kept oldPart) bool {
			return bytes.Compare(kept.lower[:], part.upper[:]) < 0 && bytes.Compare(part.lower[:], kept.upper[:]) < 0
		}), nil
	}
	live, err := b.queries.CountLiveRunsBetween(ctx, b.on(b.pool), db.CountLiveRunsBetweenParams{LowerBound: db.UUID(part.lower), UpperBound: db.UUID(part.upper)})
	if err != nil {
		return true, fmt.Errorf("look for live runs in partition %s: %w", part.Name, err)
	}
	if live > 0 {
		b.logger.Info("retention keeps a partition because runs in it have not ended", "partition", part.Name, "live_runs", live)
	}
	return live > 0, nil
}

// namesAtOnce is the number of names that one statement deletes.
const namesAtOnce = 10_000

// deleteNames gives the names of a partition's runs free.
func (b *Backend) deleteNames(ctx context.Context, part *oldPart) error {
	for {
		deleted, err := b.queries.DeleteRunNames(ctx, b.on(b.pool), db.DeleteRunNamesParams{
			LowerBound: db.UUID(part.lower), UpperBound: db.UUID(part.upper), Most: namesAtOnce,
		})
		if err != nil {
			return fmt.Errorf("delete the names of dropped runs: %w", err)
		}
		if deleted < namesAtOnce {
			return nil
		}
	}
}

var (
	// loosePattern is the form of the names of partitions: the table and the beginning.
	loosePattern = regexp.MustCompile(`^([a-z_]+)_\d{8}t\d{2}$`)
	// rangePattern is that of the constraint which the server gives to a partition that is being detached.
	rangePattern = regexp.MustCompile(`run_id >= '([^']*)'::uuid\) AND \(run_id < '([^']*)'::uuid`)
)

// loosePartitions are the tables that were detached, and not dropped because the process died, by the table of which
// they were partitions. Of the feed nobody can want one, so those are dropped at once.
func (b *Backend) loosePartitions(ctx context.Context) (map[string][]partition, error) {
	rows, err := b.queries.ListLooseTables(ctx, b.on(b.pool), b.schema.state())
	if err != nil {
		return nil, fmt.Errorf("look for partitions that were detached: %w", err)
	}
	loose := map[string][]partition{}
	for _, row := range rows {
		name := loosePattern.FindStringSubmatch(row.Name)
		if name == nil {
			continue
		}
		if name[1] == "feed" {
			if err := b.dropTable(ctx, row.Name); err != nil {
				return nil, err
			}
			continue
		}
		bounds := rangePattern.FindStringSubmatch(row.Constraints)
		if bounds == nil {
			b.logger.Warn("a table looks like a partition that was detached, but not by this program; drop it, if it is not needed", "table", row.Name)
			continue
		}
		loose[name[1]] = append(loose[name[1]], partition{Name: row.Name, lower: bounds[1], upper: bounds[2]})
	}
	return loose, nil
}

const feedKept = 2 * time.Hour

func (b *Backend) dropFeedPartitions(ctx context.Context) error {
	partitions, err := b.partitions(ctx, b.on(b.pool), "feed")
	if err != nil {
		return err
	}
	suffix := "feed_" + partitionSuffix(b.clock.now().Add(-feedKept))
	for i := range partitions {
		// The name holds the beginning in UTC; the bound is printed in the session's zone.
		if part := &partitions[i]; part.Name < suffix {
			if err := b.detachPartition(ctx, "feed", part); err != nil {
				return err
			}
			if err := b.dropTable(ctx, part.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Backend) detachPartition(ctx context.Context, parent string, part *partition) error {
	how := "CONCURRENTLY"
	if part.Detaching {
		how = "FINALIZE"
	}
	// Without prepared statements, because DETACH … CONCURRENTLY can't run in a transaction.
	detach := "ALTER TABLE " + b.table(parent) + " DETACH PARTITION " + b.table(part.Name) + " " + how
	if _, err := b.pool.Exec(ctx, detach, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("detach partition %s: %w", part.Name, err)
	}
	return nil
}

// attachPartition undoes detachPartition.
func (b *Backend) attachPartition(ctx context.Context, parent string, part *partition) error {
	attach := fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')", b.table(parent), b.table(part.Name), part.lower, part.upper)
	if _, err := b.pool.Exec(ctx, attach, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("attach partition %s again: %w", part.Name, err)
	}
	b.logger.Info("retention made a table a partition again", "partition", part.Name)
	return nil
}

func (b *Backend) dropTable(ctx context.Context, name string) error {
	if _, err := b.pool.Exec(ctx, "DROP TABLE IF EXISTS "+b.table(name), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("drop partition %s: %w", name, err)
	}
	b.logger.Info("retention dropped a partition", "partition", name)
	return nil
}
