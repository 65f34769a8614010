package agent

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// memory is the memory in bytes that this process may have.
func memory() float64 {
	bytes := math.Inf(1)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		bytes = float64(info.Totalram) * float64(info.Unit)
	}
	for _, folder := range controlGroups("memory") {
		for _, name := range []string{"memory.max", "memory.limit_in_bytes"} {
			if limit, ok := numberIn(filepath.Join(folder, name)); ok {
				bytes = min(bytes, limit)
			}
		}
	}
	return bytes
}

// processorQuota is the processor time that this process may have, in cores.
func processorQuota() workflow.Cores {
	cores := math.Inf(1)
	for _, folder := range controlGroups("cpu") {
		text, _ := os.ReadFile(filepath.Join(folder, "cpu.max")) // without it there is no limit
		if quota, period, ok := strings.Cut(strings.TrimSpace(string(text)), " "); ok {
			cores = min(cores, share(quota, period))
		}
		quota, limited := numberIn(filepath.Join(folder, "cpu.cfs_quota_us"))
		period, known := numberIn(filepath.Join(folder, "cpu.cfs_period_us"))
		if limited && known && quota > 0 && period > 0 {
			cores = min(cores, quota/period)
		}
	}
	return workflow.Cores(min(cores, workflow.MaxCores) * float64(workflow.Core))
}

// share is a quota of a period; infinite when there is no limit.
func share(quota, period string) float64 {
	part, err := strconv.ParseFloat(quota, 64)
	whole, broken := strconv.ParseFloat(period, 64)
	if err != nil || broken != nil || part <= 0 || whole <= 0 {
		return math.Inf(1)
	}
	return part / whole
}

// controlGroups are the folders of this process's control group for a resource and those above it, whose limits hold as well. In a
// container the path may be that of the host, which is not there; then the top is the container's own.
func controlGroups(resource string) []string {
	var folders []string
	text, _ := os.ReadFile("/proc/self/cgroup") // without it there are no groups
	for group := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(group), ":", 3)
		if len(parts) < 3 {
			continue
		}
		root := "/sys/fs/cgroup" // of version 2, which names no resource
		if parts[1] != "" {
			if !strings.Contains(","+parts[1]+",", ","+resource+",") {
				continue
			}
			root = filepath.Join(root, resource)
		}
		for path := filepath.Clean("/" + parts[2]); ; path = filepath.Dir(path) {
			folders = append(folders, filepath.Join(root, path))
			if path == "/" {
				break
			}
		}
	}
	return folders
}

// numberIn is the number in a file of a control group; a file without one sets no limit.
func numberIn(path string) (float64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	number, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	return number, err == nil && !math.IsInf(number, 0)
}
