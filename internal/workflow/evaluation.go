package workflow

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// branch is what follows from the result of an evaluation point.
type branch struct {
	evaluation *Evaluation
	names      *nodeNames
	// chosen are the direct dependents that go on, old and new. Nil: all do.
	chosen map[int32]bool
	specs  []*NewSpec
	nodes  []GrownNode
	plans  map[*KnownPlan]*addedPlan
	next   int32 // the number of the next new node
	// tooMany tells that the run would come over its limit.
	tooMany bool
}

// number is that of a new node.
func (b *branch) number() int32 {
	b.next++
	return b.next - 1
}

// evaluate checks the result of an evaluation point, and says what follows from it. It changes nothing.
func (d *draft) evaluate(event *Event) (*branch, string) {
	b := &branch{evaluation: event.Result.Evaluation, next: int32(d.graph.Len())} //nolint:gosec // bounded by the limit
	switch {
	case !b.evaluation.NamesTasks():
		return b, ""
	case event.Known == nil:
		return nil, "its tasks can't be looked up: the names of the run's tasks are not known"
	case event.Known.Problem != "":
		return nil, "its tasks can't be looked up: " + event.Known.Problem
	}
	b.names = newNodeNames(event.Known.Names, d.graph, event.Node)
	if b.evaluation.Chosen {
		if problem := d.follow(b, event); problem != "" {
			return nil, problem
		}
	}
	if name := b.unknownTask(event.Known); name != "" {
		return nil, notFound("parameters", name, event.Known)
	}
	b.tooMany = int(b.next)-d.run.planned > d.limits.MaxDynamicTasks
	return b, ""
}

// notFound says what is wrong with a name that an evaluation has.
func notFound(field, name string, known *Known) string {
	if why := known.Unusable[name]; why != "" {
		return fmt.Sprintf("%s names %q, and %s", field, name, why)
	}
	return fmt.Sprintf("%s names %q, which is neither in this run nor a task", field, name)
}

// follow says what next_tasks lead to, or what is wrong with them.
func (d *draft) follow(b *branch, event *Event) (problem string) {
	b.chosen = map[int32]bool{}
	again := map[int32]bool{}
	var loops []int32
	var added []string
	for _, name := range b.evaluation.NextTasks {
		number, ok := b.names.find(name)
		if !ok {
			if event.Known.Plans[name] == nil {
				return notFound("next_tasks", name, event.Known)
			}
			added = append(added, name)
			continue
		}
		switch status := d.peek(number).Status; {
		case number != event.Node && d.decidesOn(event.Node, number):
			d.choose(b, number) // what its rule or another point decided before stays
		case status.Ended(), number == event.Node:
			if !again[number] {
				again[number], loops = true, append(loops, number)
			}
		case !d.peek(number).undecided():
			return fmt.Sprintf("next_tasks names %q, which has started and not ended", name)
		default:
			return fmt.Sprintf("next_tasks names %q, which waits for other tasks than this one", name)
		}
	}
	d.addLoops(b, event.Node, loops)
	for _, name := range added {
		if _, ok := b.names.find(name); !ok { // else an earlier one brought it along
			d.addPlan(b, event.Node, event.Known.Plans[name], name)
		}
	}
	return ""
}

// unknownTask is a task of parameters that there is none of; empty when there are all. What a value is taken by is the
// task, or one variant of it, with or without its group.
func (b *branch) unknownTask(known *Known) string {
	unknown := maps.Clone(b.evaluation.Parameters)
	maps.DeleteFunc(unknown, func(name string, _ map[string]Value) bool { return known.Plans[name] != nil })
	forget := func(name string) {
		name, _, _ = strings.Cut(BaseName(name), "[") // what follows is its index as an item
		for _, name := range []string{name, name[strings.LastIndexByte(name, '/')+1:]} {
			task, _, _ := strings.Cut(name, ":")
			delete(unknown, name)
			delete(unknown, task)
		}
	}
	for number := int32(0); int(number) < b.names.graph.Len() && len(unknown) > 0; number++ {
		forget(b.names.of(number))
	}
	for i := range b.nodes {
		forget(b.nodes[i].Name)
	}
	if len(unknown) == 0 {
		return ""
	}
	return slices.Sorted(maps.Keys(unknown))[0]
}

