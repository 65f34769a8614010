package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) listContexts() *cobra.Command {
	command, _ := list(p, listing[api.ContextDefinition]{
		Command: cobra.Command{Use: "list-contexts", Short: "List the contexts"},
		noun:    "context", directory: "context_directory", example: "prod_*",
		page: func(ctx context.Context, service api.Service, query *api.DefinitionQuery) ([]api.ContextDefinition, int, error) {
			page, err := service.Contexts(ctx, query)
			if err != nil {
				return nil, 0, err
			}
			return page.Contexts, page.Total, nil
		},
		answer: func(all []api.ContextDefinition) any {
			return api.ContextList{Contexts: all, Total: len(all), Limit: len(all)}
		},
		columns: []column{{title: "CONTEXT"}, {title: "EXTENDS"}, {title: "VARIABLES"}, {title: "DESCRIPTION"}},
		row: func(one *api.ContextDefinition) []cell {
			return []cell{text(one.ID), text(one.Extends), text(assignments(one.Variables)), text(oneLine(one.Description))}
		},
	})
	return command
}
