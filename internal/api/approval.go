package api

import (
	"context"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// approvalMessage is what the person is told who approves a task of a run, by the definitions that the run was made
// from; empty when there is nothing to tell, or nobody knows any more.
func (d *Direct) approvalMessage(ctx context.Context, run *engine.RunView, task string) string {
	catalog, err := d.language.Catalog(ctx, run.Revision)
	if err != nil {
		return ""
	}
	dag := run.DAG
	if run.ByOutcome {
		dag = ""
	}
	for {
		group, rest, found := strings.Cut(task, "/") // a DAG in the DAG
		if !found {
			break
		}
		dag, task = group, rest
	}
	if approval := approvalOf(catalog, dag, task); approval != nil {
		return approval.Message
	}
	return ""
}

// approvalOf finds the approval of a task, as the DAG has it where there is one.
func approvalOf(catalog *spec.Catalog, dag, task string) *workflow.Approval {
	if definition, err := catalog.Lookup(spec.KindDAG, dag); dag != "" && err == nil {
		for i := range definition.DAG.Tasks {
			entry := &definition.DAG.Tasks[i]
			id, _, _ := strings.Cut(entry.ID, ":") // without its variant
			if id == task && (slices.Contains(entry.Given, "approval") || slices.Contains(entry.Given, "command")) {
				return entry.Overrides.Approval
			}
		}
	}
	if definition, err := catalog.Lookup(spec.KindTask, task); err == nil {
		return definition.Task.Approval
	}
	return nil
}
