package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func makeDirectories(t *testing.T, root string, cleanup bool) *directories {
	t.Helper()
	d, err := newDirectories(root, cleanup, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func entries(t *testing.T, path string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		names = append(names, entry.Name())
	}
	return names
}

// What another user laid out in the temporary directory is not used.
func TestForeignWorkFolderIsRefused(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "work")
	if err := os.Symlink(t.TempDir(), root); err != nil {
		t.Fatal(err)
	}
	roots := []string{root}
	if os.Geteuid() == 0 {
		foreign := t.TempDir()
		if err := os.Chown(foreign, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		roots = append(roots, foreign)
	}
	for _, root := range roots {
		_, err := newDirectories(root, true, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "is not a folder of this user") {
			t.Errorf("%s: got %v", root, err)
		}
	}
}

// Users of one machine do not stand in each other's way.
func TestDefaultWorkFolderIsTheUsers(t *testing.T) {
	t.Parallel()
	var o Options
	o.complete()
	if want := filepath.Join(os.TempDir(), "cyclonetix-"+strconv.Itoa(os.Geteuid())); o.WorkDir != want {
		t.Errorf("got %s, want %s", o.WorkDir, want)
	}
}

// Every attempt finds its folder empty, whatever the one before did with its own.
func TestAttemptsFindAnEmptyFolder(t *testing.T) {
	c := newCluster()
	var root string
	a := startAgent(t, c, oneSlot, func(o *Options) { root = o.WorkDir })
	const check = `test -z "$(ls -A)" && test "$(stat -c %a .)" = 700 && `
	for _, command := range []string{
		"true", "echo x > file", "true", "mkdir -p a/b/c; chmod 000 a", "true", "chmod 755 .", "true",
		"rmdir $PWD; ln -s /etc $PWD", "true", "rmdir $PWD; mkdir $PWD", "echo x > .hidden", "rm -rf $PWD", "true",
	} {
		m := c.submit(shell(check + "{ " + command + "; true; }"))[0]
		if end := c.end(t, m); end.Status != workflow.TaskCompleted {
			t.Errorf("%q ended as %+v", command, end)
		}
	}
	a.stop()
	a.wait(t)
	if left := entries(t, filepath.Join(root, "attempts")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if left := entries(t, filepath.Join(root, "runs")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := os.Stat("/etc"); err != nil {
		t.Fatal(err)
	}
}

func TestFoldersAreKept(t *testing.T) {
	c := newCluster()
	var root string
	a := startAgent(t, c, func(o *Options) { root, o.CleanupTempFiles = o.WorkDir, false })
	c.end(t, c.submit(shell("echo x > file"))[0])
	a.stop()
	a.wait(t)
	if found, _ := filepath.Glob(filepath.Join(root, "attempts", "*", c.run.String()+".1.1-*", "file")); len(found) != 1 {
		t.Errorf("found %q", found)
	}
}

// The folder of a run is shared by its tasks, and outlives them when there is something in it.
func TestRunFolder(t *testing.T) {
	c := newCluster()
	var root string
	a := startAgent(t, c, func(o *Options) { root = o.WorkDir })
	c.end(t, c.submit(shell("echo x > $CYCLO_RUN_DIR/file"))[0])
	other := &engine.RunInfo{ID: workflow.NewRunID(time.Now(), 1)}
	c.end(t, c.submitRun(other, shell("true"))[0])
	if end := c.end(t, c.submit(shell("cat $CYCLO_RUN_DIR/file"))[0]); end.Status != workflow.TaskCompleted {
		t.Errorf("ended as %+v", end)
	}
	a.stop()
	a.wait(t)
	if left := entries(t, filepath.Join(root, "runs")); len(left) != 1 || left[0] != c.run.String() {
		t.Errorf("left behind: %q", left)
	}
}

// Many runs do not leave folders behind, nor does one agent take another's away.
func TestRunFoldersOfTwoAgents(t *testing.T) {
	root := t.TempDir()
	first, second := makeDirectories(t, root, true), makeDirectories(t, root, true)
	shared := workflow.NewRunID(time.Now(), 1)
	for _, d := range []*directories{first, second} {
		if err := d.enter(shared); err != nil {
			t.Fatal(err)
		}
	}
	first.leave(shared)
	for range 3 * idleRuns {
		run := workflow.NewRunID(time.Now(), 1)
		if err := first.enter(run); err != nil {
			t.Fatal(err)
		}
		first.leave(run)
	}
	if left := entries(t, first.runs); len(left) != idleRuns+1 {
		t.Errorf("%d folders", len(left))
	}
	if _, err := os.Stat(first.path(shared)); err != nil {
		t.Errorf("the folder that the other agent uses: %v", err)
	}
	second.leave(shared)
	first.close(time.Minute)
	if _, err := os.Stat(second.path(shared)); err != nil {
		t.Errorf("the folder that the other agent may use again: %v", err)
	}
	second.close(time.Minute)
	if left := entries(t, first.runs); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// What an agent left that was killed is removed by the next one; what one that lives has is not.
func TestSweep(t *testing.T) {
	root := t.TempDir()
	dead, alive := filepath.Join(root, "attempts", "1-dead"), filepath.Join(root, "attempts", "2-alive")
	old, recent := filepath.Join(root, "runs", "old"), filepath.Join(root, "runs", "recent")
	// Nothing changes in the folder of a run that is paused, or waits for a person.
	endedRun, liveRun := workflow.NewRunID(time.Now(), 1), workflow.NewRunID(time.Now(), 2)
	ended, live := filepath.Join(root, "runs", endedRun.String()), filepath.Join(root, "runs", liveRun.String())
	for _, path := range []string{dead, alive, old, recent, ended, live} {
		if err := os.MkdirAll(filepath.Join(path, "folder"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := lockFolder(alive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for path, age := range map[string]time.Duration{
		dead: time.Hour, alive: time.Hour, old: 2 * runFolderAge, filepath.Join(old, "folder"): 2 * runFolderAge, recent: 2 * runFolderAge,
		ended: 2 * runFolderAge, filepath.Join(ended, "folder"): 2 * runFolderAge,
		live: 2 * runFolderAge, filepath.Join(live, "folder"): 2 * runFolderAge,
	} {
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	keeps := makeDirectories(t, root, false)
	keeps.sweepOnce(t.Context(), nil)
	keeps.close(time.Minute)
	<-keeps.swept
	for _, path := range []string{dead, old} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("one that cleans nothing up removed %s", path)
		}
	}
	next := makeDirectories(t, root, true)
	next.sweepOnce(t.Context(), nil)
	next.sweepOnce(t.Context(), func(context.Context, []workflow.RunID) ([]workflow.RunID, error) {
		return nil, errors.New("the backend is away")
	})
	for _, path := range []string{ended, live} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("one that nobody could ask about was removed: %s", path)
		}
	}
	asked := make(chan struct{})
	next.registered(func(_ context.Context, runs []workflow.RunID) ([]workflow.RunID, error) {
		defer close(asked)
		if len(runs) != 2 || !slices.Contains(runs, endedRun) || !slices.Contains(runs, liveRun) {
			t.Errorf("asked is about %v", runs)
		}
		return []workflow.RunID{liveRun}, nil
	})
	<-asked // it sweeps by itself, too
	next.close(time.Minute)
	<-next.swept
	for path, want := range map[string]bool{dead: false, alive: true, old: false, recent: true, ended: false, live: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
}

func TestWorkFolderThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{WorkDir: file}); err == nil {
		t.Error("a file will do as a folder")
	}
}
