package memory_test

import (
	"slices"
	"testing"
	"time"

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

// What a server declared that is gone counts for a while, unless no other declares.
func TestDeclarationsAge(t *testing.T) {
	t.Parallel()
	var passed time.Duration
	began := time.Now()
	backend := memory.New(memory.Options{Clock: func() time.Time { return began.Add(passed) }})
	t.Cleanup(backend.Close)
	declare := func(server string, queues ...string) {
		t.Helper()
		if err := backend.Declare(t.Context(), server, engine.Declared{Queues: queues}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(queues ...string) {
		t.Helper()
		if got, err := backend.Declared(t.Context()); err != nil || !slices.Equal(got.Queues, queues) {
			t.Fatalf("declared are %q, %v, should be %q", got.Queues, err, queues)
		}
	}
	declare("gone", "old")
	passed = engine.DeclaredFor
	want("old")
	declare("here", "new")
	want("new", "old")
	passed += time.Second
	want("new", "old")
	declare("here", "new")
	want("new")
	passed *= 100
	want("new")
}
