package spec

import (
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// DAG is the definition of an explicit graph, as a user wrote it.
type DAG struct {
	workflow.DAG
	// IncludeDependencies pulls in the tasks that listed ones depend on and that
	// are not listed themselves.
	IncludeDependencies bool `json:"include_dependencies,omitempty"`
}

// dagDraft is a DAG while it is read.
type dagDraft struct {
	DAG
	at places
}

var dagFields = []field[dagDraft]{
	{name: "id", read: func(v value, d *dagDraft) { d.at.id = v.place(); d.ID = v.id() }},
	{name: "name", read: func(v value, d *dagDraft) { d.Name, _ = v.text() }},
	{name: "description", read: func(v value, d *dagDraft) { d.Description, _ = v.text() }},
	{name: "tags", read: func(v value, d *dagDraft) { d.Tags = v.labels() }},
	{name: "tasks", read: func(v value, d *dagDraft) { v.items(func(item value) { readEntry(item, d) }) }},
	{name: "dags"},
	{name: "context", read: func(v value, d *dagDraft) { d.at.context = v.place(); d.Context = v.id() }},
	{name: "variables", read: func(v value, d *dagDraft) { d.Variables = v.variables() }},
	{name: "include_dependencies", read: func(v value, d *dagDraft) { d.IncludeDependencies = v.flag() }},
	{name: "schedule"},
	{name: "triggers"},
	{name: "max_active_runs"},
	{name: "max_parallel"},
	{name: "timeout_seconds"},
	{name: "on_failure"},
}

func readDAG(v value) Definition {
	var draft dagDraft
	given, ok := readFields(v, "DAG", dagFields, &draft)
	if ok && !slices.Contains(given, "id") {
		v.problem("this DAG has no id")
	}
	if ok && (!slices.Contains(given, "tasks") || len(draft.at.entries) == 0) {
		v.problem("DAG %q has no tasks", draft.ID)
		v.reader.hint("list them under tasks, each as - id: TASK")
	}
	return Definition{Kind: KindDAG, ID: draft.ID, DAG: &draft.DAG, at: &draft.at}
}

// readEntry reads one of a DAG's tasks.
func readEntry(v value, d *dagDraft) {
	v.what = "a task of a DAG"
	var draft taskDraft
	draft.at.id = v.place()
	given, ok := readFields(v, "task", taskFields, &draft)
	if !ok && workflow.ValidID(v.node.Value) {
		v.reader.hint("write - id: " + v.node.Value)
	}
	if ok && !slices.Contains(given, "id") {
		v.problem("this task has no id")
	}
	given = slices.DeleteFunc(given, func(name string) bool { return name == "id" })
	if slices.Contains(given, "command") {
		draft.setDefaults(given, v.reader.defaults)
	}
	entry := workflow.DAGTask{ID: draft.ID, Overrides: draft.Task, Given: given}
	if len(given) == 0 {
		entry.Given = nil
	}
	d.Tasks = append(d.Tasks, entry)
	d.at.entries = append(d.at.entries, draft.at)
}

// inline tells whether an entry defines a task of its own.
func inline(entry *workflow.DAGTask) bool { return slices.Contains(entry.Given, "command") }
