//go:build !linux

package agent

import (
	"golang.org/x/sys/unix"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// memory is the memory of the machine in bytes; none where it cannot be asked.
func memory() float64 {
	bytes, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return float64(bytes)
}

// processorQuota is no limit: there are no control groups here.
func processorQuota() workflow.Cores { return workflow.MaxCores * workflow.Core }
