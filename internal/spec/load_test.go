package spec

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// files writes files below a new directory, which has a tasks folder, and gives it.
func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write(t, root, "tasks/.keep", "")
	for name, content := range contents {
		write(t, root, name, content)
	}
	return root
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func loaderOf(root string) *Loader {
	return NewLoader(Directories{
		Tasks: []string{filepath.Join(root, "tasks")}, DAGs: []string{filepath.Join(root, "dags")},
		Contexts: []string{filepath.Join(root, "contexts")}, ParameterSets: []string{filepath.Join(root, "parameter_sets")},
	}, Defaults{})
}

// load gives what a loader finds as "kind id command", and the problems without
// the root's path.
func load(t *testing.T, l *Loader, root string) (found, problems []string, partial bool) {
	t.Helper()
	set, trouble := l.Load()
	for _, definition := range set.Definitions {
		text := string(definition.Kind) + " " + definition.ID
		if definition.Kind == KindTask {
			text += " " + definition.Task.Command
		}
		found = append(found, text)
	}
	for _, text := range problemTexts(trouble) {
		problems = append(problems, strings.ReplaceAll(text, root+"/", ""))
	}
	return found, problems, set.Partial
}

func expect(t *testing.T, l *Loader, root string, wantFound, wantProblems []string, wantPartial bool) {
	t.Helper()
	found, problems, partial := load(t, l, root)
	if diff := cmp.Diff(wantFound, found); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantProblems, problems); diff != "" {
		t.Error(diff)
	}
	if partial != wantPartial {
		t.Errorf("partial: %v", partial)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	root := files(t, map[string]string{
		"tasks/a.yaml":          "id: a\ncommand: x",
		"tasks/deep/er/b.yml":   "id: b\ncommand: x",
		"tasks/notes.txt":       "{{{",
		"tasks/c.yaml~":         "{{{",
		"tasks/.hidden.yaml":    "{{{",
		"tasks/.#lock.yaml":     "{{{",
		"tasks/#auto.yaml":      "{{{",
		"tasks/.git/x.yaml":     "{{{",
		"tasks/x.yaml.tmp":      "{{{",
		"tasks/x.yaml.swp":      "{{{",
		"dags/d.yaml":           "id: d\ntasks: [{id: a}]",
		"contexts/c.yaml":       "id: c",
		"parameter_sets/p.yaml": "id: p",
	})
	expect(t, loaderOf(root), root, []string{"task a x", "task b x", "dag d", "context c", "parameter_set p"}, nil, false)
	single := NewLoader(Directories{Tasks: []string{filepath.Join(root, "tasks", "a.yaml")}}, Defaults{})
	expect(t, single, root, []string{"task a x"}, nil, false)
}

func TestLoadNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	l := loaderOf(root)
	expect(t, l, root, nil, nil, false)
	write(t, root, "tasks/a.yaml", "id: a\ncommand: x")
	expect(t, l, root, []string{"task a x"}, nil, false)
	if err := os.RemoveAll(filepath.Join(root, "tasks")); err != nil {
		t.Fatal(err)
	}
	expect(t, l, root, nil, nil, false)
}

func TestLoadFollowsEdits(t *testing.T) {
	t.Parallel()
	root := files(t, map[string]string{"tasks/a.yaml": "id: a\ncommand: x", "tasks/b.yaml": "id: b\ncommand: x"})
	l := loaderOf(root)
	expect(t, l, root, []string{"task a x", "task b x"}, nil, false)
	write(t, root, "tasks/a.yaml", "id: a\ncommand: y") // of the same size, and perhaps at the same time
	expect(t, l, root, []string{"task a y", "task b x"}, nil, false)

	write(t, root, "tasks/a.yaml", "- {id: new, command: z}\n- {id: a, command: [}")
	broken := []string{"tasks/a.yaml:2:21: broken YAML: did not find expected node content"}
	for range 2 {
		expect(t, l, root, []string{"task a y", "task b x"}, broken, false)
	}
	write(t, root, "tasks/a.yaml", "- {id: new, command: z, priority: 9}\n- {id: a, command: z}")
	expect(t, l, root, []string{"task a y", "task b x"}, []string{"tasks/a.yaml:1:35: priority must be from 1 to 4, not 9"}, false)

	write(t, root, "tasks/a.yaml", "- {id: new, command: z}\n- {id: a, command: z}")
	expect(t, l, root, []string{"task new z", "task a z", "task b x"}, nil, false)
	if err := os.Remove(filepath.Join(root, "tasks/b.yaml")); err != nil {
		t.Fatal(err)
	}
	expect(t, l, root, []string{"task new z", "task a z"}, nil, false)
}

