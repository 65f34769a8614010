package embedded

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrInUse is the error when another process runs a server on the data directory.
var ErrInUse = errors.New("the data directory is in use")

// lock is held by the one process that may do anything with a data directory. It lies beside the
// directory, whose own place a fresh one is renamed to. The kernel frees it with the process.
type lock struct{ file *os.File }

func acquire(dir string) (*lock, error) {
	path := dir + ".lock"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, explain(fmt.Errorf("lock data directory: %w", err), dir, nil)
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		holder := "another process"
		text := make([]byte, 32)
		n, _ := f.ReadAt(text, 0)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n]))); err == nil {
			holder = fmt.Sprintf("process %d", pid)
		}
		_ = f.Close()
		return nil, &told{is: ErrInUse, text: fmt.Sprintf("data directory %s is in use by %s: "+
			"work with that server, stop it, or choose another folder with --embedded-data-directory", dir, holder)}
	case err != nil:
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The id is a service to the reader of the error above: a disk too full to hold it is no
	// reason to stop here.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &lock{file: f}, nil
}

func (l *lock) path() string { return l.file.Name() }

// release frees the lock. The file stays: removing it would let two processes lock two files of
// the same name. It is unlocked by name, not by closing alone, because a process just being
// started may hold a copy of the descriptor for a moment.
func (l *lock) release() {
	_ = unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	_ = l.file.Close()
}
