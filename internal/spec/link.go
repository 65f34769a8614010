package spec

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// linked is a DAG with its tasks found. Vertex i of the graph is tasks[i].
type linked struct {
	tasks  []linkedTask // by name
	graph  *graph
	levels []int32
}

// linkedTask is one task of a DAG: that of the catalog, as an entry overrides
// it; or an inline one, without a base; or one that was pulled in, without an entry.
type linkedTask struct {
	id           string // of the task
	set          string // that makes it a variant; or empty
	base         *workflow.Task
	entry        *workflow.DAGTask
	dependencies []string
	at           *places
}

// name is the one that dependencies use.
func (t *linkedTask) name() string { return nodeName(t.id, t.set) }

// task is the task as this DAG has it, but for the values of parameter sets.
func (t *linkedTask) task() workflow.Task {
	switch {
	case t.base == nil:
		task := t.entry.Overrides
		task.ID = t.id
		return task
	case t.entry == nil:
		return *t.base
	default:
		return override(t.base, t.entry)
	}
}

// overrides are the parameters that an entry gives to a task that is defined elsewhere.
func (t *linkedTask) overrides() map[string]workflow.Parameter {
	if t.base == nil || t.entry == nil {
		return nil
	}
	return t.entry.Overrides.Parameters
}

func (t *linkedTask) forEach() *workflow.ForEach {
	if t.base == nil || t.entry != nil && slices.Contains(t.entry.Given, "for_each") {
		return t.entry.Overrides.ForEach
	}
	return t.base.ForEach
}

// tell notes a problem of a DAG.
type tell func(at place, cause error, hint, message string)

// link finds the tasks of a DAG, without the DAGs in it, and what they depend on.
// It is nil if there is any problem; tell has then been called for each.
func (c *Catalog) link(d *Definition, tell tell) *linked {
	good := true
	refuse := func(at place, cause error, hint, message string) {
		good = false
		tell(at, cause, hint, message)
	}
	tasks, index := c.linkEntries(d, refuse)
	for i := 0; i < len(tasks); i++ { // grows while it runs
		for k, name := range tasks[i].dependencies {
			if _, listed := index[name]; listed || name == "" {
				continue
			}
			if pulled := c.linkMissing(d, tasks, i, k, index, refuse); pulled != nil {
				index[name] = len(tasks)
				tasks = append(tasks, *pulled)
			}
		}
		if each := tasks[i].forEach(); good && tooWide(each, len(tasks[i].dependencies)) {
			refuse(tasks[i].at.id, nil, wideHint,
				fmt.Sprintf("task %q of DAG %q has %d items that wait for %d tasks each: that is too much", tasks[i].name(), d.ID, len(each.Items), len(tasks[i].dependencies)))
		}
	}
	l := linkGraph(d, tasks, refuse) // a cycle is told beside all else
	if !good {
		return nil
	}
	return l
}

// linkEntries finds the tasks that a DAG lists.
func (c *Catalog) linkEntries(d *Definition, tell tell) (tasks []linkedTask, index map[string]int) {
	index = make(map[string]int, len(d.DAG.Tasks))
	tasks = make([]linkedTask, 0, len(d.DAG.Tasks))
	for k := range d.DAG.Tasks {
		entry, at := &d.DAG.Tasks[k], d.places().entry(k)
		if entry.ID == "" {
			continue // it was told
		}
		if first, ok := index[entry.ID]; ok {
			message := fmt.Sprintf("DAG %q lists task %q twice", d.ID, entry.ID)
			if before := tasks[first].at.id; before != (place{}) {
				message += fmt.Sprintf(": first on line %d, column %d", before.line, before.column)
			}
			tell(at.id, nil, "", message)
			continue
		}
		task := linkedTask{entry: entry, at: at, dependencies: entry.Overrides.Dependencies}
		task.id, task.set = splitVariant(entry.ID)
		if !inline(entry) {
			c.linkBase(d, &task, tell)
		}
		if task.base != nil || inline(entry) {
			c.checkEntry(d, &task, tell)
		}
		if entry.Overrides.Queue != "" {
			c.checkQueue(entry.Overrides.Queue, func(hint, message string) {
				tell(cmp.Or(at.queue, at.id), nil, hint, fmt.Sprintf("task %q of DAG %q %s", entry.ID, d.ID, message))
			})
		}
		index[entry.ID] = len(tasks)
		tasks = append(tasks, task)
	}
	return tasks, index
}

// linkBase finds the definition that an entry refers to.
func (c *Catalog) linkBase(d *Definition, task *linkedTask, tell tell) {
	at := task.at
	number, err := c.tasks.find(task.id)
	if err != nil {
		hint := ""
		if _, known := c.tasks.index[task.id]; !known {
			hint = "to define it here, give it a command"
		}
		tell(at.id, asCause(err), hint, fmt.Sprintf("DAG %q lists %s", d.ID, c.tasks.trouble(task.id, err)))
		return
	}
	if task.set != "" {
		if cause, message := c.checkVariant(c.tasks.definitions[number].Task, task.set); message != "" {
			tell(at.id, cause, "", fmt.Sprintf("DAG %q lists %s", d.ID, message))
			return
		}
	}
	task.base = c.tasks.definitions[number].Task
	if !slices.Contains(task.entry.Given, "dependencies") {
		task.dependencies = task.base.Dependencies
		task.at = &places{id: at.id, sets: at.sets, parameters: at.parameters}
	}
}

