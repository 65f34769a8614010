package orchestrator

import (
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// leastWindow is the number of tasks of a lane that may be in the table at least.
	leastWindow = 256
	// mostWindow bounds a window that follows the speed of the agents.
	mostWindow = 20_000
	// paceSpan is the time over which the speed of a lane is looked at.
	paceSpan = 100 * time.Millisecond
	// mostPacked is the number of members of a delivery at the most.
	mostPacked = 50
	// chunk is how many tasks of one run are taken in a row before the next run has its turn.
	chunk = 16
	// backlogEvery is how often the depth of the backlog is written at the most.
	backlogEvery = 250 * time.Millisecond
)

// dispatcher decides which queued tasks are put into the table of deliveries: for each class and priority two
// rounds of the slots that serve it, or what its agents work off in a fifth of a second; the rest waits here, and
// runs take turns, so that a huge one is no wall before small ones. Each class and priority has a window of its own, so that
// tasks that no agent serves are no wall before others, nor are less urgent ones before an urgent one.
type dispatcher struct {
	lanes map[laneKey]*lane
	// queues holds the lanes of each queue, by priority.
	queues map[string][]*lane
	// specLanes are the lanes of a graph's specifications.
	specLanes map[*workflow.Graph][]*lane
	specNodes int // what those graphs are worth
	agents    []engine.AgentInfo

	flushBacklog bool
	backlogAt    time.Time
}

type laneKey struct {
	class    engine.Class
	priority int
}

type backlogKey struct {
	queue    string
	priority int
}

// lane holds the waiting tasks of one class and priority.
type lane struct {
	laneKey
	ring     []*runQueue
	waiting  int
	inFlight int  // members in the table, or with agents
	dirty    bool // waiting changed since the backlog was written
	// agents is the number of those that serve it, and slots what they have together.
	agents, slots int
	// ended counts the ends in the current span of time; pace is the count of the span before.
	ended, pace int
	spanStart   time.Time
}

// runQueue holds the waiting tasks of one run in one lane.
type runQueue struct {
	entry   *entry
	lane    *lane
	members []workflow.Member
	since   time.Time
	// parked tells that it is not in the lane's ring: the run has as many in flight as it may.
	parked bool
}

func newDispatcher() *dispatcher {
	return &dispatcher{
		lanes: map[laneKey]*lane{}, queues: map[string][]*lane{}, specLanes: map[*workflow.Graph][]*lane{},
	}
}

// anew is a dispatcher that knows of no task. It has what is outside of memory: the agents, and a
// backlog that was told and now may be wrong.
func (d *dispatcher) anew() *dispatcher {
	fresh := newDispatcher()
	fresh.agents, fresh.backlogAt = d.agents, d.backlogAt
	for key := range d.lanes {
		lane := &lane{laneKey: key, dirty: true}
		fresh.add(lane)
	}
	return fresh
}

// specLanes keeps graphs from being freed, so it begins anew when they are worth so many nodes; each graph itself is
// worth some.
const (
	keptGraphNodes = 2_000_000
	graphWorth     = 200
)

func (d *dispatcher) laneOf(e *entry, node int32) *lane {
	if e.lanes == nil {
		e.lanes = d.lanesOf(e.graph)
	}
	if len(e.lanes) < len(e.graph.Specs) { // it grew: what it shares stays with the others
		e.lanes = append(slices.Clone(e.lanes), make([]*lane, len(e.graph.Specs)-len(e.lanes))...)
	}
	index := e.graph.SpecIndex(node)
	if e.lanes[index] == nil {
		e.lanes[index] = d.lane(&e.graph.Specs[index])
	}
	return e.lanes[index]
}

