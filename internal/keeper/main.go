package keeper

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processName is argv[0] of a keeper: what ps shows, and how MaybeMain knows.
const processName = "cyclonetix: keeper"

// The descriptors that a keeper is started with, besides stdin and stdout on
// /dev/null and the agent's stderr.
const (
	requestFD = 3
	controlFD = 4
	firstFree = 5
)

// portableArg makes a keeper use what it would use on a system that has no
// faster way; tests start such keepers on Linux.
const portableArg = "portable"

// gaveWayArg tells a keeper that its agent gave way: its commands must not.
const gaveWayArg = "gave-way"

// shutdownLimit bounds how long a keeper waits for the end of what it killed: a
// process that hangs in the kernel must not keep it forever.
const shutdownLimit = 3 * time.Second

// MaybeMain does a keeper's work and exits if this process was started as one;
// else it returns at once. It belongs at the very beginning of main and of
// TestMain in every program that calls Start.
func MaybeMain() {
	if len(os.Args) == 0 || os.Args[0] != processName {
		return
	}
	if err := serve(); err != nil {
		fmt.Fprintf(os.Stderr, "keeper: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve works until the agent is gone, or says so by closing the control
// socket, and all that it started is dead.
func serve() error {
	kind, err := syscall.GetsockoptInt(requestFD, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return fmt.Errorf("this program starts it by itself; as a command it is of no use (descriptor %d: %w)", requestFD, err)
	}
	syscall.CloseOnExec(requestFD)
	syscall.CloseOnExec(controlFD)
	gaveWay := slices.Contains(os.Args[1:], gaveWayArg)
	var sys system = portable{gaveWay: gaveWay}
	if !slices.Contains(os.Args[1:], portableArg) {
		sys = fastest(gaveWay)
	}
	nameProcess()
	stayDeaf()
	closeInherited(firstFree)
	sys.begin()

	t := newTable(sys)
	for range sys.forkers() {
		go forker(t, kind == syscall.SOCK_STREAM)
	}
	go sys.reapAll(t)
	t.mu.Lock()
	t.send(report{kind: reportReady})
	t.mu.Unlock()

	obeyOrders(t)

	time.AfterFunc(shutdownLimit, func() { os.Exit(0) })
	t.killAll()
	killSession(os.Getpid())
	return nil
}

// stayDeaf ignores the signals of terminals and service managers. It catches
// them: what is ignored stays so over exec, what is caught is the default again.
func stayDeaf() {
	signal.Notify(make(chan os.Signal, 1),
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM)
}

// closeInherited closes what the agent itself was left by its parent: every
// descriptor from first on that outlives exec (the runtime's own do not).
func closeInherited(first int) {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd < first {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&syscall.FD_CLOEXEC == 0 {
			syscall.Close(fd)
		}
	}
}

// forker starts what is asked for. It never ends, for PDEATHSIG would then
// kill what it started.
func forker(t *table, stream bool) {
	runtime.LockOSThread()
	t.system.enter()
	in := receiver{system: t.system, stream: stream, buf: make([]byte, requestHeader+maxInline)}
	var c child
	for in.receive() == nil && t.begin() {
		c = child{request: &in.request, began: time.Now()}
		if in.bad != nil {
			c.stage, c.errno = stageRequest, in.badErrno()
		} else {
			t.system.start(&c)
		}
		in.release()
		t.settle(&c)
	}
	select {}
}

// obeyOrders passes signals on until the agent is gone.
func obeyOrders(t *table) {
	var o order
	b := o.bytes()
	for have := 0; ; {
		n, err := syscall.Read(controlFD, b[have:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		if have += n; have == orderSize {
			have = 0
			t.signal(o)
		}
	}
}
