package keeper

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Process is a command that was started. Its owner reads and closes both
// outputs, and receives from Exited; without that nothing is leaked but the
// two descriptors.
type Process struct {
	// Stdout and Stderr end soon after the command; see Output.
	Stdout, Stderr *Output

	session *session
	id      uint64
	pid     int
	started time.Time
	outcome chan report // of the start; closed if the keeper died
	exited  chan Exit
	gone    atomic.Bool
	halves  atomic.Int32 // see linger
}

// Exit is how a command ended.
type Exit struct {
	Code     int            // -1 if it did not exit by itself
	Signal   syscall.Signal // what killed it, or 0
	Duration time.Duration  // from the fork, by the keeper's monotonic clock
	Lost     bool           // the keeper died, and the command with it
}

// PID is the number of the process and of its group.
func (p *Process) PID() int { return p.pid }

// StartedAt is when the process was forked, with a monotonic reading.
func (p *Process) StartedAt() time.Time { return p.started }

// Exited delivers the end of the command, once, and is then closed. By then
// its whole process group has been sent SIGKILL.
func (p *Process) Exited() <-chan Exit { return p.exited }

// Signal sends a signal to the whole process group. It returns before the
// signal has arrived, and os.ErrProcessDone if the command's end was reported.
func (p *Process) Signal(sig syscall.Signal) error {
	if p.gone.Load() {
		return os.ErrProcessDone
	}
	return p.session.order(order{id: p.id, pid: int32(p.pid), signal: int32(sig)})
}

// Close closes both outputs.
func (p *Process) Close() error {
	err := p.Stdout.Close()
	if err2 := p.Stderr.Close(); err == nil {
		err = err2
	}
	return err
}

// finish reports the end. It is called once, and only for what was started.
func (p *Process) finish(e Exit) {
	p.gone.Store(true)
	p.exited <- e
	close(p.exited)
	p.linger()
}

// linger is called when the command has ended and when its outputs are set; the
// second call begins their grace.
func (p *Process) linger() {
	if p.halves.Add(1) == 2 {
		p.session.lingering.add(p)
	}
}

func exitOf(r report) Exit {
	ws := syscall.WaitStatus(r.status)
	e := Exit{Code: ws.ExitStatus(), Duration: r.age}
	if ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}