// lanesOf gives the lanes of a graph's specifications, which all runs of the graph share; nil for those not yet looked up.
func (d *dispatcher) lanesOf(graph *workflow.Graph) []*lane {
	lanes := d.specLanes[graph]
	if lanes == nil {
		if d.specNodes += graph.Len() + graphWorth; d.specNodes > keptGraphNodes {
			clear(d.specLanes)
			d.specNodes = graph.Len() + graphWorth
		}
		lanes = make([]*lane, len(graph.Specs))
		d.specLanes[graph] = lanes
	}
	return lanes
}

func (d *dispatcher) lane(spec *workflow.Scheduling) *lane {
	requires := slices.Clone(spec.Requires)
	slices.Sort(requires)
	class := engine.Class{Queue: spec.Queue, Requires: strings.Join(slices.Compact(requires), ","), Resources: spec.Resources}
	key := laneKey{class, spec.Priority}
	known := d.lanes[key]
	if known == nil {
		known = &lane{laneKey: key}
		d.add(known)
	}
	return known
}

func (d *dispatcher) add(added *lane) {
	d.countAgents(added)
	d.lanes[added.laneKey] = added
	queue := added.class.Queue
	d.queues[queue] = append(d.queues[queue], added)
	slices.SortStableFunc(d.queues[queue], func(a, b *lane) int { return a.priority - b.priority })
}

// learn takes note of the agents that live.
func (d *dispatcher) learn(agents []engine.AgentInfo) {
	d.agents = agents
	for _, lane := range d.lanes {
		d.countAgents(lane)
	}
}

func (d *dispatcher) countAgents(lane *lane) {
	lane.agents, lane.slots = 0, 0
	for i := range d.agents {
		if agent := &d.agents[i]; serves(agent, lane.class) {
			lane.agents++
			lane.slots += agent.Slots
		}
	}
}

func serves(agent *engine.AgentInfo, class engine.Class) bool {
	if !class.Resources.Fit(agent.Resources) || len(agent.Queues) > 0 && !slices.Contains(agent.Queues, class.Queue) {
		return false
	}
	for tag := range strings.SplitSeq(class.Requires, ",") {
		if tag != "" && !slices.Contains(agent.Tags, tag) {
			return false
		}
	}
	return true
}

// take notes what a change does to queued tasks, before it is committed.
func (d *dispatcher) take(e *entry, change *workflow.Change) {
	e.graph, e.values = change.GraphOf(e.run), e.run.Values()
	if change.Run != nil && change.Run.Version > 0 {
		e.values = change.Run.Version + 1
	}
	for i := range change.Tasks {
		task := &change.Tasks[i]
		if !task.First && int(task.Node) < len(e.run.Nodes) && e.run.Nodes[task.Node].Status == workflow.TaskQueued && !e.misses(task.Node) {
			d.count(e, task.Node, -1)
		}
	}
	for _, member := range change.Queue {
		d.push(e, member, change.At)
	}
}

// count keeps the number of members in the table or with agents.
func (d *dispatcher) count(e *entry, node int32, by int) {
	lane := d.laneOf(e, node)
	lane.inFlight += by
	e.inFlight += by
	if by < 0 {
		lane.ended -= by
		e.unpark()
	}
}

// room is how many more members of the run may be in flight.
func (e *entry) room() int {
	if limit := e.run.Options.MaxParallel; limit > 0 {
		return max(0, limit-e.inFlight)
	}
	return maxRoom
}

const maxRoom = 1 << 30

// unpark lets the run take turns again.
func (e *entry) unpark() {
	for _, waiting := range e.queues {
		if waiting.parked {
			waiting.parked = false
			waiting.lane.ring = append(waiting.lane.ring, waiting)
		}
	}
}

func (d *dispatcher) push(e *entry, member workflow.Member, at time.Time) {
	to := d.laneOf(e, member.Node)
	to.waiting++
	to.dirty = true
	for _, waiting := range e.queues {
		if waiting.lane == to {
			waiting.members = append(waiting.members, member)
			return
		}
	}
	waiting := &runQueue{entry: e, lane: to, members: []workflow.Member{member}, since: at}
	e.queues = append(e.queues, waiting)
	to.ring = append(to.ring, waiting)
}

