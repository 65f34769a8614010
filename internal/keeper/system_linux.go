package keeper

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	socketType = syscall.SOCK_SEQPACKET
	recvFlags  = syscall.MSG_CMSG_CLOEXEC

	// maxStringBytes is the kernel's MAX_ARG_STRLEN: 32 pages of 4 KiB for one
	// argument or variable with its NUL.
	maxStringBytes = 128 << 10
)

func groupLeader() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitZombie waits for the end of a child and leaves it to be reaped.
func awaitZombie(pid int) {
	var info unix.Siginfo
	for {
		if unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil) != unix.EINTR {
			return
		}
	}
}

// killSession kills all processes of a session but its leader: the commands of
// a keeper, in whatever group they are. A session keeps its number from being
// given away only while it has members, so its leader must not be reaped yet.
func killSession(leader int) {
	killed := map[int]bool{leader: true}
	for more := true; more; {
		more = false // until a look at all finds no new one
		proc, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		for _, dir := range proc {
			pid, err := strconv.Atoi(dir.Name())
			if err != nil || killed[pid] || sessionOf(pid) != leader {
				continue
			}
			syscall.Kill(pid, syscall.SIGKILL)
			killed[pid], more = true, true
		}
	}
}

func sessionOf(pid int) int {
	sid, err := unix.Getsid(pid)
	if err != nil {
		return 0
	}
	return sid
}

func socketpair(kind int) ([2]int, error) {
	return syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
}

// outputPipe makes a pipe whose read end does not block. (The flag of pipe2
// would be for both ends, and the command's has to block.)
func outputPipe(p []int) error {
	if err := syscall.Pipe2(p, syscall.O_CLOEXEC); err != nil {
		return err
	}
	return notBlocking(p)
}

// executable is this program, even if its file was replaced since.
func executable() (string, error) { return "/proc/self/exe", nil }

// nameProcess sets what top and ps -e show.
func nameProcess() {
	_ = os.WriteFile("/proc/self/comm", []byte("keeper"), 0) // without it, it has a longer name
}

func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("cyclonetix", unix.MFD_CLOEXEC)
	if err != nil {
		return unlinkedFile()
	}
	return os.NewFile(uintptr(fd), "memfd"), nil
}
