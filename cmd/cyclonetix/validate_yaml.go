package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/spec"
)

func (p *program) validateYAML() *cobra.Command {
	return &cobra.Command{
		Use: "validate-yaml PATH…", Short: "Check definition files",
		Long: "Check files and directories of definitions, among themselves and against the directories of the configuration.\n" +
			"All errors are told, as file:line:column: message. What a file defines follows from a directory in its path\n" +
			"that is named tasks, dags, contexts or parameter_sets, else from what it holds.",
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
	given, err := sortPaths(paths)
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
	catalog := spec.NewCatalog(all, spec.CatalogOptions{Queues: declaredQueues(settings)})
	for _, problem := range catalog.Problems() {
		if ours[absolute(problem.File)] {
			problems = append(problems, problem)
		}
	}
	slices.SortStableFunc(problems, func(a, b spec.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if p.format == formatJSON {
		return p.writeProblems(len(set.Definitions), problems)
	}
	p.showProblems(problems)
	if len(problems) > 0 {
		return statusError(exitFailed)
	}
	if len(set.Definitions) == 0 {
		return withHint(errors.New("there is no definition in "+strings.Join(paths, ", ")), "files end in .yaml or .yml")
	}
	p.talk("%s, no problems", count(len(set.Definitions), "definition"))
	return nil
}

// showProblems tells problems, each on a line that editors understand.
func (p *program) showProblems(problems []spec.Problem) {
	for i := range problems {
		fmt.Fprintln(p.out, problems[i].Error())
		if problems[i].Hint != "" {
			fmt.Fprintf(p.out, "  %s %s\n", p.paint(p.out, dim, "hint:"), problems[i].Hint)
		}
	}
	if len(problems) > 0 {
		p.talk("%s", count(len(problems), "problem"))
	}
}

// problemJSON is a problem as JSON.
type problemJSON struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Kind    string `json:"kind,omitempty"`
	ID      string `json:"id,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (p *program) writeProblems(definitions int, problems []spec.Problem) error {
	list := make([]problemJSON, len(problems))
	for i, problem := range problems {
		list[i] = problemJSON{problem.File, problem.Line, problem.Column, string(problem.Kind), problem.ID, problem.Message, problem.Hint}
	}
	err := writeJSON(p.out, struct {
		Definitions int           `json:"definitions"`
		Problems    []problemJSON `json:"problems"`
	}{definitions, list})
	if err == nil && len(problems) > 0 {
		return statusError(exitFailed)
	}
	return err
}

func directoriesOf(settings *config.Config) spec.Directories {
	return spec.Directories{
		Tasks: []string{settings.TaskDirectory}, DAGs: []string{settings.DAGDirectory},
		Contexts: []string{settings.ContextDirectory}, ParameterSets: []string{settings.ParameterSetDirectory},
	}
}

// absolute is a path in the one form that two names of it share.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	return path
}

// sortPaths sorts files and directories by what they define. A directory that holds several kinds is
// taken apart.
func sortPaths(paths []string) (sorted spec.Directories, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return sorted, fmt.Errorf("there is no file or directory %s", path)
		case err == nil && info.IsDir():
			err = addDirectory(&sorted, path)
		case err == nil:
			add(&sorted, kindOfFile(path), path)
		default:
			add(&sorted, spec.KindTask, path) // the loader says why it cannot be read
			err = nil
		}
		if err != nil {
			return sorted, err
		}
	}
	return sorted, nil
}

// addDirectory takes a directory whole when its name says what is in it, else by what it holds.
func addDirectory(sorted *spec.Directories, path string) error {
	if kind, ok := kindOfName(path); ok {
		add(sorted, kind, path)
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", path, errors.Unwrap(err))
	}
	for _, entry := range entries {
		inner := filepath.Join(path, entry.Name())
		extension := filepath.Ext(inner)
		switch {
		case strings.HasPrefix(entry.Name(), "."):
		case entry.IsDir():
			if err := addDirectory(sorted, inner); err != nil {
				return err
			}
		case extension == ".yaml" || extension == ".yml":
			add(sorted, kindOfFile(inner), inner)
		}
	}
	return nil
}

func add(sorted *spec.Directories, kind spec.Kind, path string) {
	list := map[spec.Kind]*[]string{
		spec.KindTask: &sorted.Tasks, spec.KindDAG: &sorted.DAGs, spec.KindContext: &sorted.Contexts, spec.KindParameterSet: &sorted.ParameterSets,
	}[kind]
	*list = append(*list, path)
}

// kindOfName is what the nearest telling directory in a path says.
func kindOfName(path string) (spec.Kind, bool) {
	parts := strings.Split(filepath.ToSlash(absolute(path)), "/")
	for _, part := range slices.Backward(parts) {
		switch strings.ToLower(part) {
		case "tasks":
			return spec.KindTask, true
		case "dags":
			return spec.KindDAG, true
		case "contexts":
			return spec.KindContext, true
		case "parameter_sets":
			return spec.KindParameterSet, true
		}
	}
	return "", false
}

// kindOfFile is what the path says, else what the first definition in the file looks like.
func kindOfFile(path string) spec.Kind {
	if kind, ok := kindOfName(path); ok {
		return kind
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > spec.MaxFileBytes {
		return spec.KindTask
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return spec.KindTask
	}
	var document any
	if yaml.Unmarshal(data, &document) != nil {
		return spec.KindTask
	}
	if list, ok := document.([]any); ok && len(list) > 0 {
		document = list[0]
	}
	fields, _ := document.(map[string]any)
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { _, ok := fields[name]; return ok })
	}
	switch {
	case has("command"):
		return spec.KindTask
	case has("tasks", "dags", "schedule"):
		return spec.KindDAG
	case has("variables", "extends"):
		return spec.KindContext
	}
	return spec.KindTask
}
