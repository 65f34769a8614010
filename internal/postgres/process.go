package postgres

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// processIdentity names this process so that another one on the same host can tell for certain
// whether it still lives: boot, PID namespace, PID, start time. Where the system does
// not tell these (anything but Linux), the identity is the host and a random text, and nothing is certain.
var processIdentity = sync.OnceValue(func() string { return identityOf(os.Getpid()) })

func identityOf(pid int) string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		host, _ := os.Hostname()
		return strings.ReplaceAll(host, " ", "-") + " " + rand.Text()
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		namespace = "pid"
	}
	return fmt.Sprintf("%s %s %d %s", strings.TrimSpace(string(boot)), namespace, pid, startTime(pid))
}

// startTime is the 22nd field of /proc/PID/stat, in clock ticks since boot; empty when there is no such process.
func startTime(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The second field is the name in parentheses, which may hold anything.
	_, rest, found := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// provenDead tells that the process with the given identity ran on this host and has ended.
func provenDead(identity string) bool {
	theirs, ours := strings.Fields(identity), strings.Fields(processIdentity())
	if len(theirs) < 3 || len(ours) < 3 || theirs[0] != ours[0] || theirs[1] != ours[1] {
		return false
	}
	pid, err := strconv.Atoi(theirs[2])
	if err != nil {
		return false
	}
	if len(theirs) < 4 {
		return false
	}
	if startTime(pid) == theirs[3] {
		return false
	}
	// The process table is the last word: a /proc that hides others' processes proves nothing.
	return startTime(pid) != "" || syscall.Kill(pid, 0) == syscall.ESRCH || isZombie(pid)
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	end := bytes.LastIndexByte(stat, ')')
	return end >= 0 && end+2 < len(stat) && (stat[end+2] == 'Z' || stat[end+2] == 'X')
}
