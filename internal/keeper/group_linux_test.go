package keeper

import (
	"fmt"
	"os"
	"strings"
)

// members lists the processes of a group that are not zombies.
func members(group int) (pids []string) {
	proc, _ := os.ReadDir("/proc")
	for _, dir := range proc {
		stat, err := os.ReadFile("/proc/" + dir.Name() + "/stat")
		if err != nil {
			continue
		}
		var state string
		var parent, pgrp int
		// The name, in parentheses, may hold anything.
		rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		if n, _ := fmt.Sscan(rest, &state, &parent, &pgrp); n == 3 && pgrp == group && state != "Z" && state != "X" {
			pids = append(pids, dir.Name())
		}
	}
	return pids
}
