package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// rows keeps what Changes write, in the way of a backend, and refuses whatever a
// database with good constraints would refuse.
type rows struct {
	plan    *Graph
	options RunOptions

	run      RunChange
	tasks    map[int32]TaskChange
	attempts map[attemptKey]attemptRow
	timers   map[timerKey]time.Time
	events   []RunEvent
	outputs  map[int32]Value
	nodes    map[int32]nodeRow // that were added, or have other parents than in the plan
	specs    map[Hash][]byte
	update   ValueUpdate // all of them, one over the other
}

type attemptKey struct {
	node    int32
	attempt uint16
}

type attemptRow struct {
	AttemptChange
	retired bool
}

type timerKey struct {
	node int32
	kind TimerKind
}

// nodeRow names the specification by its hash: its number holds for one graph in memory only.
type nodeRow struct {
	name         string
	spec         Hash
	dependencies []int32
}

func newRows(plan *Graph, options RunOptions) *rows {
	return &rows{
		plan: plan, options: options,
		tasks: map[int32]TaskChange{}, attempts: map[attemptKey]attemptRow{}, timers: map[timerKey]time.Time{},
		outputs: map[int32]Value{}, nodes: map[int32]nodeRow{}, specs: map[Hash][]byte{},
	}
}

type reporter func(format string, args ...any)

// commit stores the change, and says everything that is wrong with it.
func (r *rows) commit(change *Change) error {
	var wrong []error
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	if r.run.Status.Ended() && !change.Empty() && (change.Run == nil || !change.Run.Reopened) {
		report("the run has ended as %v, and yet there is a change", r.run.Status)
	}
	r.commitGraph(change, report)
	r.undo(change, report)
	for _, attempt := range change.Attempts {
		key := attemptKey{attempt.Node, attempt.Attempt}
		if _, ok := r.attempts[key]; ok {
			report("attempt %d of node %d is superseded twice", attempt.Attempt, attempt.Node)
		}
		if current := r.tasks[attempt.Node]; current.Attempt != attempt.Attempt || current.Status != TaskQueued {
			report("attempt %d of node %d is superseded, but attempt %d is %v", attempt.Attempt, attempt.Node, current.Attempt, current.Status)
		}
		r.attempts[key] = attemptRow{attempt, false}
	}
	r.commitTasks(change, report)
	r.commitTimers(change, report)
	r.commitRun(change, report)
	return errors.Join(wrong...)
}

// undo lets rows go, and makes others attempts: by what a person did.
func (r *rows) undo(change *Change, report reporter) {
	for _, node := range change.Reset {
		if row, ok := r.tasks[node]; !ok || !row.Status.Ended() || row.Attempt > 0 {
			report("node %d is reset, but its row is %v with the attempt %d", node, row.Status, row.Attempt)
		}
		delete(r.tasks, node)
	}
	for _, node := range change.Retire {
		row, ok := r.tasks[node]
		if !ok || !row.Status.Ended() || row.Attempt == 0 {
			report("node %d is retired, but its row is %v with the attempt %d", node, row.Status, row.Attempt)
		}
		key := attemptKey{node, row.Attempt}
		superseded, ok := r.attempts[key] // when it was cancelled while it waited for the next one
		if !ok {
			superseded.AttemptChange = AttemptChange{
				Node: node, Attempt: row.Attempt, Status: row.Status, StartTime: row.StartTime, EndTime: row.EndTime,
				ExitCode: row.ExitCode, Agent: row.Agent, Cause: row.Cause, Reason: row.Reason,
			}
		}
		superseded.retired = true
		r.attempts[key] = superseded
		delete(r.outputs, node)
		r.tasks[node] = TaskChange{Node: node, Status: TaskWaiting, Attempt: row.Attempt, Delivery: row.Delivery, QueuedTime: row.QueuedTime}
	}
}

