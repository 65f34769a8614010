package workflow

import "time"

// EventKind says what happened.
type EventKind uint8

// The kinds of events.
const (
	EventStart    EventKind = iota + 1 // the run was submitted
	EventEnd                           // an attempt ended: Node, Attempt, Delivery, Result
	EventLost                          // the agent that held the member died: Node, Attempt, Delivery, Agent
	EventReturn                        // an agent handed the member back: Node, Attempt, Delivery, Result.Started
	EventTimer                         // a timer is due: Node, Timer
	EventCancel                        // someone wants the run cancelled: Actor
	EventWithdraw                      // the member was taken out of the queue before anyone claimed it: Node, Attempt, Delivery
	EventCount                         // the run's counts should be written
)

// Event is something that happened to a run.
type Event struct {
	Kind              EventKind
	Node              int32
	Attempt, Delivery uint16
	Timer             TimerKind
	Actor             string
	Result            Result
}

// Result is how an attempt ended, as its agent reported it.
type Result struct {
	Status TaskStatus // TaskCompleted, TaskFailed, or TaskCancelled for one that was killed by order
	Cause  Cause
	// Started tells that a process was started.
	Started  bool
	ExitCode *int32 // nil when the process has none
	// Reason is for people; empty when the state says it all.
	Reason             string
	StartTime, EndTime time.Time
	// Agent is the incarnation of the agent that ran it.
	Agent int64
}

// TimerKind says what a timer is for. The numbers are stored.
type TimerKind int16

// TimerRetry ends the delay before the next attempt of a failed task.
const TimerRetry TimerKind = 1

// Timer asks for an EventTimer at a time.
type Timer struct {
	Node int32
	Kind TimerKind
	Due  time.Time
}

// TaskChange is the new content of a task run's row.
type TaskChange struct {
	Node   int32
	Status TaskStatus
	// First tells that the task run has no row yet.
	First             bool
	Attempt, Delivery uint16
	// The times that are known; the rest is zero.
	QueuedTime, StartTime, EndTime time.Time
	ExitCode                       *int32
	Agent                          int64 // 0 when no agent ran it
	Cause                          Cause
	Reason                         string
}

// AttemptChange is an attempt that was superseded by the next one.
type AttemptChange struct {
	Node               int32
	Attempt            uint16
	Status             TaskStatus
	StartTime, EndTime time.Time
	ExitCode           *int32
	Agent              int64
	Cause              Cause
	Reason             string
}

// RunChange is the new content of a run's own state.
type RunChange struct {
	Status                         RunStatus
	StartTime, EndTime, CancelTime time.Time
	Total, Completed, Failed       int
}

// RunEvent is something that happened to a run and has no column of its own.
type RunEvent struct {
	Kind  string // "cancel"
	Actor string
	At    time.Time
}

// Job is work for the product's job runner that must be enqueued in the same commit.
type Job struct {
	Kind string
	// Key makes the job unique while it waits; empty for none.
	Key  string
	Args []byte // JSON
}

// Change is what follows from events, as data: all of it is committed, or nothing.
type Change struct {
	ID RunID
	At time.Time
	// Run is nil when the run's own state does not change.
	Run      *RunChange
	Tasks    []TaskChange
	Attempts []AttemptChange
	// Queue are the members to dispatch, in order.
	Queue []Member
	// Withdraw are queued members that must not start any more: each is answered by an
	// EventWithdraw, or was claimed and gets a kill order.
	Withdraw   []Member
	SetTimers  []Timer
	DropTimers []Timer // Due is not set
	Events     []RunEvent
	Jobs       []Job
	// More tells that the change was cut: commit, apply, and call Advance again.
	More bool

	states  []StoredNode
	tally   tally
	backlog backlog
}

// Empty tells that there is nothing to commit.
func (c *Change) Empty() bool {
	return c.Run == nil && len(c.Tasks) == 0 && len(c.Attempts) == 0 && len(c.Queue) == 0 && len(c.Withdraw) == 0 &&
		len(c.SetTimers) == 0 && len(c.DropTimers) == 0 && len(c.Events) == 0 && len(c.Jobs) == 0
}

// Ends tells that the run ends with this change.
func (c *Change) Ends() bool { return c.Run != nil && c.Run.Status.Ended() }
