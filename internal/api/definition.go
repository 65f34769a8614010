package api

import (
	"cmp"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// DefinitionQuery says which definitions to list.
type DefinitionQuery struct {
	// Filter is a glob for ids (*, ?, [a-z]); empty for all.
	Filter string
	// Queue leaves the tasks of one queue; empty for all. It means nothing for other definitions.
	Queue  string
	Limit  int // 1 to MaxLimit; 0 for DefaultLimit
	Offset int
}

// TaskList is a page of task definitions, by id.
type TaskList struct {
	Tasks  []TaskDefinition `json:"tasks"`
	Total  int              `json:"total"`
	Limit  int              `json:"limit"`
	Offset int              `json:"offset"`
}

// DAGList is a page of DAG definitions, by id.
type DAGList struct {
	DAGs   []DAGDefinition `json:"dags"`
	Total  int             `json:"total"`
	Limit  int             `json:"limit"`
	Offset int             `json:"offset"`
}

// ContextList is a page of contexts, by id.
type ContextList struct {
	Contexts []ContextDefinition `json:"contexts"`
	Total    int                 `json:"total"`
	Limit    int                 `json:"limit"`
	Offset   int                 `json:"offset"`
}

// ParameterSetList is a page of parameter sets, by id.
type ParameterSetList struct {
	ParameterSets []ParameterSetDefinition `json:"parameter_sets"`
	Total         int                      `json:"total"`
	Limit         int                      `json:"limit"`
	Offset        int                      `json:"offset"`
}

// TaskDefinition is a task as it is listed.
type TaskDefinition struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Description  string   `json:"description,omitempty"`
	Queue        string   `json:"queue"`
	Priority     int      `json:"priority"`
	Tags         []string `json:"tags"`
	Dependencies []string `json:"dependencies"`
	Parameters   []string `json:"parameters"` // their names
}

// DAGDefinition is a DAG as it is listed.
type DAGDefinition struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Context     string   `json:"context,omitempty"`
	Tags        []string `json:"tags"`
	Tasks       []string `json:"tasks"` // their ids
	// DAGs are the ids of those that it holds.
	DAGs     []string           `json:"dags,omitempty"`
	Schedule *workflow.Schedule `json:"schedule,omitempty"`
	Triggers *DAGTriggers       `json:"triggers,omitempty"`
}

// DAGTriggers are a DAG's triggers as they are listed.
type DAGTriggers struct {
	FileArrival *workflow.FileArrival `json:"file_arrival,omitempty"`
	// Webhook tells that there is one; its secret is nobody's business.
	Webhook      bool     `json:"webhook,omitempty"`
	DAGCompleted []string `json:"dag_completed,omitempty"`
}

// ContextDefinition is a context as it is listed: its own variables, without those that it extends.
type ContextDefinition struct {
	ID          string                    `json:"id"`
	Extends     string                    `json:"extends,omitempty"`
	Description string                    `json:"description,omitempty"`
	Variables   map[string]workflow.Value `json:"variables"`
}

// ParameterSetDefinition is a parameter set as it is listed.
type ParameterSetDefinition struct {
	ID          string                    `json:"id"`
	Description string                    `json:"description,omitempty"`
	Tags        []string                  `json:"tags"`
	Parameters  map[string]workflow.Value `json:"parameters"`
}

// Masked stands for the value of what some task says is sensitive.
var Masked = workflow.StringValue("***")

func taskDefinition(definition *spec.Definition) TaskDefinition {
	task := definition.Task
	return TaskDefinition{
		ID: task.ID, Name: cmp.Or(task.Name, task.ID), Description: task.Description, Queue: task.Queue, Priority: task.Priority,
		Tags: notNil(task.Tags), Dependencies: notNil(task.Dependencies),
		Parameters: notNil(slices.Sorted(maps.Keys(task.Parameters))),
	}
}

func dagDefinition(definition *spec.Definition) DAGDefinition {
	dag := definition.DAG
	tasks := make([]string, len(dag.Tasks))
	for i := range dag.Tasks {
		tasks[i] = dag.Tasks[i].ID
	}
	var groups []string
	for i := range dag.DAGs {
		groups = append(groups, dag.DAGs[i].ID)
	}
	return DAGDefinition{
		DAGs: groups, Schedule: dag.Schedule, ID: dag.ID, Name: cmp.Or(dag.Name, dag.ID), Description: dag.Description, Context: dag.Context,
		Tags: notNil(dag.Tags), Tasks: tasks, Triggers: dagTriggers(dag.Triggers),
	}
}

func dagTriggers(triggers *workflow.Triggers) *DAGTriggers {
	if triggers == nil {
		return nil
	}
	return &DAGTriggers{FileArrival: triggers.FileArrival, Webhook: triggers.Webhook != nil, DAGCompleted: triggers.DAGCompleted}
}

func contextDefinition(definition *spec.Definition) ContextDefinition {
	context := definition.Context
	return ContextDefinition{ID: context.ID, Extends: context.Extends, Description: context.Description, Variables: context.Variables}
}

func parameterSetDefinition(definition *spec.Definition) ParameterSetDefinition {
	set := definition.ParameterSet
	return ParameterSetDefinition{ID: set.ID, Description: set.Description, Tags: notNil(set.Tags), Parameters: set.Parameters}
}

// mask is a copy of values, without those of hidden names.
func mask(values map[string]workflow.Value, hidden map[string]bool) map[string]workflow.Value {
	shown := make(map[string]workflow.Value, len(values))
	for name, value := range values {
		if hidden[name] {
			value = Masked
		}
		shown[name] = value
	}
	return shown
}

// notNil makes an absent list an empty one, so that JSON always has a list.
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
