package keeper

import (
	"errors"
	"syscall"
	"unsafe"
)

// portable works everywhere, at some cost: syscall.ForkExec by a single thread,
// and a goroutine for each child.
type portable struct{ gaveWay bool }

func (portable) forkers() int   { return 1 }
func (portable) enter()         {}
func (portable) reapAll(*table) {}

func (s portable) begin() {
	if s.gaveWay {
		takeBack()
	}
}

func (portable) receive(message, oob []byte) (n, oobn int, err error) {
	for {
		n, oobn, _, _, err = syscall.Recvmsg(requestFD, message, oob, recvFlags)
		if err != syscall.EINTR {
			return n, oobn, err
		}
	}
}

func (portable) start(c *child) {
	files := []uintptr{0, uintptr(c.files[0]), uintptr(c.files[1])}
	if c.flags&hasScript != 0 {
		files = append(files, uintptr(c.files[2]))
	}
	dir := goString(c.dir)
	pid, err := syscall.ForkExec(goString(c.path), goStrings(c.argv), &syscall.ProcAttr{
		Dir:   dir,
		Env:   goStrings(c.envv),
		Files: files,
		Sys:   groupLeader(),
	})
	if err == nil {
		c.pid = pid
		return
	}
	c.stage, c.errno = stageExec, syscall.EIO
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		c.errno = errno
	}
	// ForkExec does not say which step refused.
	var st syscall.Stat_t
	if dir != "" {
		switch err := syscall.Stat(dir, &st); {
		case err != nil:
			c.stage = stageDir
		case st.Mode&syscall.S_IFMT != syscall.S_IFDIR:
			c.stage, c.errno = stageDir, syscall.ENOTDIR
		case syscall.Access(dir, 1) != nil:
			c.stage = stageDir
		}
	}
}

func (portable) settled(t *table, c *child) {
	if c.errno != 0 {
		return
	}
	pid := c.pid
	go func() {
		awaitZombie(pid)
		t.reap(pid)
	}()
}

func (portable) wait(pid int) (ws syscall.WaitStatus) {
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			return ws
		}
	}
}

func goString(p *byte) string {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}

func goStrings(list []*byte) []string {
	s := make([]string, 0, len(list))
	for _, p := range list {
		if p != nil {
			s = append(s, goString(p))
		}
	}
	return s
}
