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
	var query api.DefinitionQuery
	command := &cobra.Command{
		Use: "list-dags", Short: "List the DAG definitions",
		Args: p.takes(),
		RunE: p.withService(func(ctx context.Context, service api.Service, _ []string) error {
			list, err := allDAGs(ctx, service, query)
			if err != nil {
				return err
			}
			if p.format == formatJSON {
				return writeJSON(p.out, list)
			}
			if list.Total == 0 {
				p.talk("no DAG fits; definitions are read from dag_directory of the server's configuration")
				return nil
			}
			rows := make([][]cell, len(list.DAGs))
			for i, dag := range list.DAGs {
				rows[i] = []cell{text(dag.ID), text(strconv.Itoa(len(dag.Tasks))), text(scheduleText(dag.Schedule)), text(dag.Context), text(oneLine(dag.Description))}
			}
			p.writeTable([]column{{title: "DAG"}, {"TASKS", true}, {title: "SCHEDULE"}, {title: "CONTEXT"}, {title: "DESCRIPTION"}}, rows)
			return nil
		}),
	}
	command.Flags().StringVar(&query.Filter, "filter", "", "only ids that fit a `glob`, such as 'nightly_*'")
	return command
}

// allDAGs reads all pages of a list.
func allDAGs(ctx context.Context, service api.Service, query api.DefinitionQuery) (*api.DAGList, error) {
	all := &api.DAGList{DAGs: []api.DAGDefinition{}}
	err := allPages(query, func(query *api.DefinitionQuery) (count, total int, err error) {
		page, err := service.DAGs(ctx, query)
		if err != nil {
			return 0, 0, err
		}
		all.DAGs = append(all.DAGs, page.DAGs...)
		all.Total, all.Limit = page.Total, len(all.DAGs)
		return len(page.DAGs), page.Total, nil
	})
	return all, err
}

// scheduleText says when a DAG runs by itself; empty for never.
func scheduleText(when *workflow.Schedule) string {
	if when == nil {
		return ""
	}
	return strings.TrimSpace(when.Cron + " " + when.Timezone)
}
