package spec

import (
	"maps"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const maxRetries = 10000

// taskDraft is a task, or a DAG's entry for one, while it is read.
type taskDraft struct {
	workflow.Task
	at places
}

var taskFields = []field[taskDraft]{
	{name: "id", read: func(v value, t *taskDraft) { t.at.id = v.place(); t.ID = v.id() }},
	{
		name: "name",
		read: func(v value, t *taskDraft) { t.Name, _ = v.text() },
		give: func(from, to *taskDraft) { to.Name = from.Name },
	},
	{
		name: "description",
		read: func(v value, t *taskDraft) { t.Description, _ = v.text() },
		give: func(from, to *taskDraft) { to.Description = from.Description },
	},
	{
		name: "command",
		read: readCommand,
		give: func(from, to *taskDraft) { to.Command = from.Command },
	},
	{
		name: "dependencies",
		read: readDependencies,
		give: func(from, to *taskDraft) { to.Dependencies = from.Dependencies },
	},
	{
		name: "parameters",
		read: readParameters,
		give: func(from, to *taskDraft) { to.Parameters = mergeParameters(to.Parameters, from.Parameters) },
	},
	{name: "parameter_sets"},
	{
		name: "queue",
		read: func(v value, t *taskDraft) { t.at.queue = v.place(); t.Queue = v.id() },
		give: func(from, to *taskDraft) { to.Queue = from.Queue },
	},
	{
		name: "tags",
		read: func(v value, t *taskDraft) { t.Tags = v.labels() },
		give: func(from, to *taskDraft) { to.Tags = from.Tags },
	},
	{
		name: "requires",
		read: func(v value, t *taskDraft) { t.Requires = v.labels() },
		give: func(from, to *taskDraft) { to.Requires = from.Requires },
	},
	{
		name: "priority",
		read: func(v value, t *taskDraft) { t.Priority = v.integer(1, workflow.MaxPriority) },
		give: func(from, to *taskDraft) { to.Priority = from.Priority },
	},
	{name: "evaluation_point"},
	{name: "approval"},
	{name: "trigger_rule"},
	{
		name: "timeout_seconds",
		read: func(v value, t *taskDraft) { t.TimeoutSeconds = v.seconds() },
		give: func(from, to *taskDraft) { to.TimeoutSeconds = from.TimeoutSeconds },
	},
	{
		name: "retries",
		read: readRetries,
		give: func(from, to *taskDraft) { to.Retries = from.Retries },
	},
	{name: "resources"},
	{name: "git"},
	{
		name: "env",
		read: func(v value, t *taskDraft) { t.Env = v.environment() },
		give: func(from, to *taskDraft) { to.Env = mergeMaps(to.Env, from.Env) },
	},
	{name: "for_each"},
	{name: "fresh_for"},
}

// setDefaults fills in what a task that stands alone must have.
func (t *taskDraft) setDefaults(given []string, defaults Defaults) {
	if !slices.Contains(given, "priority") {
		t.Priority = workflow.DefaultPriority
	}
	if !slices.Contains(given, "queue") {
		t.Queue = defaults.queue()
	}
}

func readTask(v value) Definition {
	var draft taskDraft
	given, ok := readFields(v, "task", taskFields, &draft)
	if ok && !slices.Contains(given, "id") {
		v.problem("this task has no id")
	}
	if ok && !slices.Contains(given, "command") {
		v.problem("task %q has no command", draft.ID)
		v.reader.hint("give it the shell command to run")
	}
	draft.setDefaults(given, v.reader.defaults)
	return Definition{Kind: KindTask, ID: draft.ID, Task: &draft.Task, at: &draft.at}
}

func readCommand(v value, t *taskDraft) {
	command, ok := v.text()
	t.Command = command
	if ok && strings.TrimSpace(command) == "" {
		v.problem("the command is empty")
	}
}

func readDependencies(v value, t *taskDraft) {
	v.items(func(item value) {
		item.what = "dependency"
		if id, variant, ok := strings.Cut(item.node.Value, ":"); ok && workflow.ValidID(id) && workflow.ValidID(variant) {
			item.problem("dependency %s: a variant of a task is not supported by this version yet", quote(item.node.Value))
			return
		}
		t.Dependencies = append(t.Dependencies, item.id())
		t.at.dependencies = append(t.at.dependencies, item.place())
	})
}

// parameterDraft is a parameter in its long form while it is read.
type parameterDraft struct {
	workflow.Parameter
	fixed workflow.Value
}

var parameterFields = []field[parameterDraft]{
	{name: "default", read: func(v value, p *parameterDraft) { p.Default = v.json() }},
	{name: "value", read: func(v value, p *parameterDraft) { p.fixed = v.json() }},
	{name: "description", read: func(v value, p *parameterDraft) { p.Description, _ = v.text() }},
	{name: "required"},
	{name: "options"},
	{name: "validation"},
	{name: "sensitive"},
}

func readParameters(v value, t *taskDraft) {
	parameters := make(map[string]workflow.Parameter)
	v.entries(func(name string, key, item value) {
		key.checkName(name)
		parameters[name] = readParameter(item)
	})
	t.Parameters = orNil(parameters)
}

func readParameter(item value) workflow.Parameter {
	if item.null() {
		return workflow.Parameter{}
	}
	if !item.isMap() {
		return workflow.Parameter{Default: item.json()}
	}
	var draft parameterDraft
	before := len(item.reader.problems)
	given, _ := readFields(item, "parameter", parameterFields, &draft)
	if len(given) == 0 && len(item.reader.problems) > before {
		item.reader.hint("to give a map as the value, write " + item.what + ": {default: {…}}")
	}
	if draft.fixed != "" {
		if draft.Default != "" {
			item.problem("parameter %s has both a default and a value: give one", item.what)
		}
		draft.Default = draft.fixed
	}
	return draft.Parameter
}

// retriesDraft is a policy of retries while it is read.
type retriesDraft struct{ workflow.Retries }

var retriesFields = []field[retriesDraft]{
	{name: "count", read: func(v value, r *retriesDraft) { r.Count = v.integer(0, maxRetries) }},
	{name: "delay_seconds", read: func(v value, r *retriesDraft) { r.DelaySeconds = v.seconds() }},
	{name: "exponential_backoff", read: func(v value, r *retriesDraft) { r.ExponentialBackoff = v.flag() }},
	{name: "max_delay_seconds", read: func(v value, r *retriesDraft) { r.MaxDelaySeconds = v.seconds() }},
}

func readRetries(v value, t *taskDraft) {
	var draft retriesDraft
	var given []string
	if v.isMap() {
		given, _ = readFields(v, "retry policy", retriesFields, &draft)
	} else {
		draft.Count = v.integer(0, maxRetries)
	}
	if draft.Count > 0 && !slices.Contains(given, "delay_seconds") {
		draft.DelaySeconds = workflow.DefaultRetryDelaySeconds
	}
	t.Retries = draft.Retries
}

// override gives the task the fields that an entry of a DAG gives. Maps are
// merged key by key; of all else the entry's value stands.
func override(task *workflow.Task, entry *workflow.DAGTask) workflow.Task {
	from, to := taskDraft{Task: entry.Overrides}, taskDraft{Task: *task}
	for _, known := range taskFields {
		if known.give != nil && slices.Contains(entry.Given, known.name) {
			known.give(&from, &to)
		}
	}
	return to.Task
}

func mergeParameters(under, over map[string]workflow.Parameter) map[string]workflow.Parameter {
	merged := mergeMaps(under, nil)
	for name, parameter := range over {
		below := merged[name]
		if parameter.Default != "" {
			below.Default = parameter.Default
		}
		if parameter.Description != "" {
			below.Description = parameter.Description
		}
		merged[name] = below
	}
	return merged
}

// mergeMaps is a new map of both, in which over wins.
func mergeMaps[V any](under, over map[string]V) map[string]V {
	merged := make(map[string]V, len(under)+len(over))
	maps.Copy(merged, under)
	maps.Copy(merged, over)
	return merged
}
