package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// FindRun implements engine.Reader.
func (b *Backend) FindRun(ctx context.Context, id string) (engine.RunView, error) {
	if err := b.lock(ctx); err != nil {
		return engine.RunView{}, fmt.Errorf("find run %q: %w", id, err)
	}
	defer b.mutex.Unlock()
	found, ok := b.names[id]
	if !ok {
		parsed, err := workflow.ParseRunID(id)
		if err != nil {
			return engine.RunView{}, &engine.UnknownRunError{ID: id}
		}
		if b.runs[parsed] == nil {
			return engine.RunView{}, b.goneOrUnknown(parsed)
		}
		found = parsed
	}
	return b.view(b.runs[found]), nil
}

func (b *Backend) view(r *run) engine.RunView {
	repeats := ""
	switch former := b.runs[r.rerunOf]; {
	case former != nil:
		repeats = former.publicName()
	case !r.rerunOf.IsZero():
		repeats = r.rerunOf.String()
	}
	request := r.request
	return engine.RunView{
		ID: r.id, Name: r.publicName(), DAG: r.dag, ByOutcome: r.byOutcome, Context: r.context, Status: r.state.Status,
		CreatedAt: r.createdAt, StartTime: r.state.StartTime, EndTime: r.state.EndTime, CancelTime: r.state.CancelTime,
		TaskCount: r.state.Total, CompletedTasks: r.state.Completed, FailedTasks: r.state.Failed,
		Reason: r.state.Reason, Actor: r.actor, Cause: r.cause, Revision: r.revision,
		LogicalDate: r.options.LogicalDate, RerunOf: r.rerunOf, RerunOfName: repeats, Request: &request,
	}
}

const defaultLimit = 100

// Runs implements engine.Reader.
func (b *Backend) Runs(ctx context.Context, filter engine.RunFilter) (engine.RunList, error) {
	if err := b.lock(ctx); err != nil {
		return engine.RunList{}, fmt.Errorf("list runs: %w", err)
	}
	defer b.mutex.Unlock()
	var fit []*run
	for _, r := range b.runs {
		if r.fits(&filter) {
			fit = append(fit, r)
		}
	}
	slices.SortFunc(fit, func(one, other *run) int { return bytes.Compare(other.id[:], one.id[:]) })
	list := engine.RunList{Total: len(fit), TotalExact: true}
	limit := filter.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	fit = fit[min(max(filter.Offset, 0), len(fit)):]
	for _, r := range fit[:min(limit, len(fit))] {
		list.Runs = append(list.Runs, b.view(r))
	}
	return list, nil
}

func (r *run) fits(filter *engine.RunFilter) bool {
	return (len(filter.Status) == 0 || slices.Contains(filter.Status, r.state.Status)) &&
		(filter.DAG == "" || filter.DAG == r.dag) &&
		(filter.Since.IsZero() || !r.id.Time().Before(filter.Since.Truncate(time.Millisecond))) &&
		(filter.Until.IsZero() || r.id.Time().Before(filter.Until.Truncate(time.Millisecond)))
}

// Outcomes implements engine.Reader.
func (b *Backend) Outcomes(ctx context.Context, since time.Time, limit int) ([]engine.RunView, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("list runs by outcome: %w", err)
	}
	defer b.mutex.Unlock()
	var fit []*run
	for _, r := range b.runs {
		if r.byOutcome && r.fits(&engine.RunFilter{Since: since}) {
			fit = append(fit, r)
		}
	}
	slices.SortFunc(fit, func(one, other *run) int { return bytes.Compare(other.id[:], one.id[:]) })
	views := make([]engine.RunView, min(limit, len(fit)))
	for i := range views {
		views[i] = b.view(fit[i])
	}
	return views, nil
}

// stored gives a run to read.
func (b *Backend) stored(id workflow.RunID) (*run, error) {
	if found, ok := b.runs[id]; ok {
		return found, nil
	}
	return nil, &engine.UnknownRunError{ID: id.String()}
}

