package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/migrations"
)

// SchemaStatus says how far the schema of a database is.
type SchemaStatus struct {
	// Version is the newest migration that was applied; 0 for none.
	Version int
	// Dirty tells that a migration broke off.
	Dirty bool
	// Newest is the newest migration that this program knows.
	Newest int
	// CompatibleFrom is the oldest newest-migration of a program that may work with the schema.
	CompatibleFrom int
}

// MigrateUp brings the schema up to date, and River's: one process at a time, the others wait.
func MigrateUp(ctx context.Context, options Options) error {
	return withMigrator(ctx, options, func(m *migrate.Migrate, conn *pgx.Conn, names *schema) error {
		if err := refuseNewer(ctx, conn, names); err != nil {
			return err
		}
		if err := m.Up(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
			return fmt.Errorf("migrate the schema up: %w", err)
		}
		return migrateRiver(ctx, options, names, rivermigrate.DirectionUp)
	})
}

// MigrateDown takes the given number of migrations back; with all of them gone, River's and
// the schemas too. Everything that they held is lost.
func MigrateDown(ctx context.Context, options Options, steps int) error {
	return withMigrator(ctx, options, func(m *migrate.Migrate, conn *pgx.Conn, names *schema) error {
		if err := m.Steps(-steps); err != nil && !errors.Is(err, migrate.ErrNoChange) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("migrate the schema down: %w", err)
		}
		status, err := readSchemaStatus(ctx, conn, names)
		if err != nil || status.Version > 0 {
			return err
		}
		if err := migrateRiver(ctx, options, names, rivermigrate.DirectionDown); err != nil {
			return err
		}
		for _, name := range []string{names.river(), names.state(), names.base} {
			if _, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{name}.Sanitize()+" CASCADE"); err != nil {
				return fmt.Errorf("drop schema %s: %w", name, err)
			}
		}
		return nil
	})
}

// Status reads how far the schema is.
func Status(ctx context.Context, options Options) (SchemaStatus, error) {
	conn, err := connectDirect(ctx, options)
	if err != nil {
		return SchemaStatus{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing follows
	return readSchemaStatus(ctx, conn, newSchema(options.Cluster))
}

func directURL(options Options) string {
	if options.DirectURL != "" {
		return options.DirectURL
	}
	return options.URL
}

func connectDirect(ctx context.Context, options Options) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(directURL(options))
	if err != nil {
		return nil, fmt.Errorf("read backend_url: %w", withoutURL(err))
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

// lockPoll is how often a process that waits for another's migration looks again. It polls, because
// waiting in pg_advisory_lock would deadlock with CREATE INDEX CONCURRENTLY.
const lockPoll = 100 * time.Millisecond

func withMigrator(ctx context.Context, options Options, run func(*migrate.Migrate, *pgx.Conn, *schema) error) (err error) {
	names := newSchema(options.Cluster)
	conn, err := connectDirect(ctx, options)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it also gives the lock up
	queries, key := db.New(), names.key("migrate")
	for {
		locked, err := queries.TryLock(ctx, conn, key)
		if err != nil {
			return fmt.Errorf("lock the schema: %w", err)
		}
		if locked {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another process to migrate: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
	// The record of migrations sits in the schema of the state, which must be there first.
	if _, err := conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{names.state()}.Sanitize()); err != nil {
		return fmt.Errorf("create schema %s: %w", names.state(), err)
	}
	migrator, err := newMigrator(ctx, options, names)
	if err != nil {
		return err
	}
	defer func() {
		sourceErr, databaseErr := migrator.Close()
		err = errors.Join(err, sourceErr, databaseErr)
	}()
	return run(migrator, conn, names)
}

func newMigrator(ctx context.Context, options Options, names *schema) (*migrate.Migrate, error) {
	config, err := pgx.ParseConfig(directURL(options))
	if err != nil {
		return nil, fmt.Errorf("read backend_url: %w", withoutURL(err))
	}
	// A role that is named like a schema must not make its schema the first in the path.
	config.RuntimeParams["search_path"] = names.state()
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	var handle *sql.DB = stdlib.OpenDB(*config)
	driver, err := migratepgx.WithInstance(handle, &migratepgx.Config{SchemaName: names.state(), MigrationsTable: "schema_migrations"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the migrations: %w", err), handle.Close())
	}
	source, err := iofs.New(rewritten{migrations.Files, names}, ".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the migrations: %w", err), handle.Close())
	}
	migrator, err := migrate.NewWithInstance("iofs", source, "pgx5", driver)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the migrations: %w", err), handle.Close())
	}
	_ = ctx
	return migrator, nil
}

// rewritten gives the files with a cluster's own names in them.
type rewritten struct {
	fs.FS
	names *schema
}

func (r rewritten) Open(name string) (fs.File, error) {
	file, err := r.FS.Open(name)
	if err != nil || r.names.replacer == nil || name == "." {
		return file, err //nolint:wrapcheck // the caller knows the file
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller knows the file
	}
	content, err := fs.ReadFile(r.FS, name)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller knows the file
	}
	return &memoryFile{Reader: bytes.NewReader([]byte(r.names.rewrite(string(content)))), info: info}, nil
}

func (r rewritten) ReadDir(name string) ([]fs.DirEntry, error) {
	return fs.ReadDir(r.FS, name) //nolint:wrapcheck // the caller knows the directory
}

type memoryFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *memoryFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memoryFile) Close() error               { return nil }