func (r *rows) commitTasks(change *Change, report reporter) {
	queued := map[Member]bool{}
	seen := map[int32]bool{}
	for _, row := range change.Tasks {
		earlier, exists := r.tasks[row.Node]
		switch {
		case seen[row.Node]:
			report("node %d has two rows in one change", row.Node)
		case row.First == exists:
			report("node %d: first is %v, but it has a row: %v", row.Node, row.First, exists)
		case earlier.Status.Ended():
			report("node %d ended as %v, and now is %v", row.Node, earlier.Status, row.Status)
		case row.Attempt < earlier.Attempt, row.Attempt == earlier.Attempt && row.Delivery < earlier.Delivery:
			report("node %d went back from %d/%d to %d/%d", row.Node, earlier.Attempt, earlier.Delivery, row.Attempt, row.Delivery)
		}
		if row.Status.Ended() != !row.EndTime.IsZero() {
			report("node %d is %v with the end time %v", row.Node, row.Status, row.EndTime)
		}
		if exists && row.Status.Ended() && (row.Attempt != earlier.Attempt || row.Delivery != earlier.Delivery) {
			report("node %d ends as %d/%d, its row is %d/%d", row.Node, row.Attempt, row.Delivery, earlier.Attempt, earlier.Delivery)
		}
		if row.Attempt == 0 && !endsWithoutAttempt(row.Status, row.Cause) || (row.Attempt == 0) != (row.Delivery == 0) {
			report("node %d is %v because of %v as %d/%d", row.Node, row.Status, row.Cause, row.Attempt, row.Delivery)
		}
		if row.First && row.Attempt > 1 || row.First && row.Status == TaskQueued && row.Delivery > 1 {
			report("node %d begins as %d/%d", row.Node, row.Attempt, row.Delivery)
		}
		switch row.Status {
		case TaskPending, TaskRunning:
			report("node %d is stored as %v", row.Node, row.Status)
		case TaskQueued:
			if row.QueuedTime.IsZero() || row.Cause != CauseNone {
				report("node %d is queued at %v because of %v", row.Node, row.QueuedTime, row.Cause)
			}
			queued[Member{change.ID, row.Node, row.Attempt, row.Delivery}] = true
		case TaskWaiting:
			if row.Cause != CauseNone && row.Cause != CauseApproval && row.Cause != CausePaused && row.Cause != CauseTriggerRule {
				report("node %d waits because of %v", row.Node, row.Cause)
			}
		case TaskCompleted, TaskFailed, TaskSkipped, TaskUpstreamFailed, TaskCancelled:
		}
		seen[row.Node] = true
		if row.QueuedTime.IsZero() {
			row.QueuedTime = earlier.QueuedTime
		}
		r.tasks[row.Node] = row
	}
	for _, member := range change.Queue {
		if !queued[member] {
			report("%v is to be dispatched, but its row is not queued by this change", member)
		}
		delete(queued, member)
	}
	for member := range queued {
		report("%v became queued, but is not to be dispatched", member)
	}
	for _, member := range slices.Concat(change.Withdraw, change.Hold) {
		row := r.tasks[member.Node]
		if row.Status != TaskQueued || row.Attempt != member.Attempt || row.Delivery != member.Delivery {
			report("%v is to be taken back, but is %v %d/%d", member, row.Status, row.Attempt, row.Delivery)
		}
		if seen[member.Node] {
			report("%v is to be taken back by the change that queues it", member)
		}
	}
	for _, output := range change.Outputs {
		if r.tasks[output.Node].Status != TaskCompleted || !seen[output.Node] {
			report("node %d gave something, and is %v", output.Node, r.tasks[output.Node].Status)
		}
		r.outputs[output.Node] = output.Body
	}
}

func endsWithoutAttempt(status TaskStatus, cause Cause) bool {
	switch status {
	case TaskCancelled, TaskUpstreamFailed, TaskSkipped:
		return true
	case TaskCompleted:
		return cause == CauseGroup || cause == CauseKept
	case TaskFailed:
		return cause == CauseEvaluation
	case TaskPending, TaskQueued, TaskRunning, TaskWaiting:
	}
	return false
}

