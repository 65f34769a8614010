package keeper

import (
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// gaveWay counts those who asked for it and did not take it back.
var gaveWay struct {
	mutex sync.Mutex
	count int
	set   atomic.Bool
}

// GiveWay keeps the threads of this process from interrupting what runs when they wake up (SCHED_BATCH, where they
// have SCHED_OTHER): under load, a wake-up for each end of a short command costs a sixth of all starts, and several ends
// that are looked at together cost less. On a processor that is free nothing changes. The commands themselves are
// scheduled as before. Undo takes it back; where the system forbids it, nothing happens.
func GiveWay() (undo func()) {
	gaveWay.mutex.Lock()
	defer gaveWay.mutex.Unlock()
	if gaveWay.count++; gaveWay.count == 1 {
		gaveWay.set.Store(reschedule(unix.SCHED_NORMAL, unix.SCHED_BATCH))
	}
	return sync.OnceFunc(func() {
		gaveWay.mutex.Lock()
		defer gaveWay.mutex.Unlock()
		if gaveWay.count--; gaveWay.count == 0 && gaveWay.set.Swap(false) {
			reschedule(unix.SCHED_BATCH, unix.SCHED_NORMAL)
		}
	})
}

// reschedule gives every thread of this process that has one policy the other, and tells whether there was any. A new thread has that of
// the one that made it, so it looks until it finds none.
func reschedule(from, to uint32) (some bool) {
	for changed := true; changed; {
		changed = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return some
		}
		for _, entry := range threads {
			thread, err := strconv.Atoi(entry.Name())
			if err != nil {
				continue
			}
			attributes, err := unix.SchedGetAttr(thread, 0)
			if err != nil || attributes.Policy != from {
				continue
			}
			attributes.Policy = to // its nice value stays
			if unix.SchedSetAttr(thread, attributes, 0) == nil {
				changed, some = true, true
			}
		}
	}
	return some
}

func hasGivenWay() bool { return gaveWay.set.Load() }

// takeBack is for a keeper that can't do so for its commands alone.
func takeBack() { reschedule(unix.SCHED_BATCH, unix.SCHED_NORMAL) }
