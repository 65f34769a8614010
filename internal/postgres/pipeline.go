package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cyclonetix/cyclonetix/db"
)

// connection lets package db's statements run on something, with the cluster's names.
type connection struct {
	db.DBTX
	schema *schema
}

func (c connection) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return c.DBTX.Exec(ctx, c.schema.rewrite(sql), args...)
}

func (c connection) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return c.DBTX.Query(ctx, c.schema.rewrite(sql), args...)
}

func (c connection) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return c.DBTX.QueryRow(ctx, c.schema.rewrite(sql), args...)
}

// batchSender is a pool, a connection or a transaction.
type batchSender interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// pipeline sends several statements of package db in one round trip, which is
// one transaction unless it is sent in one that is already open. A step is called twice: first its
// statement is recorded, then its results are read. A pipeline may be sent again.
type pipeline struct {
	schema *schema
	steps  []func(db.DBTX) error
}

var errRecorded = errors.New("recorded")

// add appends one statement: step must make exactly one call that uses its argument.
func (p *pipeline) add(step func(db.DBTX) error) { p.steps = append(p.steps, step) }

// send runs the statements. The first error is returned; then nothing was stored.
func (p *pipeline) send(ctx context.Context, to batchSender) (err error) {
	// A batch is sent once: the driver notes in it what one connection has prepared.
	var batch pgx.Batch
	for _, step := range p.steps {
		if err := step(recorder{p.schema, &batch}); err != nil && !errors.Is(err, errRecorded) {
			panic("a step failed before it was sent: " + err.Error()) // the step is wrong: nothing was asked yet
		}
	}
	results := to.SendBatch(ctx, &batch)
	defer func() {
		if closeErr := results.Close(); err == nil {
			err = closeErr
		}
	}()
	for _, step := range p.steps {
		if err := step(replayer{results}); err != nil {
			return err
		}
	}
	return nil
}

type recorder struct {
	schema *schema
	batch  *pgx.Batch
}

func (r recorder) record(sql string, args []any) {
	r.batch.Queue(r.schema.rewrite(sql), args...)
}

func (r recorder) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	r.record(sql, args)
	return pgconn.CommandTag{}, errRecorded
}

func (r recorder) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	r.record(sql, args)
	return nil, errRecorded
}

func (r recorder) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	r.record(sql, args)
	return recordedRow{}
}

type recordedRow struct{}

func (recordedRow) Scan(...any) error { return errRecorded }

type replayer struct{ results pgx.BatchResults }

func (r replayer) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return r.results.Exec()
}

func (r replayer) Query(context.Context, string, ...any) (pgx.Rows, error) { return r.results.Query() }

func (r replayer) QueryRow(context.Context, string, ...any) pgx.Row { return r.results.QueryRow() }
