package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5"
)

// migrationDriver lets golang-migrate work on a connection of ours. A migration and the record of it are
// one transaction: a process that is killed in between leaves nothing half done, and nothing "dirty". It
// locks nothing, because withMigrator holds the lock, and needs no session, so a pooler is no hindrance.
type migrationDriver struct {
	ctx   context.Context //nolint:containedctx // the interface has no room for it
	conn  *pgx.Conn
	table string
	// next is the version that the migration to run leads to.
	next int
}

var _ database.Driver = (*migrationDriver)(nil)

// newMigrationDriver keeps its record in the table schema_migrations of the given schema, in the form that
// golang-migrate's own drivers give it.
func newMigrationDriver(ctx context.Context, conn *pgx.Conn, schema string) (*migrationDriver, error) {
	driver := &migrationDriver{ctx: ctx, conn: conn, table: pgx.Identifier{schema, "schema_migrations"}.Sanitize()}
	if _, err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+driver.table+" (version bigint PRIMARY KEY, dirty boolean NOT NULL)"); err != nil {
		return nil, fmt.Errorf("create table %s: %w", driver.table, err)
	}
	return driver, nil
}

// Open implements database.Driver; the connection is there already.
func (d *migrationDriver) Open(string) (database.Driver, error) { return d, nil }

// Close implements database.Driver; who made the connection closes it.
func (d *migrationDriver) Close() error { return nil }

// Lock implements database.Driver.
func (d *migrationDriver) Lock() error { return nil }

// Unlock implements database.Driver.
func (d *migrationDriver) Unlock() error { return nil }

// SetVersion implements database.Driver: golang-migrate calls it with dirty before each migration, which
// is not stored, and without after it.
func (d *migrationDriver) SetVersion(version int, dirty bool) error {
	d.next = version
	if dirty {
		return nil
	}
	return d.inTransaction("record the version of the schema", func(pgx.Tx) error { return nil })
}

// Run implements database.Driver.
func (d *migrationDriver) Run(migration io.Reader) error {
	statements, err := io.ReadAll(migration)
	if err != nil {
		return fmt.Errorf("read the migration to version %d: %w", d.next, err)
	}
	return d.inTransaction(fmt.Sprintf("migration to version %d", d.next), func(tx pgx.Tx) error {
		// Names are spelled out in full; whatever role and path this connection has must not matter.
		if _, err := tx.Exec(d.ctx, "SELECT set_config('search_path', 'pg_catalog, pg_temp', true)"); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		_, err := tx.Conn().PgConn().Exec(d.ctx, string(statements)).ReadAll()
		return err //nolint:wrapcheck // wrapped below
	})
}

// inTransaction does something and records the next version as reached, both or neither.
func (d *migrationDriver) inTransaction(what string, do func(pgx.Tx) error) error {
	err := pgx.BeginFunc(d.ctx, d.conn, func(tx pgx.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		if _, err := tx.Exec(d.ctx, "DELETE FROM "+d.table); err != nil || d.next < 0 {
			return err //nolint:wrapcheck // wrapped below
		}
		_, err := tx.Exec(d.ctx, "INSERT INTO "+d.table+" (version, dirty) VALUES ($1, false)", d.next)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Version implements database.Driver.
func (d *migrationDriver) Version() (version int, dirty bool, err error) {
	err = d.conn.QueryRow(d.ctx, "SELECT version, dirty FROM "+d.table).Scan(&version, &dirty)
	if errors.Is(err, pgx.ErrNoRows) {
		return database.NilVersion, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read the version of the schema: %w", err)
	}
	return version, dirty, nil
}

// Drop implements database.Driver; nothing here calls it.
func (d *migrationDriver) Drop() error { return errors.New("this driver drops nothing") }
