package keeper

import (
	"bytes"
	"fmt"
	"os"
)

// members lists the processes of a group that are not zombies.
func members(group int) []string {
	return living(func(pgrp, _ int) bool { return pgrp == group })
}

// sessionMembers lists those of a session.
func sessionMembers(leader int) []string {
	return living(func(_, session int) bool { return session == leader })
}

func living(wanted func(pgrp, session int) bool) (pids []string) {
	proc, _ := os.ReadDir("/proc")
	for _, dir := range proc {
		stat, err := os.ReadFile("/proc/" + dir.Name() + "/stat")
		if err != nil {
			continue
		}
		var state string
		var parent, pgrp, session int
		// The name, in parentheses, may hold anything.
		rest := string(stat[bytes.LastIndexByte(stat, ')')+1:])
		if n, _ := fmt.Sscan(rest, &state, &parent, &pgrp, &session); n == 4 && wanted(pgrp, session) && state != "Z" && state != "X" {
			pids = append(pids, dir.Name())
		}
	}
	return pids
}
