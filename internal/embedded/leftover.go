package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pidFile is PostgreSQL's postmaster.pid.
type pidFile struct {
	pid     int
	segment int // of System V shared memory, which its processes hold; 0 when not told
	ready   bool
}

// readPidFile reads the pid file in dir; one that is half written has a pid of 0.
func readPidFile(dir string) (pidFile, error) {
	text, err := readIn(dir, "postmaster.pid")
	if err != nil {
		return pidFile{}, err
	}
	// Lines: pid, data directory, start time, port, socket folder, listen address, "key segment",
	// status.
	var f pidFile
	for i, line := range strings.Split(string(text), "\n") {
		switch i {
		case 0:
			f.pid, _ = strconv.Atoi(strings.TrimSpace(line))
		case 6:
			if fields := strings.Fields(line); len(fields) == 2 {
				f.segment, _ = strconv.Atoi(fields[1])
			}
		case 7:
			f.ready = strings.TrimSpace(line) == "ready"
		}
	}
	return f, nil
}

// clearLeftovers ends what an earlier server left on dir, whose lock is ours: a server whose
// parent was killed (it may be shutting down just now), and its children if it was killed itself.
// Then it removes the pid file: PostgreSQL would take any process that got the same id since for
// the old server.
func clearLeftovers(ctx context.Context, dir string) error {
	f, err := readPidFile(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look for an earlier server: %w", err)
	}
	if isServerOn(f.pid, dir) {
		if err := stopStranger(ctx, f.pid, dir); err != nil {
			return fmt.Errorf("stop the server that an earlier process left on %s: %w", dir, err)
		}
	}
	err = poll(ctx, 2*immediateStop, func() bool {
		if !segmentInUse(f.segment) {
			return true
		}
		quitOrphans(dir)
		return false
	})
	if err != nil {
		return fmt.Errorf("processes of an earlier server still run on %s: end them, then try again: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("remove old pid file: %w", err)
	}
	defer root.Close()
	if err := root.Remove("postmaster.pid"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old pid file: %w", err)
	}
	return nil
}

// stopStranger stops a server that is not a child of this process, harder and harder.
func stopStranger(ctx context.Context, pid int, dir string) error {
	var err error
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if err := syscall.Kill(pid, s); errors.Is(err, syscall.ESRCH) {
			return nil
		} else if err != nil {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
		if err = poll(ctx, immediateStop, func() bool { return !isServerOn(pid, dir) }); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("process %d does not end: %w", pid, err)
}

// poll asks until the answer is yes. Nothing signals the end of a process that is not a child, on
// every system.
func poll(ctx context.Context, atMost time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// segmentInUse says whether a process is attached to the shared memory segment of a server.
func segmentInUse(segment int) bool {
	if segment == 0 {
		return false
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(segment, unix.IPC_STAT, &d); err != nil {
		return false // removed, or since then another user's
	}
	return d.Nattch > 0
}
