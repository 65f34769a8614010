package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// childVariable makes the test program a process that makes a database and tells its URL, to be
// killed by a test.
const childVariable = "PGTEST_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		server, err := process.get(context.Background())
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		name, err := server.create(context.Background(), "numbers", numbers)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if server.private != nil {
			fmt.Println(server.private.folder, name)
		} else {
			fmt.Println("-", name)
		}
		select {}
	}
	os.Exit(Run(m))
}

var timesFilled atomic.Int32

func numbers(url string) error {
	timesFilled.Add(1)
	return execute(url, "CREATE TABLE numbers AS SELECT generate_series(1, 1000) AS n")
}

func execute(url, sql string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

func ask(t *testing.T, url, sql string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	const databases = 12
	urls := make([]string, databases)
	var wg sync.WaitGroup
	for i := range urls {
		wg.Go(func() {
			urls[i] = NewDatabase(t, numbers)
			if err := execute(urls[i], fmt.Sprintf("DELETE FROM numbers WHERE n <= %d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, url := range urls {
		if got := ask(t, url, "SELECT count(*) FROM numbers"); got != 1000-i {
			t.Errorf("database %d has %d rows", i, got)
		}
	}
	if n := timesFilled.Load(); n != 1 {
		t.Errorf("the template was filled %d times", n)
	}
}

func TestDatabaseGoesWithTheTest(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("test", func(t *testing.T) {
		url = NewDatabase(t, nil)
		// A connection that the test forgot is no hindrance.
		if _, err := pgx.Connect(context.Background(), url); err != nil {
			t.Fatal(err)
		}
	})
	if err := execute(url, "SELECT 1"); err == nil {
		t.Error("the database is still there")
	}
}

func TestEmptyDatabase(t *testing.T) {
	t.Parallel()
	if n := ask(t, NewDatabase(t, nil), "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"); n != 0 {
		t.Errorf("%d tables", n)
	}
}

func TestTemplateThatFails(t *testing.T) {
	t.Parallel()
	server, err := process.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	fail := func(string) error { calls++; return errors.New("no such thing") }
	for range 2 {
		if _, err := server.create(t.Context(), "fails", fail); err == nil || !strings.Contains(err.Error(), "make template fails: no such thing") {
			t.Errorf("got %v", err)
		}
	}
	if calls != 1 {
		t.Errorf("tried %d times", calls)
	}
}

// startChild starts a process that uses the server at url, or a private one; it returns the folder
// of the private one and the name of its database.
func startChild(t *testing.T, url string) (child *exec.Cmd, folder, database string) {
	t.Helper()
	child = exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"=1", "CYCLO_TEST_DATABASE_URL="+url)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(child) })
	if _, err := fmt.Fscanln(out, &folder, &database); err != nil {
		t.Fatal(err)
	}
	return child, folder, database
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func TestPrivateServerOfAKilledProcess(t *testing.T) {
	t.Parallel()
	child, folder, _ := startChild(t, "")
	removeForsaken(t.Context())
	if _, err := os.Stat(folder); err != nil {
		t.Fatalf("the folder of a living process was removed: %v", err)
	}
	kill(child)
	removeForsaken(t.Context())
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("folder %s is still there: %v", folder, err)
	}
}

func TestSharedServer(t *testing.T) {
	t.Parallel()
	own, err := process.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	databases := func() string {
		var names bytes.Buffer
		conn, err := pgx.Connect(t.Context(), own.base)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		rows, err := conn.Query(t.Context(), "SELECT datname FROM pg_database")
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			fmt.Fprintln(&names, name)
		}
		return names.String()
	}

	child, _, ofChild := startChild(t, own.base)
	shared, err := newServer(t.Context(), own.base)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shared.create(t.Context(), "numbers", numbers2); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(databases(), ofChild+"\n") {
		t.Fatal("the database of a living process was dropped")
	}
	if err := shared.close(t.Context()); err != nil {
		t.Error(err)
	}
	if strings.Contains(databases(), prefix+shared.token+"_1\n") {
		t.Error("the template is still there")
	}

	kill(child)
	// The server notices the death by itself, after a moment.
	for strings.Contains(databases(), ofChild+"\n") {
		if t.Context().Err() != nil {
			t.Fatal("the databases of a killed process are still there")
		}
		next, err := newServer(t.Context(), own.base)
		if err != nil {
			t.Fatal(err)
		}
		if err := next.close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers2(url string) error { return execute(url, "CREATE TABLE numbers AS SELECT 1 AS n") }

func TestBadServer(t *testing.T) {
	t.Parallel()
	if _, err := newServer(t.Context(), "postgres://nobody@127.0.0.1:1/none"); err == nil || !strings.Contains(err.Error(), "connect to the server for tests") {
		t.Errorf("got %v", err)
	}
	s := server{base: "host=localhost"}
	if _, err := s.url("x"); err == nil {
		t.Error("a keyword string passes for a URL")
	}
}
