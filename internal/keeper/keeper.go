package keeper

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// ErrClosed is returned by Run after Close.
var ErrClosed = errors.New("keeper is closed")

// ErrLost is returned by Run if the keeper died while it was starting the
// command, which may have begun, and is dead.
var ErrLost = errors.New("keeper died")

// Keeper starts commands through a separate process that kills them when this
// one dies. It is safe for concurrent use.
type Keeper struct {
	socketType int
	portable   bool

	mu      sync.Mutex
	current *session
	closed  bool
}

// Start starts the keeper process: this executable, whose main must call
// MaybeMain first.
func Start() (*Keeper, error) { return startWith(socketType, false) }

func startWith(kind int, portable bool) (*Keeper, error) {
	k := &Keeper{socketType: kind, portable: portable}
	if _, err := k.session(); err != nil {
		return nil, err
	}
	return k, nil
}

// session returns the running session, or opens one.
func (k *Keeper) session() (*session, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, ErrClosed
	}
	if k.current != nil && k.current.alive() {
		return k.current, nil
	}
	if k.current != nil {
		<-k.current.done // what it left is killed and reported first
	}
	s, err := open(k.socketType, k.portable)
	if err != nil {
		return nil, err
	}
	k.current = s
	return s, nil
}

// PID is the number of the keeper process; 0 if there is none.
func (k *Keeper) PID() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil || !k.current.alive() {
		return 0
	}
	return k.current.cmd.Process.Pid
}

// Run starts a command and returns once it runs. An error says why it does not:
// no such program (errors.Is exec.ErrNotFound, syscall.ENOENT), no such
// directory, too large (syscall.E2BIG), no processes or files left, ErrClosed,
// ErrLost. If the keeper died, a new one is started first.
func (k *Keeper) Run(c Command) (*Process, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	e, err := c.encode(*buf)
	if err != nil {
		return nil, err
	}
	defer e.close()
	if cap(e.message) <= requestHeader+maxInline {
		*buf = e.message
	}

	var out, errs [2]int
	if err := outputPipe(out[:]); err != nil {
		return nil, fmt.Errorf("start %q: %w", c.name(), os.NewSyscallError("pipe", err))
	}
	if err := outputPipe(errs[:]); err != nil {
		syscall.Close(out[0])
		syscall.Close(out[1])
		return nil, fmt.Errorf("start %q: %w", c.name(), os.NewSyscallError("pipe", err))
	}
	rights := append(make([]int, 0, maxFiles), out[1], errs[1])
	for _, f := range e.rights {
		rights = append(rights, int(f.Fd()))
	}
	p, err := k.ask(&c, &e, rights)
	// While the keeper forks:
	syscall.Close(out[1])
	syscall.Close(errs[1])
	stdout, stderr := newOutput(out[0]), newOutput(errs[0])
	if err == nil {
		p.Stdout, p.Stderr = stdout, stderr
		err = p.begin(&c, &e)
	}
	if err != nil {
		stdout.Close()
		stderr.Close()
		return nil, err
	}
	p.linger()
	return p, nil
}

// ask sends a request, if need be to a new keeper.
func (k *Keeper) ask(c *Command, e *encoded, rights []int) (*Process, error) {
	for {
		s, err := k.session()
		if err != nil {
			return nil, err
		}
		p := &Process{outcome: make(chan report, 1), exited: make(chan Exit, 1)}
		if !s.add(p) {
			continue // it died just now
		}
		putRequestHeader(e.message, p.id, e.flags, e.argc, e.envc, e.size)
		err = s.send(e.message, rights)
		if err == nil {
			return p, nil
		}
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrClosed) {
			<-s.done // it never got the whole request
			continue
		}
		s.drop(p)
		return nil, fmt.Errorf("start %q: ask keeper: %w", c.name(), err)
	}
}

// begin waits for the outcome of a request.
func (p *Process) begin(c *Command, e *encoded) error {
	r, ok := <-p.outcome
	switch {
	case !ok:
		return fmt.Errorf("start %q: %w", c.name(), ErrLost)
	case r.kind != reportStarted:
		return c.startError(r, e)
	}
	return nil
}

// Close kills everything that runs, waits for the end of the keeper, and
// returns when the end of every process is reported.
func (k *Keeper) Close() error {
	k.mu.Lock()
	s := k.current
	k.closed = true
	k.mu.Unlock()
	if s != nil {
		s.close()
	}
	return nil
}

// buffers holds memory for requests.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}
