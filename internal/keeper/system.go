package keeper

import (
	"syscall"
	"time"
)

// system is how a keeper receives, starts and reaps. There is a fast one, for
// Linux, and a portable one.
type system interface {
	// forkers is how many threads receive and start; what they call on the
	// way allocates nothing if the system says that it collects no garbage.
	forkers() int
	// begin prepares the process, before any thread starts.
	begin()
	// enter prepares a thread that will receive and start.
	enter()
	// receive waits for a message and the rights that come with it.
	receive(message, oob []byte) (n, oobn int, err error)
	// start sets the child's pid, or stage and errno.
	start(c *child)
	// settled takes note of a child that is in the table now, or whose start
	// failed.
	settled(t *table, c *child)
	// reapAll reaps every child, for ever; a system that has other ways
	// returns at once.
	reapAll(t *table)
	// wait takes the status of a child that is a zombie.
	wait(pid int) syscall.WaitStatus
}

// child is one start, from the request to its outcome.
type child struct {
	*request
	began time.Time
	pid   int
	stage stage
	errno syscall.Errno // not 0: it did not start, at that stage
}
