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
	// reopened tells that it ended once, and lived again.
	reopened bool

	id        workflow.RunID
	name      string // the custom id, or empty
	key       string // the idempotency key, or empty
	dag       string // the DAG, or the outcome
	byOutcome bool
	context   string
	plan      *plan
	values    workflow.RunValues // that it was made with
	options   workflow.RunOptions
	request   engine.Request
	revision  int64
	rerunOf   workflow.RunID
	actor     string
	cause     string
	createdAt time.Time

	// nodes, specs and graph are the plan's, until the run grows.
	nodes []workflow.Node
	specs []*workflow.TaskSpec
	graph *workflow.Graph
	// grown are the nodes that were added, or have other parents than in the plan.
	grown map[int32]bool

	state   workflow.RunChange
	updates []workflow.PointUpdate // what evaluation points changed, in order
	outputs map[int32]workflow.Value
	// tasks has a row for each node; one that was never written, or is beyond the end, is pending.
	tasks    []workflow.TaskChange
	attempts map[int32][]attempt
	events   []engine.EventView          // without names, as they were written
	logs     map[int32][]engine.LogChunk // in their order
}

// attempt is one that a later one superseded.
type attempt struct {
	workflow.AttemptChange
	// retired tells that it had ended for good until a person wanted the task to run again. Retries before that
	// don't count any more.
	retired bool
}

// publicName is the run's id to the outside.
func (r *run) publicName() string {
	if r.name != "" {
		return r.name
	}
	return r.id.String()
}

func (r *run) hasValues() bool { return r.name != "" || !r.values.IsZero() }

// has tells whether there is such a node.
func (r *run) has(node int32) bool { return node >= 0 && int(node) < len(r.nodes) }

func (r *run) spec(node int32) *workflow.TaskSpec { return r.specs[r.nodes[node].Spec] }

// row is the row of a node; of one that has none, it is pending.
func (r *run) row(node int32) workflow.TaskChange {
	if int(node) >= len(r.tasks) {
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
		state := workflow.NodeState{Status: row.Status, Attempt: row.Attempt, Delivery: row.Delivery, Cause: row.Cause}
		for _, earlier := range r.attempts[int32(number)] { //nolint:gosec // a node number
			switch {
			case earlier.retired:
				state.Retried = 0
			case earlier.Cause == workflow.CauseAgentStopped:
			case earlier.Cause == workflow.CauseAgentLost:
				state.Rescued++
			default:
				state.Retried++
			}
		}
		nodes = append(nodes, workflow.StoredNode{Node: int32(number), NodeState: state}) //nolint:gosec // a node number
	}
	stored := workflow.StoredRun{
		Status: r.state.Status, StartTime: r.state.StartTime, CancelTime: r.state.CancelTime, Stop: r.state.Stop, Version: r.state.Version,
		Options: r.options, Revision: r.revision, Planned: len(r.plan.nodes),
		Retried: slices.ContainsFunc(r.events, func(event engine.EventView) bool { return event.Kind == "retry" }),
	}
	loaded, err := workflow.RestoreRun(r.id, r.dag, r.graph, r.hasValues(), stored, nodes)
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
		for _, spec := range r.specs {
			specs[spec] = true
		}
	}
	for hash, stored := range b.plans {
		if !plans[stored] {
			delete(b.plans, hash)
		}
	}
	for hash, spec := range b.specs {
		if !specs[spec] {
			delete(b.specs, hash)
		}
	}
}
