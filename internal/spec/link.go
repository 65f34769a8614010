package spec

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// linked is a DAG with its tasks found. Vertex i of the graph is tasks[i].
type linked struct {
	tasks  []linkedTask // by id
	graph  *graph
	levels []int32
}

// linkedTask is one task of a DAG: that of the catalog, as an entry overrides
// it; or an inline one, without a base; or one that was pulled in, without an entry.
type linkedTask struct {
	id           string
	base         *workflow.Task
	entry        *workflow.DAGTask
	dependencies []string
	at           *places
}

// task is the task as this DAG has it.
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

// tell notes a problem of a DAG.
type tell func(at place, cause error, hint, message string)

// link finds the tasks of a DAG and what they depend on. It is nil if there is
// any problem; tell has then been called for each.
func (c *Catalog) link(d *Definition, tell tell) *linked {
	good := true
	refuse := func(at place, cause error, hint, message string) {
		good = false
		tell(at, cause, hint, message)
	}
	tasks, index := c.linkEntries(d, refuse)
	for i := 0; i < len(tasks); i++ { // grows while it runs
		for k, id := range tasks[i].dependencies {
			if _, listed := index[id]; listed {
				continue
			}
			if pulled := c.linkMissing(d, &tasks[i], k, index, refuse); pulled != nil {
				index[id] = len(tasks)
				tasks = append(tasks, *pulled)
			}
		}
	}
	if !good {
		return nil
	}
	return linkGraph(d, tasks, refuse)
}

// linkEntries finds the tasks that a DAG lists.
func (c *Catalog) linkEntries(d *Definition, tell tell) (tasks []linkedTask, index map[string]int) {
	index = make(map[string]int, len(d.DAG.Tasks))
	tasks = make([]linkedTask, 0, len(d.DAG.Tasks))
	for k := range d.DAG.Tasks {
		entry, at := &d.DAG.Tasks[k], d.places().entry(k)
		if first, ok := index[entry.ID]; ok {
			message := fmt.Sprintf("DAG %q lists task %q twice", d.ID, entry.ID)
			if before := tasks[first].at.id; before != (place{}) {
				message += fmt.Sprintf(": first on line %d, column %d", before.line, before.column)
			}
			tell(at.id, nil, "", message)
			continue
		}
		task := linkedTask{id: entry.ID, entry: entry, at: at, dependencies: entry.Overrides.Dependencies}
		if !inline(entry) {
			number, err := c.tasks.find(entry.ID)
			if err != nil {
				hint := ""
				if _, known := c.tasks.index[entry.ID]; !known {
					hint = "to define it here, give it a command"
				}
				tell(at.id, asCause(err), hint, fmt.Sprintf("DAG %q lists %s", d.ID, c.tasks.trouble(entry.ID, err)))
			} else {
				task.base = c.tasks.definitions[number].Task
			}
			if task.base != nil && !slices.Contains(entry.Given, "dependencies") {
				task.dependencies = task.base.Dependencies
				task.at = &places{id: at.id}
			}
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

// linkMissing deals with a dependency that the DAG does not list: it is pulled
// in where the DAG wants that, and else told.
func (c *Catalog) linkMissing(d *Definition, task *linkedTask, k int, index map[string]int, tell tell) *linkedTask {
	id := task.dependencies[k]
	at := task.at.dependency(k)
	number, known := c.tasks.index[id]
	switch {
	case !known:
		unknown := c.unknown(KindTask, id, both(index, c.tasks.ids()))
		tell(at, unknown, "", fmt.Sprintf("task %q of DAG %q depends on %v", task.id, d.ID, unknown))
	case !d.DAG.IncludeDependencies:
		tell(at, nil, fmt.Sprintf("list %s under tasks too, or set include_dependencies: true", id),
			fmt.Sprintf("DAG %q lists task %q but not task %q, which it depends on", d.ID, task.id, id))
	case c.tasks.causes[number] != nil:
		tell(at, cause(c.tasks.causes[number]), "", fmt.Sprintf("task %q of DAG %q depends on task %q, which has a problem", task.id, d.ID, id))
	default:
		base := c.tasks.definitions[number].Task
		return &linkedTask{id: id, base: base, dependencies: base.Dependencies, at: task.at}
	}
	return nil
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

// linkGraph numbers the tasks by id and orders them.
func linkGraph(d *Definition, tasks []linkedTask, tell tell) *linked {
	slices.SortFunc(tasks, func(a, b linkedTask) int { return cmp.Compare(a.id, b.id) })
	numbers := make(map[string]int32, len(tasks))
	for i := range tasks {
		numbers[tasks[i].id] = int32(i) //nolint:gosec // bounded
	}
	l := &linked{tasks: tasks, graph: newGraph(len(tasks)), levels: make([]int32, len(tasks))}
	var dependencies []int32
	for i := range tasks {
		dependencies = dependencies[:0]
		for _, id := range tasks[i].dependencies {
			dependencies = append(dependencies, numbers[id])
		}
		l.graph.add(dependencies)
	}
	good := true
	l.graph.components(func(component []int32) {
		if l.graph.cyclic(component) {
			good = false
			cycle := &CycleError{Kind: KindTask}
			for _, vertex := range l.graph.cycle(component) {
				cycle.Path = append(cycle.Path, tasks[vertex].id)
			}
			cycle.Path = append(cycle.Path, cycle.Path[0])
			first := &tasks[numbers[cycle.Path[0]]]
			tell(first.at.dependency(slices.Index(first.dependencies, cycle.Path[1])), cycle, "", fmt.Sprintf("DAG %q: %v", d.ID, cycle))
			return
		}
		for _, parent := range l.graph.dependencies(component[0]) {
			l.levels[component[0]] = max(l.levels[component[0]], l.levels[parent]+1)
		}
	})
	if !good {
		return nil
	}
	return l
}