// Pending implements engine.Reader.
func (b *Backend) Pending(ctx context.Context, id workflow.RunID) (engine.PendingView, error) {
	if err := b.lock(ctx); err != nil {
		return engine.PendingView{}, fmt.Errorf("read what run %s waits for: %w", id, err)
	}
	defer b.mutex.Unlock()
	r, err := b.stored(id)
	if err != nil {
		return engine.PendingView{}, err
	}
	return engine.PendingView{Orchestrated: b.writer != nil, Groups: r.options.Groups, After: r.options.After}, nil
}

// TaskRuns implements engine.Reader.
func (b *Backend) TaskRuns(ctx context.Context, id workflow.RunID) ([]engine.TaskRunView, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("list the task runs of run %s: %w", id, err)
	}
	defer b.mutex.Unlock()
	r, err := b.stored(id)
	if err != nil {
		return nil, err
	}
	var views []engine.TaskRunView
	holders := b.holders()
	for number := range r.nodes {
		if !r.seen(int32(number)) { //nolint:gosec // a node number
			continue
		}
		views = append(views, b.taskRunView(r, int32(number), holders)) //nolint:gosec // a node number
	}
	return views, nil
}

// Needs implements engine.Reader.
func (b *Backend) Needs(ctx context.Context, id workflow.RunID) (map[int32]engine.Class, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("read what the task runs of run %s need: %w", id, err)
	}
	defer b.mutex.Unlock()
	r, err := b.stored(id)
	if err != nil {
		return nil, err
	}
	needs := map[int32]engine.Class{}
	for number := range r.nodes {
		node := int32(number) //nolint:gosec // a node number
		if spec := r.spec(node); r.row(node).Status == workflow.TaskQueued && (len(spec.Requires) > 0 || !spec.Resources.IsZero()) {
			needs[node] = engine.Class{Queue: spec.Queue, Requires: strings.Join(spec.Requires, ","), Resources: spec.Resources}
		}
	}
	return needs, nil
}

// TaskRun implements engine.Reader.
func (b *Backend) TaskRun(ctx context.Context, id workflow.RunID, node int32) (engine.TaskRunView, error) {
	if err := b.lock(ctx); err != nil {
		return engine.TaskRunView{}, fmt.Errorf("read task run %s: %w", workflow.TaskRunID(id, node), err)
	}
	defer b.mutex.Unlock()
	if r, ok := b.runs[id]; ok && r.has(node) && r.seen(node) {
		return b.taskRunView(r, node, b.holders()), nil
	}
	return engine.TaskRunView{}, fmt.Errorf("task run %s: %w", workflow.TaskRunID(id, node), engine.ErrNotFound)
}

// seen tells whether readers see the node: not one that is pending in a run that was refused.
func (r *run) seen(node int32) bool {
	return r.row(node).Status != workflow.TaskPending || !r.state.Status.Ended()
}

func (b *Backend) taskRunView(r *run, node int32, holders map[workflow.Member]*dispatch) engine.TaskRunView {
	spec, row := r.spec(node), r.row(node)
	view := engine.TaskRunView{
		Node: row.Node, Name: r.nodes[node].Name, TaskID: spec.TaskID, Queue: spec.Queue, Priority: spec.Priority,
		Status: row.Status, Attempt: int(row.Attempt), QueuedTime: row.QueuedTime, StartTime: row.StartTime, EndTime: row.EndTime,
		ExitCode: row.ExitCode, AgentID: b.agentID(row.Agent), Cause: row.Cause, Reason: row.Reason,
	}
	member := workflow.Member{Run: r.id, Node: row.Node, Attempt: row.Attempt, Delivery: row.Delivery}
	if held, ok := holders[member]; ok && row.Status == workflow.TaskQueued {
		view.Status, view.StartTime, view.AgentID = workflow.TaskRunning, held.claimedAt, b.agentID(held.claimedBy)
	}
	return view
}

func (b *Backend) agentID(incarnation int64) string {
	if agent, ok := b.agents[incarnation]; ok {
		return agent.info.ID
	}
	return ""
}

