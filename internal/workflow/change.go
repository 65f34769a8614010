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
	EventPause                         // someone wants nothing more to start: Actor
	EventResume                        // someone wants it to go on: Actor
	EventApprove                       // someone approved the task: Node, Actor
	EventReject                        // someone rejected the task: Node, Actor
	EventRetry                         // someone wants the ended task to run again: Node, Actor
	EventSkip                          // someone wants the task to count as absent: Node, Actor
	EventItems                         // the items of the node are known: Node, Known
)

// Event is something that happened to a run.
type Event struct {
	Kind              EventKind
	Node              int32
	Attempt, Delivery uint16
	Timer             TimerKind
	Actor             string
	Result            Result
	// Known is what the event needs beside the run's memory; see Needs.
	Known *Known
}

// Known is what a run's memory, which holds integers only, does not tell.
type Known struct {
	// Names are those of all nodes of the run, by number.
	Names []string
	// Plans are, for names of an evaluation that are not in the run, a plan that has the task with all that it depends on, which may be
	// the same for several; nil for a name that there is no task of.
	Plans map[string]*KnownPlan
	// Unusable says for people, for names without a plan, why that task cannot be used; nothing for one that there is not.
	Unusable map[string]string
	// Group and Items are the specifications of EventItems: of the node that stands for all items, and of each.
	Group *NewSpec
	Items []*NewSpec
	// Problem says why the rest can't be told, now or ever.
	Problem string
}

// KnownPlan is a plan with its specifications in their stored form, one for each of the plan's.
type KnownPlan struct {
	*Plan
	Specs []*NewSpec
}

// NewSpec is a specification that a run did not have before.
type NewSpec struct {
	Task       *TaskSpec
	Body       []byte // as TaskSpec.Encode gives it
	Scheduling Scheduling
}

// NewSpecOf encodes a specification.
func NewSpecOf(spec *TaskSpec) *NewSpec {
	body, hash := spec.Encode()
	return &NewSpec{Task: spec, Body: body, Scheduling: SchedulingOf(spec, hash)}
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
	// Output is the JSON object that the task gave to later ones; empty for none.
	Output Value
	// Evaluation is the result of an evaluation point; nil when it gave none.
	Evaluation *Evaluation
}

// TimerKind says what a timer is for. The numbers are stored.
type TimerKind int16

// The kinds of timers.
const (
	TimerRetry    TimerKind = 1 // ends the delay before the next attempt of a failed task
	TimerApproval TimerKind = 2 // ends the time that a person has to decide
	TimerRun      TimerKind = 3 // ends the time that the whole run has; its node is RunNode
)

// RunNode stands for the run itself where a node's number is asked for.
const RunNode int32 = -1

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
	// Stop is why the run ends early, where nobody cancelled it: CauseStopped, CauseRunTimeout or CauseTooMany.
	Stop Cause
	// Version counts the changes of the run's values by evaluation points.
	Version int32
	// Reason is why the run ended as it did, where the states of its tasks do not say it.
	Reason string
	// Reopened tells that the run had ended, and lives again.
	Reopened bool
	// LogicalDate is the one that has succeeded with this change; zero for none.
	LogicalDate time.Time
}

// RunEvent is something that happened to a run and has no column of its own.
type RunEvent struct {
	Kind  string // "cancel", "pause", "resume", "approve", "reject", "retry", "skip", "evaluate"
	Actor string
	At    time.Time
	// Node is RunNode for what concerns the run.
	Node int32
	// Detail is JSON, such as the result of an evaluation point; empty for none.
	Detail Value
}

// Output is what a task gave to later ones.
type Output struct {
	Node int32
	Body Value // a JSON object
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
	// Hold are queued members that shall not start for now: each that nobody has claimed is answered by an
	// EventWithdraw, and those that run go on.
	Hold []Member
	// Specs are specifications that Nodes refer to, by their number above those of the run's graph.
	Specs []*NewSpec
	// Nodes are new, or have other parents than before.
	Nodes   []GrownNode
	Outputs []Output
	// Updates are what evaluation points changed in the run's values, in order. The last has the version that the run
	// has then, each before it one less.
	Updates []PointUpdate
	// Reset are nodes whose rows go, because they are pending again; Tasks may give them new ones.
	Reset []int32
	// Retire are nodes whose rows, as they are, become superseded attempts before Tasks writes them anew.
	Retire []int32
	// Items are nodes whose items are wanted: an EventItems tells them.
	Items []int32
	// More tells that the change was cut: commit, apply, and call Advance again.
	More bool

	graph   *Graph // nil when it is the run's own
	states  []StoredNode
	tally   tally
	backlog backlog
}

// Empty tells that there is nothing to commit.
func (c *Change) Empty() bool {
	return c.Run == nil && len(c.Tasks) == 0 && len(c.Attempts) == 0 && len(c.Queue) == 0 && len(c.Withdraw) == 0 &&
		len(c.SetTimers) == 0 && len(c.DropTimers) == 0 && len(c.Events) == 0 && len(c.Jobs) == 0 && len(c.Hold) == 0 &&
		len(c.Nodes) == 0 && len(c.Outputs) == 0 && len(c.Updates) == 0 && len(c.Reset) == 0 && len(c.Retire) == 0
}

// Ends tells that the run ends with this change.
func (c *Change) Ends() bool { return c.Run != nil && c.Run.Status.Ended() }

// GraphOf is the run's graph after the change.
func (c *Change) GraphOf(run *Run) *Graph {
	if c.graph != nil {
		return c.graph
	}
	return run.Graph
}
