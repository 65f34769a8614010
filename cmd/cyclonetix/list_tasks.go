package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) listTasks() *cobra.Command {
	var query api.DefinitionQuery
	command := &cobra.Command{
		Use: "list-tasks", Short: "List the task definitions",
		Args: p.takes(),
		RunE: p.withService(func(ctx context.Context, service api.Service, _ []string) error {
			list, err := allTasks(ctx, service, query)
			if err != nil {
				return err
			}
			if p.format == formatJSON {
				return writeJSON(p.out, list)
			}
			if list.Total == 0 {
				p.talk("no task fits; definitions are read from task_directory of the server's configuration")
				return nil
			}
			rows := make([][]cell, len(list.Tasks))
			for i, task := range list.Tasks {
				rows[i] = []cell{
					text(task.ID), text(task.Queue), text(strconv.Itoa(task.Priority)), text(strings.Join(task.Dependencies, ", ")),
					text(oneLine(task.Description)),
				}
			}
			p.writeTable([]column{{title: "TASK"}, {title: "QUEUE"}, {"PRIORITY", true}, {title: "DEPENDS ON"}, {title: "DESCRIPTION"}}, rows)
			return nil
		}),
	}
	command.Flags().StringVar(&query.Filter, "filter", "", "only ids that fit a `glob`, such as 'report_*'")
	command.Flags().StringVar(&query.Queue, "queue", "", "only tasks of a `queue`")
	return command
}

// allTasks reads all pages of a list.
func allTasks(ctx context.Context, service api.Service, query api.DefinitionQuery) (*api.TaskList, error) {
	all := &api.TaskList{Tasks: []api.TaskDefinition{}}
	err := allPages(query, func(query *api.DefinitionQuery) (count, total int, err error) {
		page, err := service.Tasks(ctx, query)
		if err != nil {
			return 0, 0, err
		}
		all.Tasks = append(all.Tasks, page.Tasks...)
		all.Total, all.Limit = page.Total, len(all.Tasks)
		return len(page.Tasks), page.Total, nil
	})
	return all, err
}

// oneLine is the first line of a text.
func oneLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
