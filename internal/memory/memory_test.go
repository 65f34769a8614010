package memory_test

import (
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/backendtest"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
)

func TestBackend(t *testing.T) {
	t.Parallel()
	backendtest.Run(t, func(t testing.TB, options backendtest.Options) engine.Backend {
		backend := memory.New(memory.Options{MaxPendingSubmits: options.MaxPendingSubmits})
		t.Cleanup(backend.Close)
		return backend
	})
}
