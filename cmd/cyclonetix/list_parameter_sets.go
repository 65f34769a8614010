package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) listParameterSets() *cobra.Command {
	var query api.DefinitionQuery
	command := &cobra.Command{
		Use: "list-parameter-sets", Short: "List the parameter sets",
		Long: "List the parameter sets. Values of parameters that some task says are sensitive are not shown.",
		Args: p.takes(),
		RunE: p.withService(func(ctx context.Context, service api.Service, _ []string) error {
			all := &api.ParameterSetList{ParameterSets: []api.ParameterSetDefinition{}}
			err := allPages(query, func(query *api.DefinitionQuery) (count, total int, err error) {
				page, err := service.ParameterSets(ctx, query)
				if err != nil {
					return 0, 0, err
				}
				all.ParameterSets = append(all.ParameterSets, page.ParameterSets...)
				all.Total, all.Limit = page.Total, len(all.ParameterSets)
				return len(page.ParameterSets), page.Total, nil
			})
			switch {
			case err != nil:
				return err
			case p.format == formatJSON:
				return writeJSON(p.out, all)
			case all.Total == 0:
				p.talk("no parameter set fits; definitions are read from parameter_set_directory of the server's configuration")
				return nil
			}
			rows := make([][]cell, len(all.ParameterSets))
			for i, one := range all.ParameterSets {
				rows[i] = []cell{text(one.ID), text(assignments(one.Parameters)), text(oneLine(one.Description))}
			}
			p.writeTable([]column{{title: "PARAMETER SET"}, {title: "PARAMETERS"}, {title: "DESCRIPTION"}}, rows)
			return nil
		}),
	}
	command.Flags().StringVar(&query.Filter, "filter", "", "only ids that fit a `glob`, such as 'large_*'")
	return command
}