// decidesOn tells whether the point chooses if the node goes on: one that waits for it, or a group whose items do.
func (d *draft) decidesOn(point, number int32) bool {
	parents := d.graph.Parents(number)
	if slices.Contains(parents, point) {
		return !d.standsFor(number, point) || d.peek(number).Status == TaskPending
	}
	return slices.ContainsFunc(parents, func(parent int32) bool {
		return d.standsFor(number, parent) && slices.Contains(d.graph.Parents(parent), point)
	})
}

// choose lets a dependent go on; with a group its items.
func (d *draft) choose(b *branch, number int32) {
	b.chosen[number] = true
	for _, parent := range d.graph.Parents(number) {
		if d.standsFor(number, parent) {
			b.chosen[parent] = true
		}
	}
}

// addLoops makes a new iteration of each start, and of all on the ways from there to the evaluation point. If the point itself
// comes again, that decides on the dependents which this time were not chosen. The starts do not wait for the point: it
// has ended when they are there, and a way around the loop would lead everywhere.
func (d *draft) addLoops(b *branch, point int32, starts []int32) {
	if len(starts) == 0 {
		return
	}
	members := d.between(d.withItems(starts), point)
	again := make(map[int32]int32, len(members))
	for _, member := range members {
		again[member] = b.number()
	}
	for _, member := range members {
		node := GrownNode{Number: again[member]}
		node.Name, node.Spec = b.names.again(BaseName(b.names.of(member)), 2), d.graph.SpecIndex(member)
		parents := d.graph.Parents(member)
		if template, ok := d.template(member); ok {
			node.Spec, parents = template, d.groupParents(member)
		}
		for _, parent := range parents {
			if copied, ok := again[parent]; ok {
				parent = copied
			}
			node.Dependencies = append(node.Dependencies, parent)
		}
		b.nodes = append(b.nodes, node)
	}
	if copied, ok := again[point]; ok {
		for _, dependent := range d.graph.Dependents(point) {
			if !b.chosen[dependent] && d.peek(dependent).undecided() {
				b.nodes = append(b.nodes, d.rewired(dependent, point, copied, b.names.of(dependent)))
			}
		}
	}
}

// withItems puts the items before the groups that stand for them. Where a new iteration of the group will ask for
// its items again, it has none yet.
func (d *draft) withItems(starts []int32) []int32 {
	all := make([]int32, 0, len(starts))
	for _, start := range starts {
		if _, ok := d.template(start); !ok && d.graph.Scheduling(start).Group {
			for _, parent := range d.graph.Parents(start) {
				if d.graph.Scheduling(parent).Item {
					all = append(all, parent)
				}
			}
		}
		all = append(all, start)
	}
	return all
}

// template is the specification with which a group began that asked for its items.
func (d *draft) template(group int32) (spec int32, ok bool) {
	scheduling := d.graph.Scheduling(group)
	if !scheduling.Group || scheduling.Template.IsZero() {
		return 0, false
	}
	for at := range d.graph.Specs {
		if like := &d.graph.Specs[at]; like.Unexpanded && like.Spec == scheduling.Template {
			return int32(at), true //nolint:gosec // an index
		}
	}
	return 0, false
}

// groupParents are the nodes that a group waited for before it had its items: now these do.
func (d *draft) groupParents(group int32) []int32 {
	for _, parent := range d.graph.Parents(group) {
		if d.graph.Scheduling(parent).Item {
			return d.graph.Parents(parent)
		}
	}
	return d.graph.Parents(group)
}

