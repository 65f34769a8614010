package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func (p *program) listDAGs() *cobra.Command {
	command, _ := list(p, listing[api.DAGDefinition]{
		Command: cobra.Command{Use: "list-dags", Short: "List the DAG definitions"},
		noun:    "DAG", directory: "dag_directory", example: "nightly_*",
		page: func(ctx context.Context, service api.Service, query *api.DefinitionQuery) ([]api.DAGDefinition, int, error) {
			page, err := service.DAGs(ctx, query)
			if err != nil {
				return nil, 0, err
			}
			return page.DAGs, page.Total, nil
		},
		answer: func(all []api.DAGDefinition) any {
			return api.DAGList{DAGs: all, Total: len(all), Limit: len(all)}
		},
		columns: []column{{title: "DAG"}, {"TASKS", true}, {title: "SCHEDULE"}, {title: "TRIGGERS"}, {title: "CONTEXT"}, {title: "DESCRIPTION"}},
		row: func(dag *api.DAGDefinition) []cell {
			return []cell{
				text(dag.ID), text(strconv.Itoa(len(dag.Tasks))), text(scheduleText(dag.Schedule)), text(triggersText(dag.Triggers)), text(dag.Context),
				text(oneLine(dag.Description)),
			}
		},
	})
	return command
}

// scheduleText says when a DAG runs by itself; empty for never.
func scheduleText(when *workflow.Schedule) string {
	if when == nil {
		return ""
	}
	return strings.TrimSpace(when.Cron + " " + when.Timezone)
}

// triggersText names what else starts a DAG; empty for nothing.
func triggersText(triggers *api.DAGTriggers) string {
	if triggers == nil {
		return ""
	}
	var names []string
	for _, id := range triggers.DAGCompleted {
		names = append(names, "after "+id)
	}
	if triggers.FileArrival != nil {
		names = append(names, "file")
	}
	if triggers.Webhook {
		names = append(names, "webhook")
	}
	return strings.Join(names, ", ")
}
