package trigger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var errInjected = errors.New("injected")

// site is a folder that a DAG watches, with a clock that a test moves.
type site struct {
	testing.TB
	*Files

	folder   string
	now      time.Time
	revision int64
	dags     []*spec.DAG
	arrivals *arrivals
	log      bytes.Buffer

	mutex   sync.Mutex
	stuck   chan struct{} // starts of the DAG "stuck" wait for it
	started []string      // the DAGs and the names of files, once for each occasion
	calls   int
	seen    map[string]bool
	refuse  error // of all starts
	alone   bool  // whether many can't be started in one step
}

// arrivals are kept by a backend, and may fail.
type arrivals struct {
	backend       engine.Arrivals
	reads, writes atomic.Int32
	err           error
}

func (a *arrivals) Arrivals(ctx context.Context, dag string) ([]engine.Arrival, error) {
	if a.reads.Add(1); a.err != nil {
		return nil, a.err
	}
	return a.backend.Arrivals(ctx, dag)
}

func (a *arrivals) NoteArrivals(ctx context.Context, dag string, arrived []engine.Arrival, gone []workflow.Hash) error {
	if a.writes.Add(1); a.err != nil {
		return a.err
	}
	return a.backend.NoteArrivals(ctx, dag, arrived, gone)
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		TB: t, folder: t.TempDir(), now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), seen: map[string]bool{},
		arrivals: &arrivals{backend: memory.New(memory.Options{})},
	}
	s.watch(map[string]workflow.FileArrival{"dag": {Path: s.folder, Pattern: "*", WaitSeconds: 5}})
	s.restart()
	return s
}

// restart forgets all that a server has in its memory.
func (s *site) restart() {
	s.Files = &Files{
		Arrivals: s.arrivals, Definitions: s, Starter: s, Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
		Now: func() time.Time {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			return s.now
		},
	}
}

// watch publishes DAGs with such triggers.
func (s *site) watch(rules map[string]workflow.FileArrival) {
	s.revision++
	s.dags = nil
	for id, rule := range rules {
		s.dags = append(s.dags, &spec.DAG{DAG: workflow.DAG{ID: id, Triggers: &workflow.Triggers{FileArrival: &rule}}})
	}
}

func (s *site) Triggered(context.Context) ([]*spec.DAG, int64, error) { return s.dags, s.revision, nil }

