package spec

import (
	"fmt"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Warnings are about what usable definitions say in vain. They keep nothing from running.
func (c *Catalog) Warnings() []Problem {
	var all []Problem
	warn := func(d *Definition, at place, hint, format string, arguments ...any) {
		all = append(all, Problem{
			File: d.File, Line: int(at.line), Column: int(at.column), Kind: d.Kind, ID: d.ID,
			Message: fmt.Sprintf(format, arguments...), Hint: hint,
		})
	}
	const openToAll = "until there is a login, whoever reaches the server may decide"
	const apart = "keep them in git.auth.credentials of the agent's configuration, or write ${secret:NAME} in their place"
	for d := range c.Definitions(KindTask) {
		if hasCredentials(d.Task) {
			warn(d, d.places().git, apart, "the repository of task %q holds credentials, which are stored with every run", d.ID)
		}
		if hasRoles(d.Task) {
			warn(d, d.places().approval, openToAll, "the roles in the approval of task %q have no effect yet", d.ID)
		}
	}
	for d := range c.Definitions(KindDAG) {
		for i := range d.DAG.Tasks {
			entry := &d.DAG.Tasks[i]
			if hasCredentials(&entry.Overrides) {
				warn(d, d.places().entry(i).git, apart, "the repository of task %q of DAG %q holds credentials, which are stored with every run", entry.ID, d.ID)
			}
			if hasRoles(&entry.Overrides) {
				warn(d, d.places().entry(i).approval, openToAll, "the roles in the approval of task %q of DAG %q have no effect yet", entry.ID, d.ID)
			}
		}
		for i, group := range d.DAG.DAGs {
			inner, err := c.Lookup(KindDAG, group.ID)
			if err != nil {
				continue // a problem, which was told
			}
			if names := ofRuns(inner.DAG); len(names) > 0 {
				warn(d, d.places().group(i).id, fmt.Sprintf("what is to count for DAG %q must be written there", d.ID),
					"in DAG %q, DAG %q goes without its %s", d.ID, group.ID, strings.Join(names, ", "))
			}
		}
	}
	c.warnNames(warn)
	c.warnSchedules(warn)
	c.warnCycles(warn)
	sortProblems(all)
	return all
}

func hasRoles(task *workflow.Task) bool { return task.Approval != nil && len(task.Approval.Roles) > 0 }

// hasCredentials tells whether credentials stand in the name of the task's repository as they are.
func hasCredentials(task *workflow.Task) bool {
	if task.Git == nil || hasReference(task.Git.Repository) {
		return false
	}
	repository, err := gitrepo.Parse(task.Git.Repository)
	return err == nil && len(repository.Secrets()) > 0
}

// ofRuns are the fields of a DAG that are rules for its runs, not for its tasks: another DAG that holds it has its own.
func ofRuns(dag *DAG) (names []string) {
	for _, one := range []struct {
		name string
		set  bool
	}{
		{"max_active_runs", dag.MaxActiveRuns > 0},
		{"max_parallel", dag.MaxParallel > 0},
		{"timeout_seconds", dag.TimeoutSeconds > 0},
		{"on_failure", dag.OnFailure == workflow.OnFailureStop},
	} {
		if one.set {
			names = append(names, one.name)
		}
	}
	return names
}
