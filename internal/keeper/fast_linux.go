//go:build linux && (amd64 || arm64)

package keeper

import (
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fast is the system of Linux. Against os/exec it saves
//
//   - the pipe that carries the error of an exec (the child writes it into
//     memory that both share), and the reset of some sixty signal handlers (the
//     kernel does it): see vfork;
//   - the Go scheduler. A goroutine that is locked to its thread and blocks
//     gives its processor back and has to be handed one again, which takes
//     several switches of threads; the monitor thread, which retakes
//     processors, wakes up every 20 µs meanwhile. So the threads of a fast
//     keeper keep theirs while they wait in the kernel. Then the world cannot
//     be stopped, so garbage is not collected, so nothing on the way of a
//     request allocates. A thread with nothing to do for idleAfter does give
//     its processor back.
type fast struct {
	keeper  uintptr
	files   *unix.Rlimit // the commands' limit of open files, where it is not ours
	gaveWay bool         // we did, and the commands must not

	settles     atomic.Uint32
	reaperWaits atomic.Bool  // for a settle
	reaper      atomic.Int32 // its thread
	idle        atomic.Bool  // no request came for a while
}

// idleAfter is how long a thread waits before it is idle.
const idleAfter = time.Second

// fastest returns the fast system if the kernel has what it needs (5.5) and no
// sandbox forbids it.
func fastest(gaveWay bool) system {
	s := &fast{keeper: uintptr(os.Getpid()), gaveWay: gaveWay}
	if !s.works() {
		return portable{gaveWay: gaveWay}
	}
	s.files = commandFileLimit()
	return s
}

// forkers: each thread waits while its child execs, so two for each processor
// keep those busy. More would only contend for the address space that all
// children share until exec.
func (*fast) forkers() int { return min(2*runtime.NumCPU(), 16) }

func (s *fast) begin() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(math.MaxInt64)
	runtime.GOMAXPROCS(s.forkers() + 3) // and reaping, control, the runtime's own

	// A handler for SIGCHLD (the runtime has one) would cost an interruption for
	// each child; by default the kernel drops it.
	setAction(unix.SIGCHLD, &sigaction{})
	// The runtime has system calls restarted; the nudge has to end one.
	if action, ok := getAction(nudge); ok {
		action.flags &^= saRestart
		setAction(nudge, &action)
	}

	timeout := unix.NsecToTimeval(int64(idleAfter))
	_ = unix.SetsockoptTimeval(requestFD, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout) // without it, only an idle processor is lost
}

// sigaction is the kernel's, on 64 bits.
type sigaction struct {
	handler, flags, restorer, mask uint64
}

const (
	sigsetBytes = 8
	saRestart   = 0x10000000

	// nudge makes a reaper that keeps its processor give it back. It is one of
	// the signals that stayDeaf catches, to no effect.
	nudge = unix.SIGUSR2
)

func setAction(sig unix.Signal, a *sigaction) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(a)), 0, sigsetBytes, 0, 0)
}

func getAction(sig unix.Signal) (a sigaction, ok bool) {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&a)), sigsetBytes, 0, 0)
	return a, errno == 0
}

// enter blocks all signals on this thread: between clone and exec a child must
// not run a handler on our memory. The child unblocks them, right before exec.
func (*fast) enter() { block(^uint64(0)) }

func block(mask uint64) {
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&mask)), 0, sigsetBytes, 0, 0)
}

func (s *fast) receive(message, oob []byte) (n, oobn int, err error) {
	for {
		iov := unix.Iovec{Base: &message[0], Len: uint64(len(message))}
		msg := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &oob[0], Controllen: uint64(len(oob))}
		r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, requestFD, uintptr(unsafe.Pointer(&msg)), recvFlags)
		switch errno {
		case 0:
			return int(r), int(msg.Controllen), nil
		case unix.EINTR:
		case unix.EAGAIN: // idle: wait without a processor
			if s.idle.CompareAndSwap(false, true) {
				_ = unix.Tgkill(int(s.keeper), int(s.reaper.Load()), nudge) // a reaper that has not begun will see idle
			}
			fds := [1]unix.PollFd{{Fd: requestFD, Events: unix.POLLIN}}
			_, _ = unix.Poll(fds[:], -1) // however it ends, recvmsg knows more
		default:
			return 0, 0, errno
		}
	}
}

func (s *fast) settled(*table, *child) {
	// The reaper says that it waits, then compares the count; here it is the
	// other way round, so one of the two notices the other.
	s.settles.Add(1)
	s.idle.Store(false)
	if s.reaperWaits.Load() {
		unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.settles)), futexWakePrivate, 1, 0, 0, 0)
	}
}

// reapAll first looks without reaping (WNOWAIT): what is reaped must be in the
// table, so that its number is never signalled once it belongs to somebody else.
func (s *fast) reapAll(t *table) {
	runtime.LockOSThread()
	block(^uint64(1 << (nudge - 1))) // above all the runtime's own signals
	s.reaper.Store(int32(unix.Gettid()))
	var info unix.Siginfo
	// In siginfo_t, on 64 bits, si_pid follows three integers and padding.
	pid := (*int32)(unsafe.Add(unsafe.Pointer(&info), 16))
	for {
		settles := s.settles.Load()
		var errno syscall.Errno
		if s.idle.Load() { // wait without a processor
			_, _, errno = unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT, 0, 0)
		} else {
			_, _, errno = unix.RawSyscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT, 0, 0)
		}
		if errno == unix.EINTR || errno == 0 && t.reap(int(*pid)) {
			continue
		}
		// There is none, or its start is not settled yet.
		s.awaitSettle(settles)
	}
}

// awaitSettle waits until there were more settles than so many.
func (s *fast) awaitSettle(old uint32) {
	s.reaperWaits.Store(true)
	defer s.reaperWaits.Store(false)
	timeout := unix.NsecToTimespec(int64(idleAfter))
	for s.settles.Load() == old {
		_, _, errno := unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.settles)), futexWaitPrivate, uintptr(old), uintptr(unsafe.Pointer(&timeout)), 0, 0)
		if errno == unix.ETIMEDOUT { // idle: wait without a processor
			unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.settles)), futexWaitPrivate, uintptr(old), 0, 0, 0)
		}
	}
}

const (
	futexWaitPrivate = 0 | 128
	futexWakePrivate = 1 | 128
)

func (*fast) wait(pid int) (ws syscall.WaitStatus) {
	for {
		var status uint32
		_, _, errno := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(&status)), 0, 0, 0, 0)
		if errno != unix.EINTR {
			return syscall.WaitStatus(status)
		}
	}
}

// works tries it, with something that cannot be executed.
func (s *fast) works() bool {
	var none, root = []byte("\x00"), []byte("/\x00")
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(null)
	c := child{request: &request{dir: &none[0], path: &root[0], files: []int{null, null}, argv: []*byte{&root[0], nil}, envv: []*byte{nil}}}
	s.start(&c)
	return c.stage == stageExec && c.errno == syscall.EACCES
}

// commandFileLimit asks for the limit of open files that a command should get:
// package syscall raises ours at start, keeps the old one to itself, and
// restores it only in children of its own. Nil if the two are the same.
func commandFileLimit() *unix.Rlimit {
	out, err := exec.Command(shell, "-c", "ulimit -Sn").Output()
	if err != nil {
		return nil
	}
	soft, err := strconv.ParseUint(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return nil // unlimited, as ours is then
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil || lim.Cur == soft {
		return nil
	}
	lim.Cur = soft
	return &lim
}
