package workflow

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// NodeState is the state of one task run in the memory of its writer.
type NodeState struct {
	Status TaskStatus
	// Attempt counts from 1 once the task run was queued; Delivery counts the
	// times that this attempt was handed to the queue. A report that names an
	// older pair changes nothing.
	Attempt, Delivery uint16
	// Retried and Rescued count the earlier attempts that used up retries and rescues.
	Retried, Rescued uint16
	// Cause is the row's, where something follows from it: why it is TaskWaiting (CauseNone for a retry's delay,
	// CauseApproval, CausePaused, CauseTriggerRule), or what decided that it is TaskSkipped (CauseNotChosen, CauseSkip, CauseKept).
	Cause Cause
	// open counts the parents that have not ended.
	open int32
}

// undecided tells whether the node waits for its parents: before its first attempt, or before another one where what it
// dealt with is to end anew.
func (s *NodeState) undecided() bool {
	return s.Status == TaskPending || s.Status == TaskWaiting && s.Cause == CauseTriggerRule
}

// Member is one task run in a delivery.
type Member struct {
	Run      RunID
	Node     int32
	Attempt  uint16
	Delivery uint16
}

// Run is the state of one live run in the memory of its writer. Only Apply changes it.
type Run struct {
	ID     RunID
	DAG    string // the DAG's id; the outcome's task id for a run by outcome
	Graph  *Graph
	Status RunStatus
	// HasValues tells an agent that it must load the run's values and name.
	HasValues bool
	Nodes     []NodeState
	StartTime time.Time
	// CancelTime is zero until someone asked to cancel the run.
	CancelTime time.Time
	// Stop is why the run ends early, where nobody cancelled it.
	Stop Cause
	// Version counts the changes of the run's values by evaluation points.
	Version int32
	Options RunOptions
	// Revision is that of the definitions that the run was planned from.
	Revision int64
	// planned is the number of nodes that the run's plan has; the others were added.
	planned int

	tally     tally
	backlog   backlog
	countedAt time.Time // when the counts were last written
	counted   tally     // and what was written
}

// tally counts the nodes of a run that have ended.
type tally struct{ ended, completed, failed, cancelled int32 }

// backlog is the work that a change was too large to hold. It can always be
// found again from the states of the nodes.
type backlog struct {
	decided *decided // nil when there are none
	kept    int32    // of Options.Kept: those below were already looked at
	cancel  int32    // when it ends early: nodes below were already looked at
	resume  int32    // after a pause: nodes below were already looked at
	hold    int32    // in a pause: nodes below were already looked at
}

// decided are pending nodes of which it is known what becomes of them.
type decided struct {
	ready  []int32 // may start
	doomed []int32 // upstream_failed
	skip   []int32 // to be skipped
}

func (w *decided) some() bool { return len(w.ready)+len(w.doomed)+len(w.skip) > 0 }

// kept is a copy; nil when there are none.
func (w *decided) kept() *decided {
	if !w.some() {
		return nil
	}
	return &decided{slices.Clone(w.ready), slices.Clone(w.doomed), slices.Clone(w.skip)}
}

// NewRun is a run that nobody started yet.
func NewRun(id RunID, dag string, graph *Graph, hasValues bool) *Run {
	run := &Run{ID: id, DAG: dag, Graph: graph, HasValues: hasValues, Nodes: make([]NodeState, graph.Len()), planned: graph.Len()}
	run.rebuild()
	return run
}

// StoredNode is the state of a node that has a row. Its Cause may be any that the row has.
type StoredNode struct {
	Node int32
	NodeState
}

// StoredRun is what is kept of the run's own state.
type StoredRun struct {
	Status                RunStatus
	StartTime, CancelTime time.Time
	Stop                  Cause
	Version               int32
	Options               RunOptions
	Revision              int64
	// Retried tells that a person retried a task of the run, by its event. It matters where Options.Kept are.
	Retried bool
	// Planned is the number of nodes of the plan; 0 when none was added since.
	Planned int
}

