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
	// entry tells that it is a DAG's.
	entry bool
}

var taskFields = []field[taskDraft]{
	{
		name: "id", required: true, form: idForm(),
		about: "The unique name of the task: 1 to 200 of the characters A-Z a-z 0-9 _ . -",
		read: func(v value, t *taskDraft) {
			t.at.id = v.place()
			if t.entry {
				t.ID = v.variantID()
			} else {
				t.ID = v.id()
			}
		},
	},
	{
		name: "name", form: labelForm(), about: "What people see; the id where it is not given.",
		read: func(v value, t *taskDraft) { t.Name, _ = v.label() },
		give: func(from, to *taskDraft) { to.Name = from.Name },
	},
	{
		name: "description", form: textForm(), about: "What the task is for.",
		read: func(v value, t *taskDraft) { t.Description, _ = v.text() },
		give: func(from, to *taskDraft) { to.Description = from.Description },
	},
	{
		name: "command", required: true, form: textForm().with(Form{"pattern": `\S`}),
		about: "What the agent's shell (sh -c) runs.",
		read:  readCommand,
		give:  func(from, to *taskDraft) { to.Command = from.Command },
	},
	{
		name: "dependencies", form: listForm(variantForm()),
		about: "The tasks that must end before this one starts: TASK, or TASK:PARAMETER_SET for that variant of a task.",
		read:  readDependencies,
		give:  func(from, to *taskDraft) { to.Dependencies = from.Dependencies },
	},
	{
		name: "parameters", form: parametersForm(),
		about: "Values that the command sees as environment variables: NAME: value, or NAME: with fields of its own.",
		read:  readParameters,
		give:  func(from, to *taskDraft) { to.Parameters = mergeParameters(to.Parameters, from.Parameters) },
	},
	{
		name: "parameter_sets", form: listForm(idForm()),
		about: "Sets of values for parameters, applied in order over the defaults.",
		read: func(v value, t *taskDraft) {
			v.items(func(item value) {
				item.what = "parameter set"
				t.ParameterSets = append(t.ParameterSets, item.id())
				t.at.sets = append(t.at.sets, item.place())
			})
		},
		give: func(from, to *taskDraft) { to.ParameterSets = from.ParameterSets },
	},
	{
		name: "queue", form: idForm(), about: "The queue whose agents run the task.",
		read: func(v value, t *taskDraft) { t.at.queue = v.place(); t.Queue = v.id() },
		give: func(from, to *taskDraft) { to.Queue = from.Queue },
	},
	{
		name: "tags", form: labelsForm(), about: "Labels, for people and for search.",
		read: func(v value, t *taskDraft) { t.Tags = v.labels() },
		give: func(from, to *taskDraft) { to.Tags = from.Tags },
	},
	{
		name: "requires", form: labelsForm(), about: "Tags that an agent must carry to run the task, such as region:us-east.",
		read: func(v value, t *taskDraft) { t.Requires = v.labels() },
		give: func(from, to *taskDraft) { to.Requires = from.Requires },
	},
	{
		name: "priority", form: integerForm(1, workflow.MaxPriority).with(Form{"default": workflow.DefaultPriority}),
		about: "From 1, which runs first, to 4.",
		read:  func(v value, t *taskDraft) { t.Priority = v.integer(1, workflow.MaxPriority) },
		give:  func(from, to *taskDraft) { to.Priority = from.Priority },
	},
	{
		name: "evaluation_point", form: flagForm().with(Form{"default": false}),
		about: "Whether the task's result ($CYCLO_EVAL_RESULT) decides which tasks go on.",
		read:  func(v value, t *taskDraft) { t.EvaluationPoint = v.flag() },
		give:  func(from, to *taskDraft) { to.EvaluationPoint = from.EvaluationPoint },
	},
	{
		name: "approval", form: mapForm(approvalFields), about: "Makes the task wait for a person before it is queued.",
		read: func(v value, t *taskDraft) {
			t.at.approval = v.place()
			t.Approval = new(workflow.Approval)
			readFields(v, "approval", approvalFields, t.Approval)
		},
		give: func(from, to *taskDraft) { to.Approval = from.Approval },
	},
	{
		name: "trigger_rule", form: choiceForm(workflow.TriggerRules).with(Form{"default": workflow.RuleAllSuccess}),
		about: "Which ends of its dependencies let the task start.",
		read:  func(v value, t *taskDraft) { t.TriggerRule = choice(v, workflow.TriggerRules) },
		give:  func(from, to *taskDraft) { to.TriggerRule = from.TriggerRule },
	},
	{
		name: "timeout_seconds", form: secondsForm(), about: "How long one attempt may take; the agent's default where it is not given.",
		read: func(v value, t *taskDraft) { t.TimeoutSeconds = v.seconds() },
		give: func(from, to *taskDraft) { to.TimeoutSeconds = from.TimeoutSeconds },
	},
	{
		name: "retries", form: eitherForm(integerForm(0, maxRetries), mapForm(retriesFields)),
		about: "How often a failed attempt is tried again, or the policy of that.",
		read:  readRetries,
		give:  func(from, to *taskDraft) { to.Retries = from.Retries },
	},
	{
		name: "resources", form: mapForm(resourceFields),
		about: "What the task sets aside on its agent while it runs. It starts only where that is free; it is no limit to what it uses.",
		read:  func(v value, t *taskDraft) { readFields(v, "request for resources", resourceFields, &t.Resources) },
		give:  func(from, to *taskDraft) { to.Resources = from.Resources },
	},
	{
		name: "git", form: mapForm(gitFields), about: "The repository whose files the command finds in its working directory.",
		read: readGit,
		give: func(from, to *taskDraft) { to.Git = from.Git },
	},
	{
		name: "env", form: namedForm(envPattern, textForm()),
		about: "Environment variables, over the parameters.",
		read:  func(v value, t *taskDraft) { t.Env = v.environment() },
		give:  func(from, to *taskDraft) { to.Env = mergeMaps(to.Env, from.Env) },
	},
	{
		name: "for_each", form: eitherForm(listForm(valueForm()).with(Form{"maxItems": maxItems}), Form{"type": "string", "pattern": `\$\{[^}]+\}`, "maxLength": maxText}),
		about: "A list, or a ${reference} to one: the task runs once for each item, with ${ITEM} and ${ITEM_INDEX} set.",
		read:  readForEach,
		give:  func(from, to *taskDraft) { to.ForEach = from.ForEach },
	},
	{
		name: "fresh_for", form: eitherForm(secondsForm(), Form{"type": "string", "pattern": durationPattern}),
		about: "In outcome scheduling, how old a success with the same inputs may be that is reused: 30m, 12h, 7d, or seconds.",
		read:  func(v value, t *taskDraft) { t.FreshForSeconds = v.duration() },
		give:  func(from, to *taskDraft) { to.FreshForSeconds = from.FreshForSeconds },
	},
}

