package engine

import (
	"context"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Backend keeps the state of a cluster. All methods are safe for concurrent use;
// a Writer and an AgentSession are used by one goroutine, except where they say otherwise.
type Backend interface {
	Submitter
	Reader
	Definitions
	Declarations
	Schedules
	Arrivals

	// OpenWriters gives the caller all buckets, after it made sure that no other orchestrator lives:
	// ErrWriterExists names it. The buckets are divided among writers, which work side by side: at
	// least one, and at most so many.
	OpenWriters(ctx context.Context, orchestrator string, most int) ([]Writer, error)
	// OpenAgent registers an agent.
	OpenAgent(ctx context.Context, agent AgentInfo) (AgentSession, error)
	// StartJobs runs the product's own jobs (partitions, retention, clean-up and those of
	// HandleJob) until the context ends.
	StartJobs(ctx context.Context, jobs *Jobs, policy Retention) error
	// Now is the backend's clock, as well as this process knows it.
	Now() time.Time
	// Ping tells whether the backend answers.
	Ping(ctx context.Context) error
	// Close frees everything. Writers and sessions must be closed before.
	Close()
}

// Submission is a run to be made.
type Submission struct {
	// Name is the custom run id; empty for none.
	Name string
	// IdempotencyKey makes the same submission twice one run; empty for none.
	IdempotencyKey string
	// DAG is the DAG's id, or empty for a run by outcome; Task is the outcome then.
	DAG, Task string
	Context   string
	Plan      *workflow.Plan
	Values    workflow.RunValues
	// Request is what was asked for, as far as it is in Plan and Options or stands for the context: kept for a rerun.
	Request Request
	// Options are the rules that the run is under.
	Options workflow.RunOptions
	// Pin draws the run's bucket by this text, so that all runs with the same are in one bucket; empty for chance.
	Pin string
	// RerunOf is the run that this one repeats; zero for none. Outputs of kept task runs are copied.
	RerunOf workflow.RunID
	// Revision is that of the definitions that the plan was made from.
	Revision int64
	// Actor is who asked for it, Cause what made them ("cli", "api", "schedule").
	Actor, Cause string
}

// Request is what someone asked for who started a run, over what is defined, beside parameters and environment. Nil and
// empty fields leave what is defined.
type Request struct {
	Context           string   `json:"context,omitempty"`
	Priority          *int     `json:"priority,omitempty"`
	MaxParallel       *int     `json:"max_parallel,omitempty"`
	TimeoutSeconds    *float64 `json:"timeout_seconds,omitempty"`
	Queue             *string  `json:"queue,omitempty"`
	Retries           *int     `json:"retries,omitempty"`
	RetryDelaySeconds *float64 `json:"retry_delay_seconds,omitempty"`
	// IgnoreDependencies is for a run by outcome: the task alone.
	IgnoreDependencies bool `json:"ignore_dependencies,omitempty"`
	// GitRef is the revision of all tasks that have a repository.
	GitRef *string `json:"git_ref,omitempty"`
}

// Submitted is the answer to a submission.
type Submitted struct {
	ID workflow.RunID
	// Name is the run's id to the outside: the custom one where there is one.
	Name      string
	CreatedAt time.Time
	// Existing tells that the idempotency key was known, and the run is the earlier one.
	Existing bool
}

// Submitter starts and cancels runs. An answer comes after the commit.
type Submitter interface {
	// Submit stores each run as pending, with its names, and tells its bucket, all in one
	// transaction. Errors: ErrNameTaken, ErrTooManyPending.
	Submit(ctx context.Context, submissions []Submission) ([]Submitted, error)
	// Cancel asks for the run to be cancelled. Errors: ErrNotFound, ErrGone, ErrEnded.
	Cancel(ctx context.Context, run workflow.RunID, actor string) error
	// Command asks for something to be done with a run, or one of its task runs. Whether it could be
	// done is seen in the run. Errors: ErrNotFound; ErrEnded for what an ended run can't do; ErrGone when
	// retention has dropped what would be needed.
	Command(ctx context.Context, run workflow.RunID, command Command) error
}

// CommandKind says what a command asks for. The numbers are stored.
type CommandKind int16

// The kinds of commands.
const (
	CommandPause   CommandKind = 1
	CommandResume  CommandKind = 2
	CommandApprove CommandKind = 3 // of Node
	CommandReject  CommandKind = 4 // of Node
	CommandRetry   CommandKind = 5 // of Node; the run may have ended
	CommandSkip    CommandKind = 6 // of Node; the run may have ended
)

// Known tells whether this program knows the kind.
func (k CommandKind) Known() bool { return k >= CommandPause && k <= CommandSkip }

// OfEnded tells whether an ended run can do it.
func (k CommandKind) OfEnded() bool { return k == CommandRetry || k == CommandSkip }

// Command is what a person asks of a run.
type Command struct {
	Kind  CommandKind `json:"kind"`
	Node  int32       `json:"node"` // workflow.RunNode for the run itself
	Actor string      `json:"actor"`
}

// ScheduleState is how far a DAG's schedule was carried out.
type ScheduleState struct {
	DAG string
	// LastDate is the newest logical date that has a run, or that was passed over.
	LastDate time.Time
}

// Schedules keeps how far schedules were carried out. It outlives retention.
type Schedules interface {
	// ScheduleStates gives all of them.
	ScheduleStates(ctx context.Context) ([]ScheduleState, error)
	// SetScheduleStates takes dates on, never back.
	SetScheduleStates(ctx context.Context, states []ScheduleState) error
	// Dates tells what is known of logical dates, in their order.
	Dates(ctx context.Context, dates []LogicalDate) ([]DateState, error)
}

// LogicalDate is a time that a DAG has a run for, or may have.
type LogicalDate struct {
	DAG  string
	Date time.Time
}

// DateState is what is known of a logical date.
type DateState struct {
	// Succeeded tells that a run for it has completed. That outlives retention.
	Succeeded bool
	// Latest is the newest date of the DAG, up to this one, that has a run which is stored, or that has succeeded; zero
	// for none.
	Latest time.Time
}

// PassedOver tells that there is no run for the date of which this is known. Who waits for its success waits for that of
// Latest instead.
func (s DateState) PassedOver(date time.Time) bool {
	return !s.Succeeded && s.Latest.UnixMicro() != date.UnixMicro()
}

// Definition is a stored definition: its kind ("task", "dag", "context", "parameter_set"), its id, and its JSON.
type Definition struct {
	Kind, ID string
	Body     []byte
}

// Definitions keeps the definitions with their revisions.
type Definitions interface {
	// Publish makes these the current definitions: a new revision when anything differs
	// (then changed is true), else the current one. One publisher at a time.
	Publish(ctx context.Context, definitions []Definition, source string) (revision int64, changed bool, err error)
	// Revision is the current revision; 0 when nothing was published yet.
	Revision(ctx context.Context) (int64, error)
	// LoadDefinitions gives all definitions of a revision.
	LoadDefinitions(ctx context.Context, revision int64) ([]Definition, error)
}

// Declared is what the configuration of the servers says of all runs, whoever starts them.
type Declared struct {
	// Queues are those that tasks may name, beside those of registered agents; empty for any.
	Queues []string `json:"queues"`
	// DefaultContext is the context of runs that name none; empty for none.
	DefaultContext string `json:"default_context"`
}

// DeclaredFor is how long what a server declared counts when others declare and it does not any more. A server declares
// several times in it.
const DeclaredFor = 5 * time.Minute

// Declarations keeps what the servers declare, for those who start runs without their configuration.
type Declarations interface {
	// Declare makes this what the server declares: what it declared before counts no more.
	Declare(ctx context.Context, server string, declared Declared) error
	// Declared gives what the servers declare together: all their queues (any, when one of them allows any), in order, and of
	// their contexts the one that was changed last. It is a zero value when nobody has declared anything.
	Declared(ctx context.Context) (Declared, error)
}

// Declaration is what one server declares.
type Declaration struct {
	Declared

	// ChangedAt is when it began to declare this.
	ChangedAt time.Time
}

// Together is what the servers declare together.
func Together(declarations []Declaration) (all Declared) {
	var newest time.Time
	anyQueue := false
	for i := range declarations {
		one := &declarations[i]
		anyQueue = anyQueue || len(one.Queues) == 0
		all.Queues = append(all.Queues, one.Queues...)
		if one.ChangedAt.After(newest) {
			newest, all.DefaultContext = one.ChangedAt, one.DefaultContext
		}
	}
	if anyQueue {
		all.Queues = nil
	}
	slices.Sort(all.Queues)
	all.Queues = slices.Compact(all.Queues)
	return all
}

// Retention says how long history is kept.
type Retention struct {
	Days int
}
