package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// directories makes the folders that tasks work in:
//
//	attempts/PROCESS/…   one for each attempt, and beside it its result files
//	runs/RUN             one for each run, shared by all agents of the host
//	free/…               empty ones, for runs to come
//
// The folder of an attempt is removed after it. One that the attempt left as it
// found it, empty, is kept for another instead: on a journaling file system
// making and removing a folder costs half as much as a process.
type directories struct {
	runFolders
	parent   string
	attempts string // of this process
	cleanup  bool
	logger   *slog.Logger
	opened   *os.File // attempts
	lock     *os.File // held as long as this process uses attempts
	stop     chan struct{}
	swept    chan struct{}
	asks     chan liveRuns // of the newest registration
	results  atomic.Uint64 // numbers the result files

	mu     sync.Mutex
	number int
	empty  []directory
}

// directory is the folder of an attempt.
type directory struct {
	path  string
	info  fs.FileInfo // as it was when it was known to be empty
	taken time.Time   // by the attempt
}

// coarseTime is longer than a file system's clock stands still.
const coarseTime = 100 * time.Millisecond

const (
	private  = 0o700
	lockFile = "lock"
	// sweepEvery is how often what others left behind is looked for.
	sweepEvery = 24 * time.Hour
	// settled is the age at which a folder without a lock is nobody's: whoever makes one locks it at once.
	settled = time.Minute
	// lastRemoval bounds how long an agent that stops waits for it; the next one removes the rest.
	lastRemoval = 150 * time.Millisecond
)

func newDirectories(root string, cleanup bool, logger *slog.Logger) (*directories, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("find the agent's work folder: %w", err)
	}
	d := &directories{
		runFolders: newRunFolders(root), parent: filepath.Join(root, "attempts"),
		cleanup: cleanup, logger: logger, stop: make(chan struct{}), swept: make(chan struct{}), asks: make(chan liveRuns, 1),
	}
	if err := os.MkdirAll(root, private); err != nil {
		return nil, fmt.Errorf("make the agent's work folder: %w", err)
	}
	if err := checkOwner(root); err != nil {
		return nil, err
	}
	for _, path := range []string{d.parent, d.runs, d.free} {
		if err := os.MkdirAll(path, private); err != nil {
			return nil, fmt.Errorf("make the agent's work folder: %w", err)
		}
	}
	if d.attempts, err = os.MkdirTemp(d.parent, strconv.Itoa(os.Getpid())+"-"); err != nil {
		return nil, fmt.Errorf("make the agent's work folder: %w", err)
	}
	if d.opened, err = os.Open(d.attempts); err != nil {
		return nil, fmt.Errorf("open the agent's work folder: %w", err)
	}
	if d.lock, err = lockFolder(d.attempts); err != nil {
		return nil, fmt.Errorf("lock the agent's work folder: %w", err)
	}
	d.findSpare()
	go d.sweep()
	return d, nil
}