func (s *site) StartTriggered(_ context.Context, run *api.TriggeredRun) (*api.Scheduled, error) {
	if run.DAGID == "stuck" {
		<-s.stuck
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.calls++
	if s.refuse != nil {
		return nil, s.refuse
	}
	if run.Trigger.Kind != workflow.TriggerFileArrival || !filepath.IsAbs(run.Trigger.File) {
		s.Errorf("the trigger is %+v", run.Trigger)
	}
	if key := run.DAGID + run.Occasion; !s.seen[key] {
		s.seen[key] = true
		s.started = append(s.started, run.DAGID+" "+filepath.Base(run.Trigger.File))
	}
	return &api.Scheduled{}, nil
}

func (s *site) StartAllTriggered(ctx context.Context, runs []api.TriggeredRun) error {
	if s.alone {
		return errInjected
	}
	for i := range runs {
		if _, err := s.StartTriggered(ctx, &runs[i]); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file whose time is so many seconds after the first.
func (s *site) write(name, text string, seconds int) {
	s.Helper()
	path := filepath.Join(s.folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	at := time.Date(2020, 1, 1, 0, 0, seconds, 0, time.UTC)
	if err := os.Chtimes(path, at, at); err != nil {
		s.Fatal(err)
	}
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// pass lets seconds go by, with a turn in each and at the end, and compares what was started in them.
func (s *site) pass(seconds int, want ...string) {
	s.Helper()
	s.started = nil
	for range seconds {
		s.mutex.Lock()
		s.now = s.now.Add(time.Second)
		s.mutex.Unlock()
		s.turn()
	}
	if diff := cmp.Diff(want, s.started); diff != "" {
		s.Errorf("started: %s", diff)
	}
}

// turn turns until nothing is to be done at this time.
func (s *site) turn() {
	s.Helper()
	for range 10_000 {
		next, err := s.Turn(s.Context())
		s.must(err)
		if next.After(s.now) {
			return
		}
	}
	s.Fatal("there is always more to do")
}

// warnings takes the warnings that were logged since.
func (s *site) warnings() int {
	defer s.log.Reset()
	return strings.Count(s.log.String(), "level=WARN")
}

func TestFilesArrive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("there", "x", 0)
	s.pass(5)
	s.pass(1, "dag there")
	s.pass(10)
	s.write("b", "x", 0)
	s.write("a", "x", 0)
	s.pass(3)
	s.write("b", "longer", 1) // it is being written
	s.pass(3, "dag a")
	s.pass(3, "dag b")

	// Written anew it is a new arrival, whichever of the two tells so. So is one that has gone and comes back otherwise.
	s.write("a", "x", 7)
	s.pass(6, "dag a")
	s.write("a", "xy", 7)
	s.pass(6, "dag a")
	s.must(os.Remove(filepath.Join(s.folder, "a")))
	s.pass(3)
	s.write("a", "z", 9)
	s.pass(6, "dag a")

	// One that goes before it has arrived is none.
	s.write("brief", "x", 0)
	s.pass(3)
	s.must(os.Remove(filepath.Join(s.folder, "brief")))
	s.pass(10)
	if s.warnings() > 0 {
		t.Error("something was told")
	}
}

// TestFilesAskNothing holds that a look at a folder where nothing changes is no question to the backend.
func TestFilesAskNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a", "x", 0)
	s.pass(6, "dag a")
	reads, writes, calls := s.arrivals.reads.Load(), s.arrivals.writes.Load(), s.calls
	s.pass(120)
	if s.arrivals.reads.Load() != reads || s.arrivals.writes.Load() != writes || s.calls != calls {
		t.Errorf("%d reads, %d writes, %d starts", s.arrivals.reads.Load()-reads, s.arrivals.writes.Load()-writes, s.calls-calls)
	}
}

func TestFilesOverARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a", "x", 0)
	s.pass(6, "dag a")
	clear(s.seen) // as when retention has dropped the run, with its idempotency key
	s.restart()
	s.write("b", "x", 0)
	s.pass(6, "dag b")

	// A crash after the start of the run, before it was noted.
	s.write("c", "x", 0)
	s.arrivals.err = errInjected
	s.pass(6, "dag c")
	if s.warnings() != 1 {
		t.Errorf("the log is %s", s.log.String())
	}
	s.restart()
	s.pass(6)
	s.arrivals.err = nil
	s.pass(60)
	clear(s.seen)
	s.pass(60)
	s.restart()
	s.pass(60)

	// One that came while the server was down.
	s.write("d", "x", 0)
	s.pass(6, "dag d")
}

func TestFilesThatCount(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string][]string{
		"*":       {"dag a.csv", "dag b.csv.gz", "dag link", "dag new\nline"},
		"*.csv":   {"dag a.csv"},
		".*":      {"dag .hidden"},
		"*.part":  {"dag c.csv.part"},
		"[b-l]*":  {"dag b.csv.gz", "dag link"},
		".h*.prt": nil,
	} {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for _, name := range []string{"a.csv", "b.csv.gz", "c.csv.part", ".hidden", "new\nline"} {
				s.write(name, "x", 0)
			}
			if runtime.GOOS == "linux" {
				s.write("no\xfftext", "x", 0)
			}
			elsewhere := t.TempDir()
			s.must(os.Mkdir(filepath.Join(s.folder, "folder"), 0o700))
			s.must(os.Symlink(elsewhere, filepath.Join(s.folder, "link to a folder")))
			s.must(os.Symlink(filepath.Join(elsewhere, "nothing"), filepath.Join(s.folder, "link to nothing")))
			s.must(os.WriteFile(filepath.Join(elsewhere, "file"), []byte("x"), 0o600))
			s.must(os.Symlink(filepath.Join(elsewhere, "file"), filepath.Join(s.folder, "link")))
			s.watch(map[string]workflow.FileArrival{"dag": {Path: s.folder, Pattern: pattern, WaitSeconds: 0}})
			s.pass(2, want...)
		})
	}
}

