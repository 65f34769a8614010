package keeper

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outputGrace is how long a reader waits for the end of the output once the
// command and its group are dead. They hold the pipe no more, but a process
// that left the group may.
const outputGrace = 200 * time.Millisecond

// Output is the read end of a command's standard output or error.
//
// Read ends with io.EOF when all writers are gone, or when the command has
// ended, the grace (a fifth of a second) is over, and the pipe is empty: so all
// that the command wrote is read, however slow the reader, but nobody who
// inherited the pipe holds the reader up. Any number of bytes of any kind may
// come; a command that is not read blocks once the pipe is full.
//
// One goroutine may read; Close may be called from any, and ends a Read.
type Output struct {
	ended atomic.Bool // no more deadline needed: at EOF, or closed
	late  bool        // the grace is over

	mu   sync.Mutex
	fd   int      // -1 once file has it, or it is closed
	file *os.File // nil until somebody waits for output
}

// newOutput takes over the read end of a pipe, which must not block, so that
// the runtime can poll it.
func newOutput(fd int) *Output { return &Output{fd: fd} }

// polled lets the runtime poll the pipe. A command that ends before anybody waits for
// its output never needs that, which saves a tenth of its cost.
func (o *Output) polled() (*os.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		if o.fd < 0 {
			return nil, os.ErrClosed
		}
		o.file, o.fd = os.NewFile(uintptr(o.fd), "output of a command"), -1
	}
	return o.file, nil
}

// ReadNow reads what is there, without waiting: nothing and no error when nothing is there now,
// io.EOF when all writers are gone. It is for commands that have ended; after the first Read it reads nothing.
func (o *Output) ReadNow(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fd < 0 {
		return 0, nil
	}
	for {
		switch n, err := syscall.Read(o.fd, b); {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			o.ended.Store(true)
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (o *Output) Read(b []byte) (int, error) {
	if o.late {
		return o.rest(b)
	}
	file, err := o.polled()
	if err != nil {
		return 0, err
	}
	n, err := file.Read(b)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		o.ended.Store(true)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if err := file.SetReadDeadline(time.Time{}); err != nil {
			return 0, err
		}
		o.late = true
		return o.rest(b)
	}
	return n, err
}

// rest reads without waiting.
func (o *Output) rest(b []byte) (int, error) {
	conn, err := o.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var rerr error
	if err := conn.Read(func(fd uintptr) bool {
		for {
			n, rerr = syscall.Read(int(fd), b)
			if rerr != syscall.EINTR {
				return true
			}
		}
	}); err != nil {
		return 0, err
	}
	switch {
	case rerr == syscall.EAGAIN, rerr == nil && n == 0 && len(b) > 0:
		return 0, io.EOF
	case rerr != nil:
		return 0, os.NewSyscallError("read", rerr)
	}
	return n, nil
}

// Close gives up the output. A command that still writes gets SIGPIPE.
func (o *Output) Close() error {
	o.ended.Store(true)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil {
		return o.file.Close()
	}
	fd := o.fd
	if o.fd = -1; fd < 0 {
		return os.ErrClosed
	}
	return os.NewSyscallError("close", syscall.Close(fd))
}

// expire ends the grace.
func (o *Output) expire() {
	if o.ended.Load() {
		return
	}
	if file, err := o.polled(); err == nil {
		_ = file.SetReadDeadline(time.Unix(1, 0)) // refused when it was closed meanwhile
	}
}

// lingering holds commands that have ended until the grace of their outputs is
// over: one timer for all, since most outputs are at their end long before.
type lingering struct {
	mu    sync.Mutex
	queue []lingerer
	armed bool
}

type lingerer struct {
	process *Process
	until   time.Time
}

func (l *lingering) add(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, lingerer{p, time.Now().Add(outputGrace)})
	if !l.armed {
		l.armed = true
		time.AfterFunc(outputGrace, l.sweep)
	}
}

func (l *lingering) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, n := time.Now(), 0
	for n < len(l.queue) && !l.queue[n].until.After(now) {
		l.queue[n].process.Stdout.expire()
		l.queue[n].process.Stderr.expire()
		n++
	}
	l.queue = slices.Delete(l.queue, 0, n)
	if l.armed = len(l.queue) > 0; l.armed {
		time.AfterFunc(time.Until(l.queue[0].until), l.sweep)
	}
}

// notBlocking prepares the first end of a new pipe or pair of sockets, or closes both.
func notBlocking(p []int) error {
	if _, err := unix.FcntlInt(uintptr(p[0]), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		syscall.Close(p[0])
		syscall.Close(p[1])
		return err
	}
	return nil
}