// RestoreRun is a run as it was stored: nodes without a row are pending. All work that was
// cut off by a crash is found again from the states.
func RestoreRun(id RunID, dag string, graph *Graph, hasValues bool, stored StoredRun, nodes []StoredNode) (*Run, error) {
	run := &Run{
		ID: id, DAG: dag, Graph: graph, HasValues: hasValues, Nodes: make([]NodeState, graph.Len()),
		Status: stored.Status, StartTime: stored.StartTime, CancelTime: stored.CancelTime,
		Stop: stored.Stop, Version: stored.Version, Options: stored.Options, Revision: stored.Revision,
		planned: cmp.Or(stored.Planned, graph.Len()),
	}
	for _, node := range nodes {
		if node.Node < 0 || int(node.Node) >= len(run.Nodes) {
			return nil, fmt.Errorf("run %s has a row for the unknown node %d", id, node.Node)
		}
		node.Cause = lasting(node.Status, node.Cause)
		run.Nodes[node.Node] = node.NodeState
	}
	run.rebuild()
	if stored.Retried {
		run.backlog.kept = int32(len(stored.Options.Kept)) //nolint:gosec // a number of nodes
	}
	return run, nil
}

// rebuild derives everything that follows from the states of the nodes.
func (r *Run) rebuild() {
	count := int32(len(r.Nodes)) //nolint:gosec // a number of nodes
	r.tally, r.backlog = tally{}, backlog{resume: count, hold: count}
	if r.Status == RunPaused {
		r.backlog.hold = 0 // what was asked for before is asked for again, which changes nothing
	}
	r.backlog.kept = r.settledKept()
	var all decided
	for number := range r.Nodes {
		node := int32(number) //nolint:gosec // a node number
		state := &r.Nodes[number]
		if state.Status.Ended() {
			r.tally.add(state.Status, 1)
			continue
		}
		if state.Cause == CausePaused && r.Status == RunRunning {
			r.backlog.resume = 0
		}
		census := r.census(node)
		state.open = census.open
		if state.undecided() {
			all.decide(node, census.verdict(r.Graph.Scheduling(node).Rule))
		}
	}
	if all.some() {
		left := all
		r.backlog.decided = &left
	}
}

// settledKept is the number of kept nodes that were dealt with. They come first: once another node has a row, or one
// of them an attempt, all were, and a kept node that is pending is so because a person wanted that. (A retried group that
// asks for its items has neither: StoredRun.Retried tells of it.)
func (r *Run) settledKept() int32 {
	if len(r.Options.Kept) == 0 {
		return 0
	}
	kept := make(map[int32]bool, len(r.Options.Kept))
	for i := range r.Options.Kept {
		kept[r.Options.Kept[i].Node] = true
	}
	for number := range r.Nodes {
		if state := &r.Nodes[number]; state.Status != TaskPending && (state.Attempt > 0 || !kept[int32(number)]) { //nolint:gosec // a node number
			return int32(len(r.Options.Kept)) //nolint:gosec // a number of nodes
		}
	}
	return 0
}

// add counts an end, or with -1 takes one back.
func (t *tally) add(status TaskStatus, by int32) {
	t.ended += by
	switch status {
	case TaskCompleted:
		t.completed += by
	case TaskFailed:
		t.failed += by
	case TaskCancelled:
		t.cancelled += by
	case TaskPending, TaskQueued, TaskRunning, TaskWaiting, TaskSkipped, TaskUpstreamFailed:
	}
}

// Counts are the run's number of task runs, and of those that completed and failed.
func (r *Run) Counts() (total, completed, failed int) {
	return len(r.Nodes), int(r.tally.completed), int(r.tally.failed)
}

// Queued are the members that are queued: in the queue, in a writer's memory, or at an agent.
func (r *Run) Queued() []Member {
	var members []Member
	for number := range r.Nodes {
		if state := &r.Nodes[number]; state.Status == TaskQueued {
			members = append(members, Member{r.ID, int32(number), state.Attempt, state.Delivery}) //nolint:gosec // a node number
		}
	}
	return members
}

// Apply puts a committed change into the run.
func (r *Run) Apply(change *Change) {
	if change.graph != nil {
		r.Graph = change.graph
		r.Nodes = append(r.Nodes, make([]NodeState, r.Graph.Len()-len(r.Nodes))...)
	}
	for _, node := range change.states {
		r.Nodes[node.Node] = node.NodeState
	}
	r.tally, r.backlog = change.tally, change.backlog
	if change.Run != nil {
		r.Status, r.StartTime, r.CancelTime = change.Run.Status, change.Run.StartTime, change.Run.CancelTime
		r.Stop, r.Version = change.Run.Stop, change.Run.Version
		r.countedAt, r.counted = change.At, change.tally
	}
}

// Values is 0 for a run without values, else 1 more than their version: what a delivery tells an agent.
func (r *Run) Values() int32 {
	if !r.HasValues && r.Version == 0 {
		return 0
	}
	return r.Version + 1
}