func migrateRiver(ctx context.Context, options Options, names *schema, direction rivermigrate.Direction) error {
	config, err := pgxpool.ParseConfig(directURL(options))
	if err != nil {
		return fmt.Errorf("read backend_url: %w", withoutURL(err))
	}
	config.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect for the migrations of River: %w", withoutURL(err))
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{names.river()}.Sanitize()); err != nil {
		return fmt.Errorf("create schema %s: %w", names.river(), err)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{
		Schema: names.river(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("prepare the migrations of River: %w", err)
	}
	migrateOptions := &rivermigrate.MigrateOpts{}
	if direction == rivermigrate.DirectionDown {
		migrateOptions.TargetVersion = -1
	}
	if _, err := migrator.Migrate(ctx, direction, migrateOptions); err != nil {
		return fmt.Errorf("migrate the schema of River: %w", err)
	}
	return nil
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func readSchemaStatus(ctx context.Context, conn querier, names *schema) (SchemaStatus, error) {
	status := SchemaStatus{Newest: migrations.Newest()}
	table := pgx.Identifier{names.state(), "schema_migrations"}.Sanitize()
	var there bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", table).Scan(&there); err != nil {
		return status, fmt.Errorf("look for the schema: %w", err)
	}
	if !there {
		return status, nil
	}
	err := conn.QueryRow(ctx, "SELECT version::int, dirty FROM "+table).Scan(&status.Version, &status.Dirty)
	if errors.Is(err, pgx.ErrNoRows) {
		return status, nil
	}
	if err != nil {
		return status, fmt.Errorf("read the version of the schema: %w", err)
	}
	settings := pgx.Identifier{names.state(), "settings"}.Sanitize()
	if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", settings).Scan(&there); err != nil || !there {
		return status, err //nolint:wrapcheck // as above
	}
	err = conn.QueryRow(ctx, "SELECT value::int FROM "+settings+" WHERE name = 'compatible_from'").Scan(&status.CompatibleFrom)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return status, fmt.Errorf("read the setting compatible_from: %w", err)
	}
	return status, nil
}

func refuseNewer(ctx context.Context, conn querier, names *schema) error {
	status, err := readSchemaStatus(ctx, conn, names)
	if err != nil {
		return err
	}
	if status.CompatibleFrom > status.Newest {
		return fmt.Errorf("%w: its version is %d, this program knows up to %d, and programs below %d must not use it; install a newer cyclonetix",
			engine.ErrSchemaNewer, status.Version, status.Newest, status.CompatibleFrom)
	}
	return nil
}

// checkSchema tells whether this program can work with the schema.
func checkSchema(ctx context.Context, names *schema, conn querier) error {
	if err := refuseNewer(ctx, conn, names); err != nil {
		return err
	}
	status, err := readSchemaStatus(ctx, conn, names)
	switch {
	case err != nil:
		return err
	case status.Dirty:
		return fmt.Errorf("migration %d of schema %s broke off; look at the error that it gave, mend the cause, and run: cyclonetix migrate up", status.Version, names.base)
	case status.Version < status.Newest:
		return fmt.Errorf("schema %s is at migration %d of %d; run: cyclonetix migrate up", names.base, status.Version, status.Newest)
	}
	return nil
}
