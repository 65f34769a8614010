package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// planCache remembers which plans are stored (and on which day they were last touched), their
// graphs, and the specifications that agents run.
type planCache struct {
	mutex   sync.Mutex
	touched map[workflow.Hash]string
	// hashes are those of plans that are submitted again and again. It keeps none of them in memory.
	hashes map[weak.Pointer[workflow.Plan]]workflow.Hash
	graphs map[workflow.Hash]*workflow.Graph
	names  map[workflow.Hash][]string
	// runNames are the names of all nodes of runs that have more than their plans. They only become more.
	runNames map[workflow.RunID][]string
	held     int // names in both
	weight   int // of the graphs
	specs    map[workflow.Hash]*workflow.TaskSpec
}

// The bounds of the cache; beyond them it begins anew.
const (
	maxCachedGraphs = 2_000_000 // in nodes, see weightOf
	maxCachedSpecs  = 200_000
	maxCachedPlans  = 100_000
	maxCachedNames  = 2_000_000
)

const dayFormat = "2006-01-02"

// storePlan makes sure that the plan is stored and marked as used today, and gives its hash.
func (b *Backend) storePlan(ctx context.Context, plan *workflow.Plan) (workflow.Hash, error) {
	today, key := b.clock.now().Format(dayFormat), weak.Make(plan)
	b.plans.mutex.Lock()
	hash, known := b.plans.hashes[key]
	fresh := known && b.plans.touched[hash] == today
	b.plans.mutex.Unlock()
	if fresh {
		return hash, nil
	}
	hashes, bodies := make([]workflow.Hash, len(plan.Specs)), make([][]byte, len(plan.Specs))
	for i, spec := range plan.Specs {
		bodies[i], hashes[i] = spec.Encode()
	}
	hash = plan.Hash(hashes)
	b.plans.mutex.Lock()
	if b.plans.hashes == nil || len(b.plans.hashes) > maxCachedPlans {
		b.plans.hashes = map[weak.Pointer[workflow.Plan]]workflow.Hash{}
	}
	b.plans.hashes[key] = hash
	fresh = b.plans.touched[hash] == today // the same was submitted before, as another plan
	b.plans.mutex.Unlock()
	if fresh {
		return hash, nil
	}
	found, err := b.queries.TouchPlan(ctx, b.on(b.pool), db.UUID(hash))
	if err != nil {
		return hash, fmt.Errorf("look for the plan: %w", interpretError(err))
	}
	if found == 0 {
		err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.insertPlan(ctx, tx, plan, hash, hashes, bodies) })
		if err != nil {
			return hash, fmt.Errorf("store the plan: %w", interpretError(err))
		}
	}
	b.plans.mutex.Lock()
	defer b.plans.mutex.Unlock()
	if b.plans.touched == nil || len(b.plans.touched) > maxCachedPlans {
		b.plans.touched = map[workflow.Hash]string{}
	}
	b.plans.touched[hash] = today
	return hash, nil
}

func (b *Backend) insertPlan(ctx context.Context, tx pgx.Tx, plan *workflow.Plan, hash workflow.Hash, hashes []workflow.Hash, bodies [][]byte) error {
	on := b.on(tx)
	specs := db.InsertTaskSpecsParams{}
	seen := make(map[workflow.Hash]bool, len(hashes))
	for i, spec := range plan.Specs {
		if seen[hashes[i]] {
			continue
		}
		seen[hashes[i]] = true
		addSpec(&specs, hashes[i], spec, bodies[i])
	}
	if err := b.queries.InsertTaskSpecs(ctx, on, specs); err != nil {
		return fmt.Errorf("task specifications: %w", err)
	}
	inserted, err := b.queries.InsertPlan(ctx, on, db.InsertPlanParams{Hash: db.UUID(hash), NodeCount: int32(len(plan.Nodes))}) //nolint:gosec // bounded by memory
	if err != nil || inserted == 0 {
		return err //nolint:wrapcheck // somebody else was quicker, or wrapped by the caller
	}
	nodes := db.InsertPlanNodesParams{Plan: db.UUID(hash)}
	for number, node := range plan.Nodes {
		nodes.Nodes = append(nodes.Nodes, int32(number)) //nolint:gosec // a node number
		nodes.Names = append(nodes.Names, node.Name)
		nodes.Specs = append(nodes.Specs, db.UUID(hashes[node.Spec]))
		nodes.Dependencies = append(nodes.Dependencies, arrayLiteral(node.Dependencies))
	}
	if err := b.queries.InsertPlanNodes(ctx, on, nodes); err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	return nil
}

// arrayLiteral is PostgreSQL's text form of an array: SQL has no array of arrays of different lengths.
func arrayLiteral(numbers []int32) string {
	var text strings.Builder
	text.WriteByte('{')
	for i, number := range numbers {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(strconv.Itoa(int(number)))
	}
	text.WriteByte('}')
	return text.String()
}