// checkVariant says what is wrong with a task under a parameter set; the message is empty where nothing is.
func (c *Catalog) checkVariant(task *workflow.Task, set string) (cause error, message string) { //nolint:revive,staticcheck // as in unknownVariant
	number, err := c.sets.find(set)
	if err != nil {
		return asCause(err), fmt.Sprintf("task %q with %s", task.ID, c.sets.trouble(set, err))
	}
	if text := setBreach(c.sets.definitions[number].ParameterSet, task.Parameters); text != "" {
		return nil, fmt.Sprintf("task %q with parameter set %q%s", task.ID, set, text)
	}
	return nil, ""
}

// checkEntry checks the values that an entry gives to parameters.
func (c *Catalog) checkEntry(d *Definition, task *linkedTask, tell tell) {
	entry := task.entry
	if len(entry.Overrides.ParameterSets) == 0 && len(entry.Overrides.Parameters) == 0 {
		return
	}
	whole := task.task()
	c.checkSets(entry.Overrides.ParameterSets, whole.Parameters, func(k int, cause error, message string) {
		tell(task.at.set(k), cause, "", fmt.Sprintf("task %q of DAG %q names %s", entry.ID, d.ID, message))
	})
	if d.Broken {
		return // what breaks a rule may be the rule
	}
	for _, name := range slices.Sorted(maps.Keys(entry.Overrides.Parameters)) {
		parameter := whole.Parameters[name]
		if text := breach(&parameter.Check, parameter.Default); text != "" {
			tell(task.at.parameter(name), nil, "", fmt.Sprintf("task %q of DAG %q: the value of parameter %s%s", entry.ID, d.ID, name, text))
		}
	}
}

// linkMissing deals with a dependency that the DAG does not list: a variant of a task that it lists is made from that;
// else it is pulled in where the DAG wants that, or told.
func (c *Catalog) linkMissing(d *Definition, tasks []linkedTask, i, k int, index map[string]int, tell tell) *linkedTask {
	task := &tasks[i]
	name, at := task.dependencies[k], task.at.dependency(k)
	id, set := splitVariant(name)
	refuse := func(cause error, hint, format string, arguments ...any) *linkedTask {
		tell(at, cause, hint, fmt.Sprintf("task %q of DAG %q depends on ", task.name(), d.ID)+fmt.Sprintf(format, arguments...))
		return nil
	}
	pulled := linkedTask{id: id, set: set}
	number, known := c.tasks.index[id]
	if listed, ok := index[id]; ok && set != "" {
		pulled = tasks[listed]
		pulled.set = set
		if pulled.base == nil && !inline(pulled.entry) {
			return nil // that the listed one is not usable was told
		}
	} else {
		switch {
		case !known:
			unknown := c.unknown(KindTask, id, both(index, c.tasks.ids()))
			return refuse(unknown, "", "%v", unknown)
		case !d.DAG.IncludeDependencies:
			tell(at, nil, fmt.Sprintf("list %s under tasks too, or set include_dependencies: true", name),
				fmt.Sprintf("DAG %q lists task %q but not task %q, which it depends on", d.ID, task.name(), name))
			return nil
		case c.tasks.causes[number] != nil:
			return refuse(cause(c.tasks.causes[number]), "", "task %q, which has a problem", id)
		}
		pulled.base = c.tasks.definitions[number].Task
		pulled.dependencies = pulled.base.Dependencies
		pulled.at = &places{id: at}
	}
	if set != "" {
		whole := pulled.task()
		if cause, message := c.checkVariant(&whole, set); message != "" {
			return refuse(cause, "", "%s", message)
		}
	}
	return &pulled
}

func both(index map[string]int, ids iter.Seq[string]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for id := range ids {
			if !yield(id) {
				return
			}
		}
		for id := range index {
			if !yield(id) {
				return
			}
		}
	}
}

// linkGraph numbers the tasks by name and orders them.
func linkGraph(d *Definition, tasks []linkedTask, tell tell) *linked {
	slices.SortFunc(tasks, func(a, b linkedTask) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.set, b.set))
	})
	numbers := make(map[string]int32, len(tasks))
	for i := range tasks {
		numbers[tasks[i].name()] = int32(i) //nolint:gosec // bounded
	}
	l := &linked{tasks: tasks, graph: newGraph(len(tasks)), levels: make([]int32, len(tasks))}
	var dependencies []int32
	for i := range tasks {
		dependencies = dependencies[:0]
		for _, name := range tasks[i].dependencies {
			if number, ok := numbers[name]; ok {
				dependencies = append(dependencies, number)
			}
		}
		l.graph.add(dependencies)
	}
	good := true
	l.graph.components(func(component []int32) {
		if l.graph.cyclic(component) {
			good = false
			cycle := &CycleError{Kind: KindTask}
			path := l.graph.cycle(component)
			for _, vertex := range path {
				cycle.Path = append(cycle.Path, tasks[vertex].name())
			}
			cycle.Path = append(cycle.Path, cycle.Path[0])
			first := &tasks[path[0]]
			tell(first.at.dependency(slices.Index(first.dependencies, cycle.Path[1])), cycle, "", fmt.Sprintf("DAG %q: %v", d.ID, cycle))
			return
		}
		l.graph.level(component[0], l.levels)
	})
	if !good {
		return nil
	}
	return l
}

// shape is what the tasks come to.
func (l *linked) shape() shape {
	own := shape{}
	needed := make([]bool, len(l.tasks))
	for i := range l.tasks {
		items := 0
		if each := l.tasks[i].forEach(); each != nil {
			items = len(each.Items)
		}
		dependencies := l.graph.dependencies(int32(i)) //nolint:gosec // bounded
		own.nodes += 1 + items
		if len(dependencies) == 0 {
			own.roots += max(1, items)
		}
		for _, parent := range dependencies {
			needed[parent] = true
		}
	}
	for _, one := range needed {
		if !one {
			own.leaves++
		}
	}
	return own
}