func TestFirstLoadOfABrokenFile(t *testing.T) {
	t.Parallel()
	root := files(t, map[string]string{"tasks/a.yaml": "- {id: a, command: x}\n- {id: b, command: x, priority: 9}"})
	l := loaderOf(root)
	for range 2 {
		expect(t, l, root, []string{"task a x", "task b x"}, []string{"tasks/a.yaml:2:33: priority must be from 1 to 4, not 9"}, true)
	}
	set, _ := l.Load()
	if set.Definitions[0].Broken || !set.Definitions[1].Broken {
		t.Errorf("got %+v", set.Definitions)
	}
}

// TestLoadReadsOnlyWhatChanged changes a file behind the loader's back: what it
// looks at is as it was, so it must not read.
func TestLoadReadsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	root := files(t, map[string]string{"tasks/a.yaml": "id: a\ncommand: x"})
	path := filepath.Join(root, "tasks/a.yaml")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	l := loaderOf(root)
	expect(t, l, root, []string{"task a x"}, nil, false)
	write(t, root, "tasks/a.yaml", "id: a\ncommand: y")
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	expect(t, l, root, []string{"task a x"}, nil, false)
	old = old.Add(time.Nanosecond * 1000)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	expect(t, l, root, []string{"task a y"}, nil, false)
}

func TestLoadBadFiles(t *testing.T) {
	t.Parallel()
	root := files(t, map[string]string{"tasks/ok.yaml": "id: ok\ncommand: x", "outside/linked.yaml": "id: linked\ncommand: x", "outside/more/m.yaml": "id: more\ncommand: x"})
	at := func(name string) string { return filepath.Join(root, "tasks", name) }
	large, err := os.Create(at("large.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := large.Truncate(1 << 40); err != nil { // with holes
		t.Fatal(err)
	}
	if err := large.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("pipe.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, root, "tasks/sub/nul.yaml", "id: \x00")
	for name, target := range map[string]string{
		"linked.yaml":   filepath.Join(root, "outside/linked.yaml"),
		"again.yaml":    "ok.yaml",
		"dangling.yaml": "nowhere",
		"dangling":      "nowhere",
		"self.yaml":     "self.yaml",
		"sub/up":        "..",
		"more":          filepath.Join(root, "outside/more"),
		"more_again":    filepath.Join(root, "outside/more"),
	} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, loaderOf(root), root, []string{"task ok x", "task linked x", "task more x"}, []string{
		"tasks/dangling.yaml: cannot be read: no such file or directory",
		"tasks/large.yaml: cannot be read: it has more than 32 MiB",
		"tasks/pipe.yaml: cannot be read: it is no regular file",
		"tasks/self.yaml: the symbolic link leads in a circle",
		"tasks/sub/nul.yaml:1:5: the file holds a NUL byte",
		"tasks/sub/up: the symbolic link leads back to a directory that it lies in",
	}, true)
}

// TestLoadKeepsWhatItCannotRead takes a directory away from under a loader, in a
// way that works for the superuser too: a path through it is no directory any more.
func TestLoadKeepsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	root := files(t, map[string]string{"a/tasks/a.yaml": "id: a\ncommand: x"})
	l := NewLoader(Directories{Tasks: []string{filepath.Join(root, "a/tasks")}}, Defaults{})
	expect(t, l, root, []string{"task a x"}, nil, false)
	if err := os.Rename(filepath.Join(root, "a"), filepath.Join(root, "b")); err != nil {
		t.Fatal(err)
	}
	write(t, root, "a", "a file")
	expect(t, l, root, []string{"task a x"}, []string{"a/tasks: cannot be read: not a directory"}, true)
}

