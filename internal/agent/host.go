package agent

import (
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Host is what a machine has for the tasks of an agent.
type Host struct {
	CPU              workflow.Cores
	MemoryMB, DiskMB int
	// GPUs are the names under which tasks find the graphics processors (CUDA_VISIBLE_DEVICES).
	GPUs []string
}

// Total is all of it.
func (h *Host) Total() workflow.Resources {
	return workflow.Resources{CPU: h.CPU, MemoryMB: h.MemoryMB, GPU: len(h.GPUs), DiskMB: h.DiskMB}
}

// lower takes limits of the memory, and of the cores in percent of one, into account; 0 is no limit.
func (h *Host) lower(memoryMB, cpuPercent int) {
	if memoryMB > 0 {
		h.MemoryMB = min(h.MemoryMB, memoryMB)
	}
	if cpuPercent > 0 {
		h.CPU = min(h.CPU, workflow.Cores(cpuPercent)*workflow.Core/100)
	}
}

const bytesOfMB = 1 << 20

// thisHost looks at this machine: the processors that this process may run on and the memory that it may have, by its
// control groups too; the space that is free for the folder; and the graphics processors.
func thisHost(folder string) Host {
	host := Host{
		CPU: min(workflow.Cores(runtime.NumCPU())*workflow.Core, processorQuota()), MemoryMB: megabytes(memory()), GPUs: graphicsProcessors(),
	}
	var disk unix.Statfs_t
	if unix.Statfs(folder, &disk) == nil {
		host.DiskMB = megabytes(float64(disk.Bavail) * float64(disk.Bsize))
	}
	return host
}

// megabytes is a number of bytes in MB, of which no more are stored than 32 bits hold.
func megabytes(bytes float64) int { return int(min(bytes/bytesOfMB, math.MaxInt32)) }

// visibleDevices is the variable by which programs are told which graphics processors they may use.
const visibleDevices = "CUDA_VISIBLE_DEVICES"

// graphicsProcessors are those that this process may use itself. Without such a limit they are those that have a device, and are
// counted from 0, as programs do, whatever the devices' own numbers are.
func graphicsProcessors() []string {
	var names []string
	if visible, limited := os.LookupEnv(visibleDevices); limited {
		for name := range strings.SplitSeq(visible, ",") {
			name = strings.TrimSpace(name)
			// As the drivers read it: what is no device ends the list.
			if number, err := strconv.Atoi(name); name == "" || err == nil && number < 0 || name == "NoDevFiles" {
				break
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names
	}
	entries, _ := os.ReadDir("/dev") // without it there are none
	for _, entry := range entries {
		if number, ok := strings.CutPrefix(entry.Name(), "nvidia"); ok {
			if _, err := strconv.ParseUint(number, 10, 16); err == nil {
				names = append(names, strconv.Itoa(len(names)))
			}
		}
	}
	return names
}