// between are the nodes on the ways from the starts to the end, the starts too, in an order in which
// parents come first. The end is among them when a way leads there. Items are not whose group asks for its items again.
func (d *draft) between(starts []int32, end int32) []int32 {
	reached, leads, first, asks := map[int32]bool{}, map[int32]bool{}, map[int32]bool{}, map[int32]bool{}
	for _, start := range starts {
		first[start] = true
	}
	var order []int32
	var visit func(number int32) bool
	visit = func(number int32) bool {
		if reached[number] {
			return leads[number]
		}
		reached[number] = true
		found, stale := number == end, false
		if !found {
			for _, dependent := range slices.Backward(d.graph.Dependents(number)) {
				if !visit(dependent) {
					continue
				}
				found = true
				if d.graph.Scheduling(number).Item {
					if _, known := asks[dependent]; !known {
						_, asks[dependent] = d.template(dependent)
					}
					stale = asks[dependent]
				}
			}
		}
		leads[number] = found
		if first[number] || found && !stale {
			order = append(order, number)
		}
		return found
	}
	for _, start := range slices.Backward(starts) {
		visit(start)
	}
	slices.Reverse(order)
	return order
}

// rewired is a node that waits for another parent instead of one.
func (d *draft) rewired(number, from, to int32, name string) GrownNode {
	parents := slices.Clone(d.graph.Parents(number))
	parents[slices.Index(parents, from)] = to
	return GrownNode{Number: number, Node: Node{Name: name, Spec: d.graph.SpecIndex(number), Dependencies: parents}}
}

// addedPlan is what was added of a plan so far.
type addedPlan struct {
	*KnownPlan

	index   map[string]int32 // of its nodes, by name
	numbers []int32          // in the run, of its nodes; -1 for one that nobody asked for yet
	specs   map[int32]int32  // in the run, of its specifications
}

// plan gives what was added of a plan so far.
func (b *branch) plan(known *KnownPlan) *addedPlan {
	if added := b.plans[known]; added != nil {
		return added
	}
	added := &addedPlan{
		KnownPlan: known, index: make(map[string]int32, len(known.Nodes)), numbers: make([]int32, len(known.Nodes)), specs: map[int32]int32{},
	}
	for i := range known.Nodes {
		added.index[known.Nodes[i].Name], added.numbers[i] = int32(i), -1 //nolint:gosec // bounded by memory
	}
	if b.plans == nil {
		b.plans = map[*KnownPlan]*addedPlan{}
	}
	b.plans[known] = added
	return added
}

// needs are the node with the name and all that it depends on, parents first, but for those that were asked for before.
func (p *addedPlan) needs(name string) []int32 {
	top, ok := p.index[name]
	if !ok || p.numbers[top] >= 0 {
		return nil
	}
	const found = math.MaxInt32
	p.numbers[top] = found
	needs := []int32{top}
	for next := 0; next < len(needs); next++ {
		for _, parent := range p.Nodes[needs[next]].Dependencies {
			if p.numbers[parent] < 0 {
				p.numbers[parent] = found
				needs = append(needs, parent)
			}
		}
	}
	slices.Sort(needs)
	return needs
}

// addPlan adds a task that is not in the run, with those of its dependencies that are not.
func (d *draft) addPlan(b *branch, point int32, known *KnownPlan, top string) {
	plan := b.plan(known)
	var added []int32
	for _, i := range plan.needs(top) {
		name := plan.Nodes[i].Name
		number, ok := b.names.find(name)
		if !ok {
			number = b.number()
			b.names.add(name, number)
			added = append(added, i)
		}
		plan.numbers[i] = number
	}
	for _, i := range added {
		node := &plan.Nodes[i]
		spec, ok := plan.specs[node.Spec]
		if !ok {
			spec = int32(len(d.graph.Specs) + len(b.specs)) //nolint:gosec // bounded by the limit
			plan.specs[node.Spec] = spec
			b.specs = append(b.specs, plan.Specs[node.Spec])
		}
		grown := GrownNode{Number: plan.numbers[i], Node: Node{Name: node.Name, Spec: spec}}
		for _, parent := range node.Dependencies {
			if number := plan.numbers[parent]; !slices.Contains(grown.Dependencies, number) {
				grown.Dependencies = append(grown.Dependencies, number)
			}
		}
		// What waits for nothing waits for the point that asked for it, so that the graph tells where it came from. What waits
		// for others is decided by these. The point succeeds, which a rule that wants a failure must not see.
		rule := plan.Specs[node.Spec].Scheduling.Rule
		if len(grown.Dependencies) == 0 && rule != RuleOneFailed && rule != RuleAllFailed {
			grown.Dependencies = append(grown.Dependencies, point)
		}
		b.chosen[grown.Number] = true
		b.nodes = append(b.nodes, grown)
	}
}

