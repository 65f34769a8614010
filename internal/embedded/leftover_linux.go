package embedded

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// isServerOn says whether a process is a PostgreSQL server on the data directory.
func isServerOn(pid int, dir string) bool {
	if pid <= 1 {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 { // no process, or a zombie
		return false
	}
	args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	switch filepath.Base(args[0]) {
	case "postgres", "postmaster":
	default:
		return false
	}
	for i, arg := range args[1:] {
		folder, ok := strings.CutPrefix(arg, "-D")
		if !ok {
			continue
		}
		if folder == "" && i+2 < len(args) {
			folder = args[i+2]
		}
		if resolved, err := filepath.EvalSymlinks(folder); err == nil && resolved == dir {
			return true
		}
	}
	return false
}

// quitOrphans tells the children of a killed server to end. They all work in the data directory;
// most notice by themselves that their server is gone, but one in a long computation does not.
func quitOrphans(dir string) {
	folders, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	for _, folder := range folders {
		if cwd, err := os.Readlink(folder + "/cwd"); err != nil || cwd != dir {
			continue
		}
		if name, err := os.ReadFile(folder + "/comm"); err != nil || !bytes.HasPrefix(name, []byte("postgres")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(folder)); err == nil {
			_ = syscall.Kill(pid, syscall.SIGQUIT) // ended since: fine
		}
	}
}