// TestConfigMap lays files out as Kubernetes mounts them: each name is a link
// through a hidden link to a hidden folder.
func TestConfigMap(t *testing.T) {
	t.Parallel()
	root := files(t, map[string]string{"tasks/..one/a.yaml": "id: a\ncommand: x", "tasks/..two/a.yaml": "id: a\ncommand: y"})
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(root, "tasks", name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..one", "..data")
	link("..data/a.yaml", "a.yaml")
	l := loaderOf(root)
	expect(t, l, root, []string{"task a x"}, nil, false)
	link("..two", "..next")
	if err := os.Rename(filepath.Join(root, "tasks/..next"), filepath.Join(root, "tasks/..data")); err != nil {
		t.Fatal(err)
	}
	expect(t, l, root, []string{"task a y"}, nil, false)
}

// watching runs a watch whose consumer loads, and gives a function that waits
// until some load has found the wanted definitions.
func watching(t *testing.T, l *Loader, root string) func(want ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	loads := make(chan []string, 1000)
	done := make(chan struct{})
	loads <- nil
	go func() {
		defer close(done)
		l.Watch(ctx, func() {
			found, _, _ := load(t, l, root)
			loads <- found
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	var last []string
	return func(want ...string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for !slices.Equal(last, want) {
			select {
			case last = <-loads:
			case <-deadline:
				t.Fatalf("the last load found %v, want %v", last, want)
			}
		}
	}
}

// swap moves a directory away and another into its place.
func swap(t *testing.T, path, away, next string) {
	t.Helper()
	for _, move := range [][2]string{{path, away}, {next, path}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	for name, times := range map[string]watchTimes{
		"by events": {quiet: 10 * time.Millisecond, most: time.Second, rescan: time.Hour, poll: 20 * time.Millisecond},
		"by looks":  {quiet: time.Hour, most: time.Hour, rescan: 20 * time.Millisecond, poll: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			l := NewLoader(Directories{Tasks: []string{filepath.Join(root, "data/tasks")}}, Defaults{})
			l.watching = times
			wait := watching(t, l, root)
			wait()
			write(t, root, "data/tasks/a.yaml", "id: a\ncommand: x")
			wait("task a x")
			write(t, root, "data/tasks/a.yaml", "id: a\ncommand: xx")
			wait("task a xx")
			write(t, root, "data/tasks/new/folder/b.yaml", "id: b\ncommand: x")
			wait("task a xx", "task b x")
			write(t, root, "data/tasks/new/folder/b.yaml", "id: b\ncommand: xxx")
			wait("task a xx", "task b xxx")
			write(t, root, "data/tasks/.next", "id: a\ncommand: renamed")
			if err := os.Rename(filepath.Join(root, "data/tasks/.next"), filepath.Join(root, "data/tasks/a.yaml")); err != nil {
				t.Fatal(err)
			}
			wait("task a renamed", "task b xxx")
			if err := os.RemoveAll(filepath.Join(root, "data/tasks/new")); err != nil {
				t.Fatal(err)
			}
			wait("task a renamed")
			if err := os.Rename(filepath.Join(root, "data"), filepath.Join(root, "away")); err != nil {
				t.Fatal(err)
			}
			wait()
			write(t, root, "data/tasks/c.yaml", "id: c\ncommand: x")
			wait("task c x")
			write(t, root, "later/tasks/d.yaml", "id: d\ncommand: x")
			if err := os.RemoveAll(filepath.Join(root, "away")); err != nil {
				t.Fatal(err)
			}
			swap(t, filepath.Join(root, "data"), filepath.Join(root, "away"), filepath.Join(root, "later"))
			wait("task d x")
			write(t, root, "data/tasks/d.yaml", "id: d\ncommand: xx")
			wait("task d xx")
		})
	}
}

// TestWatchTellsOnce writes many files in one go, and counts.
func TestWatchTellsOnce(t *testing.T) {
	t.Parallel()
	root := files(t, nil)
	l := loaderOf(root)
	l.watching.rescan = time.Hour
	const size = 200
	var want []string
	for i := range size {
		want = append(want, fmt.Sprintf("task t%03d x", i))
	}
	told := make(chan int, size)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	write(t, root, "tasks/first.yaml", "") // so that there is something to tell at the start
	go func() {
		defer close(done)
		l.Watch(ctx, func() {
			found, _, _ := load(t, l, root)
			told <- len(found)
		})
	}()
	<-told // it watches
	for i := range size {
		write(t, root, fmt.Sprintf("tasks/t%03d.yaml", i), fmt.Sprintf("id: t%03d\ncommand: x", i))
	}
	calls := 1
	for <-told < size {
		calls++
	}
	cancel()
	<-done
	if calls > size/4 {
		t.Errorf("told %d times of %d files", calls, size)
	}
	if found, _, _ := load(t, l, root); !slices.Equal(found, want) {
		t.Errorf("found %v", found)
	}
}
