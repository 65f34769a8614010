package keeper

import (
	"os"
	"syscall"
)

// What Linux has and macOS lacks, and what stands in for it:
//
//	packets on local sockets      a stream with a single reader
//	rights with close-on-exec     set just after, by the only thread that forks
//	sessions found in /proc       only the known groups are killed
//	PDEATHSIG                     only the agent kills when the keeper dies
//	clone3, one reaping thread    syscall.ForkExec, a goroutine for each child
//	waiting without reaping       kqueue
//	files in memory               unlinked temporary files
const (
	socketType     = syscall.SOCK_STREAM
	recvFlags      = 0
	maxStringBytes = 0 // no limit for a single argument or variable
)

func fastest(gaveWay bool) system { return portable{gaveWay: gaveWay} }

func groupLeader() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitZombie waits for the end of a child and leaves it to be reaped.
func awaitZombie(pid int) {
	kq, err := syscall.Kqueue()
	if err != nil {
		return
	}
	defer syscall.Close(kq)
	var change, event [1]syscall.Kevent_t
	syscall.SetKevent(&change[0], pid, syscall.EVFILT_PROC, syscall.EV_ADD|syscall.EV_ONESHOT)
	change[0].Fflags = noteExit
	for {
		// ESRCH: it is a zombie already.
		if _, err := syscall.Kevent(kq, change[:], event[:], nil); err != syscall.EINTR {
			return
		}
	}
}

// noteExit is syscall.NOTE_EXIT, which has the wrong sign for Kevent_t there.
const noteExit uint32 = 0x80000000

func socketpair(kind int) ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	p, err := syscall.Socketpair(syscall.AF_UNIX, kind, 0)
	if err == nil {
		syscall.CloseOnExec(p[0])
		syscall.CloseOnExec(p[1])
	}
	return p, err
}

func outputPipe(p []int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(p); err != nil {
		return err
	}
	syscall.CloseOnExec(p[0])
	syscall.CloseOnExec(p[1])
	return notBlocking(p)
}

func executable() (string, error) { return os.Executable() }

func nameProcess() {}

func killSession(int) {}

func memoryFile() (*os.File, error) { return unlinkedFile() }
