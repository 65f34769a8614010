//go:build !linux

package discovery

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// zombie is SZOMB, the state of a process that has ended and was not asked for yet.
const zombie = 5

// processIdentity names a running process in a way that no later one shares: its start time. A
// process that has ended is an error.
func processIdentity(pid int) (string, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", fmt.Errorf("look at process %d: %w", pid, err)
	}
	if int(info.Proc.P_pid) != pid || info.Proc.P_stat == zombie {
		return "", fmt.Errorf("look at process %d: it has ended", pid)
	}
	start := info.Proc.P_starttime
	return fmt.Sprintf("%d.%06d", start.Sec, start.Usec), nil
}
