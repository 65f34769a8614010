package api

import (
	"cmp"
	"maps"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/spec"
)

// DefinitionQuery says which definitions to list.
type DefinitionQuery struct {
	// Filter is a glob for ids (*, ?, [a-z]); empty for all.
	Filter string
	// Queue leaves the tasks of one queue; empty for all. It means nothing for DAGs.
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
}

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
	return DAGDefinition{
		ID: dag.ID, Name: cmp.Or(dag.Name, dag.ID), Description: dag.Description, Context: dag.Context,
		Tags: notNil(dag.Tags), Tasks: tasks,
	}
}

// notNil makes an absent list an empty one, so that JSON always has a list.
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