// putBack queues a member anew that was taken out of the table.
func (d *dispatcher) putBack(e *entry, member workflow.Member) {
	if !e.holds(member) {
		return
	}
	d.laneOf(e, member.Node).inFlight--
	e.inFlight--
	e.unpark()
	d.push(e, member, time.Time{}) // since when it waits is not known any more
}

// forget drops a run that is refused: what waits of it, and from the count what is in the table.
func (d *dispatcher) forget(e *entry) {
	for _, member := range e.run.Queued() {
		if !e.misses(member.Node) {
			d.count(e, member.Node, -1)
		}
	}
	e.missing = nil
	for _, waiting := range e.queues {
		waiting.lane.inFlight += len(waiting.members)
		waiting.lane.waiting -= len(waiting.members)
		waiting.members = nil
		waiting.lane.dirty = true
	}
	e.queues = nil
}

func (l *lane) window(now time.Time) int {
	if now.Sub(l.spanStart) >= paceSpan {
		l.pace, l.ended, l.spanStart = l.ended, 0, now
	}
	return max(l.rounds(), min(2*max(l.pace, l.ended), mostWindow))
}

// rounds is the window without regard to the pace.
func (l *lane) rounds() int { return max(leastWindow, 2*l.slots) }

// ready tells whether a task that waits may go into the table.
func (d *dispatcher) ready() bool {
	for _, lane := range d.lanes {
		if lane.waiting > 0 && len(lane.ring) > 0 && lane.inFlight < lane.rounds() {
			return true
		}
	}
	return false
}

// pick chooses what goes into the table with this commit; replyTo is the writer's.
func (d *dispatcher) pick(commit *engine.Commit, now time.Time, replyTo func(bucket int) int) {
	for _, lanes := range d.queues {
		for _, lane := range lanes {
			room := min(lane.window(now)-lane.inFlight, lane.waiting)
			if room <= 0 {
				continue
			}
			members, entries := lane.next(room)
			lane.inFlight += len(members)
			lane.dirty = true
			d.pack(commit, lane, members, entries, replyTo)
		}
	}
	d.writeBacklog(commit, now)
}

// next takes count waiting tasks, runs in turn.
func (l *lane) next(count int) (members []workflow.Member, entries []*entry) {
	members, entries = make([]workflow.Member, 0, count), make([]*entry, 0, count)
	for len(members) < count && len(l.ring) > 0 {
		first := l.ring[0]
		taken := min(chunk, count-len(members), len(first.members), first.entry.room())
		if taken == 0 && len(first.members) > 0 {
			first.parked = true
			l.ring = l.ring[1:]
			continue
		}
		first.entry.inFlight += taken
		for _, member := range first.members[:taken] {
			members, entries = append(members, member), append(entries, first.entry)
		}
		first.members = first.members[taken:]
		l.ring = l.ring[1:]
		if len(first.members) > 0 {
			l.ring = append(l.ring, first)
		} else {
			first.entry.queues = slices.DeleteFunc(first.entry.queues, func(waiting *runQueue) bool { return waiting == first })
		}
	}
	l.waiting -= len(members)
	return members, entries
}

// pack makes deliveries, each of runs whose reports go to one bucket: one for each agent while few tasks wait, so that
// work spreads; full ones when many do. A task with resources is alone, so that each goes where there is room for it.
func (d *dispatcher) pack(commit *engine.Commit, from *lane, members []workflow.Member, entries []*entry, replyTo func(bucket int) int) {
	size := mostPacked
	if from.waiting == 0 {
		agents := max(1, from.agents)
		size = min(mostPacked, (len(members)+agents-1)/agents)
	}
	if !from.class.Resources.IsZero() {
		size = 1
	}
	filling := map[int]int{} // the delivery that is being filled, by its bucket for reports
	for i, member := range members {
		run := entries[i].run
		to := replyTo(member.Run.Bucket())
		at, ok := filling[to]
		if !ok || len(commit.Dispatches[at].Members) == size {
			at = len(commit.Dispatches)
			filling[to] = at
			commit.Dispatches = append(commit.Dispatches, engine.Dispatch{
				Class: from.class, Priority: from.priority, Members: make([]engine.DispatchMember, 0, min(size, len(members)-i)),
			})
		}
		dispatch := &commit.Dispatches[at]
		dispatch.Members = append(dispatch.Members, engine.DispatchMember{
			Member: member, Spec: entries[i].graph.Scheduling(member.Node).Spec, DAG: run.DAG, Values: entries[i].values,
		})
	}
}

