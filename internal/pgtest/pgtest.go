// Package pgtest gives tests databases of their own on a real PostgreSQL.
//
// One server serves a test process: a private one that is started by the first test that asks, or
// the one that CYCLO_TEST_DATABASE_URL points at (its user must be allowed to create databases).
// What a test needs in its database is made once, in a template, and then cloned for each test,
// which takes a few milliseconds; so tests run in parallel and never see each other.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
//
// A process that dies before it cleaned up leaves files or databases behind; the next one that
// comes here removes them. The private server itself dies with its process.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"
)

// patience bounds every single thing done here, so that a test fails instead of hanging.
const patience = 2 * time.Minute

// Run runs the tests of a package, then ends its server and removes what it left. It returns the
// exit code for the process.
func Run(m *testing.M) int {
	code := m.Run()
	if err := process.close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

// NewDatabase returns the URL of a fresh database, which goes with the test. The template function
// fills the first such database of this process, given its URL; all further ones are clones. It is
// told from others by its name in the source, so closures of one function literal count as one, and
// it must have closed its connections when it returns. Without one (nil) the database is empty.
func NewDatabase(t testing.TB, template func(url string) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	server, err := process.get(ctx)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	name, err := server.create(ctx, templateName(template), template)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.drop(ctx, name); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	url, err := server.url(name)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return url
}

func templateName(template func(string) error) string {
	if template == nil {
		return ""
	}
	return runtime.FuncForPC(reflect.ValueOf(template).Pointer()).Name()
}

// process is the server of this test process.
var process lazyServer

// lazyServer is started by the first who asks. An error stays: what failed for one test fails for
// all, at once.
type lazyServer struct {
	once   sync.Once
	server *server
	err    error
}

func (l *lazyServer) get(ctx context.Context) (*server, error) {
	l.once.Do(func() { l.server, l.err = newServer(ctx, os.Getenv("CYCLO_TEST_DATABASE_URL")) })
	return l.server, l.err
}

func (l *lazyServer) close() error {
	l.once.Do(func() {}) // nobody asked, and nobody will
	if l.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return l.server.close(ctx)
}
