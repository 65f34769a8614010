package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// runFolderAge is how long the folder of a run is kept that holds something, without a change.
	runFolderAge = 7 * 24 * time.Hour
	// idleRuns is how many runs without a task here keep their folders: most soon have a task again.
	idleRuns = 32
	// maxSpare is how many empty folders are kept for other runs.
	maxSpare = 256
)

// runFolders makes the folders of runs. An agent holds a shared lock on a folder that it
// uses, so that no other agent of the host removes it. An empty folder is put aside when
// its run has had no task here for a while; what tasks left in one is kept for tasks to come.
//
// Empty folders are renamed from run to run and not removed: a rename takes some microseconds, while
// making a folder can take a journaling file system as long as a process takes to start.
type runFolders struct {
	runs, free string

	mu    sync.Mutex
	used  map[workflow.RunID]*runFolder
	idle  []*runFolder // oldest first; some may be used again
	spare []string     // paths of empty folders in free; another agent may take one away
	put   int          // number of folders that were put there
}

type runFolder struct {
	run  workflow.RunID
	make sync.Once
	file *os.File // locked
	err  error

	// Guarded by runFolders.
	tasks  int
	isIdle bool // it is in the list
}

func newRunFolders(root string) runFolders {
	return runFolders{
		runs: filepath.Join(root, "runs"), free: filepath.Join(root, "free"), used: map[workflow.RunID]*runFolder{},
	}
}

// findSpare takes note of the empty folders that are there.
func (r *runFolders) findSpare() {
	entries, _ := os.ReadDir(r.free)
	for _, entry := range entries[:min(len(entries), maxSpare)] {
		r.spare = append(r.spare, filepath.Join(r.free, entry.Name()))
	}
}

// place puts an empty folder at the path, if there is none.
func (r *runFolders) place(path string) error {
	for {
		r.mu.Lock()
		last := len(r.spare) - 1
		if last < 0 {
			r.mu.Unlock()
			break
		}
		spare := r.spare[last]
		r.spare = r.spare[:last]
		r.mu.Unlock()
		err := renameNew(spare, path)
		if err == nil {
			return nil
		}
		if errors.Is(err, fs.ErrExist) {
			r.mu.Lock()
			r.spare = append(r.spare, spare)
			r.mu.Unlock()
			return nil
		}
	}
	if err := os.Mkdir(path, private); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// putAside takes an empty folder that nobody uses away.
func (r *runFolders) putAside(file *os.File, path string) {
	info, err := file.Stat()
	if err != nil || info.Mode().Perm() != private {
		_ = syscall.Rmdir(path) // refused unless it is empty
		return
	}
	if _, err := file.Readdirnames(1); !errors.Is(err, io.EOF) {
		return
	}
	r.mu.Lock()
	full := len(r.spare) >= maxSpare
	r.put++
	spare := filepath.Join(r.free, fmt.Sprintf("%d-%d-%s", os.Getpid(), r.put, filepath.Base(path)))
	r.mu.Unlock()
	if full || renameNew(path, spare) != nil {
		_ = syscall.Rmdir(path)
		return
	}
	r.mu.Lock()
	r.spare = append(r.spare, spare)
	r.mu.Unlock()
}

func (r *runFolders) path(run workflow.RunID) string { return filepath.Join(r.runs, run.String()) }

// enter makes the folder of a run, unless it is there, for one task.
func (r *runFolders) enter(run workflow.RunID) error {
	r.mu.Lock()
	folder := r.used[run]
	if folder == nil {
		folder = &runFolder{run: run}
		r.used[run] = folder
	}
	folder.tasks++
	r.mu.Unlock()
	folder.make.Do(func() { folder.file, folder.err = r.lockedFolder(r.path(run)) })
	if folder.err != nil {
		r.leave(run)
		return fmt.Errorf("make the folder of its run: %w", folder.err)
	}
	return nil
}

// lockedFolder makes a folder if need be, and takes a shared lock on it.
func (r *runFolders) lockedFolder(path string) (*os.File, error) {
	for {
		if err := r.place(path); err != nil {
			return nil, err
		}
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another agent removed it
		}
		if err != nil {
			return nil, err
		}
		if err := flock(file, syscall.LOCK_SH); err != nil {
			_ = file.Close()
			return nil, err
		}
		locked, err := file.Stat()
		there, thereErr := os.Stat(path)
		if err == nil && thereErr == nil && os.SameFile(locked, there) {
			return file, nil
		}
		_ = file.Close()
	}
}