// checkOwner refuses a folder that another user may have laid out for us: the
// system's temporary directory is everybody's.
func checkOwner(root string) error {
	info, err := os.Lstat(root)
	if err != nil {
		return fmt.Errorf("inspect the agent's work folder: %w", err)
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || known && owner.Uid != uint32(os.Geteuid()) { //nolint:gosec // a user's number
		return fmt.Errorf("the agent's work folder %s is not a folder of this user: remove it, or set TMPDIR to another place", root)
	}
	return nil
}

// lockFolder takes a folder for this process, as long as it lives.
func lockFolder(path string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(file, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func flock(file *os.File, how int) error {
	for {
		err := syscall.Flock(int(file.Fd()), how) //nolint:gosec // a descriptor
		if err != syscall.EINTR {                 //nolint:errorlint // a system call's own error
			return err
		}
	}
}

// registered gives the way to ask which runs live, and lets what is left behind be looked for.
func (d *directories) registered(ask liveRuns) {
	for {
		select {
		case d.asks <- ask:
			return
		default:
		}
		select {
		case <-d.asks: // of a registration that is over
		default:
		}
	}
}

// sweep removes, now, with each registration and every day, what dead agents left behind.
func (d *directories) sweep() {
	defer close(d.swept)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-d.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var ask liveRuns
	for {
		select {
		case <-d.stop:
			return
		case ask = <-d.asks:
		case <-timer.C:
			timer.Reset(sweepEvery)
		}
		d.sweepOnce(ctx, ask)
	}
}

func (d *directories) sweepOnce(ctx context.Context, ask liveRuns) {
	if !d.cleanup {
		return // people will look at what is there
	}
	if err := d.sweepRuns(ctx, d.removeAll, ask); err != nil && ctx.Err() == nil {
		d.logger.Warn("old folders of runs are kept for now, because it is not known which runs have ended", "error", err)
	}
	others, _ := os.ReadDir(d.parent)
	for _, other := range others {
		path := filepath.Join(d.parent, other.Name())
		info, err := other.Info()
		if path == d.attempts || closed(d.stop) || err != nil || time.Since(info.ModTime()) < settled {
			continue
		}
		if lock, err := lockFolder(path); err == nil {
			d.removeAll(path)
			_ = lock.Close()
		}
	}
}

// open gives the folder for an attempt.
func (d *directories) open(member workflow.Member) (directory, error) {
	if err := d.enter(member.Run); err != nil {
		return directory{}, err
	}
	dir, err := d.openAttempt(member)
	if err != nil {
		d.leave(member.Run)
	}
	return dir, err
}

func (d *directories) openAttempt(member workflow.Member) (directory, error) {
	d.mu.Lock()
	if n := len(d.empty); n > 0 {
		dir := d.empty[n-1]
		d.empty = d.empty[:n-1]
		d.mu.Unlock()
		dir.taken = time.Now()
		return dir, nil
	}
	d.number++
	name := strconv.Itoa(d.number)
	d.mu.Unlock()
	if !d.cleanup { // people will look at it
		name = fmt.Sprintf("%s.%d-%s", workflow.TaskRunID(member.Run, member.Node), member.Attempt, name)
	}
	path := filepath.Join(d.attempts, name)
	if err := os.Mkdir(path, private); err != nil {
		return directory{}, fmt.Errorf("make its working directory: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return directory{}, fmt.Errorf("look at its working directory: %w", err)
	}
	return directory{path: path, info: info, taken: time.Now()}, nil
}

// put takes the folders of an attempt back. Once stopping is closed removing is left to close.
func (d *directories) put(member workflow.Member, dir directory, stopping <-chan struct{}) {
	d.leave(member.Run)
	switch {
	case !d.cleanup:
	case dir.untouched():
		d.mu.Lock()
		d.empty = append(d.empty, dir)
		d.mu.Unlock()
	case !closed(stopping):
		d.removeAll(dir.path)
	}
}

// untouched tells whether the folder is the one that was made, empty, and with its old mode.
func (dir *directory) untouched() bool {
	if dir.taken.Sub(dir.info.ModTime()) > coarseTime {
		// Whatever the attempt made or removed in it has changed its time.
		if info, err := os.Lstat(dir.path); err == nil && os.SameFile(info, dir.info) && info.Mode() == dir.info.Mode() &&
			info.ModTime().Equal(dir.info.ModTime()) {
			return true
		}
	}
	file, err := os.OpenFile(dir.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !os.SameFile(info, dir.info) || info.Mode() != dir.info.Mode() {
		return false
	}
	if _, err = file.Readdirnames(1); !errors.Is(err, io.EOF) {
		return false
	}
	dir.info = info
	return true
}

// removeAll removes a folder, also where a task forbade it.
func (d *directories) removeAll(path string) {
	err := os.RemoveAll(path)
	if errors.Is(err, fs.ErrPermission) {
		_ = filepath.WalkDir(path, func(path string, entry fs.DirEntry, _ error) error {
			if entry != nil && entry.IsDir() {
				_ = os.Chmod(path, private) //nolint:gosec // a folder needs its x bit
			}
			return nil
		})
		err = os.RemoveAll(path)
	}
	if err != nil {
		d.logger.Warn("a working directory cannot be removed", "error", err)
	}
}

// close removes what is left of this process. What takes longer than the limit goes on in the
// background, and when the process ends is left to the next agent.
func (d *directories) close(limit time.Duration) {
	close(d.stop)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-d.swept
		d.closeRuns()
		if d.cleanup {
			d.removeAll(d.attempts)
		}
		_ = d.lock.Close()
		_ = d.opened.Close()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