func (r *rows) commitTimers(change *Change, report reporter) {
	for _, timer := range change.DropTimers {
		key := timerKey{timer.Node, timer.Kind}
		if _, ok := r.timers[key]; !ok {
			report("the timer %d of node %d is dropped, but there is none", timer.Kind, timer.Node)
		}
		delete(r.timers, key)
	}
	for _, timer := range change.SetTimers {
		key := timerKey{timer.Node, timer.Kind}
		if _, ok := r.timers[key]; ok {
			report("node %d gets a second timer %d", timer.Node, timer.Kind)
		}
		r.timers[key] = timer.Due
	}
	graph, err := r.graph()
	if err != nil {
		return // and reported before
	}
	for node, row := range r.tasks {
		_, timed := r.timers[timerKey{node, TimerRetry}]
		if timed != (row.Status == TaskWaiting && row.Cause == CauseNone) {
			report("node %d is %v (%v); that it has a timer is %v", node, row.Status, row.Cause, timed)
		}
		_, timed = r.timers[timerKey{node, TimerApproval}]
		if timed != (row.Status == TaskWaiting && row.Cause == CauseApproval && graph.Scheduling(node).ApprovalSeconds > 0) {
			report("node %d is %v (%v); that it has a timer of its approval is %v", node, row.Status, row.Cause, timed)
		}
	}
}

func (r *rows) commitRun(change *Change, report reporter) {
	r.events = append(r.events, change.Events...)
	if len(change.Updates) > 0 {
		if change.Run == nil || change.Run.Version <= r.run.Version {
			report("the values are another version, but the version is the same")
		}
		for i := range change.Updates {
			r.update.merge(&change.Updates[i].ValueUpdate)
		}
	}
	if run := change.Run; run != nil {
		before := r.run
		switch {
		case run.Status == RunPending, before.Status == RunPaused && run.Status == RunPending,
			run.Reopened != before.Status.Ended():
			report("the run goes from %v to %v", before.Status, run.Status)
		case run.Status.Ended() != !run.EndTime.IsZero() || run.StartTime.IsZero():
			report("the run is %v with the times %v and %v", run.Status, run.StartTime, run.EndTime)
		case !before.StartTime.IsZero() && !run.StartTime.Equal(before.StartTime):
			report("the run starts a second time")
		case run.Version < before.Version, len(change.Updates) == 0 && run.Version != before.Version:
			report("the version goes from %d to %d", before.Version, run.Version)
		}
		if completed, failed := r.count(TaskCompleted), r.count(TaskFailed); run.Completed != completed || run.Failed != failed {
			report("the counts say %d completed and %d failed, the rows %d and %d", run.Completed, run.Failed, completed, failed)
		}
		if ended := r.ended(); run.Status.Ended() && ended != run.Total {
			report("the run ends as %v with %d of %d task runs ended", run.Status, ended, run.Total)
		}
		if !run.LogicalDate.IsZero() && run.Status != RunCompleted {
			report("the logical date has succeeded with the run %v", run.Status)
		}
		r.run = *run
	}
	if r.run.Total > 0 && r.run.Total != r.len() {
		report("the run has %d nodes and says %d", r.len(), r.run.Total)
	}
	_, timed := r.timers[timerKey{RunNode, TimerRun}]
	under := r.run.Status == RunRunning || r.run.Status == RunPaused
	if timed != (under && r.options.TimeoutSeconds > 0 && r.run.Stop != CauseRunTimeout) {
		report("the run is %v (%v); that it has a timer is %v", r.run.Status, r.run.Stop, timed)
	}
}

func (r *rows) count(status TaskStatus) (count int) {
	for _, row := range r.tasks {
		if row.Status == status {
			count++
		}
	}
	return count
}

func (r *rows) ended() (count int) {
	for _, row := range r.tasks {
		if row.Status.Ended() {
			count++
		}
	}
	return count
}

