package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// listing is a command that lists the definitions of a kind.
type listing[D any] struct {
	cobra.Command // its name and texts

	noun, directory string // as people know them: "DAG", "dag_directory"
	example         string // of a filter
	page            func(ctx context.Context, service api.Service, query *api.DefinitionQuery) (page []D, total int, err error)
	answer          func(all []D) any // for JSON
	columns         []column
	row             func(*D) []cell
}

// list makes the command, and gives the query that its flags fill.
func list[D any](p *program, l listing[D]) (*cobra.Command, *api.DefinitionQuery) {
	command, query := &l.Command, &api.DefinitionQuery{Limit: api.MaxLimit}
	command.Args = p.takes()
	command.RunE = p.withService(func(ctx context.Context, service api.Service, _ []string) error {
		all := []D{}
		for {
			page, total, err := l.page(ctx, service, query)
			if err != nil {
				return err
			}
			all = append(all, page...)
			if query.Offset += len(page); len(page) == 0 || query.Offset >= total {
				break
			}
		}
		switch {
		case p.format == formatJSON:
			return writeJSON(p.out, l.answer(all))
		case len(all) == 0:
			p.talk("no %s fits; definitions are read from %s of the server's configuration", l.noun, l.directory)
			return nil
		}
		rows := make([][]cell, len(all))
		for i := range all {
			rows[i] = l.row(&all[i])
		}
		p.writeTable(l.columns, rows)
		return nil
	})
	command.Flags().StringVar(&query.Filter, "filter", "", fmt.Sprintf("only ids that fit a `glob`, such as '%s'", l.example))
	return command, query
}

// assignments are values as K=V, by name.
func assignments(values map[string]workflow.Value) string {
	list := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, name+"="+oneLine(values[name].Env()))
	}
	return strings.Join(list, ", ")
}

// oneLine is the first line of a text.
func oneLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