// graph gives the graph of a stored plan.
func (b *Backend) graph(ctx context.Context, hash workflow.Hash) (*workflow.Graph, error) {
	b.plans.mutex.Lock()
	graph := b.plans.graphs[hash]
	b.plans.mutex.Unlock()
	if graph != nil {
		return graph, nil
	}
	graph, err := b.loadGraph(ctx, hash)
	if err != nil {
		return nil, fmt.Errorf("load plan %s: %w", hash, interpretError(err))
	}
	b.plans.mutex.Lock()
	defer b.plans.mutex.Unlock()
	if b.plans.graphs == nil || b.plans.weight > maxCachedGraphs {
		b.plans.graphs, b.plans.weight = map[workflow.Hash]*workflow.Graph{}, 0
	}
	if b.plans.graphs[hash] == nil {
		b.plans.weight += weightOf(graph)
	}
	b.plans.graphs[hash] = graph
	return graph, nil
}

// weightOf is roughly what a graph takes in memory, in the size of a node: an edge is half of one, a specification ten.
func weightOf(graph *workflow.Graph) int {
	const graphItself = 20
	edges := 0
	for node := range graph.Len() {
		edges += len(graph.Parents(int32(node))) //nolint:gosec // a node number
	}
	return graphItself + graph.Len() + edges/2 + 10*len(graph.Specs)
}

func (b *Backend) loadGraph(ctx context.Context, hash workflow.Hash) (*workflow.Graph, error) {
	specRows, err := b.queries.ListPlanSpecs(ctx, b.on(b.pool), db.UUID(hash))
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	index := make(map[db.UUID]int32, len(specRows))
	specs := make([]workflow.Scheduling, len(specRows))
	for i, row := range specRows {
		var spec workflow.TaskSpec
		if err := json.Unmarshal(row.Body, &spec); err != nil {
			return nil, fmt.Errorf("%w: specification %s: %w", engine.ErrRefused, workflow.Hash(row.Hash), err)
		}
		index[row.Hash], specs[i] = int32(i), workflow.SchedulingOf(&spec, workflow.Hash(row.Hash)) //nolint:gosec // an index
	}
	rows, err := b.queries.ListPlanNodes(ctx, b.on(b.pool), db.UUID(hash))
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%w: it has no nodes", engine.ErrRefused)
	}
	nodes := make([]workflow.Node, len(rows))
	for i, row := range rows {
		spec, ok := index[row.Spec]
		if !ok || int(row.Node) != i {
			return nil, fmt.Errorf("%w: node %d is damaged", engine.ErrRefused, row.Node)
		}
		nodes[i] = workflow.Node{Spec: spec, Dependencies: row.Dependencies}
	}
	graph, err := workflow.NewGraph(nodes, specs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrRefused, err)
	}
	return graph, nil
}

// taskSpecs gives the specifications with the given hashes; nil for one that is not stored or can't be read.
func (b *Backend) taskSpecs(ctx context.Context, hashes []workflow.Hash) (map[workflow.Hash]*workflow.TaskSpec, error) {
	found := make(map[workflow.Hash]*workflow.TaskSpec, len(hashes))
	var missing []db.UUID
	b.plans.mutex.Lock()
	for _, hash := range hashes {
		if _, seen := found[hash]; seen {
			continue
		}
		spec, known := b.plans.specs[hash]
		if found[hash] = spec; !known {
			missing = append(missing, db.UUID(hash))
		}
	}
	b.plans.mutex.Unlock()
	if len(missing) == 0 {
		return found, nil
	}
	rows, err := b.queries.ListTaskSpecs(ctx, b.on(b.pool), missing)
	if err != nil {
		return nil, fmt.Errorf("load task specifications: %w", interpretError(err))
	}
	b.plans.mutex.Lock()
	defer b.plans.mutex.Unlock()
	if b.plans.specs == nil || len(b.plans.specs) > maxCachedSpecs {
		b.plans.specs = map[workflow.Hash]*workflow.TaskSpec{}
	}
	for _, row := range rows {
		spec := new(workflow.TaskSpec)
		if err := json.Unmarshal(row.Body, spec); err != nil {
			b.logger.Error("a task specification can't be read", "specification", workflow.Hash(row.Hash), "error", err)
			continue
		}
		b.plans.specs[workflow.Hash(row.Hash)], found[workflow.Hash(row.Hash)] = spec, spec
	}
	return found, nil
}

// plansKept is how long plans outlive the last partition with runs that could need them, in days: enough for any time zone.
const plansKept = 2

// deleteUnusedPlans removes what no run of the kept history can need: history before the given time is dropped, but
// partitions with live runs are kept longer.
func (b *Backend) deleteUnusedPlans(ctx context.Context, before time.Time) error {
	partitions, err := b.partitions(ctx, b.on(b.pool), "runs")
	if err != nil {
		return err
	}
	for _, part := range partitions {
		if lower, err := workflow.ParseRunID(part.lower); err == nil && lower.Time().Before(before) {
			before = lower.Time()
		}
	}
	before = before.AddDate(0, 0, -plansKept)
	if _, err := b.queries.DeleteUnusedPlans(ctx, b.on(b.pool), before); err != nil {
		return fmt.Errorf("delete unused plans: %w", err)
	}
	if _, err := b.queries.DeleteUnusedTaskSpecs(ctx, b.on(b.pool), before); err != nil {
		return fmt.Errorf("delete unused task specifications: %w", err)
	}
	return nil
}
