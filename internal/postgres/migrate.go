package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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
	// Dirty tells that another tool began a migration and did not end it.
	Dirty bool
	// Newest is the newest migration that this program knows.
	Newest int
	// CompatibleFrom is the oldest newest-migration of a program that may work with the schema.
	CompatibleFrom int
}

// MigrateUp brings the schema up to date, and River's: one process at a time, the others wait. A schema that
// a newer program made is left as it is. Errors: engine.ErrSchemaNewer.
func MigrateUp(ctx context.Context, options Options) error {
	return withMigrator(ctx, options, func(m *migrate.Migrate, conn *pgx.Conn, names *schema) error {
		if err := refuseNewer(ctx, conn, names); err != nil {
			return err
		}
		status, err := readSchemaStatus(ctx, conn, names)
		if err != nil {
			return err
		}
		if status.Dirty {
			return dirtyError(status, names)
		}
		if status.Version > status.Newest {
			return nil
		}
		if err := m.Up(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
			return fmt.Errorf("migrate the schema up: %w", err)
		}
		return migrateRiver(ctx, options, names, rivermigrate.DirectionUp)
	})
}

// MigrateDown takes the given number of migrations back; with all of them gone, River's and
// the schemas too. Everything that they held is lost. Errors: engine.ErrSchemaNewer.
func MigrateDown(ctx context.Context, options Options, steps int) error {
	return withMigrator(ctx, options, func(m *migrate.Migrate, conn *pgx.Conn, names *schema) error {
		status, err := readSchemaStatus(ctx, conn, names)
		switch {
		case err != nil:
			return err
		case status.Dirty:
			return dirtyError(status, names)
		case status.Version > status.Newest:
			return newerError(status)
		}
		if steps = min(steps, status.Version); steps > 0 {
			if err := m.Steps(-steps); err != nil {
				return fmt.Errorf("migrate the schema down: %w", err)
			}
		}
		if status.Version > steps {
			return nil
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
	names, err := newSchema(options.Cluster)
	if err != nil {
		return SchemaStatus{}, err
	}
	conn, err := connectDirect(ctx, options)
	if err != nil {
		return SchemaStatus{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing follows
	return readSchemaStatus(ctx, conn, names)
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
	setDialer(config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

// lockPoll is how often a process that waits for another's migration looks again. It polls, because
// waiting for the lock would deadlock with CREATE INDEX CONCURRENTLY.
const lockPoll = 100 * time.Millisecond

func withMigrator(ctx context.Context, options Options, run func(*migrate.Migrate, *pgx.Conn, *schema) error) error {
	names, err := newSchema(options.Cluster)
	if err != nil {
		return err
	}
	unlock, err := lockMigrations(ctx, options, names)
	if err != nil {
		return err
	}
	defer unlock()
	conn, err := connectDirect(ctx, options)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing follows
	// The record of migrations sits in the schema of the state, which must be there first.
	if _, err := conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{names.state()}.Sanitize()); err != nil {
		return fmt.Errorf("create schema %s: %w", names.state(), err)
	}
	driver, err := newMigrationDriver(ctx, conn, names.state())
	if err != nil {
		return fmt.Errorf("prepare the migrations: %w", err)
	}
	source, err := iofs.New(rewritten{migrations.Files, names}, ".")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	migrator, err := migrate.NewWithInstance("iofs", source, "postgres", driver)
	if err != nil {
		return fmt.Errorf("prepare the migrations: %w", err)
	}
	return run(migrator, conn, names)
}

// lockMigrations waits until no other process migrates. The lock lives in an open transaction on a connection of
// its own, not in a session: a pooler would keep a session, and the lock with it, when this process is gone.
func lockMigrations(ctx context.Context, options Options, names *schema) (unlock func(), err error) {
	conn, err := connectDirect(ctx, options)
	if err != nil {
		return nil, err
	}
	unlock = func() { _ = conn.Close(context.WithoutCancel(ctx)) }
	locked := false
	tx, err := conn.Begin(ctx)
	if err == nil {
		_, err = tx.Exec(ctx, "SELECT set_config('idle_in_transaction_session_timeout', '0', true)")
	}
	for err == nil && !locked {
		locked, err = db.New().TryTransactionLock(ctx, tx, names.key("migrate"))
		if err != nil || locked {
			break
		}
		select {
		case <-ctx.Done():
			unlock()
			return nil, fmt.Errorf("wait for another process to migrate: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("lock the schema: %w", err)
	}
	return unlock, nil
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
	setMode(config.ConnConfig, options.PreparedStatements)
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
		return newerError(status)
	}
	return nil
}

func newerError(status SchemaStatus) error {
	return fmt.Errorf("%w: it is at migration %d, this program knows up to %d, and the schema may be used from %d on; install a newer cyclonetix",
		engine.ErrSchemaNewer, status.Version, status.Newest, status.CompatibleFrom)
}

// dirtyError tells of what golang-migrate's own program left behind: migrations that run here never do.
func dirtyError(status SchemaStatus, names *schema) error {
	return fmt.Errorf("schema %s is marked dirty at migration %d: another tool began it and did not end it; see how far it came, mend that, "+
		"set version and dirty in %s.schema_migrations to what is there, and run: cyclonetix migrate up", names.base, status.Version, names.state())
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
		return dirtyError(status, names)
	case status.Version < status.Newest:
		return fmt.Errorf("schema %s is at migration %d of %d; run: cyclonetix migrate up", names.base, status.Version, status.Newest)
	}
	return nil
}