var approvalFields = []field[workflow.Approval]{
	{
		name: "roles", form: labelsForm(), about: "Whose members may decide; everybody where it is not given.",
		read: func(v value, a *workflow.Approval) { a.Roles = v.labels() },
	},
	{
		name: "message", form: textForm(), about: "What the person who decides is told.",
		read: func(v value, a *workflow.Approval) { a.Message, _ = v.text() },
	},
	{
		name: "timeout_seconds", form: secondsForm(), about: "How long to wait; then the task fails. 0, the default, waits for ever.",
		read: func(v value, a *workflow.Approval) { a.TimeoutSeconds = v.seconds() },
	},
}

var resourceFields = []field[workflow.Resources]{
	{
		name: "cpu", form: Form{"type": "number", "minimum": 0, "maximum": workflow.MaxCores}.with(Form{"default": 0}),
		about: "Processor cores, with up to three digits after the point: 0.5.",
		read:  func(v value, r *workflow.Resources) { r.CPU = v.cores() },
	},
	{
		name: "memory_mb", form: integerForm(0, workflow.MaxMegabytes).with(Form{"default": 0}), about: "Memory, in MB.",
		read: func(v value, r *workflow.Resources) { r.MemoryMB = v.integer(0, workflow.MaxMegabytes) },
	},
	{
		name: "gpu", form: integerForm(0, workflow.MaxGPUs).with(Form{"default": 0}),
		about: "Graphics processors, which no other task gets meanwhile: their numbers are in $CUDA_VISIBLE_DEVICES.",
		read:  func(v value, r *workflow.Resources) { r.GPU = v.integer(0, workflow.MaxGPUs) },
	},
	{
		name: "disk_mb", form: integerForm(0, workflow.MaxMegabytes).with(Form{"default": 0}),
		about: "Space on the file system of the task's working directory, in MB.",
		read:  func(v value, r *workflow.Resources) { r.DiskMB = v.integer(0, workflow.MaxMegabytes) },
	},
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
		t.Dependencies = append(t.Dependencies, item.variantID())
		t.at.dependencies = append(t.at.dependencies, item.place())
	})
}

// splitVariant takes TASK:SET apart; set is empty where there is none.
func splitVariant(name string) (task, set string) {
	task, set, _ = strings.Cut(name, ":")
	return task, set
}

// variantID is the id of a task, with or without a parameter set.
func (v value) variantID() string {
	task, set, variant := strings.Cut(v.node.Value, ":")
	if !variant {
		return v.id()
	}
	text, ok := v.text()
	if ok && (!workflow.ValidID(task) || !workflow.ValidID(set)) {
		v.problem("%s %s is not valid: TASK:PARAMETER_SET takes two ids, each of 1 to 200 of the characters A-Z a-z 0-9 _ . -", v.what, quote(text))
		return ""
	}
	return text
}

// retriesDraft is a policy of retries while it is read.
type retriesDraft struct{ workflow.Retries }

var retriesFields = []field[retriesDraft]{
	{
		name: "count", form: integerForm(0, maxRetries), about: "How often a failed attempt is tried again.",
		read: func(v value, r *retriesDraft) { r.Count = v.integer(0, maxRetries) },
	},
	{
		name: "delay_seconds", form: secondsForm().with(Form{"default": workflow.DefaultRetryDelaySeconds}), about: "The time before the first retry.",
		read: func(v value, r *retriesDraft) { r.DelaySeconds = v.seconds() },
	},
	{
		name: "exponential_backoff", form: flagForm().with(Form{"default": false}), about: "Whether each delay is twice the one before.",
		read: func(v value, r *retriesDraft) { r.ExponentialBackoff = v.flag() },
	},
	{
		name: "max_delay_seconds", form: secondsForm(), about: "What no delay is longer than.",
		read: func(v value, r *retriesDraft) { r.MaxDelaySeconds = v.seconds() },
	},
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

// mergeMaps is a new map of both, in which over wins.
func mergeMaps[V any](under, over map[string]V) map[string]V {
	merged := make(map[string]V, len(under)+len(over))
	maps.Copy(merged, under)
	maps.Copy(merged, over)
	return merged
}
