package engine

import (
	"context"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// AgentInfo describes an agent.
type AgentInfo struct {
	ID string
	// Queues that it serves; empty for all.
	Queues []string
	Tags   []string
	// Slots is the number of tasks that it runs at once, over all its queues.
	Slots int
	// Resources are what its tasks may set aside together.
	Resources workflow.Resources
	Version   string
	// HeartbeatInterval is how often it beats; after three missed beats it is dead.
	HeartbeatInterval time.Duration
}

// AgentSession is a registered agent. Claim and Beat are called by one goroutine,
// Report by another; WriteLogs, LiveRuns and Wake by any.
type AgentSession interface {
	// Incarnation is this registration's number: no other ever has it.
	Incarnation() int64
	// Wake signals that there may be work or an order (without a promise).
	Wake() <-chan struct{}
	// Poll is how long an idle agent may sleep without a Wake.
	Poll() time.Duration
	// Claim takes up to want tasks out of the queue, by priority and age, and reads the
	// orders for this agent. With slack, the last delivery is taken whole when it
	// holds at most slack tasks more. Free is what the agent has free of its resources: what it claims needs no more than
	// that together, and what does not fit is left for others. After a claim that brought a task with resources there may
	// be more that fits. ErrAgentLost: nothing was claimed, and nothing ever will be.
	Claim(ctx context.Context, want, slack int, free workflow.Resources) (Claim, error)
	// First gives the first waiting delivery, by priority and age, that needs resources and that this agent could hold if
	// nothing else ran on it; found is false when there is none. It is called by the goroutine that claims.
	First(ctx context.Context) (first FirstWaiting, found bool, err error)
	// Beat tells that the agent lives, and reads its orders. Error: ErrAgentLost.
	Beat(ctx context.Context) ([]Order, error)
	// Report stores the report for the writer, the log chunks with it, and forgets the orders
	// that were carried out. It is stored when it returns nil; after an error it may be stored,
	// and is to be sent again.
	Report(ctx context.Context, report *Report, logs []LogChunk, orders []int64) error
	// WriteLogs stores chunks of logs while tasks run.
	WriteLogs(ctx context.Context, logs []LogChunk) error
	// Outputs gives what tasks of the run gave to later ones: of each the newest iteration that completed.
	// Tasks are named as nodes are, without the iteration; those without an output are left out. But where a reference may
	// mean either of two, a (which has an output) or a.b, a task a.b of the run without an output has an empty one: it is
	// the one that is meant.
	Outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error)
	// LiveRuns gives those of the runs that have not ended: tasks of them may still come.
	LiveRuns(ctx context.Context, runs []workflow.RunID) ([]workflow.RunID, error)
	// Close takes the agent out of the cluster. What it still holds is treated as lost.
	Close(ctx context.Context) error
}

// Claim is what an agent took.
type Claim struct {
	Deliveries []ClaimedDelivery
	Orders     []Order
}

// FirstWaiting is what AgentSession.First finds.
type FirstWaiting struct {
	Resources workflow.Resources
	// Waited is how long it has been in the queue.
	Waited time.Duration
}

// ClaimedDelivery is a delivery that the agent holds until it reported it as done.
type ClaimedDelivery struct {
	ID int64
	// ReplyTo is the bucket that wants the report.
	ReplyTo   int
	ClaimedAt time.Time
	Tasks     []ClaimedTask
}

// ClaimedTask is a member of a claimed delivery with all that is needed to run it.
type ClaimedTask struct {
	workflow.Member
	Spec *workflow.TaskSpec
	Run  *RunInfo
}

// RunInfo is what all tasks of a run share.
type RunInfo struct {
	ID workflow.RunID
	// Name is the run's id to the outside.
	Name   string
	DAG    string
	Values *workflow.RunValues
}

// OrderKind says what an agent is to do. The numbers are stored.
type OrderKind int16

// OrderKill tells the agent to stop the member.
const OrderKill OrderKind = 1

// Order tells an agent to do something.
type Order struct {
	ID   int64
	Kind OrderKind
	workflow.Member
}

// Report tells a writer how members ended.
type Report struct {
	ReplyTo int
	Agent   int64
	// Done are the deliveries of which nothing is left at the agent.
	Done    []int64
	Ends    []End
	Returns []Return
}

// End is how an attempt ended.
type End struct {
	workflow.Member
	workflow.Result
}

// Return is a member that an agent hands back because it stops.
type Return struct {
	workflow.Member
	// Started tells that its process was started, and killed.
	Started            bool
	StartTime, EndTime time.Time
}

// Stream is where a chunk of a log comes from. The numbers are stored.
type Stream int16

// The streams of a log.
const (
	StreamStdout Stream = 1
	StreamStderr Stream = 2
	// StreamAgent holds what the agent itself has to say, such as how much it dropped.
	StreamAgent Stream = 3
)

func (s Stream) String() string {
	switch s {
	case StreamStdout:
		return "stdout"
	case StreamStderr:
		return "stderr"
	case StreamAgent:
		return "agent"
	}
	return "unknown"
}

// LogChunk is a piece of what an attempt printed, at most 64 KiB.
type LogChunk struct {
	Run     workflow.RunID
	Node    int32
	Attempt uint16
	// Seq orders the chunks of an attempt; it need not be without gaps.
	Seq    int32
	Time   time.Time
	Stream Stream
	Body   []byte
}
