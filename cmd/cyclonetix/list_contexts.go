package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func (p *program) listContexts() *cobra.Command {
	var query api.DefinitionQuery
	command := &cobra.Command{
		Use: "list-contexts", Short: "List the contexts",
		Args: p.takes(),
		RunE: p.withService(func(ctx context.Context, service api.Service, _ []string) error {
			all := &api.ContextList{Contexts: []api.ContextDefinition{}}
			err := allPages(query, func(query *api.DefinitionQuery) (count, total int, err error) {
				page, err := service.Contexts(ctx, query)
				if err != nil {
					return 0, 0, err
				}
				all.Contexts = append(all.Contexts, page.Contexts...)
				all.Total, all.Limit = page.Total, len(all.Contexts)
				return len(page.Contexts), page.Total, nil
			})
			switch {
			case err != nil:
				return err
			case p.format == formatJSON:
				return writeJSON(p.out, all)
			case all.Total == 0:
				p.talk("no context fits; definitions are read from context_directory of the server's configuration")
				return nil
			}
			rows := make([][]cell, len(all.Contexts))
			for i, one := range all.Contexts {
				rows[i] = []cell{text(one.ID), text(one.Extends), text(assignments(one.Variables)), text(oneLine(one.Description))}
			}
			p.writeTable([]column{{title: "CONTEXT"}, {title: "EXTENDS"}, {title: "VARIABLES"}, {title: "DESCRIPTION"}}, rows)
			return nil
		}),
	}
	command.Flags().StringVar(&query.Filter, "filter", "", "only ids that fit a `glob`, such as 'prod_*'")
	return command
}

// allPages calls read for each page of a list. It tells how many the page had, and how many there are.
func allPages(query api.DefinitionQuery, read func(*api.DefinitionQuery) (count, total int, err error)) error {
	query.Limit = api.MaxLimit
	for {
		count, total, err := read(&query)
		if query.Offset += count; err != nil || count == 0 || query.Offset >= total {
			return err
		}
	}
}

// assignments are values as K=V, by name.
func assignments(values map[string]workflow.Value) string {
	list := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, name+"="+oneLine(values[name].Env()))
	}
	return strings.Join(list, ", ")
}
