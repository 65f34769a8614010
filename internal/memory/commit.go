package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

type timerKey struct {
	run  workflow.RunID
	node int32
	kind workflow.TimerKind
}

type backlogKey struct {
	queue    string
	priority int
}

// Commit implements engine.Writer: everything is checked, and then everything is stored.
func (w *Writer) Commit(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	b := w.backend
	if err := b.lock(ctx); err != nil {
		return engine.CommitResult{}, fmt.Errorf("commit: %w", err)
	}
	defer b.mutex.Unlock()
	if err := w.fence(); err != nil {
		return engine.CommitResult{}, fmt.Errorf("commit: %w", err)
	}
	if known := commit.Revision; known != nil && *known != int64(len(b.revisions)) {
		return engine.CommitResult{}, fmt.Errorf("commit: the definitions are not of revision %d any more: %w", *known, engine.ErrOutdated)
	}
	if err := b.check(commit); err != nil {
		return engine.CommitResult{}, fmt.Errorf("commit: %w", err)
	}
	for _, change := range commit.Changes {
		b.store(change)
	}
	for _, refused := range commit.Refused {
		b.storeRefused(commit.At, refused)
		b.consume(refused.Mail)
	}
	for _, done := range commit.Remove {
		b.remove(done.ID)
	}
	for _, kill := range commit.Orders {
		b.order(kill)
	}
	var result engine.CommitResult
	result.Withdrawn = b.withdraw(commit.Withdraw)
	for index := range commit.Dispatches {
		result.Dispatched = append(result.Dispatched, b.dispatch(&commit.Dispatches[index], commit.At, w.ReplyTo(commit.Dispatches[index].Members[0].Run.Bucket())))
	}
	b.consume(commit.Mail)
	for _, waiting := range commit.Backlog {
		b.backlog[backlogKey{waiting.Queue, waiting.Priority}] = waiting
	}
	if commit.ReadMail > 0 {
		result.Mail = w.readMail(commit.ReadMail)
	}
	return result, nil
}

// store writes a change that was checked.
func (b *Backend) store(change *workflow.Change) {
	r := b.runs[change.ID]
	r.noteChange(change)
	b.grow(r, change)
	for number := len(r.tasks); len(change.Tasks) > 0 && number < len(r.nodes); number++ {
		r.tasks = append(r.tasks, workflow.TaskChange{Node: int32(number)}) //nolint:gosec // a node number
	}
	for _, node := range change.Retire {
		r.retire(r.row(node))
		delete(r.outputs, node)
	}
	for _, node := range change.Reset {
		r.tasks[node] = workflow.TaskChange{Node: node}
		delete(r.outputs, node)
	}
	for _, output := range change.Outputs {
		r.setOutput(output.Node, output.Body)
	}
	for i := range change.Updates {
		r.updates = append(r.updates, workflow.PointUpdate{Node: change.Updates[i].Node, ValueUpdate: cloneUpdate(&change.Updates[i].ValueUpdate)})
	}
	for i := range change.Attempts {
		r.supersede(change.Attempts[i], false)
	}
	for _, row := range change.Tasks {
		if row.QueuedTime.IsZero() {
			row.QueuedTime = r.tasks[row.Node].QueuedTime
		}
		row.EndTime = inOrder(row.StartTime, row.EndTime)
		r.tasks[row.Node] = row
	}
	for _, timer := range change.DropTimers {
		delete(b.timers, timerKey{change.ID, timer.Node, timer.Kind})
	}
	for _, timer := range change.SetTimers {
		b.timers[timerKey{change.ID, timer.Node, timer.Kind}] = timer.Due
	}
	if change.Run != nil {
		r.state = *change.Run
		r.reopened = r.reopened || change.Run.Reopened
		r.state.EndTime = inOrder(r.state.StartTime, r.state.EndTime)
		b.live[r.id] = true
		if r.state.Status.Ended() {
			delete(b.live, r.id)
		}
		if date := change.Run.LogicalDate; !date.IsZero() {
			b.succeeded[dateOf(r.dag, date)] = true
		}
	}
	for _, job := range change.Jobs {
		b.jobs.add(job.Kind, job.Key, job.Args)
	}
}