func TestFoldersInTrouble(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a", "x", 0)
	s.pass(6, "dag a")
	away := s.folder + ".away"
	s.must(os.Rename(s.folder, away))
	s.pass(200)
	if s.warnings() != 1 {
		t.Errorf("a folder that is missing is told so: %s", s.log.String())
	}
	s.must(os.WriteFile(s.folder, nil, 0o600))
	s.pass(200)
	if s.warnings() != 1 {
		t.Errorf("a folder that is a file is told so: %s", s.log.String())
	}
	s.must(os.Remove(s.folder))
	s.must(os.Mkdir(s.folder, 0o700)) // where a disk is to be mounted
	clear(s.seen)
	s.pass(3600)
	s.must(os.Remove(s.folder))
	s.must(os.Rename(away, s.folder))
	s.write("b", "x", 0)
	s.pass(60, "dag b")
	if s.warnings() > 0 {
		t.Errorf("it is told: %s", s.log.String())
	}
}

func TestFilesThatAreGoneAreForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a", "x", 0)
	s.write("b", "x", 0)
	s.pass(6, "dag a", "dag b")
	s.must(os.Remove(filepath.Join(s.folder, "a")))
	s.pass(1)
	s.now = s.now.Add(rememberGone)
	s.pass(1)
	kept, err := s.arrivals.backend.Arrivals(t.Context(), "dag")
	s.must(err)
	if len(kept) != 1 || len(s.folders["dag"].known) != 1 {
		t.Errorf("%d files are kept, %d in memory", len(kept), len(s.folders["dag"].known))
	}
}

// TestArrivalsThatCannotStart has a DAG that can't be planned for a while: no arrival is lost, though files go.
func TestArrivalsThatCannotStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.refuse = &api.Error{Message: "task x is not there", Details: &api.Details{Hint: "mend it"}}
	s.write("a", "x", 0)
	s.write("b", "x", 0)
	s.pass(300)
	if told := s.log.String(); strings.Count(told, "level=WARN") != 1 || !strings.Contains(told, "task x is not there") || !strings.Contains(told, "mend it") {
		t.Errorf("the log is %s", told)
	}
	if s.calls > 20 {
		t.Errorf("it was tried %d times", s.calls)
	}
	s.must(os.Remove(filepath.Join(s.folder, "a")))
	s.pass(10)
	s.refuse = nil
	s.pass(70, "dag a", "dag b")
}

// A file for which no run can be started holds up none that came before it.
func TestArrivalsThatCannotStartTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.alone = true
	s.write("a", "x", 0)
	s.write("b", "x", 0)
	s.pass(6, "dag a", "dag b")
	if s.warnings() > 0 || s.calls != 2 {
		t.Errorf("%d starts; the log is %s", s.calls, s.log.String())
	}
}

func TestFoldersOfSeveralDAGs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	missing := filepath.Join(s.folder, "missing")
	rules := map[string]workflow.FileArrival{
		"dag": {Path: s.folder, Pattern: "*", WaitSeconds: 5}, "other": {Path: s.folder, Pattern: "*.csv", WaitSeconds: 1},
		"third": {Path: missing, Pattern: "*", WaitSeconds: 1},
	}
	s.watch(rules)
	s.write("a.csv", "x", 0)
	s.pass(6, "other a.csv", "dag a.csv")

	// Another pattern starts what it adds; what was started before stays so.
	clear(s.seen)
	s.write("b.txt", "x", 0)
	s.pass(6, "dag b.txt")
	rules["other"] = workflow.FileArrival{Path: s.folder, Pattern: "*", WaitSeconds: 1}
	s.watch(rules)
	s.pass(20, "other b.txt")
	rules["other"] = workflow.FileArrival{Path: s.folder, Pattern: "*.csv", WaitSeconds: 2}
	s.watch(rules)
	s.pass(20)

	// A trigger that is taken away starts nothing, and goes on where it was.
	delete(rules, "other")
	s.watch(rules)
	s.pass(20)
	s.write("c.csv", "x", 0)
	s.pass(20, "dag c.csv")
	rules["other"] = workflow.FileArrival{Path: s.folder, Pattern: "*.csv", WaitSeconds: 1}
	s.watch(rules)
	s.pass(20, "other c.csv")
}

