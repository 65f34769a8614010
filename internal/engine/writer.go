package engine

import (
	"context"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Writer is the one who may change the runs of its buckets. Every commit is
// fenced: once the writer was declared dead, all its commits fail with ErrFenced.
type Writer interface {
	// ReplyTo is the bucket that reports on runs of the given bucket are addressed to. A delivery holds members
	// only of runs that have it in common, so that whoever gets the report has the runs, however the buckets are divided.
	ReplyTo(bucket int) int
	// Buckets is the number of buckets that the writer owns.
	Buckets() []int
	// Now is the database's time, as well as this process knows it.
	Now() time.Time
	// Wake signals that mail may have come (without a promise: Tick finds what was missed).
	Wake() <-chan struct{}

	// Recover makes the writer usable after ErrUncertain, or fails with ErrFenced. The
	// caller has thrown its memory away. It is called once before the first commit, too.
	Recover(ctx context.Context) error
	// Dispatched gives the deliveries in the queue that reply to this writer.
	Dispatched(ctx context.Context) ([]Delivery, error)
	// LiveRuns gives up to limit live runs of the writer's buckets, by bucket and id; after is the
	// last one that an earlier call gave, or zero.
	LiveRuns(ctx context.Context, after workflow.RunID, limit int) ([]workflow.RunID, error)
	// LoadRuns gives the runs as they are stored. An id that is not live is left out. Error: a
	// *BrokenRunError for a run that can't be read.
	LoadRuns(ctx context.Context, ids []workflow.RunID) ([]*workflow.Run, error)
	// LoadEnded gives a run that has ended, so that it can live again. Error: ErrNotFound.
	LoadEnded(ctx context.Context, id workflow.RunID) (*workflow.Run, error)
	// Details gives what the rules rarely need of a run, and what is not in its memory. It, Spec and
	// Outputs may be called by any goroutine.
	Details(ctx context.Context, id workflow.RunID) (*RunDetails, error)
	// Spec gives a specification.
	Spec(ctx context.Context, hash workflow.Hash) (*workflow.TaskSpec, error)
	// Outputs is as in AgentSession.
	Outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error)
	// Listeners gives the DAGs that runs of others start, by the current definitions.
	Listeners(ctx context.Context) (Listeners, error)
	// Graph gives the graph of a plan, for a run that was just submitted.
	Graph(ctx context.Context, plan workflow.Hash) (*workflow.Graph, error)
	// ReadMail gives unread mail of buckets that were rung (all of the writer's buckets when
	// sweep is set), oldest first, at most limit. What was given is not given again
	// until Recover, whether it was consumed or not.
	ReadMail(ctx context.Context, sweep bool, limit int) ([]Mail, error)
	// Commit stores everything of the commit, or after an error nothing. Errors: ErrFenced; ErrUncertain;
	// ErrOutdated when the definitions are of another revision than the commit's; ErrRefused when the content itself
	// can't be stored (the caller forgets what it knew, and finds the run by halving); any other error means that the
	// same may be tried again.
	Commit(ctx context.Context, commit *Commit) (CommitResult, error)
	// Tick is called about once a second: it beats, finds lost agents and tells their
	// deliveries' writers, and reads what the writer needs to know of the cluster.
	Tick(ctx context.Context) (Tick, error)
	// Close gives the buckets up.
	Close(ctx context.Context) error
}

// Commit is what a writer wants stored in one step.
type Commit struct {
	At time.Time
	// Revision is that of the definitions by which it was decided whom to tell of runs that complete; nil where none does.
	Revision   *int64
	Changes    []*workflow.Change
	Dispatches []Dispatch
	// Remove are deliveries that are done with.
	Remove []DeliveryKey
	// Withdraw are runs whose members must not start any more: every delivery that holds a member of
	// one and that nobody claimed is taken out of the queue, whole, and given back in CommitResult.Withdrawn.
	Withdraw []workflow.RunID
	// Orders go to every agent that claimed a delivery with a member of the order's run.
	Orders []KillOrder
	// Mail is what the commit answers.
	Mail []MailKey
	// Backlog is the number of queued tasks that wait in the writer's memory, by queue and priority;
	// nil when it did not change.
	Backlog []Backlog
	// Refused are runs that could not be committed.
	Refused []RefusedRun
	// ReadMail asks for the mail that has come, as Writer.ReadMail would give it; 0 for none.
	ReadMail int
}

