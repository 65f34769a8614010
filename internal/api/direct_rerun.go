package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Rerun implements Service.
func (d *Direct) Rerun(ctx context.Context, id string, request *Rerun) (*Scheduled, error) {
	if request.FailedOnly && request.FromTask != "" {
		return nil, badField("from_task", "give failed_only or from_task, not both")
	}
	old, err := d.backend.FindRun(ctx, id)
	if err != nil {
		return nil, d.explain(ctx, "find run "+id, err)
	}
	if !old.Status.Ended() {
		return nil, conflict(old.Status, fmt.Sprintf("run %q has not ended: it is %s", id, old.Status),
			fmt.Sprintf("`cyclonetix cancel-run %s` ends it", id))
	}
	given, err := d.backend.Given(ctx, old.ID)
	if err != nil {
		return nil, d.explain(ctx, "read the values of run "+id, err)
	}
	past, err := d.past(ctx, &old)
	if err != nil {
		return nil, d.explain(ctx, "read the tasks of run "+id, err)
	}
	asked := &order{kind: spec.KindDAG, id: old.DAG, date: old.LogicalDate}
	asked.settings.Context, asked.settings.IdempotencyKey = old.Context, request.IdempotencyKey
	if old.ByOutcome {
		asked.kind = spec.KindTask
		asked.task.IgnoreDependencies = d.wasAlone(ctx, &old, len(past.nodes))
	}
	if given.Macros != nil {
		asked.now = given.Macros.Time // what is kept was made with it
	}
	if !request.ResetParams {
		asked.settings.EnvVars, asked.settings.Parameters = given.Env, flat(given.Parameters, given.Sensitive)
	}
	submission, err := d.plan(ctx, asked)
	if err != nil {
		return nil, withResetHint(err, request)
	}
	if given.Macros != nil && submission.Values.Macros != nil {
		submission.Values.Macros.Seed = given.Macros.Seed
	}
	hide(&submission.Values, given.Sensitive)
	submission.RerunOf = old.ID
	if submission.Options.Kept, err = past.kept(submission.Plan, request); err != nil {
		return nil, err
	}
	return d.submit(ctx, asked, submission)
}

// wasAlone tells whether a run by outcome left out what its task depends on: by the definitions that it was made
// from, it would have had more nodes.
func (d *Direct) wasAlone(ctx context.Context, old *engine.RunView, nodes int) bool {
	catalog, err := d.language.Catalog(ctx, old.Revision)
	if err != nil {
		return false // the definitions are gone, so nobody can know
	}
	plan, err := catalog.PlanTask(old.DAG)
	return err == nil && len(plan.Nodes) > nodes
}

// flat gives values by task as values by TASK.K.
func flat(given ...map[string]map[string]workflow.Value) map[string]workflow.Value {
	all := map[string]workflow.Value{}
	for _, byTask := range given {
		for task, values := range byTask {
			for name, value := range values {
				all[task+"."+name] = value
			}
		}
	}
	return all
}

// hide keeps values sensitive that were so, whatever the definitions say now.
func hide(values *workflow.RunValues, sensitive map[string]map[string]workflow.Value) {
	for task, names := range sensitive {
		for name := range names {
			value, shown := values.Parameters[task][name]
			if !shown {
				continue
			}
			if values.Sensitive == nil {
				values.Sensitive = map[string]map[string]workflow.Value{}
			}
			if values.Sensitive[task] == nil {
				values.Sensitive[task] = map[string]workflow.Value{}
			}
			values.Sensitive[task][name] = value
			delete(values.Parameters[task], name)
		}
	}
	maps.DeleteFunc(values.Parameters, func(_ string, names map[string]workflow.Value) bool { return len(names) == 0 })
}

// withResetHint says how a run is repeated whose parameters are not known any more.
func withResetHint(err error, request *Rerun) error {
	known, ok := err.(*Error) //nolint:errorlint // plan made it
	if !ok || request.ResetParams || known.Details == nil || known.Details.Field != "parameters" {
		return err
	}
	hinted, details := *known, *known.Details
	details.Hint = "the definitions have changed since; --reset-params leaves out what the run was given"
	hinted.Details = &details
	return &hinted
}

// past is what became of the nodes of a run that has ended.
type past struct {
	run   workflow.RunID
	nodes map[string]*engine.TaskRunView // by name
	last  map[string]*engine.TaskRunView // by name without the iteration: the last one
	// parents are names of nodes.
	parents map[string][]string
}