// take lets the run grow as the branch says, before its evaluation point ends.
func (d *draft) take(number int32, b *branch) {
	if !b.evaluation.ValueUpdate.IsZero() {
		d.change.Updates = append(d.change.Updates, PointUpdate{Node: number, ValueUpdate: b.evaluation.ValueUpdate})
		d.version++
		d.runDirty = true
	}
	d.event("evaluate", "", number, b.evaluation.Metadata)
	if b.tooMany {
		d.stopRun(CauseTooMany)
		return
	}
	if len(b.nodes) > 0 {
		d.extend(b.specs, b.nodes)
	}
}

// left are the dependents that were not chosen and will not start: those that wait, and those that ended without having
// run, because of another parent. ok is false when the change has written what that would undo.
func (d *draft) left(number int32, b *branch) (left []int32, ok bool) {
	if b.chosen == nil || b.tooMany {
		return nil, true
	}
	for _, dependent := range d.graph.Dependents(number) {
		state := d.peek(dependent)
		undecided := state.undecided() || state.Attempt == 0 && state.Cause == CauseNone &&
			(state.Status == TaskUpstreamFailed || state.Status == TaskSkipped)
		if !undecided || b.chosen[dependent] || d.standsFor(dependent, number) {
			continue
		}
		switch state.Status {
		case TaskUpstreamFailed:
			if _, ok = d.undone(dependent, false); !ok {
				return nil, false
			}
		case TaskWaiting:
			if d.written(dependent) {
				return nil, false
			}
		default:
		}
		left = append(left, dependent)
	}
	return left, true
}

// leave skips what was not chosen. It is in the same change as the choice, which is kept nowhere else.
func (d *draft) leave(left []int32) {
	skipped := TaskChange{Status: TaskSkipped, Cause: CauseNotChosen, EndTime: d.change.At}
	for _, number := range left {
		switch d.peek(number).Status {
		case TaskPending, TaskWaiting:
			d.close(number, skipped)
		case TaskUpstreamFailed:
			undone, _ := d.undone(number, false)
			d.skipEnded(number, skipped, undone)
		default: // for what comes after it nothing changes
			d.skipEnded(number, skipped, nil)
		}
	}
}

// standsFor tells whether the group waits for the node as one of its items, which none of them decides on.
func (d *draft) standsFor(group, item int32) bool {
	return d.graph.Scheduling(group).Group && d.graph.Scheduling(item).Item
}

// FoldUpdates leaves out of updates, which are in order, what later ones set anew. Tasks see the same of both. What is given
// stays as it is.
func FoldUpdates(updates []ValueUpdate) []ValueUpdate {
	variables, parameters := map[string]bool{}, map[[2]string]bool{}
	folded := make([]ValueUpdate, 0, len(updates))
	for i := range slices.Backward(updates) {
		kept := ValueUpdate{}
		for name, value := range updates[i].Variables {
			if variables[name] {
				continue
			}
			variables[name] = true
			if kept.Variables == nil {
				kept.Variables = map[string]Value{}
			}
			kept.Variables[name] = value
		}
		for task, values := range updates[i].Parameters {
			for name, value := range values {
				if parameters[[2]string{task, name}] {
					continue
				}
				parameters[[2]string{task, name}] = true
				if kept.Parameters == nil {
					kept.Parameters = map[string]map[string]Value{}
				}
				if kept.Parameters[task] == nil {
					kept.Parameters[task] = map[string]Value{}
				}
				kept.Parameters[task][name] = value
			}
		}
		if !kept.IsZero() {
			folded = append(folded, kept)
		}
	}
	slices.Reverse(folded)
	return folded
}

