package postgres

import (
	"context"
	"fmt"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// grownRun is what one change adds to the graph of its run. Nodes are kept with the hashes of their specifications: numbers
// of specifications hold for one graph in memory only.
type grownRun struct {
	specs []*workflow.NewSpec
	nodes db.WriteRunNodesParams
}

// grownRows prepares what changes add to the graphs of their runs, by run.
func (w *Writer) grownRows(ctx context.Context, changes []*workflow.Change) (map[workflow.RunID]*grownRun, error) {
	var grown map[workflow.RunID]*grownRun
	for _, change := range changes {
		if len(change.Nodes) == 0 && len(change.Specs) == 0 {
			continue
		}
		run, err := w.grownRun(ctx, change)
		if err != nil {
			return nil, fmt.Errorf("nodes that are added to run %s: %w", change.ID, err)
		}
		if grown == nil {
			grown = map[workflow.RunID]*grownRun{}
		}
		grown[change.ID] = run
	}
	return grown, nil
}

func (w *Writer) grownRun(ctx context.Context, change *workflow.Change) (*grownRun, error) {
	var specs []workflow.Scheduling
	if graph := change.GraphOf(&workflow.Run{}); graph != nil {
		specs = graph.Specs
	} else {
		// It was not decided from a run in memory: what is stored counts.
		graph, err := w.backend.storedGraph(ctx, change.ID)
		if err != nil {
			return nil, err
		}
		specs = append(specs, graph.Specs...)
		for _, spec := range change.Specs {
			specs = append(specs, spec.Scheduling)
		}
	}
	run, id := &grownRun{specs: change.Specs}, db.UUID(change.ID)
	last := make(map[int32]int, len(change.Nodes)) // a node may change twice; then the last counts
	for i := range change.Nodes {
		last[change.Nodes[i].Number] = i
	}
	for i := range change.Nodes {
		node := &change.Nodes[i]
		if last[node.Number] != i {
			continue
		}
		if node.Spec < 0 || int(node.Spec) >= len(specs) {
			return nil, fmt.Errorf("%w: node %d has the unknown specification %d", engine.ErrRefused, node.Number, node.Spec)
		}
		first := workflow.BaseName(node.Name)
		if first == node.Name {
			first = ""
		}
		n := &run.nodes
		n.RunIDs, n.Nodes, n.Names = append(n.RunIDs, id), append(n.Nodes, node.Number), append(n.Names, node.Name)
		n.Specs, n.Dependencies = append(n.Specs, db.UUID(specs[node.Spec].Spec)), append(n.Dependencies, arrayLiteral(node.Dependencies))
		n.IterationsOf = append(n.IterationsOf, first)
	}
	return run, nil
}

// addGrown adds the statements that store what runs got.
func addGrown(ctx context.Context, q *db.Queries, p *pipeline, runs []*grownRun) {
	var specs db.InsertTaskSpecsParams
	var nodes db.WriteRunNodesParams
	seen := map[workflow.Hash]bool{}
	for _, run := range runs {
		for _, spec := range run.specs {
			if hash := spec.Scheduling.Spec; !seen[hash] {
				seen[hash] = true
				addSpec(&specs, hash, spec.Task, spec.Body)
			}
		}
		n := &run.nodes
		nodes.Wanted += int64(len(n.Nodes))
		nodes.RunIDs, nodes.Nodes, nodes.Names = append(nodes.RunIDs, n.RunIDs...), append(nodes.Nodes, n.Nodes...), append(nodes.Names, n.Names...)
		nodes.Specs, nodes.Dependencies = append(nodes.Specs, n.Specs...), append(nodes.Dependencies, n.Dependencies...)
		nodes.IterationsOf = append(nodes.IterationsOf, n.IterationsOf...)
	}
	if len(specs.Hashes) > 0 {
		p.add(func(on db.DBTX) error { return q.InsertTaskSpecs(ctx, on, specs) })
	}
	if len(nodes.Nodes) > 0 {
		p.add(func(on db.DBTX) error { return q.WriteRunNodes(ctx, on, nodes) })
	}
}

func addSpec(rows *db.InsertTaskSpecsParams, hash workflow.Hash, spec *workflow.TaskSpec, body []byte) {
	rows.Hashes, rows.TaskIds = append(rows.Hashes, db.UUID(hash)), append(rows.TaskIds, spec.TaskID)
	rows.Queues, rows.Priorities = append(rows.Queues, spec.Queue), append(rows.Priorities, int16(spec.Priority)) //nolint:gosec // 1 to 4
	rows.Bodies = append(rows.Bodies, string(body))
}

// storedGraph gives the graph of a run as it is stored.
func (b *Backend) storedGraph(ctx context.Context, id workflow.RunID) (*workflow.Graph, error) {
	plan, err := b.planOf(ctx, id)
	if err != nil {
		return nil, err
	}
	shared, err := b.graph(ctx, plan)
	if err != nil {
		return nil, err
	}
	return b.grownGraph(ctx, id, shared)
}

// grownGraph is the graph of a run that has more than that of its plan, which all runs of the plan share and which stays as
// it is.
func (b *Backend) grownGraph(ctx context.Context, id workflow.RunID, shared *workflow.Graph) (*workflow.Graph, error) {
	rows, err := b.queries.ListRunNodes(ctx, b.on(b.pool), db.UUID(id))
	if err != nil {
		return nil, fmt.Errorf("load the nodes of run %s: %w", id, interpretError(err))
	}
	if len(rows) == 0 {
		return shared, nil
	}
	index := make(map[db.UUID]int32, len(shared.Specs)+len(rows))
	for i := range shared.Specs {
		index[db.UUID(shared.Specs[i].Spec)] = int32(i) //nolint:gosec // an index
	}
	var missing []workflow.Hash
	nodes := make([]workflow.GrownNode, len(rows))
	for i, row := range rows {
		spec, known := index[row.Spec]
		if !known {
			spec = int32(len(shared.Specs) + len(missing)) //nolint:gosec // an index
			index[row.Spec], missing = spec, append(missing, workflow.Hash(row.Spec))
		}
		nodes[i] = workflow.GrownNode{Number: row.Node, Node: workflow.Node{Name: row.Name, Spec: spec, Dependencies: row.Dependencies}}
	}
	specs, err := b.schedulings(ctx, missing)
	if err != nil {
		return nil, err
	}
	templates, err := b.schedulings(ctx, workflow.MissingTemplates(shared.Specs, specs))
	if err != nil {
		return nil, err
	}
	graph, err := shared.Grow(append(specs, templates...), nodes)
	if err != nil {
		return nil, fmt.Errorf("%w: the nodes that were added to run %s: %w", engine.ErrRefused, id, err)
	}
	return graph, nil
}

// schedulings are the parts of specifications that a writer needs, in order.
func (b *Backend) schedulings(ctx context.Context, hashes []workflow.Hash) ([]workflow.Scheduling, error) {
	if len(hashes) == 0 {
		return nil, nil
	}
	specs, err := b.taskSpecs(ctx, hashes)
	if err != nil {
		return nil, err
	}
	schedulings := make([]workflow.Scheduling, len(hashes))
	for i, hash := range hashes {
		if specs[hash] == nil {
			return nil, fmt.Errorf("%w: the specification %s is missing or damaged", engine.ErrRefused, hash)
		}
		schedulings[i] = workflow.SchedulingOf(specs[hash], hash)
	}
	return schedulings, nil
}