// Plan implements engine.Reader.
func (b *Backend) Plan(ctx context.Context, id workflow.RunID) ([]engine.PlanNode, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("read the plan of run %s: %w", id, err)
	}
	defer b.mutex.Unlock()
	r, err := b.stored(id)
	if err != nil {
		return nil, err
	}
	nodes := make([]engine.PlanNode, 0, len(r.nodes))
	for number, node := range r.nodes {
		nodes = append(nodes, engine.PlanNode{
			Node: int32(number), Name: node.Name, TaskID: r.spec(int32(number)).TaskID, //nolint:gosec // a node number
			Dependencies: slices.Clone(node.Dependencies),
		})
	}
	return nodes, nil
}

// Logs implements engine.Reader.
func (b *Backend) Logs(ctx context.Context, id workflow.RunID, node int32, after engine.LogPlace, limit int) ([]engine.LogChunk, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", workflow.TaskRunID(id, node), err)
	}
	defer b.mutex.Unlock()
	r, ok := b.runs[id]
	if !ok {
		return nil, nil
	}
	chunks := r.logs[node]
	place, found := slices.BinarySearchFunc(chunks, after, compareLog)
	if found {
		place++
	}
	chunks = chunks[place:]
	return slices.Clone(chunks[:min(max(limit, 0), len(chunks))]), nil
}

// Queues implements engine.Reader.
func (b *Backend) Queues(ctx context.Context) ([]engine.QueueView, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("list the queues: %w", err)
	}
	defer b.mutex.Unlock()
	views := map[string]*engine.QueueView{}
	view := func(name string) *engine.QueueView {
		if views[name] == nil {
			views[name] = &engine.QueueView{Name: name}
		}
		return views[name]
	}
	wait := func(name string, tasks int, since time.Time) {
		queue := view(name)
		queue.Depth += tasks
		if tasks > 0 && !since.IsZero() && (queue.Oldest.IsZero() || since.Before(queue.Oldest)) {
			queue.Oldest = since
		}
	}
	for class := range b.classes {
		view(class.Queue)
	}
	for _, d := range b.dispatches {
		if d.Claimed {
			view(d.Class.Queue).Running += len(d.Members)
		} else {
			wait(d.Class.Queue, len(d.Members), d.queuedAt)
		}
	}
	for _, waiting := range b.backlog {
		wait(waiting.Queue, waiting.Waiting, waiting.Oldest)
	}
	for _, agent := range b.agents {
		if agent.status == agentLive {
			for _, queue := range agent.info.Queues {
				view(queue)
			}
		}
	}
	for _, agent := range b.agents {
		for name, queue := range views {
			if agent.status == agentLive && (len(agent.info.Queues) == 0 || slices.Contains(agent.info.Queues, name)) {
				queue.Consumers++
			}
		}
	}
	list := make([]engine.QueueView, 0, len(views))
	for _, queue := range views {
		list = append(list, *queue)
	}
	slices.SortFunc(list, func(one, other engine.QueueView) int { return strings.Compare(one.Name, other.Name) })
	return list, nil
}

// deadAgentsFor is how long agents that ended are shown.
const deadAgentsFor = 24 * time.Hour

// Agents implements engine.Reader.
func (b *Backend) Agents(ctx context.Context) ([]engine.AgentView, error) {
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("list the agents: %w", err)
	}
	defer b.mutex.Unlock()
	running := map[int64]int{}
	for held := range maps.Values(b.dispatches) {
		running[held.claimedBy] += len(held.Members)
	}
	var list []engine.AgentView
	for _, agent := range b.agents {
		if agent.status != agentLive && agent.endedAt.Before(b.now().Add(-deadAgentsFor)) {
			continue
		}
		list = append(list, engine.AgentView{
			ID: agent.info.ID, Incarnation: agent.incarnation, Status: agent.status,
			Queues: slices.Clone(agent.info.Queues), Tags: slices.Clone(agent.info.Tags), Slots: agent.info.Slots, Resources: agent.info.Resources,
			Running: running[agent.incarnation], Version: agent.info.Version,
			RegisteredAt: agent.registeredAt, LastHeartbeat: agent.beatAt,
		})
	}
	slices.SortFunc(list, func(one, other engine.AgentView) int { return cmp.Compare(one.Incarnation, other.Incarnation) })
	return list, nil
}
