package checkout

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// How a lock is held.
const (
	shared    = syscall.LOCK_SH
	exclusive = syscall.LOCK_EX
)

// lock is a file's. It excludes other slots of this process, too, as each opens the file anew.
type lock struct{ file *os.File }

func openLock(path string) (*lock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock git's cache (git.cache.path): %w", err)
	}
	return &lock{file}, nil
}

const (
	firstPause   = 5 * time.Millisecond
	longestPause = 100 * time.Millisecond
	// sayAfter is when people are told that a lock is waited for.
	sayAfter = time.Second
)

// take waits for the lock, as long as the runner lets it. Held in another way before, it is free for a moment.
func (l *lock) take(how int, run Runner) error {
	began, told := time.Now(), false
	for pause := firstPause; !l.try(how); pause = min(2*pause, longestPause) {
		if !told && time.Since(began) > sayAfter {
			told = true
			run.Say("git: waiting for another task that fetches the same repository")
		}
		if err := run.Pause(pause); err != nil {
			return err //nolint:wrapcheck // it is the runner's
		}
	}
	return nil
}

// try takes the lock if that is possible at once.
func (l *lock) try(how int) bool {
	for {
		err := syscall.Flock(int(l.file.Fd()), how|syscall.LOCK_NB) //nolint:gosec // a descriptor
		if !errors.Is(err, syscall.EINTR) {
			return err == nil
		}
	}
}

func (l *lock) close() { _ = l.file.Close() }