// leave tells that a task of the run ended.
func (r *runFolders) leave(run workflow.RunID) {
	var old *runFolder
	r.mu.Lock()
	folder := r.used[run]
	if folder.tasks--; folder.tasks == 0 {
		switch {
		case folder.err != nil:
			delete(r.used, run) // the next task tries again
		case !folder.isIdle:
			folder.isIdle = true
			r.idle = append(r.idle, folder)
		}
	}
	if len(r.idle) > idleRuns {
		old = r.forget()
	}
	r.mu.Unlock()
	if old != nil {
		r.close(old)
	}
}

// forget takes the folder that became idle first out of the list, and gives it if it is still idle.
func (r *runFolders) forget() *runFolder {
	folder := r.idle[0]
	r.idle = r.idle[1:]
	folder.isIdle = false
	if folder.tasks > 0 {
		return nil
	}
	delete(r.used, folder.run)
	return folder
}

// close gives the folder up, and puts it aside if it is empty and no other agent uses it.
func (r *runFolders) close(f *runFolder) {
	if f.file == nil {
		return
	}
	if flock(f.file, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		r.putAside(f.file, r.path(f.run))
	}
	_ = f.file.Close()
}

// closeRuns gives all folders up.
func (r *runFolders) closeRuns() {
	r.mu.Lock()
	used := r.used
	r.used, r.idle = map[workflow.RunID]*runFolder{}, nil
	r.mu.Unlock()
	for _, folder := range used {
		r.close(folder)
	}
}

// liveRuns gives those of the runs that have not ended.
type liveRuns func(ctx context.Context, runs []workflow.RunID) ([]workflow.RunID, error)

const (
	// askedAtOnce is about how many runs one question is.
	askedAtOnce = 1000
	// answeredIn is how long the answer may take.
	answeredIn = 10 * time.Second
)

// sweepRuns removes folders that nobody uses, and in which nothing changed for long, unless their runs live: one may be
// paused, or wait for a person, for weeks. As long as nobody can be asked, the folders stay.
func (r *runFolders) sweepRuns(ctx context.Context, remove func(path string), ask liveRuns) error {
	entries, _ := os.ReadDir(r.runs)
	var old []workflow.RunID
	for _, entry := range entries {
		run, err := workflow.ParseRunID(entry.Name())
		path := filepath.Join(r.runs, entry.Name())
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(newest(path)) < runFolderAge:
		case err != nil || run.String() != entry.Name():
			removeUnused(path, remove) // of no run
		default:
			old = append(old, run)
		}
	}
	if ask == nil {
		return nil // the first registration is still to come
	}
	for some := range slices.Chunk(old, askedAtOnce) {
		asking, cancel := context.WithTimeout(ctx, answeredIn)
		live, err := ask(asking, some)
		cancel()
		if err != nil {
			return err
		}
		for _, run := range some {
			if path := r.path(run); !slices.Contains(live, run) && time.Since(newest(path)) >= runFolderAge {
				removeUnused(path, remove)
			}
		}
	}
	return nil
}

// removeUnused removes a folder unless somebody uses it.
func removeUnused(path string, remove func(path string)) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	if flock(file, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		remove(path)
	}
	_ = file.Close()
}

// newest is when anything in a folder was changed last.
func newest(path string) (at time.Time) {
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be read counts for nothing
		}
		if info, err := entry.Info(); err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
		return nil
	})
	return at
}
