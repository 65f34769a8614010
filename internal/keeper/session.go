package keeper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// readyLimit bounds how long a keeper may take to come up; a program that does
// not call MaybeMain never would.
const readyLimit = 30 * time.Second

// session is the agent's side of one keeper process.
type session struct {
	cmd      *exec.Cmd
	requests *os.File
	writer   syscall.RawConn // of requests
	control  *os.File
	ids      atomic.Uint64
	done     chan struct{} // closed when the keeper and all its commands are gone

	lingering lingering

	mu        sync.Mutex
	processes map[uint64]*Process // asked for and not ended; nil once the keeper is gone
}

// open starts a keeper and waits until it is up.
func open(kind int, portable bool) (*session, error) {
	if len(os.Args) > 0 && os.Args[0] == processName {
		return nil, errors.New("start keeper: this program must call keeper.MaybeMain first of all in main")
	}
	requests, theirs, err := localSocket(kind, "requests")
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	control, theirControl, err := localSocket(syscall.SOCK_STREAM, "control")
	if err != nil {
		requests.Close()
		return nil, err
	}
	defer theirControl.Close()
	s := &session{
		requests:  requests,
		control:   control,
		done:      make(chan struct{}),
		processes: make(map[uint64]*Process),
	}
	if s.writer, err = requests.SyscallConn(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	path, err := executable()
	if err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("start keeper: find this program: %w", err)
	}
	s.cmd = &exec.Cmd{
		Path:        path,
		Args:        []string{processName},
		Env:         runtimeSettings(),
		Stderr:      os.Stderr,
		ExtraFiles:  []*os.File{theirs, theirControl}, // requestFD, controlFD
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if portable {
		s.cmd.Args = append(s.cmd.Args, portableArg)
	}
	if hasGivenWay() {
		s.cmd.Args = append(s.cmd.Args, gaveWayArg)
	}
	if err := s.cmd.Start(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("start keeper %s: %w", path, err)
	}
	// Or the end of the keeper would not be seen.
	theirs.Close()

	in := bufio.NewReader(requests)
	requests.SetReadDeadline(time.Now().Add(readyLimit))
	var first report
	if _, err := io.ReadFull(in, first.bytes()); err != nil || first.kind != reportReady {
		s.cmd.Process.Kill()
		_ = s.cmd.Wait() // it was killed
		s.closeFiles()
		return nil, fmt.Errorf("start keeper %s: it does not answer (%w): does the program call keeper.MaybeMain first of all in main?", path, err)
	}
	requests.SetReadDeadline(time.Time{})
	go s.listen(in)
	return s, nil
}

// runtimeSettings is all of our environment that a keeper may have a use for.
// It never sees a secret.
func runtimeSettings() []string {
	settings := []string{}
	for _, key := range []string{"GOTRACEBACK", "GORACE", "GOCOVERDIR"} {
		if value, ok := os.LookupEnv(key); ok {
			settings = append(settings, key+"="+value)
		}
	}
	return settings
}

func (s *session) closeFiles() {
	s.requests.Close()
	s.control.Close()
}

// localSocket returns our end, which does not block, and the keeper's, which does.
func localSocket(kind int, name string) (ours, theirs *os.File, err error) {
	p, err := socketpair(kind)
	if err != nil {
		return nil, nil, fmt.Errorf("start keeper: %w", os.NewSyscallError("socketpair", err))
	}
	if err := notBlocking(p[:]); err != nil {
		return nil, nil, fmt.Errorf("start keeper: %w", os.NewSyscallError("fcntl", err))
	}
	return os.NewFile(uintptr(p[0]), name), os.NewFile(uintptr(p[1]), name), nil
}

// listen handles reports until the keeper is gone.
func (s *session) listen(in io.Reader) {
	var r report
	b := r.bytes()
	for {
		_, err := io.ReadFull(in, b)
		if errors.Is(err, syscall.ECONNRESET) {
			continue // it left requests unread; its last reports and EOF follow
		}
		if err != nil {
			break
		}
		s.handle(r)
	}
	s.lose()
	close(s.done)
}

func (s *session) handle(r report) {
	s.mu.Lock()
	p := s.processes[r.id]
	if p != nil && r.kind != reportStarted {
		delete(s.processes, r.id)
	}
	if p != nil && r.kind == reportStarted {
		p.pid = int(r.pid)
		p.started = time.Now().Add(-r.age)
	}
	s.mu.Unlock()
	switch {
	case p == nil:
	case r.kind == reportExited:
		p.finish(exitOf(r))
	default:
		p.outcome <- r
	}
}

// lose ends what a keeper left that ended unasked. The groups are killed right
// after its sockets closed, when the numbers of the leaders can hardly have
// been given to others; then what it had started but not reported.
func (s *session) lose() {
	s.mu.Lock()
	left := s.processes
	s.processes = nil
	s.mu.Unlock()
	for _, p := range left {
		if p.pid != 0 {
			syscall.Kill(-p.pid, syscall.SIGKILL)
		}
	}
	s.cmd.Process.Kill()
	awaitZombie(s.cmd.Process.Pid)
	killSession(s.cmd.Process.Pid)
	_ = s.cmd.Wait() // however it ended, what it left is the same
	s.closeFiles()
	for _, p := range left {
		if p.pid == 0 {
			close(p.outcome)
		} else {
			p.finish(Exit{Code: -1, Duration: time.Since(p.started), Lost: true})
		}
	}
}

// add records a process that is about to be asked for.
func (s *session) add(p *Process) bool {
	p.session, p.id = s, s.ids.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.processes == nil {
		return false
	}
	s.processes[p.id] = p
	return true
}

// drop takes one back that could not be asked for.
func (s *session) drop(p *Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.processes, p.id)
}

func (s *session) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.processes != nil
}

// send writes one message with its rights. os.ErrClosed, EPIPE and ECONNRESET
// mean that the keeper is gone.
func (s *session) send(message []byte, rights []int) error {
	oob := syscall.UnixRights(rights...)
	var failed error
	err := s.writer.Write(func(fd uintptr) bool {
		for {
			n, err := syscall.SendmsgN(int(fd), message, oob, nil, 0)
			switch {
			case err == syscall.EINTR:
			case err == syscall.EAGAIN:
				return false
			case err != nil:
				failed = os.NewSyscallError("sendmsg", err)
				return true
			case n == len(message):
				return true
			default: // on a stream
				message, oob = message[n:], nil
			}
		}
	})
	if err != nil {
		return os.ErrClosed
	}
	return failed
}

func (s *session) order(o order) error {
	if _, err := s.control.Write(o.bytes()); err != nil {
		return os.ErrProcessDone // with the keeper
	}
	return nil
}

// close ends the keeper and with it all commands, and waits for that.
func (s *session) close() {
	s.control.Close()
	select {
	case <-s.done:
	case <-time.After(2 * shutdownLimit): // it is stopped, or hangs
		s.cmd.Process.Kill()
		<-s.done
	}
}
