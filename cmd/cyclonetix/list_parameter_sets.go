package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) listParameterSets() *cobra.Command {
	command, _ := list(p, listing[api.ParameterSetDefinition]{
		Command: cobra.Command{
			Use: "list-parameter-sets", Short: "List the parameter sets",
			Long: "List the parameter sets. Values of parameters that some task says are sensitive are not shown.",
		},
		noun: "parameter set", directory: "parameter_set_directory", example: "large_*",
		page: func(ctx context.Context, service api.Service, query *api.DefinitionQuery) ([]api.ParameterSetDefinition, int, error) {
			page, err := service.ParameterSets(ctx, query)
			if err != nil {
				return nil, 0, err
			}
			return page.ParameterSets, page.Total, nil
		},
		answer: func(all []api.ParameterSetDefinition) any {
			return api.ParameterSetList{ParameterSets: all, Total: len(all), Limit: len(all)}
		},
		columns: []column{{title: "PARAMETER SET"}, {title: "PARAMETERS"}, {title: "DESCRIPTION"}},
		row: func(one *api.ParameterSetDefinition) []cell {
			return []cell{text(one.ID), text(assignments(one.Parameters)), text(oneLine(one.Description))}
		},
	})
	return command
}
