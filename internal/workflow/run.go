package workflow

import (
	"fmt"
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
	// open counts the parents that have not ended.
	open int32
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

	tally     tally
	backlog   backlog
	countedAt time.Time // when the counts were last written
	counted   tally     // and what was written
}

// tally counts the nodes of a run that have ended.
type tally struct{ ended, completed, failed, cancelled int }

// backlog is the work that a change was too large to hold. It can always be
// found again from the states of the nodes.
type backlog struct {
	ready  []int32 // pending, and all parents succeeded
	doomed []int32 // pending, and a parent failed
	cancel int32   // when cancelling: nodes below were already looked at
}

// NewRun is a run that nobody started yet.
func NewRun(id RunID, dag string, graph *Graph, hasValues bool) *Run {
	run := &Run{ID: id, DAG: dag, Graph: graph, HasValues: hasValues, Nodes: make([]NodeState, graph.Len())}
	run.rebuild()
	return run
}

// StoredNode is the state of a node that has a row.
type StoredNode struct {
	Node int32
	NodeState
}

// StoredRun is what is kept of the run's own state.
type StoredRun struct {
	Status                RunStatus
	StartTime, CancelTime time.Time
}

// RestoreRun is a run as it was stored: nodes without a row are pending. All work that was
// cut off by a crash is found again from the states.
func RestoreRun(id RunID, dag string, graph *Graph, hasValues bool, stored StoredRun, nodes []StoredNode) (*Run, error) {
	run := &Run{
		ID: id, DAG: dag, Graph: graph, HasValues: hasValues, Nodes: make([]NodeState, graph.Len()),
		Status: stored.Status, StartTime: stored.StartTime, CancelTime: stored.CancelTime,
	}
	for _, node := range nodes {
		if node.Node < 0 || int(node.Node) >= len(run.Nodes) {
			return nil, fmt.Errorf("run %s has a row for the unknown node %d", id, node.Node)
		}
		run.Nodes[node.Node] = node.NodeState
	}
	run.rebuild()
	return run, nil
}

// rebuild derives everything that follows from the states of the nodes.
func (r *Run) rebuild() {
	r.tally, r.backlog = tally{}, backlog{}
	for number := range r.Nodes {
		node := int32(number) //nolint:gosec // a node number
		state := &r.Nodes[number]
		if state.Status.Ended() {
			r.tally.add(state.Status)
			continue
		}
		state.open = 0
		doomed := false
		for _, parent := range r.Graph.Parents(node) {
			switch status := r.Nodes[parent].Status; {
			case !status.Ended():
				state.open++
			case status.Failure():
				doomed = true
			}
		}
		switch {
		case state.Status != TaskPending:
		case doomed:
			r.backlog.doomed = append(r.backlog.doomed, node)
		case state.open == 0:
			r.backlog.ready = append(r.backlog.ready, node)
		}
	}
}

func (t *tally) add(status TaskStatus) {
	t.ended++
	switch status {
	case TaskCompleted:
		t.completed++
	case TaskFailed:
		t.failed++
	case TaskCancelled:
		t.cancelled++
	case TaskPending, TaskQueued, TaskRunning, TaskWaiting, TaskSkipped, TaskUpstreamFailed:
	}
}

// Counts are the run's number of task runs, and of those that completed and failed.
func (r *Run) Counts() (total, completed, failed int) {
	return len(r.Nodes), r.tally.completed, r.tally.failed
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
	for _, node := range change.states {
		r.Nodes[node.Node] = node.NodeState
	}
	r.tally, r.backlog = change.tally, change.backlog
	if change.Run != nil {
		r.Status, r.StartTime, r.CancelTime = change.Run.Status, change.Run.StartTime, change.Run.CancelTime
		r.countedAt, r.counted = change.At, change.tally
	}
}
