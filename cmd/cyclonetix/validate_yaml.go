package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/spec"
)

func (p *program) validateYAML() *cobra.Command {
	return &cobra.Command{
		Use: "validate-yaml PATH…", Short: "Check definition files",
		Long: "Check files and directories of definitions, among themselves and against the directories of the configuration.\n" +
			"All errors are told, as file:line:column: message. What a file defines follows from the directory of the\n" +
			"configuration that it is in, else from one in its path that is named tasks, dags, contexts or parameter_sets,\n" +
			"else from what it holds.",
		Args: p.takes("PATH…"),
		RunE: func(_ *cobra.Command, args []string) error {
			settings, _, err := p.configuration()
			if err != nil {
				return err
			}
			return p.validate(settings, args)
		},
	}
}

func (p *program) validate(settings *config.Config, paths []string) error {
	sorter := newSorter(settings)
	given, err := sorter.sort(paths)
	if err != nil {
		return err
	}
	defaults := spec.Defaults{Queue: settings.DefaultQueue}
	set, problems := spec.NewLoader(given, defaults).Load()
	// What the configuration's own directories hold may be named by the files, and is itself not at issue.
	known, _ := spec.NewLoader(directoriesOf(settings), defaults).Load()
	ours := map[string]bool{}
	for i := range set.Definitions {
		ours[absolute(set.Definitions[i].File)] = true
	}
	all := slices.Clone(set.Definitions)
	for _, definition := range known.Definitions {
		if !ours[absolute(definition.File)] {
			all = append(all, definition)
		}
	}
	catalog := spec.NewCatalog(all, spec.CatalogOptions{Queues: declaredQueues(settings), DefaultContext: settings.DefaultContext})
	others := func(problem spec.Problem) bool { return !ours[absolute(problem.File)] }
	r := report{
		problems: append(append(problems, sorter.problems...), slices.DeleteFunc(slices.Clone(catalog.Problems()), others)...),
		warnings: slices.DeleteFunc(catalog.Warnings(), others),
	}
	r.sort()
	if p.format == formatJSON {
		return p.writeReport(len(set.Definitions), &r)
	}
	p.showReport(&r)
	if len(r.problems) > 0 {
		return statusError(exitFailed)
	}
	if len(set.Definitions) == 0 {
		return withHint(errors.New("there is no definition in "+strings.Join(paths, ", ")), "files end in .yaml or .yml")
	}
	p.talk("%s, %s", count(len(set.Definitions), "definition"), r.summary())
	return nil
}

func directoriesOf(settings *config.Config) spec.Directories {
	return spec.Directories{
		Tasks: []string{settings.TaskDirectory}, DAGs: []string{settings.DAGDirectory},
		Contexts: []string{settings.ContextDirectory}, ParameterSets: []string{settings.ParameterSetDirectory},
	}
}
