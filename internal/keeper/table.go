package keeper

import (
	"sync"
	"syscall"
	"time"
)

// table knows every command that was started and not yet reaped. Nothing in it
// allocates in normal use: a fast keeper collects no garbage.
type table struct {
	system system

	mu       sync.Mutex
	ended    sync.Cond // a command was reaped, or a start settled, at shutdown
	running  []running // in no order; few enough to search
	starting int       // between begin and settle
	closing  bool
}

type running struct {
	id    uint64
	pid   int
	began time.Time
}

func newTable(sys system) *table {
	t := &table{system: sys, running: make([]running, 0, 256)}
	t.ended.L = &t.mu
	return t
}

// find returns the place of a pid, or -1. The caller holds the lock.
func (t *table) find(pid int) int {
	for i := range t.running {
		if t.running[i].pid == pid {
			return i
		}
	}
	return -1
}

// begin announces a start. It is refused at shutdown.
func (t *table) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return false
	}
	t.starting++
	return true
}

// settle records and reports what came of a start. The report goes out under
// the lock: so it precedes that of the end, and an order that answers it finds
// the command recorded.
func (t *table) settle(c *child) {
	t.mu.Lock()
	t.starting--
	if c.errno != 0 {
		t.send(report{id: c.id, kind: reportFailed, status: uint32(c.errno), stage: c.stage})
	} else {
		t.send(report{id: c.id, kind: reportStarted, pid: int32(c.pid), age: time.Since(c.began)})
		t.running = append(t.running, running{c.id, c.pid, c.began})
		if t.closing {
			syscall.Kill(-c.pid, syscall.SIGKILL)
		}
	}
	if t.closing {
		t.ended.Broadcast()
	}
	t.mu.Unlock()
	t.system.settled(t, c)
}

// reap takes a zombie, if it is known, kills what it left behind in its group,
// reports and forgets it. Until it is reaped, its number cannot be given to
// another process or group.
func (t *table) reap(pid int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.find(pid)
	if i < 0 {
		return false
	}
	syscall.Kill(-pid, syscall.SIGKILL)
	ws := t.system.wait(pid)
	r := t.running[i]
	last := len(t.running) - 1
	t.running[i] = t.running[last]
	t.running = t.running[:last]
	t.send(report{id: r.id, kind: reportExited, pid: int32(pid), status: uint32(ws), age: time.Since(r.began)})
	if t.closing {
		t.ended.Broadcast()
	}
	return true
}

func (t *table) signal(o order) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.find(int(o.pid)); i >= 0 && t.running[i].id == o.id {
		syscall.Kill(-int(o.pid), syscall.Signal(o.signal))
	}
}

// killAll kills every group and waits until all leaders are reaped.
func (t *table) killAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = true
	for _, r := range t.running {
		syscall.Kill(-r.pid, syscall.SIGKILL)
	}
	for t.starting > 0 || len(t.running) > 0 {
		t.ended.Wait()
	}
}

// send writes one report; when the agent is gone there is nobody to tell. The
// caller holds the lock.
func (t *table) send(r report) {
	for b := r.bytes(); len(b) > 0; {
		n, err := syscall.Write(requestFD, b)
		if err != nil && err != syscall.EINTR {
			return
		}
		b = b[max(n, 0):]
	}
}
