package memory

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// plan is a graph that runs share, by its hash.
type plan struct {
	nodes []workflow.Node
	specs []*workflow.TaskSpec
	graph *workflow.Graph
}

func (p *plan) spec(node int32) *workflow.TaskSpec { return p.specs[p.nodes[node].Spec] }

// storePlan keeps the plan and its specifications, and gives its hash.
func (b *Backend) storePlan(submitted *workflow.Plan) (workflow.Hash, error) {
	hashes := make([]workflow.Hash, len(submitted.Specs))
	scheduling := make([]workflow.Scheduling, len(submitted.Specs))
	for index, spec := range submitted.Specs {
		_, hashes[index] = spec.Encode()
		scheduling[index] = workflow.SchedulingOf(spec, hashes[index])
	}
	hash := submitted.Hash(hashes)
	if _, ok := b.plans[hash]; ok {
		return hash, nil
	}
	graph, err := workflow.NewGraph(submitted.Nodes, scheduling)
	if err != nil {
		return hash, fmt.Errorf("%w: %w", engine.ErrRefused, err)
	}
	stored := &plan{nodes: slices.Clone(submitted.Nodes), graph: graph}
	for index, spec := range submitted.Specs {
		if b.specs[hashes[index]] == nil {
			b.specs[hashes[index]] = spec
		}
		stored.specs = append(stored.specs, b.specs[hashes[index]])
	}
	b.plans[hash] = stored
	return hash, nil
}

// run is all that is stored of a run.
type run struct {
	id        workflow.RunID
	name      string // the custom id, or empty
	key       string // the idempotency key, or empty
	dag       string // the DAG, or the outcome
	byOutcome bool
	context   string
	planHash  workflow.Hash
	plan      *plan
	values    workflow.RunValues
	revision  int64
	actor     string
	cause     string
	createdAt time.Time

	state  workflow.RunChange
	reason string // why it was refused; empty otherwise
	// tasks has a row for each node; one that was never written is pending. It is nil until the first is written.
	tasks    []workflow.TaskChange
	attempts map[int32][]workflow.AttemptChange
	events   []workflow.RunEvent
	logs     map[int32][]engine.LogChunk // in their order
}

// publicName is the run's id to the outside.
func (r *run) publicName() string {
	if r.name != "" {
		return r.name
	}
	return r.id.String()
}

func (r *run) hasValues() bool { return r.name != "" || !r.values.IsZero() }

// row is the row of a node; of one that has none, it is pending.
func (r *run) row(node int32) workflow.TaskChange {
	if r.tasks == nil {
		return workflow.TaskChange{Node: node}
	}
	return r.tasks[node]
}

// load makes the run as a writer keeps it, of the rows alone.
func (r *run) load() (*workflow.Run, error) {
	var nodes []workflow.StoredNode
	for number, row := range r.tasks {
		if row.Status == workflow.TaskPending {
			continue
		}
		state := workflow.NodeState{Status: row.Status, Attempt: row.Attempt, Delivery: row.Delivery}
		for _, attempt := range r.attempts[int32(number)] { //nolint:gosec // a node number
			switch attempt.Cause {
			case workflow.CauseAgentStopped:
			case workflow.CauseAgentLost:
				state.Rescued++
			default:
				state.Retried++
			}
		}
		nodes = append(nodes, workflow.StoredNode{Node: int32(number), NodeState: state}) //nolint:gosec // a node number
	}
	stored := workflow.StoredRun{Status: r.state.Status, StartTime: r.state.StartTime, CancelTime: r.state.CancelTime}
	loaded, err := workflow.RestoreRun(r.id, r.dag, r.plan.graph, r.hasValues(), stored, nodes)
	if err != nil {
		return nil, fmt.Errorf("load run %s: %w", r.id, err)
	}
	return loaded, nil
}

// addLog keeps a chunk in its place; one that is there already stays as it is.
func (r *run) addLog(chunk engine.LogChunk) {
	chunk.Body = slices.Clone(chunk.Body)
	if r.logs == nil {
		r.logs = map[int32][]engine.LogChunk{}
	}
	chunks := r.logs[chunk.Node]
	place, found := slices.BinarySearchFunc(chunks, engine.LogPlace{Attempt: chunk.Attempt, Seq: chunk.Seq}, compareLog)
	if !found {
		r.logs[chunk.Node] = slices.Insert(chunks, place, chunk)
	}
}

func compareLog(chunk engine.LogChunk, place engine.LogPlace) int {
	return cmp.Or(cmp.Compare(chunk.Attempt, place.Attempt), cmp.Compare(chunk.Seq, place.Seq))
}

// forget removes all that is stored of a run.
func (b *Backend) forget(r *run) {
	delete(b.runs, r.id)
	delete(b.live, r.id)
	if r.name != "" {
		delete(b.names, r.name)
	}
	if r.key != "" {
		delete(b.keys, r.key)
	}
}

// retainPlans forgets plans and specifications that no run has.
func (b *Backend) retainPlans() {
	plans, specs := map[*plan]bool{}, map[*workflow.TaskSpec]bool{}
	for _, r := range b.runs {
		plans[r.plan] = true
	}
	for hash, stored := range b.plans {
		if !plans[stored] {
			delete(b.plans, hash)
			continue
		}
		for _, spec := range stored.specs {
			specs[spec] = true
		}
	}
	for hash, spec := range b.specs {
		if !specs[spec] {
			delete(b.specs, hash)
		}
	}
}
