package spec

import (
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// maxActive bounds max_active_runs and max_parallel: more are no bound at all.
const maxActive = 1_000_000

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
	{
		name: "id", required: true, form: idForm(), about: "The unique name of the DAG: 1 to 200 of the characters A-Z a-z 0-9 _ . -",
		read: func(v value, d *dagDraft) { d.at.id = v.place(); d.ID = v.id() },
	},
	{
		name: "name", form: labelForm(), about: "What people see; the id where it is not given.",
		read: func(v value, d *dagDraft) { d.Name, _ = v.label() },
	},
	{
		name: "description", form: textForm(), about: "What the DAG is for.",
		read: func(v value, d *dagDraft) { d.Description, _ = v.text() },
	},
	{
		name: "tags", form: labelsForm(), about: "Labels, for people and for search.",
		read: func(v value, d *dagDraft) { d.Tags = v.labels() },
	},
	{
		name: "tasks", form: listForm(entryForm()),
		about: "The tasks: each the id of one that is defined elsewhere, with fields that override its own, or, with a command, one of this DAG's own.",
		read:  func(v value, d *dagDraft) { v.items(func(item value) { readEntry(item, d) }) },
	},
	{
		name: "dags", form: listForm(mapForm(groupFields)), about: "DAGs whose tasks this one holds as DAG/TASK.",
		read: func(v value, d *dagDraft) { v.items(func(item value) { readGroup(item, d) }) },
	},
	{
		name: "context", form: idForm(), about: "The context of all tasks.",
		read: func(v value, d *dagDraft) { d.at.context = v.place(); d.Context = v.id() },
	},
	{
		name: "variables", form: namedForm(parameterPattern, valueForm()), about: "Variables over those of the context.",
		read: func(v value, d *dagDraft) { d.Variables = v.variables() },
	},
	{
		name: "include_dependencies", form: flagForm().with(Form{"default": false}),
		about: "Whether tasks that listed ones depend on, and that are not listed, are pulled in.",
		read:  func(v value, d *dagDraft) { d.IncludeDependencies = v.flag() },
	},
	{name: "schedule", form: mapForm(scheduleFields), about: "When the DAG runs by itself.", read: readSchedule},
	{name: "triggers", form: mapForm(triggerFields).with(Form{"minProperties": 1}), about: "What else starts a run.", read: readTriggers},
	{
		name: "max_active_runs", form: integerForm(0, maxActive), about: "How many runs may be under way at once; further ones wait. 0, the default, is no bound.",
		read: func(v value, d *dagDraft) { d.MaxActiveRuns = v.integer(0, maxActive) },
	},
	{
		name: "max_parallel", form: integerForm(0, maxActive), about: "How many tasks of one run may be running at once. 0, the default, is no bound.",
		read: func(v value, d *dagDraft) { d.MaxParallel = v.integer(0, maxActive) },
	},
	{
		name: "timeout_seconds", form: secondsForm(), about: "How long a whole run may take. 0, the default, is no bound.",
		read: func(v value, d *dagDraft) { d.TimeoutSeconds = v.seconds() },
	},
	{
		name: "on_failure", form: choiceForm(failures).with(Form{"default": workflow.OnFailureContinue}),
		about: "Whether tasks that do not depend on a failed one go on.",
		read:  func(v value, d *dagDraft) { d.OnFailure = choice(v, failures) },
	},
}

var failures = []workflow.OnFailure{workflow.OnFailureContinue, workflow.OnFailureStop}

func readDAG(v value) Definition {
	var draft dagDraft
	given, ok := readFields(v, "DAG", dagFields, &draft)
	if ok && !slices.Contains(given, "id") {
		v.problem("this DAG has no id")
	}
	if ok && len(draft.at.entries) == 0 && len(draft.at.groups) == 0 {
		v.problem("DAG %q has no tasks", draft.ID)
		v.reader.hint("list them under tasks, each as - id: TASK")
	}
	return Definition{Kind: KindDAG, ID: draft.ID, DAG: &draft.DAG, at: &draft.at}
}

// readEntry reads one of a DAG's tasks.
func readEntry(v value, d *dagDraft) {
	v.what = "a task of a DAG"
	draft := taskDraft{entry: true}
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
		if _, set := splitVariant(draft.ID); set != "" {
			v.reader.problem(draft.at.id, "the id %s of a task that is defined here must not name a parameter set", quote(draft.ID))
			v.reader.hint("give it the set under parameter_sets")
		}
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

// groupDraft is a DAG in a DAG while it is read.
type groupDraft struct {
	workflow.DAGGroup
	at places
}

var groupFields = []field[groupDraft]{
	{
		name: "id", required: true, form: idForm(), about: "The id of a DAG.",
		read: func(v value, g *groupDraft) { g.at.id = v.place(); g.ID = v.id() },
	},
	{
		name: "dependencies", form: listForm(idForm()), about: "Other DAGs of the list, whose last tasks the first tasks of this one wait for.",
		read: func(v value, g *groupDraft) {
			v.items(func(item value) {
				item.what = "dependency"
				g.Dependencies = append(g.Dependencies, item.id())
				g.at.dependencies = append(g.at.dependencies, item.place())
			})
		},
	},
}

func readGroup(v value, d *dagDraft) {
	v.what = "a DAG in a DAG"
	var draft groupDraft
	draft.at.id = v.place()
	given, ok := readFields(v, "DAG in a DAG", groupFields, &draft)
	if !ok && workflow.ValidID(v.node.Value) {
		v.reader.hint("write - id: " + v.node.Value)
	}
	if ok && !slices.Contains(given, "id") {
		v.problem("this DAG in a DAG has no id")
	}
	d.DAGs = append(d.DAGs, draft.DAGGroup)
	d.at.groups = append(d.at.groups, draft.at)
}