// CommitResult is what a commit answers.
type CommitResult struct {
	// Dispatched are the ids of the commit's Dispatches, in order.
	Dispatched []int64
	// Withdrawn are the deliveries that were still in the queue, and now are not: their
	// members will never start. Those of other runs are to be dispatched anew.
	Withdrawn []Delivery
	Mail      []Mail
}

// Class is a kind of delivery: what an agent must serve to claim it.
type Class struct {
	Queue string
	// Requires are the agent tags that are needed, sorted and joined by a comma.
	Requires string
	// Resources are what a member sets aside on its agent.
	Resources workflow.Resources
}

// Dispatch is a new delivery. One whose class needs resources holds one member.
type Dispatch struct {
	Class    Class
	Priority int
	Members  []DispatchMember
}

// DispatchMember is a task run in a delivery, with what its agent needs to find the rest.
type DispatchMember struct {
	workflow.Member
	Spec workflow.Hash
	DAG  string
	// Values is 0 for a run without values; else 1 more than the version that the task has to see at least.
	Values int32
}

// Delivery is a row of the queue.
type Delivery struct {
	ID       int64
	Class    Class
	Priority int
	Claimed  bool
	Members  []DispatchMember
}

// KillOrder tells the agent that holds a member to kill it. An agent that does not hold it ignores the order.
type KillOrder struct {
	workflow.Member
}

// Backlog is the number of queued tasks in a writer's memory.
type Backlog struct {
	Queue    string
	Priority int
	Waiting  int
	Oldest   time.Time // zero when nothing waits
}

// RefusedRun is a run whose change can't be committed: it is failed with the
// reason, and its messages are kept aside.
type RefusedRun struct {
	ID     workflow.RunID
	Reason string
	Mail   []MailKey
}

// DeliveryKey names a delivery, with the bucket that its reports are addressed to.
type DeliveryKey struct {
	ReplyTo int
	ID      int64
}

// MailKey names a message in a mailbox.
type MailKey struct {
	Bucket int
	XID    uint64
	ID     int64
}

// MailKind says what a message is. The numbers are stored.
type MailKind int16

// The kinds of messages.
const (
	MailSubmit  MailKind = 1 // a run was submitted: Run, Plan, DAG, HasValues
	MailReport  MailKind = 2 // an agent reports: Report
	MailCancel  MailKind = 3 // someone wants the run cancelled: Run, Actor
	MailLost    MailKind = 4 // an agent died that held the delivery: Lost
	MailCommand MailKind = 5 // someone asks something of the run: Run, Command
)

// Mail is a message to a bucket.
type Mail struct {
	Key  MailKey
	Kind MailKind
	Run  workflow.RunID

	// Of MailSubmit.
	Plan      workflow.Hash
	DAG       string
	HasValues bool
	Options   workflow.RunOptions

	Command *Command // of MailCommand

	Actor  string // of MailCancel
	Report *Report
	Lost   *LostDelivery
}

// LostDelivery is a delivery whose agent died.
type LostDelivery struct {
	ID        int64
	Agent     int64
	ClaimedAt time.Time
	Members   []workflow.Member
}

// RunDetails are what a run was made of.
type RunDetails struct {
	ID workflow.RunID
	// Names are those of all its nodes, by number.
	Names    []string
	Name     string // to the outside
	DAG      string
	Revision int64
	Values   *workflow.RunValues // with all updates
}

// Tick is what a writer needs to know once a second.
type Tick struct {
	// Due are timers of the writer's buckets that are due before the next tick.
	Due []DueTimer
	// Agents are those that live.
	Agents []AgentInfo
	// MailWaits tells that a bucket has mail that the writer may not know of.
	MailWaits bool
}

// DueTimer is a timer of a run.
type DueTimer struct {
	Run workflow.RunID
	workflow.Timer
}