func (d *Direct) past(ctx context.Context, old *engine.RunView) (*past, error) {
	tasks, err := d.backend.TaskRuns(ctx, old.ID)
	if err != nil {
		return nil, err
	}
	plan, err := d.backend.Plan(ctx, old.ID)
	if err != nil {
		return nil, err
	}
	p := &past{
		run: old.ID, nodes: make(map[string]*engine.TaskRunView, len(tasks)),
		last: make(map[string]*engine.TaskRunView, len(tasks)), parents: make(map[string][]string, len(plan)),
	}
	for i := range tasks {
		p.nodes[tasks[i].Name] = &tasks[i]
		p.last[workflow.BaseName(tasks[i].Name)] = &tasks[i] // a later iteration has a larger number
	}
	names := make(map[int32]string, len(plan))
	for i := range plan {
		names[plan[i].Node] = plan[i].Name
	}
	for i := range plan {
		for _, parent := range plan[i].Dependencies {
			p.parents[plan[i].Name] = append(p.parents[plan[i].Name], names[parent])
		}
	}
	return p, nil
}

// kept are the nodes of a new plan whose work need not be done again. What was skipped stays so where all that it
// waits for is kept; else it is decided anew.
func (p *past) kept(plan *workflow.Plan, request *Rerun) ([]workflow.KeptNode, error) {
	var again func(number int32) bool
	switch {
	case request.FromTask != "":
		after, err := allAfter(plan, request.FromTask)
		if err != nil {
			return nil, err
		}
		again = func(number int32) bool { return after[number] }
	case request.FailedOnly:
		again = func(int32) bool { return false }
	default:
		return nil, nil
	}
	unfinished := p.unfinished(plan)
	var kept []workflow.KeptNode
	stays := make([]bool, len(plan.Nodes))
	for i := range plan.Nodes { // each comes after those that it waits for
		number, node := int32(i), &plan.Nodes[i] //nolint:gosec // bounded
		before := p.last[node.Name]
		if before == nil || again(number) || unfinished[node.Name] {
			continue
		}
		switch before.Status {
		case workflow.TaskCompleted:
			kept = append(kept, workflow.KeptNode{Node: number, From: p.run, FromNode: before.Node})
			stays[i] = true
		case workflow.TaskSkipped:
			if !slices.ContainsFunc(node.Dependencies, func(parent int32) bool { return !stays[parent] }) {
				kept = append(kept, workflow.KeptNode{Node: number})
				stays[i] = true
			}
		}
	}
	return kept, nil
}

// unfinished are the nodes of a new plan that completed, and after which the old run had nodes that the new
// one has not and that did not complete: an evaluation point must choose them again, a task with items run them.
func (p *past) unfinished(plan *workflow.Plan) map[string]bool {
	planned := make(map[string]bool, len(plan.Nodes))
	for i := range plan.Nodes {
		planned[plan.Nodes[i].Name] = true
	}
	found, seen := map[string]bool{}, map[string]bool{}
	var climb func(name string)
	climb = func(name string) {
		for _, parent := range p.parents[name] {
			base := workflow.BaseName(parent)
			if planned[base] {
				found[base] = true
			} else if !seen[parent] {
				seen[parent] = true
				climb(parent)
			}
		}
	}
	for _, node := range p.last {
		ended := node.Status == workflow.TaskCompleted || node.Status == workflow.TaskSkipped
		if !ended && !planned[node.Name] && !isItem(node.Name, planned) {
			climb(node.Name)
		}
	}
	return found
}

// isItem tells whether a node that a plan has not is of an item of a node that it has, which will expand it.
func isItem(name string, planned map[string]bool) bool {
	group, _, found := strings.Cut(workflow.BaseName(name), "[")
	return found && planned[group]
}

// allAfter tells which nodes of a plan are of the task, or wait for one of it, directly or not.
func allAfter(plan *workflow.Plan, task string) ([]bool, error) {
	after := make([]bool, len(plan.Nodes))
	known := false
	base := workflow.BaseName(task)
	for i := range plan.Nodes {
		node := &plan.Nodes[i]
		own := node.Name == base || plan.Specs[node.Spec].TaskID == base
		known = known || own
		after[i] = own || slices.ContainsFunc(node.Dependencies, func(parent int32) bool { return after[parent] })
	}
	if known {
		return after, nil
	}
	near := nearest.Names(task, func(yield func(string) bool) {
		for i := range plan.Nodes {
			if !yield(plan.Nodes[i].Name) {
				return
			}
		}
	})
	message := fmt.Sprintf("from_task: the run has no task %q", task)
	if len(near) > 0 {
		message += fmt.Sprintf(": did you mean %q?", near[0])
	}
	return nil, &Error{
		Status: http.StatusUnprocessableEntity, Code: CodeInvalid, Message: message, Details: &Details{Field: "from_task", Nearest: near},
	}
}
