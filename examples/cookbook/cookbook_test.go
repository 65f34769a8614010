// Package cookbook_test runs every command of docs/cookbook.md against the real program, and compares what comes out
// with what the page shows.
package cookbook_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/embedded"
)

const page = "../../docs/cookbook.md"

// binaries is the folder of the built program.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		// PostgreSQL's user must be able to pass, and the path of a socket is short.
		if binaries, err = os.MkdirTemp("/tmp", "cyclonetix-cookbook-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(binaries)
		build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(binaries, "cyclonetix"), "../../cmd/cyclonetix")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

func TestCookbook(t *testing.T) {
	t.Parallel()
	for _, one := range recipes(t) {
		t.Run(one.folder, func(t *testing.T) {
			t.Parallel()
			k := newKitchen(t, one.folder)
			if !one.startsServer() {
				k.serve(t)
			}
			for _, step := range one.steps {
				k.check(t, step)
			}
		})
	}
}

// TestEveryFolderHasARecipe also finds a recipe without a folder.
func TestEveryFolderHasARecipe(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var folders, shown []string
	for _, entry := range entries {
		if entry.IsDir() {
			folders = append(folders, entry.Name())
		}
	}
	for _, one := range recipes(t) {
		shown = append(shown, one.folder)
	}
	slices.Sort(shown)
	if diff := cmp.Diff(folders, shown); diff != "" {
		t.Errorf("folders and recipes differ (-folders +recipes):\n%s", diff)
	}
}

// TestExcerpts holds the YAML of the page to the files.
func TestExcerpts(t *testing.T) {
	t.Parallel()
	for _, one := range recipes(t) {
		var files strings.Builder
		err := filepath.WalkDir(one.folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
				return err
			}
			text, err := os.ReadFile(path)
			files.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(one.excerpts) == 0 {
			t.Errorf("%s: the page shows nothing of its files", one.folder)
		}
		for _, excerpt := range one.excerpts {
			if !strings.Contains(files.String(), excerpt) {
				t.Errorf("%s: this is in no file of the folder:\n%s", one.folder, excerpt)
			}
		}
	}
}

// kitchen is a copy of an example's folder, and where its commands run.
type kitchen struct {
	dir string
	env []string
}

// kitchens counts them: each has a cluster of its own.
var kitchens atomic.Int32

func newKitchen(t *testing.T, folder string) *kitchen {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cyclonetix-cookbook-")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	k := &kitchen{dir: filepath.Join(dir, folder)}
	t.Cleanup(func() {
		if t.Failed() {
			k.killServer(t)
		}
		if err := remove(data); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's user must be able to pass
		t.Fatal(err)
	}
	if err := os.CopyFS(k.dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "CYCLO_") {
			k.env = append(k.env, variable)
		}
	}
	k.env = append(k.env,
		"PATH="+binaries+":"+os.Getenv("PATH"), "PWD="+k.dir, "TZ=UTC",
		fmt.Sprintf("CYCLO_CLUSTER_ID=cookbook_%d_%d", os.Getpid(), kitchens.Add(1)),
		"CYCLO_SERVER_LISTEN=127.0.0.1:0", "CYCLO_EMBEDDED_DATA_DIRECTORY="+data,
	)
	return k
}

// serverFile holds the process id of a server that a command of the page started.
const serverFile = "server.pid"

// serve starts the server as the page tells the reader to, and stops it in the end.
func (k *kitchen) serve(t *testing.T) {
	t.Helper()
	server := exec.Command("cyclonetix", "serve")
	server.Path = filepath.Join(binaries, "cyclonetix")
	server.Dir, server.Env = k.dir, k.env
	var log strings.Builder
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := server.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
		if t.Failed() {
			t.Logf("the server:\n%s", log.String())
		}
	})
	k.until(t, "cyclonetix list-tasks", func(_ string, err error) bool { return err == nil })
}

// killServer ends a server that a command of the page started, and shows its log.
func (k *kitchen) killServer(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(k.dir, serverFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if log, err := os.ReadFile(filepath.Join(k.dir, "server.log")); err == nil {
		t.Logf("the server:\n%s", log)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Errorf("%s: %v", serverFile, err)
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
}

// remove removes an embedded database, if there is one, once the server that was told to end has ended.
func remove(data string) error {
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := embedded.Remove(context.Background(), data) // the test's own context has ended
		if !errors.Is(err, embedded.ErrInUse) || time.Since(begin) > patience {
			return err
		}
	}
}

// run runs a command of the page as a shell would, and gives what it wrote to standard output.
func (k *kitchen) run(command string) (string, error) {
	shell := exec.Command("sh", "-c", command)
	shell.Dir, shell.Env = k.dir, k.env
	shell.WaitDelay = time.Second // a server that it started in the background may hold standard error
	var talk strings.Builder
	shell.Stderr = &talk
	out, err := shell.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, talk.String())
	}
	return string(out), err
}

// patience bounds how long something may take on a slow machine.
const patience = time.Minute

// until runs a command that only looks, again and again, until it is done.
func (k *kitchen) until(t *testing.T, command string, done func(out string, err error) bool) (out string, err error) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		out, err = k.run(command)
		if done(out, err) || time.Since(begin) > patience {
			return out, err
		}
	}
}

// check runs a step. What only looks is given time to see what the page shows: a reader is slower than a test.
func (k *kitchen) check(t *testing.T, step step) {
	t.Helper()
	want := settled(step.output)
	var out string
	var err error
	if step.looks() {
		out, err = k.until(t, step.command, func(out string, err error) bool { return err == nil && settled(out) == want })
	} else {
		out, err = k.run(step.command)
	}
	if err != nil {
		t.Fatalf("$ %s\n%v", step.command, err)
	}
	if diff := cmp.Diff(want, settled(out)); diff != "" {
		t.Fatalf("$ %s\nshows something else (-page +program):\n%s\nin full:\n%s", step.command, diff, out)
	}
}
