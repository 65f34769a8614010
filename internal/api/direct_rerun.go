package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
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
	asked := d.repeat(ctx, &old, given, past, request)
	submission, err := d.plan(ctx, asked)
	if err != nil {
		return nil, withResetHint(err, asked)
	}
	if given.Macros != nil && submission.Values.Macros != nil {
		submission.Values.Macros.Seed = given.Macros.Seed
	}
	submission.RerunOf = old.ID
	past.rerunAs(submission.Plan)
	if (request.FailedOnly || request.FromTask != "") && past.hasUnheard() {
		events, err := d.backend.Events(ctx, old.ID)
		if err != nil {
			return nil, d.explain(ctx, "read what happened to run "+id, err)
		}
		past.heardAt(events)
	}
	if submission.Options.Kept, err = past.kept(request); err != nil {
		return nil, err
	}
	if request.FailedOnly && old.Status == workflow.RunCompleted && len(submission.Options.Kept) == len(submission.Plan.Nodes) {
		return nil, conflict(old.Status, fmt.Sprintf("run %q is completed: nothing of it failed, so nothing would run again", id),
			"`cyclonetix rerun "+id+"` runs all of it again, --from-task a part")
	}
	if submission.Values.Former, err = d.former(ctx, past, submission, given.Former); err != nil {
		return nil, d.explain(ctx, "read what evaluation points of run "+id+" changed", err)
	}
	return d.submit(ctx, asked, submission)
}

// repeat is the order that a run came from. A run that an earlier version stored says less of it.
func (d *Direct) repeat(ctx context.Context, old *engine.RunView, given *workflow.RunValues, past *past, request *Rerun) *order {
	asked := &order{kind: spec.KindDAG, id: old.DAG, date: old.LogicalDate, trigger: given.Trigger}
	if old.ByOutcome {
		asked.kind = spec.KindTask
	}
	if old.Request != nil {
		asked.ask(old.Request, !request.ResetParams)
	} else {
		asked.settings.Context = old.Context
		asked.task.IgnoreDependencies = old.ByOutcome && d.wasAlone(ctx, old, len(past.nodes))
	}
	asked.settings.IdempotencyKey = request.IdempotencyKey
	if given.Macros != nil {
		asked.now = given.Macros.Time // what is kept was made with it
	}
	if !request.ResetParams {
		asked.settings.EnvVars, asked.settings.Parameters = given.Env, flat(given.Parameters, given.Sensitive)
		asked.sensitive = map[string]bool{} // they stay so, whatever the definitions say now
		for key := range flat(given.Sensitive) {
			asked.sensitive[key] = true
		}
	}
	return asked
}

// former is what evaluation points that are kept had changed in the values of their run, or of one before it.
func (d *Direct) former(ctx context.Context, past *past, submission *engine.Submission, earlier []workflow.FormerUpdate) ([]workflow.FormerUpdate, error) {
	if len(submission.Options.Kept) == 0 {
		return nil, nil
	}
	own, err := d.backend.Updates(ctx, past.run)
	if err != nil {
		return nil, err
	}
	kept := make(map[string]bool, len(submission.Options.Kept))
	for _, node := range submission.Options.Kept {
		kept[submission.Plan.Nodes[node.Node].Name] = true
	}
	var former []workflow.FormerUpdate
	for i := range earlier {
		if kept[earlier[i].Point] {
			former = append(former, earlier[i])
		}
	}
	names := make(map[int32]string, len(past.nodes))
	for name, node := range past.nodes {
		names[node.Node] = name
	}
	for i := range own {
		points := past.makers(names[own[i].Node])
		if len(points) == 0 || slices.ContainsFunc(points, func(name string) bool { return !kept[name] }) {
			continue // it says so again, or is defined no more
		}
		former = append(former, workflow.FormerUpdate{Point: points[0], ValueUpdate: own[i].ValueUpdate})
	}
	return former, nil
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

// withResetHint says how a run is repeated with which something was asked for that is not known any more.
func withResetHint(err error, asked *order) error {
	known, ok := err.(*Error) //nolint:errorlint // plan made it
	if !ok || known.Details == nil {
		return err
	}
	switch known.Details.Field {
	case "parameters", "git_ref":
	case "queue":
		if asked.task.Queue == nil {
			return err
		}
	default:
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

	plan    *workflow.Plan // of the new run
	numbers nodeNumbers
	begin   map[string]bool     // what a rerun from a task begins with
	decided map[int32]time.Time // when evaluation points did
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
