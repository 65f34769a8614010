package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrDiskFull is the error when there is no room under the data directory.
var ErrDiskFull = errors.New("the disk is full")

// fullPattern is how PostgreSQL says it; the last one when a write came out short.
var fullPattern = regexp.MustCompile("No space left on device|Disk quota exceeded|Check free disk space")

// explain turns an error of PostgreSQL or of the file system into one that says what to do. The
// output is what PostgreSQL said; its last lines are told when nothing better is known.
func explain(err error, dir string, output []byte) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), fullPattern.Match(output):
		return &told{is: ErrDiskFull, text: fmt.Sprintf("no room left on the disk that holds %s%s: "+
			"free some space, or choose a folder on another disk with --embedded-data-directory", dir, freeSpace(dir))}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: choose a folder that you may write to with --embedded-data-directory", err)
	case len(bytes.TrimSpace(output)) > 0:
		return fmt.Errorf("%w; its last words:\n%s", err, lastLines(output, 8))
	default:
		return err
	}
}

// freeSpace tells how much room there is for dir, or nothing when that cannot be asked.
func freeSpace(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil && unix.Statfs(filepath.Dir(dir), &st) != nil {
		return ""
	}
	return fmt.Sprintf(" (%d MB free)", st.Bavail*uint64(st.Bsize)>>20) //nolint:gosec // no size is negative
}