// extend gives the run more nodes, or other parents to some. What they stand at follows from their parents.
func (d *draft) extend(specs []*NewSpec, nodes []GrownNode) {
	scheduling := make([]Scheduling, len(specs))
	for i, spec := range specs {
		scheduling[i] = spec.Scheduling
	}
	graph, err := d.graph.Grow(scheduling, nodes)
	if err != nil {
		panic(fmt.Sprintf("run %s can't grow: %v", d.run.ID, err)) // the nodes were made here
	}
	d.graph, d.change.graph = graph, graph
	d.change.Specs = append(d.change.Specs, specs...)
	d.change.add(nodes)
	d.scratch.grow(graph.Len())
	d.runDirty = true
	anew := map[int32]bool{}
	for i := range nodes {
		anew[nodes[i].Number] = true
	}
	d.scratch.forget(func(node int32) bool { return anew[node] })
	for i := range nodes {
		d.reconsider(nodes[i].Number)
	}
}

// add adds grown nodes. Of one that is there already the later content counts.
func (c *Change) add(nodes []GrownNode) {
	if len(c.Nodes) == 0 {
		c.Nodes = nodes
		return
	}
	place := make(map[int32]int, len(c.Nodes))
	for i := range c.Nodes {
		place[c.Nodes[i].Number] = i
	}
	for _, node := range nodes {
		if i, ok := place[node.Number]; ok {
			c.Nodes[i] = node
		} else {
			c.Nodes = append(c.Nodes, node)
		}
	}
}

// maxItemEdges bounds what the items of a task wait for together. A plan has the same bound.
const maxItemEdges = 10_000_000

// expand gives the node that stands for the items of a task the task runs of its items.
func (d *draft) expand(event *Event) {
	number, known := event.Node, event.Known
	if d.ending() || known == nil || number < 0 || int(number) >= len(d.run.Nodes) || d.peek(number).Status != TaskPending || d.written(number) ||
		!d.graph.Scheduling(number).Unexpanded || d.verdict(number) != verdictStart {
		return // when it is ready again, its items are asked for again
	}
	problem := known.Problem
	if edges := len(known.Items) * len(d.graph.Parents(number)); edges > maxItemEdges {
		problem = fmt.Sprintf("for_each: each of %d items would wait for %d tasks, %d in all; at most %d can be",
			len(known.Items), len(d.graph.Parents(number)), edges, maxItemEdges)
	}
	switch {
	case problem != "":
		d.close(number, TaskChange{Status: TaskFailed, Cause: CauseEvaluation, EndTime: d.change.At, Reason: problem})
		return
	case d.graph.Len()-d.run.planned+len(known.Items) > d.limits.MaxDynamicTasks:
		d.stopRun(CauseTooMany)
		return
	}
	names := newNodeNames(known.Names, d.graph, number)
	base, iteration := splitIteration(names.of(number))
	parents := d.graph.Parents(number)
	first := int32(len(d.graph.Specs)) //nolint:gosec // bounded by the limit
	group := GrownNode{Number: number, Node: Node{Name: names.of(number), Spec: first, Dependencies: parents}}
	if len(known.Items) > 0 {
		group.Dependencies = make([]int32, 0, len(known.Items))
	}
	nodes := make([]GrownNode, 0, 1+len(known.Items))
	for i := range known.Items {
		item := GrownNode{Number: int32(d.graph.Len() + i)}                                               //nolint:gosec // bounded by the limit
		item.Name, item.Spec, item.Dependencies = base+"["+strconv.Itoa(i)+"]", first+1+int32(i), parents //nolint:gosec // bounded by the limit
		if iteration > 1 {
			item.Name = names.again(item.Name, iteration)
		}
		nodes = append(nodes, item)
		group.Dependencies = append(group.Dependencies, item.Number)
	}
	specs := append(make([]*NewSpec, 0, 1+len(known.Items)), known.Group.from(d.graph.Scheduling(number).Spec))
	d.extend(append(specs, known.Items...), append(nodes, group))
	if len(known.Items) == 0 {
		d.close(number, TaskChange{Status: TaskCompleted, Cause: CauseGroup, EndTime: d.change.At})
	}
}

// from is the specification of a group that keeps in mind with which one it began.
func (n *NewSpec) from(template Hash) *NewSpec {
	spec := *n.Task
	each := *spec.ForEach
	each.Template = template.String()
	spec.ForEach = &each
	return NewSpecOf(&spec)
}
