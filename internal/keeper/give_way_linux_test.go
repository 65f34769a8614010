package keeper

import (
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// policies are those of this process' threads.
func policies(t *testing.T) map[uint32]int {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint32]int{}
	for _, entry := range threads {
		if thread, err := strconv.Atoi(entry.Name()); err == nil {
			if attributes, err := unix.SchedGetAttr(thread, 0); err == nil {
				found[attributes.Policy]++
			}
		}
	}
	return found
}

// It is about all threads of the process, so it runs beside no other test.
func TestGiveWay(t *testing.T) {
	undo, twice := GiveWay(), GiveWay()
	if !hasGivenWay() {
		undo()
		twice()
		if found := policies(t); found[unix.SCHED_BATCH] > 0 {
			t.Fatalf("nobody gave way, and the policies of the threads are %v", found)
		}
		t.Skip("the system forbids another policy")
	}
	if found := policies(t); found[unix.SCHED_NORMAL] > 0 || found[unix.SCHED_BATCH] == 0 {
		t.Errorf("the policies of the threads are %v", found)
	}
	for name, portable := range map[string]bool{"fast": false, "portable": true} {
		k, err := startWith(socketType, portable)
		if err != nil {
			t.Fatal(err)
		}
		p, err := k.Run(Command{Script: "cut -d' ' -f 19,41 /proc/self/stat"})
		if err != nil {
			t.Fatal(err)
		}
		printed, err := io.ReadAll(p.Stdout)
		if err != nil {
			t.Fatal(err)
		}
		<-p.Exited()
		_ = p.Close()
		if got := strings.TrimSpace(string(printed)); got != "0 0" {
			t.Errorf("a command of the %s keeper has nice value and policy %s", name, got)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
	undo()
	undo()
	if found := policies(t); found[unix.SCHED_NORMAL] > 0 {
		t.Errorf("after one of two took it back, the policies of the threads are %v", found)
	}
	twice()
	if found := policies(t); found[unix.SCHED_BATCH] > 0 {
		t.Errorf("after both took it back, the policies of the threads are %v", found)
	}
}
