package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// Options say how to reach the database and how to use it.
type Options struct {
	URL string
	// DirectURL reaches the server without a pooler, for LISTEN, session locks and migrations; empty for URL.
	DirectURL string
	// Cluster is the cluster_id.
	Cluster string
	// MaxConnections bounds the pool; logs and the listener have three more.
	MaxConnections int
	// StatementTimeout bounds statements of readers; 0 leaves them unbounded.
	StatementTimeout time.Duration
	// ConnectionLifetime is the age at which a connection is replaced; 0 for the driver's default.
	ConnectionLifetime time.Duration
	// PreparedStatements is false behind a transaction pooler.
	PreparedStatements bool
	// Interval is the size of the history's partitions.
	Interval Interval
	// MaxPendingSubmits is the number of unread submissions above which new ones are refused; 0 for no bound.
	MaxPendingSubmits int
	// Visit is for a process that comes for one call: it listens to nobody and makes no partitions ahead.
	Visit  bool
	Logger *slog.Logger
}

// Backend is the state in PostgreSQL.
type Backend struct {
	options Options
	schema  *schema
	queries *db.Queries
	pool    *pgxpool.Pool
	logPool *pgxpool.Pool
	clock   clock
	bell    *bell
	logger  *slog.Logger
	buckets int
	plans   planCache
	classes classCache
	submits submitGauge
	claims  claimMark

	closing   context.Context //nolint:containedctx // ends the goroutines of the backend itself
	close     context.CancelFunc
	goroutine sync.WaitGroup
}

var _ engine.Backend = (*Backend)(nil)

// Open connects to a database whose schema is up to date. Errors: engine.ErrSchemaNewer,
// and one that says to migrate when there is no schema.
func Open(ctx context.Context, options Options) (*Backend, error) {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.Interval == "" {
		options.Interval = Day
	}
	if options.MaxConnections == 0 {
		options.MaxConnections = 10
	}
	names, err := newSchema(options.Cluster)
	if err != nil {
		return nil, err
	}
	backend := &Backend{options: options, schema: names, queries: db.New(), logger: options.Logger}
	backend.closing, backend.close = context.WithCancel(context.WithoutCancel(ctx))
	if err := backend.open(ctx); err != nil {
		backend.Close()
		return nil, err
	}
	return backend, nil
}

func (b *Backend) open(ctx context.Context) (err error) {
	if b.pool, err = b.newPool(ctx, b.options.MaxConnections); err != nil {
		return err
	}
	if b.logPool, err = b.newPool(ctx, 2); err != nil {
		return err
	}
	if err := b.readClock(ctx); err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	if err := checkSchema(ctx, b.schema, b.pool); err != nil {
		return err
	}
	setting, err := b.queries.GetSetting(ctx, b.on(b.pool), "buckets")
	if err != nil {
		return fmt.Errorf("read the number of buckets: %w", err)
	}
	if _, err := fmt.Sscanf(setting, "%d", &b.buckets); err != nil || b.buckets < 1 {
		return fmt.Errorf("the setting buckets is %q, which is no number of buckets", setting)
	}
	if !b.options.Visit {
		if err := b.EnsurePartitions(ctx); err != nil {
			return err
		}
	}
	b.bell = newBell(b)
	return nil
}

// on gives statements of package db something to run on.
func (b *Backend) on(dbtx db.DBTX) connection { return connection{DBTX: dbtx, schema: b.schema} }

func (b *Backend) pipeline() *pipeline { return &pipeline{schema: b.schema} }

func (b *Backend) newPool(ctx context.Context, connections int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(b.options.URL)
	if err != nil {
		return nil, fmt.Errorf("read backend_url: %w", withoutURL(err))
	}
	config.MaxConns = int32(connections) //nolint:gosec // a small number
	if b.options.ConnectionLifetime > 0 {
		config.MaxConnLifetime = b.options.ConnectionLifetime
	}
	setMode(config.ConnConfig, b.options.PreparedStatements)
	setDialer(config.ConnConfig)
	if b.options.PreparedStatements {
		// Where many rows are dead, estimates are high, and compiling a statement takes longer than running it. Behind a
		// pooler, where a session's settings are somebody else's too, only the commits say so, each for itself.
		config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET jit = off")
			return err //nolint:wrapcheck // the pool wraps it
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open a pool of connections: %w", withoutURL(err))
	}
	return pool, nil
}

// setMode chooses the protocol: behind a transaction pooler a statement must not live on in a session.
func setMode(config *pgx.ConnConfig, prepared bool) {
	if !prepared {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
}

// withoutURL keeps the password of a URL out of errors. Where the URL itself can't be parsed, even the reason may
// quote a part of the password, which was taken for a port.
func withoutURL(err error) error {
	parse, ok := err.(*pgconn.ParseConfigError) //nolint:errorlint // only itself holds the URL
	if !ok {
		return err
	}
	if _, urlErr := url.Parse(parse.ConnString); urlErr != nil {
		return errors.New("it is not a PostgreSQL URL (postgres://user:password@host:port/database); special characters of the password must be written as %XX")
	}
	// The driver quotes the URL before the reason.
	_, reason, _ := strings.Cut(parse.Error(), "`: ")
	return fmt.Errorf("it is not a PostgreSQL URL (postgres://user:password@host:port/database): %s", reason)
}

func (b *Backend) readClock(ctx context.Context) error {
	before := time.Now()
	now, err := b.queries.GetTime(ctx, b.on(b.pool))
	if err != nil {
		return err
	}
	b.clock.set(before, now)
	return nil
}

// Ping implements engine.Backend.
func (b *Backend) Ping(ctx context.Context) error {
	if err := b.pool.Ping(ctx); err != nil {
		return fmt.Errorf("reach PostgreSQL: %w", err)
	}
	return nil
}

// Close implements engine.Backend.
func (b *Backend) Close() {
	b.close()
	b.goroutine.Wait()
	for _, pool := range []*pgxpool.Pool{b.pool, b.logPool} {
		if pool != nil {
			pool.Close()
		}
	}
}
