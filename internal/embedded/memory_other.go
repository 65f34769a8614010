//go:build !linux

package embedded

import "golang.org/x/sys/unix"

// machineMemory is the memory of the machine in bytes; 1 GB where it cannot be asked.
func machineMemory() uint64 {
	if memory, err := unix.SysctlUint64("hw.memsize"); err == nil {
		return memory
	}
	return 1 << 30
}