// commitGraph stores the nodes of the change.
func (r *rows) commitGraph(change *Change, report reporter) {
	for _, spec := range change.Specs {
		r.specs[spec.Scheduling.Spec] = spec.Body
	}
	seen := map[int32]bool{}
	count := r.len()
	for _, node := range change.Nodes {
		if seen[node.Number] || node.Name == "" {
			report("node %d (%q) is there twice, or has no name", node.Number, node.Name)
		}
		seen[node.Number] = true
		r.nodes[node.Number] = nodeRow{node.Name, change.graph.Specs[node.Spec].Spec, slices.Clone(node.Dependencies)}
	}
	names := map[string]int32{}
	for number, node := range r.nodes {
		if other, ok := names[node.name]; ok {
			report("nodes %d and %d are called %q", number, other, node.name)
		}
		names[node.name] = number
	}
	if r.len() < count {
		report("the run has lost nodes")
	}
	if _, err := r.graph(); err != nil {
		report("%w", err)
	}
}

func (r *rows) len() int {
	count := r.plan.Len()
	for number := range r.nodes {
		count = max(count, int(number)+1)
	}
	return count
}

// graph is the plan's with all that was added.
func (r *rows) graph() (*Graph, error) {
	if len(r.nodes) == 0 {
		return r.plan, nil
	}
	index := map[Hash]int32{}
	for i := range r.plan.Specs {
		index[r.plan.Specs[i].Spec] = int32(i)
	}
	var specs []Scheduling
	nodes := make([]GrownNode, 0, len(r.nodes))
	for _, number := range slices.Sorted(maps.Keys(r.nodes)) {
		row := r.nodes[number]
		spec, ok := index[row.spec]
		if !ok {
			spec = int32(len(r.plan.Specs) + len(specs))
			scheduling, err := r.scheduling(row.spec)
			if err != nil {
				return nil, fmt.Errorf("the specification of node %d: %w", number, err)
			}
			index[row.spec], specs = spec, append(specs, scheduling)
		}
		nodes = append(nodes, GrownNode{Number: number, Node: Node{Name: row.name, Spec: spec, Dependencies: row.dependencies}})
	}
	for _, hash := range MissingTemplates(r.plan.Specs, specs) {
		scheduling, err := r.scheduling(hash)
		if err != nil {
			return nil, fmt.Errorf("the specification with which a group began: %w", err)
		}
		specs = append(specs, scheduling)
	}
	return r.plan.Grow(specs, nodes)
}

func (r *rows) scheduling(hash Hash) (Scheduling, error) {
	task := new(TaskSpec)
	err := json.Unmarshal(r.specs[hash], task)
	return SchedulingOf(task, hash), err
}

// restore makes a run of the rows alone, as a writer does after a crash.
func (r *rows) restore(id RunID) (*Run, error) {
	graph, err := r.graph()
	if err != nil {
		return nil, err
	}
	nodes := make([]StoredNode, 0, len(r.tasks))
	for _, number := range slices.Sorted(maps.Keys(r.tasks)) {
		row := r.tasks[number]
		state := NodeState{Status: row.Status, Attempt: row.Attempt, Delivery: row.Delivery, Cause: row.Cause}
		for attempt := uint16(1); attempt <= row.Attempt; attempt++ {
			superseded, ok := r.attempts[attemptKey{number, attempt}]
			switch {
			case superseded.retired:
				state.Retried = 0
			case !ok || superseded.Cause == CauseAgentStopped:
			case superseded.Cause == CauseAgentLost:
				state.Rescued++
			default:
				state.Retried++
			}
		}
		nodes = append(nodes, StoredNode{number, state})
	}
	return RestoreRun(id, "test", graph, false, StoredRun{
		Status: r.run.Status, StartTime: r.run.StartTime, CancelTime: r.run.CancelTime, Stop: r.run.Stop, Version: r.run.Version,
		Options: r.options, Planned: r.plan.Len(),
		Retried: slices.ContainsFunc(r.events, func(event RunEvent) bool { return event.Kind == "retry" }),
	}, nodes)
}

