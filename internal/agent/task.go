package agent

import (
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// task is a claimed member on its way through the agent.
type task struct {
	engine.ClaimedTask
	held *held
	gpus []string // that were set aside for it

	// The slots guard the rest.
	index  int           // its place among those that run
	kill   chan struct{} // closed by an order; nil until it runs
	killed bool
	orders []int64 // those that told to kill it
}

// held is a delivery that this agent holds.
type held struct {
	id        int64
	replyTo   int
	claimedAt time.Time // of the database's clock
	received  time.Time // of this machine's, when the claim was answered
	left      int       // members that were not yet handed to the reporter, which guards it
}

// at turns a time of this machine into one of the database's clock. Only the
// monotonic clock is used, so it does not matter what this machine's clock shows.
func (h *held) at(local time.Time) time.Time { return h.claimedAt.Add(local.Sub(h.received)) }

// fate is how a task leaves the agent.
type fate uint8

const (
	ended     fate = iota
	returned       // it is handed back
	forgotten      // its life is lost
)

// outcome is what came of a task.
type outcome struct {
	fate fate
	// result of an end; of a return only Started and the times count.
	result workflow.Result
	logs   []engine.LogChunk
	// cleanUp, if any, is called after the outcome was handed to the reporter.
	cleanUp func()
}