// TestFilesBesideEachOther has two servers that look at the same folder.
func TestFilesBesideEachOther(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.Files
	s.restart()
	for i := range 20 {
		s.write(fmt.Sprint("f", i%7), "x", i)
		s.now = s.now.Add(3 * time.Second)
		for _, files := range []*Files{one, s.Files} {
			_, err := files.Turn(t.Context())
			s.must(err)
		}
	}
	s.now = s.now.Add(time.Minute)
	for _, files := range []*Files{one, s.Files, one, s.Files} {
		_, err := files.Turn(t.Context())
		s.must(err)
		s.now = s.now.Add(10 * time.Second)
	}
	if len(s.started) != 20 {
		t.Errorf("%d runs were started: %v", len(s.started), s.started)
	}
}

// TestFolderThatDoesNotAnswer has a look that takes for ever: others go on, and it does when it can.
func TestFolderThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.stuck, s.patience = make(chan struct{}), time.Second
	rule := workflow.FileArrival{Path: s.folder, Pattern: "*", WaitSeconds: 0}
	s.watch(map[string]workflow.FileArrival{"dag": rule, "stuck": rule})
	s.write("a", "x", 0)
	s.pass(1, "dag a")
	s.write("b", "x", 0)
	s.pass(3, "dag b")
	if s.warnings() != 1 {
		t.Errorf("the log is %s", s.log.String())
	}
	done := s.folders["stuck"].done
	close(s.stuck)
	<-done
	s.pass(70, "stuck b") // it took long, so it is left alone for a while
}

// stuck is a disk that does not answer.
type stuck struct{ asked, answer chan struct{} }

func (s *stuck) Triggered(context.Context) ([]*spec.DAG, int64, error) {
	close(s.asked)
	<-s.answer
	return nil, 0, errInjected
}

func TestFilesEndWithoutTheDisk(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := &stuck{make(chan struct{}), make(chan struct{})}
	s.Files.Definitions = disk
	defer close(disk.answer)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx, nil); close(ended) }()
	<-disk.asked
	cancel()
	<-ended
}

// TestFilesRun holds that what is published is looked at at once, and that the end of the context is the end.
func TestFilesRun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	looks := make(chan struct{}, 100)
	s.Files.Definitions = definitions(func() ([]*spec.DAG, int64, error) {
		looks <- struct{}{}
		return nil, 1, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	refreshed, ended := make(chan struct{}, 1), make(chan struct{})
	go func() { s.Run(ctx, refreshed); close(ended) }()
	<-looks
	refreshed <- struct{}{}
	<-looks
	cancel()
	<-ended
}

type definitions func() ([]*spec.DAG, int64, error)

func (d definitions) Triggered(context.Context) ([]*spec.DAG, int64, error) { return d() }

// TestManyFiles bounds what is kept in memory, and how many are started before it is the turn of others.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const files = 3 * startsAtOnce
	for i := range files {
		s.write(fmt.Sprintf("f%04d", i), "", 0)
	}
	s.watch(map[string]workflow.FileArrival{"dag": {Path: s.folder, Pattern: "*", WaitSeconds: 0}})
	next, err := s.Turn(t.Context())
	s.must(err)
	if len(s.started) != startsAtOnce || next.After(s.now) {
		t.Errorf("%d are started at once; the next look is in %v", len(s.started), next.Sub(s.now))
	}
	s.turn()
	if len(s.started) != files || !slices.IsSorted(s.started) {
		t.Errorf("%d are started", len(s.started))
	}
	if f := s.folders["dag"]; len(f.known) != files || len(f.waiting) > 0 || f.ready != nil {
		t.Errorf("%d are known, %d wait", len(f.known), len(f.waiting))
	}
}
