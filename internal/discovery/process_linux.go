package discovery

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// processIdentity names a running process in a way that no later one shares: the boot and the
// start time in ticks since then. A process that has ended is an error, also while its parent has
// not asked for it.
func processIdentity(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The name in parentheses may hold anything. The third field, the state, comes after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", fmt.Errorf("look at process %d: it has ended", pid)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("look at process %d: %w", pid, err)
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[19], nil
}
