package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cyclonetix/cyclonetix/internal/discovery"
	"github.com/cyclonetix/cyclonetix/internal/embedded"
	"github.com/cyclonetix/cyclonetix/internal/keeper"
)

func TestMain(m *testing.M) {
	keeper.MaybeMain()
	testscript.Main(m, map[string]func(){"cyclonetix": main})
}

// TestScripts runs the real program as testdata/*.txt say. Beside the commands of testscript there are
//
//	exits N COMMAND…   runs the command, which must exit with status N
//	ready              waits until a server answers commands
//	remember NAME FILE sets the variable to what the file (or stdout) holds
//	get PATH           has the server answer a GET, which must succeed, on standard output
//
// Each script has a cluster of its own, a free port, and a folder for an embedded database. EXAMPLES is
// the folder of the examples.
func TestScripts(t *testing.T) { runScripts(t, "testdata") }

// TestScriptsOnPostgres runs some of the scripts once more, with the embedded database.
func TestScriptsOnPostgres(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"control.txt", "rerun.txt", "rerun_choice.txt", "backfill.txt", "fresh.txt", "declared.txt", "pending.txt"} {
		script, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Replace(script, []byte("serve --backend memory "), []byte("serve "), 1)
		if bytes.Equal(changed, script) {
			t.Fatalf("%s does not start a server with its state in memory", name)
		}
		if err := os.WriteFile(filepath.Join(folder, name), changed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runScripts(t, folder)
}

var clusters atomic.Int32

func runScripts(t *testing.T, folder string) {
	t.Helper()
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 folder,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits,
			"ready": ready,
			"get":   get,
			"call":  call,
			"until": until,
			"remember": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: remember NAME FILE")
				}
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
			},
		},
		Setup: func(env *testscript.Env) error {
			cluster := fmt.Sprintf("test_%d_%d", os.Getpid(), clusters.Add(1))
			// The user that PostgreSQL runs as must reach the folder, and the path of a socket is short.
			data, err := os.MkdirTemp("/tmp", "cyclonetix-test-")
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := embedded.Remove(t.Context(), filepath.Join(data, "data")); err != nil {
					t.Error(err)
				}
				if err := os.RemoveAll(data); err != nil {
					t.Error(err)
				}
			})
			if err := os.Chmod(data, 0o755); err != nil { //nolint:gosec // see above
				return err
			}
			env.Setenv("CYCLO_CLUSTER_ID", cluster)
			env.Setenv("CYCLO_SERVER_LISTEN", "127.0.0.1:0")
			env.Setenv("CYCLO_EMBEDDED_DATA_DIRECTORY", filepath.Join(data, "data"))
			env.Setenv("EXAMPLES", examples)
			env.Setenv("TZ", "UTC")
			return nil
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		got = failed.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, wanted %d", got, want)
	}
}

func get(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: get PATH")
	}
	running, err := discovery.Find(ts.Getenv("CYCLO_CLUSTER_ID"))
	ts.Check(err)
	answer, err := http.Get(running.URL + args[0]) //nolint:noctx // the server is on this machine
	ts.Check(err)
	defer answer.Body.Close() //nolint:errcheck // nothing was written
	body, err := io.ReadAll(answer.Body)
	ts.Check(err)
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
	if answer.StatusCode != http.StatusOK {
		ts.Fatalf("GET %s: %s: %s", args[0], answer.Status, body)
	}
}

// startTime bounds how long a server may take to start on a slow machine.
const startTime = time.Minute

func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: ready")
	}
	for begin := time.Now(); ; {
		err := ts.Exec("cyclonetix", "list-tasks")
		switch {
		case err == nil:
			return
		case time.Since(begin) > startTime:
			ts.Fatalf("no server answers: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