// sameRun says how the restored run differs from the live one in what matters for
// all that can follow.
func sameRun(live, restored *Run) error {
	var wrong []error
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if live.Status != restored.Status || !live.StartTime.Equal(restored.StartTime) || !live.CancelTime.Equal(restored.CancelTime) ||
		live.Stop != restored.Stop || live.Version != restored.Version || live.planned != restored.planned {
		report("the restored run is %v (%v, %v, %v, version %d, planned %d), the live one %v (%v, %v, %v, version %d, planned %d)",
			restored.Status, restored.StartTime, restored.CancelTime, restored.Stop, restored.Version, restored.planned,
			live.Status, live.StartTime, live.CancelTime, live.Stop, live.Version, live.planned)
	}
	if live.tally != restored.tally {
		report("the restored tally is %+v, the live one %+v", restored.tally, live.tally)
	}
	if err := sameGraph(live.Graph, restored.Graph); err != nil {
		return errors.Join(append(wrong, err)...)
	}
	for number := range live.Nodes {
		one, other := live.Nodes[number], restored.Nodes[number]
		if !one.undecided() {
			one.open, other.open = 0, 0 // nobody looks at it any more
		}
		if one != other {
			report("node %d is restored as %+v, and is %+v", number, other, one)
		}
	}
	switch {
	case live.Status.Ended():
	case live.CancelTime.IsZero() && live.Stop == CauseNone:
		// While a run is ending its nodes are found by walking over all of them.
		if want, got := todo(live), todo(restored); !maps.Equal(want, got) {
			report("after restoring there is %v to do, live %v", got, want)
		}
	default:
		for number := range live.Nodes[:live.backlog.cancel] {
			if status := live.Nodes[number].Status; status == TaskPending || status == TaskWaiting {
				report("the cancel passed node %d, which is still %v", number, status)
			}
		}
	}
	return errors.Join(wrong...)
}

// todo is what the run's backlog still asks for, by node. The lists may name a node twice, or one that was decided
// since; and what is given up is not queued. Items are asked for again after a crash, and not as long as the writer lives.
func todo(run *Run) map[int32]string {
	all := map[int32]string{}
	put := func(nodes []int32, what string) {
		for _, number := range nodes {
			if run.Nodes[number].undecided() && all[number] == "" && !run.Graph.Scheduling(number).Unexpanded {
				all[number] = what
			}
		}
	}
	for i := range run.Options.Kept[run.backlog.kept:] {
		put([]int32{run.Options.Kept[int(run.backlog.kept)+i].Node}, "keep")
	}
	if left := run.backlog.decided; left != nil {
		put(left.doomed, "give up")
		put(left.skip, "skip")
		put(left.ready, "start")
	}
	for number := range run.Nodes {
		if state := &run.Nodes[number]; state.Cause == CausePaused && run.Status == RunRunning && number >= int(run.backlog.resume) {
			all[int32(number)] = "resume"
		}
	}
	return all
}

// sameGraph says how two graphs differ. The numbers of specifications may.
func sameGraph(one, other *Graph) error {
	if one.Len() != other.Len() {
		return fmt.Errorf("the restored graph has %d nodes, the live one %d", other.Len(), one.Len())
	}
	for number := range int32(one.Len()) {
		if a, b := one.Scheduling(number).Spec, other.Scheduling(number).Spec; a != b {
			return fmt.Errorf("node %d is restored with the specification %v, and has %v", number, b, a)
		}
		if a, b := one.Parents(number), other.Parents(number); !slices.Equal(a, b) {
			return fmt.Errorf("node %d is restored with the parents %v, and has %v", number, b, a)
		}
		if a, b := one.Dependents(number), other.Dependents(number); !slices.Equal(a, b) {
			return fmt.Errorf("node %d is restored with the dependents %v, and has %v", number, b, a)
		}
		if a, b := one.addedName(number), other.addedName(number); a != b {
			return fmt.Errorf("node %d is restored with the name %q, and has %q", number, b, a)
		}
	}
	return nil
}

// merge lays later changes over earlier ones.
func (u *ValueUpdate) merge(later *ValueUpdate) {
	if u.Variables == nil {
		u.Variables = map[string]Value{}
	}
	maps.Copy(u.Variables, later.Variables)
	if u.Parameters == nil {
		u.Parameters = map[string]map[string]Value{}
	}
	for task, parameters := range later.Parameters {
		merged := maps.Clone(u.Parameters[task])
		if merged == nil {
			merged = map[string]Value{}
		}
		maps.Copy(merged, parameters)
		u.Parameters[task] = merged
	}
}
