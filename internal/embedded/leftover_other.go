//go:build !linux

package embedded

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// isServerOn says whether a process is a PostgreSQL server on the data directory. The words of a
// command line cannot be told apart here, so the directory is looked for as this package writes it.
func isServerOn(pid int, dir string) bool {
	if pid <= 1 {
		return false
	}
	out, err := exec.Command("ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false
	}
	program, rest, ok := strings.Cut(strings.TrimSpace(string(out))+" ", " -D ")
	return ok && strings.HasPrefix(filepath.Base(program), "post") && strings.HasPrefix(rest, dir+" ")
}

// quitOrphans does nothing: where a process works is not told here. The children of a killed
// server end by themselves, except in a long computation, and are waited for.
func quitOrphans(string) {}
