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

	"go.yaml.in/yaml/v4"

	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/spec"
)

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

// sorter knows what files and directories define.
type sorter struct {
	configured []configured
	problems   []spec.Problem // of directories that are taken apart
}

// configured is a directory of the configuration.
type configured struct {
	path string
	kind spec.Kind
}

func newSorter(settings *config.Config) *sorter {
	s := &sorter{}
	for kind, path := range map[spec.Kind]string{
		spec.KindTask: settings.TaskDirectory, spec.KindDAG: settings.DAGDirectory,
		spec.KindContext: settings.ContextDirectory, spec.KindParameterSet: settings.ParameterSetDirectory,
	} {
		s.configured = append(s.configured, configured{absolute(path), kind})
	}
	slices.SortFunc(s.configured, func(a, b configured) int { return cmp.Compare(len(b.path), len(a.path)) }) // inner ones first
	return s
}

// sort sorts files and directories by what they define. A directory that holds several kinds is
// taken apart.
func (s *sorter) sort(paths []string) (sorted spec.Directories, err error) {
	var missing []string
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, path)
			err = nil
		case err == nil && info.IsDir():
			err = s.addDirectory(&sorted, path)
		case err == nil:
			add(&sorted, s.kindOfFile(path), path)
		default:
			add(&sorted, spec.KindTask, path) // the loader says why it cannot be read
			err = nil
		}
		if err != nil {
			return sorted, err
		}
	}
	if len(missing) > 0 {
		return sorted, fmt.Errorf("there is no file or directory %s", strings.Join(missing, ", "))
	}
	return sorted, nil
}

// addDirectory takes a directory whole when its name says what is in it, else by what it holds.
func (s *sorter) addDirectory(sorted *spec.Directories, path string) error {
	if kind, ok := s.kindOfPath(path); ok {
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
		directory := entry.IsDir()
		if entry.Type()&fs.ModeSymlink != 0 {
			info, err := os.Stat(inner)
			directory = err == nil && info.IsDir()
			if back, err := filepath.Rel(absolute(inner), absolute(path)); directory && err == nil && filepath.IsLocal(back) {
				s.problems = append(s.problems, spec.Problem{File: inner, Message: "the symbolic link leads back to a directory that it is in"})
				continue
			}
		}
		switch {
		case strings.HasPrefix(entry.Name(), "."):
		case directory:
			if err := s.addDirectory(sorted, inner); err != nil {
				return err
			}
		case extension == ".yaml" || extension == ".yml":
			add(sorted, s.kindOfFile(inner), inner)
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

// kindOfPath is that of the configured directory that the path is in, else what the nearest telling directory in
// the path says.
func (s *sorter) kindOfPath(path string) (spec.Kind, bool) {
	path = absolute(path)
	for _, directory := range s.configured {
		if inner, err := filepath.Rel(directory.path, path); err == nil && filepath.IsLocal(inner) {
			return directory.kind, true
		}
	}
	parts := strings.Split(filepath.ToSlash(path), "/")
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
func (s *sorter) kindOfFile(path string) spec.Kind {
	if kind, ok := s.kindOfPath(path); ok {
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
	case has("tasks", "dags", "schedule", "triggers"):
		return spec.KindDAG
	case has("variables", "extends"):
		return spec.KindContext
	case has("parameters"):
		return spec.KindParameterSet
	}
	return spec.KindTask
}
