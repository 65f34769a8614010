package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// runFolderAge is how long the folder of a run is kept that holds something, without a change.
	runFolderAge = 7 * 24 * time.Hour
	// idleRuns is how many runs without a task here keep their folders: most soon have a task again.
	idleRuns = 128
)

// runFolders makes the folders of runs. An agent holds a shared lock on a folder that it
// uses, so that no other agent of the host removes it. An empty folder is removed when
// its run has had no task here for a while; what tasks left in one is kept for tasks to come.
type runFolders struct {
	runs string

	mu   sync.Mutex
	used map[workflow.RunID]*runFolder
	idle []*runFolder // oldest first; some may be used again
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

func newRunFolders(path string) runFolders {
	return runFolders{runs: path, used: map[workflow.RunID]*runFolder{}}
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
	folder.make.Do(func() { folder.file, folder.err = lockedFolder(r.path(run)) })
	if folder.err != nil {
		r.leave(run)
		return fmt.Errorf("make the folder of its run: %w", folder.err)
	}
	return nil
}

// lockedFolder makes a folder if need be, and takes a shared lock on it.
func lockedFolder(path string) (*os.File, error) {
	for {
		if err := os.Mkdir(path, private); err != nil && !errors.Is(err, fs.ErrExist) {
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
		old.close(r.path(old.run))
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

// close gives the folder up, and removes it if it is empty and no other agent uses it.
func (f *runFolder) close(path string) {
	if f.file == nil {
		return
	}
	if flock(f.file, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		_ = syscall.Rmdir(path) // refused unless it is empty
	}
	_ = f.file.Close()
}

// closeRuns gives all folders up.
func (r *runFolders) closeRuns() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for run, folder := range r.used {
		folder.close(r.path(run))
	}
	clear(r.used)
	r.idle = nil
}

// sweepRuns removes folders that nobody uses, and in which nothing changed for long.
func (r *runFolders) sweepRuns(remove func(path string), stop <-chan struct{}) {
	entries, _ := os.ReadDir(r.runs)
	for _, entry := range entries {
		if closed(stop) {
			return
		}
		path := filepath.Join(r.runs, entry.Name())
		if time.Since(newest(path)) < runFolderAge {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		if flock(file, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			remove(path)
		}
		_ = file.Close()
	}
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
