package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) listTasks() *cobra.Command {
	command, query := list(p, listing[api.TaskDefinition]{
		Command: cobra.Command{Use: "list-tasks", Short: "List the task definitions"},
		noun:    "task", directory: "task_directory", example: "report_*",
		page: func(ctx context.Context, service api.Service, query *api.DefinitionQuery) ([]api.TaskDefinition, int, error) {
			page, err := service.Tasks(ctx, query)
			if err != nil {
				return nil, 0, err
			}
			return page.Tasks, page.Total, nil
		},
		answer: func(all []api.TaskDefinition) any {
			return api.TaskList{Tasks: all, Total: len(all), Limit: len(all)}
		},
		columns: []column{{title: "TASK"}, {title: "QUEUE"}, {"PRIORITY", true}, {title: "DEPENDS ON"}, {title: "DESCRIPTION"}},
		row: func(task *api.TaskDefinition) []cell {
			return []cell{
				text(task.ID), text(task.Queue), text(strconv.Itoa(task.Priority)), text(strings.Join(task.Dependencies, ", ")),
				text(oneLine(task.Description)),
			}
		},
	})
	command.Flags().StringVar(&query.Queue, "queue", "", "only tasks of a `queue`")
	return command
}
