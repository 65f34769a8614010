//go:build linux && (amd64 || arm64)

package keeper

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func (s *fast) start(c *child) {
	v := vfork{
		args:   cloneArgs{flags: unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_CLEAR_SIGHAND, exitSignal: uint64(unix.SIGCHLD)},
		keeper: s.keeper,
		path:   c.path,
		argv:   &c.argv[0],
		envv:   &c.envv[0],
		stdout: uintptr(c.files[0]),
		stderr: uintptr(c.files[1]),
		limit:  s.files,
		policy: s.gaveWay,
	}
	if *c.dir != 0 {
		v.dir = c.dir
	}
	if c.flags&hasScript != 0 {
		v.script = uintptr(c.files[2])
	}
	pid, errno := v.start()
	if errno != 0 {
		c.stage, c.errno = stageFork, syscall.Errno(errno)
		return
	}
	c.pid = int(pid)
	if v.errno != 0 {
		c.stage, c.errno = v.stage, v.errno
		s.wait(c.pid)
	}
}

// vfork is all that the child needs; where it fails, it leaves stage and errno.
type vfork struct {
	args           cloneArgs
	keeper         uintptr
	mask           uint64 // of the command: nothing blocked
	limit          *unix.Rlimit
	policy         bool  // it gets the ordinary one
	priority       int32 // of that: it has none
	dir, path      *byte
	argv, envv     **byte
	stdout, stderr uintptr
	script         uintptr // 0: none
	stage          stage
	errno          syscall.Errno
}

// cloneArgs is struct clone_args, in its first published size.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls uint64
}

// rawVfork is the system call, with its return address kept in a register: the
// child runs on the parent's stack and overwrites it there.
func rawVfork(trap, a1, a2, a3 uintptr) (r1, errno uintptr)

// start forks. The parent comes back when the child has called exec or exited,
// and returns without touching the frame, which the child has used; the child
// never returns. As in package syscall: no call but to assembly and no stack
// growth between the two.
//
//go:noinline
//go:norace
//go:nosplit
//go:nocheckptr
func (v *vfork) start() (pid, errno uintptr) {
	var err syscall.Errno
	pid, errno = rawVfork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&v.args)), unsafe.Sizeof(v.args), 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}

	v.stage = stageSetup
	if _, _, err = syscall.RawSyscall(syscall.SYS_SETPGID, 0, 0, 0); err != 0 {
		goto failed
	}
	if _, _, err = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0); err != 0 {
		goto failed
	}
	if pid, _, _ = syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0); pid != v.keeper {
		syscall.RawSyscall(syscall.SYS_EXIT, 127, 0, 0)
	}
	if v.limit != nil {
		if _, _, err = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(v.limit)), 0, 0, 0); err != 0 {
			goto failed
		}
	}
	if v.policy {
		if _, _, err = syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_NORMAL, uintptr(unsafe.Pointer(&v.priority))); err != 0 {
			goto failed
		}
	}
	if _, _, err = syscall.RawSyscall(syscall.SYS_DUP3, v.stdout, 1, 0); err != 0 {
		goto failed
	}
	if _, _, err = syscall.RawSyscall(syscall.SYS_DUP3, v.stderr, 2, 0); err != 0 {
		goto failed
	}
	if v.script != 0 {
		if _, _, err = syscall.RawSyscall(syscall.SYS_DUP3, v.script, scriptFD, 0); err != 0 {
			goto failed
		}
	}
	if v.dir != nil {
		v.stage = stageDir
		if _, _, err = syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(v.dir)), 0, 0); err != 0 {
			goto failed
		}
	}
	v.stage = stageExec
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&v.mask)), 0, sigsetBytes, 0, 0)
	_, _, err = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(v.path)), uintptr(unsafe.Pointer(v.argv)), uintptr(unsafe.Pointer(v.envv)))

failed:
	v.errno = err
	for {
		syscall.RawSyscall(syscall.SYS_EXIT, 127, 0, 0)
	}
}