// grow gives the run what the change adds to its graph. The plan, which other runs share, stays as it is.
func (b *Backend) grow(r *run, change *workflow.Change) {
	if len(change.Nodes) == 0 {
		return
	}
	r.nodes, r.specs, r.grown = r.grownNodes(change), slices.Clone(r.specs), maps.Clone(r.grown)
	if r.grown == nil {
		r.grown = map[int32]bool{}
	}
	for _, grown := range change.Nodes {
		r.grown[grown.Number] = true
	}
	scheduling := slices.Clone(r.graph.Specs)
	for _, spec := range change.Specs {
		if b.specs[spec.Scheduling.Spec] == nil {
			b.specs[spec.Scheduling.Spec] = spec.Task
		}
		r.specs, scheduling = append(r.specs, b.specs[spec.Scheduling.Spec]), append(scheduling, spec.Scheduling)
	}
	graph, err := r.grownGraph(r.nodes, scheduling, r.grown)
	if err != nil {
		panic(fmt.Sprintf("run %s grew though it was checked: %v", r.id, err))
	}
	r.graph = graph
}

// grownNodes are the nodes of the run with those of the change.
func (r *run) grownNodes(change *workflow.Change) []workflow.Node {
	nodes := slices.Clone(r.nodes)
	for _, grown := range change.Nodes {
		for len(nodes) <= int(grown.Number) {
			nodes = append(nodes, workflow.Node{})
		}
		nodes[grown.Number] = workflow.Node{Name: grown.Name, Spec: grown.Spec, Dependencies: slices.Clone(grown.Dependencies)}
	}
	return nodes
}

// grownGraph is the plan's graph with what was added to the run.
func (r *run) grownGraph(nodes []workflow.Node, scheduling []workflow.Scheduling, grown map[int32]bool) (*workflow.Graph, error) {
	added := make([]workflow.GrownNode, 0, len(grown))
	for number := range grown {
		added = append(added, workflow.GrownNode{Node: nodes[number], Number: number})
	}
	graph, err := r.plan.graph.Grow(scheduling[len(r.plan.specs):], added)
	if err != nil {
		return nil, fmt.Errorf("run %s grows: %w", r.id, err)
	}
	return graph, nil
}

func (r *run) supersede(superseded workflow.AttemptChange, retired bool) {
	if r.attempts == nil {
		r.attempts = map[int32][]attempt{}
	}
	superseded.EndTime = inOrder(superseded.StartTime, superseded.EndTime)
	r.attempts[superseded.Node] = append(r.attempts[superseded.Node], attempt{superseded, retired})
}

// retire makes a row an attempt. One that was superseded before, because the task run ended while it waited for
// the next, stays as it was.
func (r *run) retire(row workflow.TaskChange) {
	attempts := r.attempts[row.Node]
	if last := len(attempts) - 1; last >= 0 && attempts[last].Attempt == row.Attempt {
		attempts[last].retired = true
		return
	}
	r.supersede(attemptOf(row), true)
}

// attemptOf is the row as an attempt.
func attemptOf(row workflow.TaskChange) workflow.AttemptChange {
	return workflow.AttemptChange{
		Node: row.Node, Attempt: row.Attempt, Status: row.Status, StartTime: row.StartTime, EndTime: row.EndTime,
		ExitCode: row.ExitCode, Agent: row.Agent, Cause: row.Cause, Reason: row.Reason,
	}
}

// storeRefused fails a run whose change can't be stored.
func (b *Backend) storeRefused(at time.Time, refused engine.RefusedRun) {
	r, ok := b.runs[refused.ID]
	if !ok || r.state.Status.Ended() {
		return
	}
	if r.state.StartTime.IsZero() {
		r.state.StartTime = at
	}
	r.state.Status, r.state.EndTime, r.state.Reason = workflow.RunFailed, inOrder(r.state.StartTime, at), refused.Reason
	delete(b.live, r.id)
	for number := range r.tasks {
		if row := &r.tasks[number]; row.Status != workflow.TaskPending && !row.Status.Ended() {
			row.Status, row.Cause, row.EndTime = workflow.TaskCancelled, workflow.CauseRefused, inOrder(row.StartTime, at)
			r.noteEnd(*row)
		}
	}
	r.note(engine.EventView{At: r.state.EndTime, Kind: r.state.Status.String(), Node: workflow.RunNode, Reason: refused.Reason})
	for key := range b.timers {
		if key.run == r.id {
			delete(b.timers, key)
		}
	}
}

// inOrder is the end of what began at start: not before it, though a clock may have been set back.
func inOrder(start, end time.Time) time.Time {
	if !end.IsZero() && end.Before(start) {
		return start
	}
	return end
}