// writeBacklog tells how much waits here, where that changed: at most each backlogEvery, and soon after the last change.
func (d *dispatcher) writeBacklog(commit *engine.Commit, now time.Time) {
	if !d.flushBacklog && now.Sub(d.backlogAt) < backlogEvery {
		return
	}
	dirty := map[backlogKey]bool{}
	for key, lane := range d.lanes {
		if lane.dirty {
			dirty[backlogKey{key.class.Queue, key.priority}] = true
			lane.dirty = false
		}
	}
	for key := range dirty {
		commit.Backlog = append(commit.Backlog, d.backlog(key))
	}
	d.flushBacklog = false
	if len(dirty) > 0 {
		d.backlogAt = now
	}
}

func (d *dispatcher) backlog(key backlogKey) engine.Backlog {
	backlog := engine.Backlog{Queue: key.queue, Priority: key.priority}
	for _, lane := range d.queues[key.queue] {
		if lane.priority != key.priority {
			continue
		}
		backlog.Waiting += lane.waiting
		for _, waiting := range lane.ring {
			if len(waiting.members) > 0 && !waiting.since.IsZero() {
				if backlog.Oldest.IsZero() || waiting.since.Before(backlog.Oldest) {
					backlog.Oldest = waiting.since
				}
				break // the ring turns: its first is about the oldest
			}
		}
	}
	return backlog
}

// withdraw takes members out that must not start, for ever or for now: those that wait here at once, the others by the
// commit. It gives the members that the commit has to answer for, and whether they are to be killed if they run.
func (d *dispatcher) withdraw(l *loop, commit *engine.Commit, members, held []workflow.Member) map[workflow.Member]bool {
	wanted := make(map[workflow.Member]bool, len(members)+len(held))
	for _, member := range held {
		wanted[member] = false
	}
	for _, member := range members {
		wanted[member] = true
	}
	members = slices.Concat(members, held)
	looked, asked := map[workflow.RunID]bool{}, map[workflow.RunID]bool{}
	for _, member := range members {
		if e := l.runs[member.Run]; e != nil && !looked[member.Run] {
			looked[member.Run] = true
			d.withdrawWaiting(l, e, wanted)
		}
		if _, left := wanted[member]; left && !asked[member.Run] {
			asked[member.Run] = true
			commit.Withdraw = append(commit.Withdraw, member.Run)
		}
	}
	return wanted
}

func (d *dispatcher) withdrawWaiting(l *loop, e *entry, wanted map[workflow.Member]bool) {
	e.missing = slices.DeleteFunc(e.missing, func(member workflow.Member) bool {
		if _, ok := wanted[member]; !ok {
			return false
		}
		d.count(e, member.Node, 1) // as below
		delete(wanted, member)
		l.withdrawn(member)
		return true
	})
	for _, waiting := range e.queues {
		before := len(waiting.members)
		waiting.members = slices.DeleteFunc(waiting.members, func(member workflow.Member) bool {
			if _, ok := wanted[member]; !ok {
				return false
			}
			// As if it had been in the table: its end takes it out of the count.
			waiting.lane.inFlight++
			e.inFlight++
			delete(wanted, member)
			l.withdrawn(member)
			return true
		})
		waiting.lane.waiting -= before - len(waiting.members)
		waiting.lane.dirty = true
	}
}
