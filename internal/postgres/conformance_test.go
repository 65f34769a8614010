package postgres_test

import (
	"context"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/backendtest"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/pgtest"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
)

func migrateForSuite(url string) error {
	return postgres.MigrateUp(context.Background(), postgres.Options{URL: url})
}

// The Postgres backend keeps what the seam promises.
func TestBackend(t *testing.T) {
	t.Parallel()
	backendtest.Run(t, func(t testing.TB, options backendtest.Options) engine.Backend {
		t.Helper()
		backend, err := postgres.Open(context.Background(), postgres.Options{
			URL: pgtest.NewDatabase(t, migrateForSuite), PreparedStatements: true, MaxConnections: 4, MaxPendingSubmits: options.MaxPendingSubmits,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(backend.Close)
		return backend
	})
}
