package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// order is what is to be run, a task by outcome or a DAG, and how.
type order struct {
	kind     spec.Kind
	id       string
	settings Settings
	task     TaskSettings // of a task
	// sensitive are keys of settings.Parameters whose values are shown nowhere, whatever the definitions say.
	sensitive map[string]bool
	declared  engine.Declared
	// now and date are the times of the run's macros; zero for the backend's now, and for none.
	now, date time.Time
	// unwatched tells that nobody waits for the answer who could mend a wrong queue.
	unwatched bool
	// trigger is what a trigger of the DAG knows of the run; nil for a run that none started.
	trigger *workflow.Trigger
}

// ScheduleTask implements Service.
func (d *Direct) ScheduleTask(ctx context.Context, request *ScheduleTask) (*Scheduled, error) {
	if request.TaskID == "" {
		return nil, missing("task_id")
	}
	return d.schedule(ctx, &order{kind: spec.KindTask, id: request.TaskID, settings: request.Settings, task: request.TaskSettings})
}

// ScheduleDAG implements Service.
func (d *Direct) ScheduleDAG(ctx context.Context, request *ScheduleDAG) (*Scheduled, error) {
	if request.DAGID == "" {
		return nil, missing("dag_id")
	}
	return d.schedule(ctx, &order{kind: spec.KindDAG, id: request.DAGID, settings: request.Settings})
}

// Plan implements Service.
func (d *Direct) Plan(ctx context.Context, request *PlanRequest) (*Plan, error) {
	asked := order{kind: spec.KindTask, id: request.TaskID, settings: request.Settings, task: request.TaskSettings}
	switch {
	case request.TaskID == "" && request.DAGID == "":
		return nil, missing("task_id")
	case request.TaskID != "" && request.DAGID != "":
		return nil, badField("dag_id", "give task_id or dag_id, not both")
	case request.DAGID != "" && request.forTask() != "":
		return nil, badField(request.forTask(), "a DAG does not take it, only a task")
	case request.DAGID != "":
		asked.kind, asked.id = spec.KindDAG, request.DAGID
	}
	planned, err := d.planFresh(ctx, &asked)
	if err != nil {
		return nil, err
	}
	tasks := planTasks(planned.Plan)
	for _, kept := range planned.Options.Kept {
		tasks[kept.Node].Kept = true
	}
	return &Plan{TaskID: request.TaskID, DAGID: request.DAGID, Tasks: tasks}, nil
}

func (d *Direct) schedule(ctx context.Context, asked *order) (*Scheduled, error) {
	submission, err := d.planFresh(ctx, asked)
	if err != nil {
		return nil, err
	}
	return d.submit(ctx, asked, submission)
}

// planFresh is plan, and keeps what earlier runs did and is fresh.
func (d *Direct) planFresh(ctx context.Context, asked *order) (*engine.Submission, error) {
	submission, err := d.plan(ctx, asked)
	if err == nil && asked.kind == spec.KindTask && !asked.task.IgnoreDependencies {
		err = d.reuse(ctx, submission)
	}
	return submission, err
}

// submit starts the run.
func (d *Direct) submit(ctx context.Context, asked *order, submission *engine.Submission) (*Scheduled, error) {
	answers, err := d.backend.Submit(ctx, []engine.Submission{*submission})
	switch {
	case errors.Is(err, engine.ErrNameTaken) && submission.Name != "":
		return nil, &Error{
			Status: http.StatusConflict, Code: CodeConflict, Message: fmt.Sprintf("the run id %q is used already", submission.Name),
			Details: &Details{Field: "run_id", Hint: "choose another, or leave it out"},
		}
	case err != nil:
		return nil, d.explain(ctx, "start a run of "+asked.String(), err)
	}
	made := &answers[0]
	if made.Existing {
		return d.existing(ctx, asked, submission, made)
	}
	scheduled := &Scheduled{
		Success: true, RunID: made.Name, DAGRunID: made.Name, Status: workflow.RunPending, StartTime: utc(made.CreatedAt),
		Tasks: make([]ScheduledTask, len(submission.Plan.Nodes)),
	}
	for number, node := range submission.Plan.Nodes {
		scheduled.Tasks[number] = ScheduledTask{
			ID: node.Name, TaskRunID: workflow.TaskRunID(made.ID, int32(number)), Status: workflow.TaskPending, //nolint:gosec // a node number
		}
	}
	return scheduled, nil
}

// existing answers for a run that the same request made before. A request for something else is refused.
func (d *Direct) existing(ctx context.Context, asked *order, submission *engine.Submission, made *engine.Submitted) (*Scheduled, error) {
	run, err := d.Run(ctx, made.ID.String(), Include{Tasks: true})
	if err != nil {
		return nil, err
	}
	view, err := d.backend.FindRun(ctx, made.ID.String())
	if err != nil {
		return nil, d.explain(ctx, "find run "+run.RunID, err)
	}
	if run.ByOutcome != (submission.DAG == "") || run.DAGID != submission.DAG+submission.Task || view.RerunOf != submission.RerunOf ||
		submission.Name != "" && submission.Name != run.RunID {
		return nil, &Error{
			Status: http.StatusUnprocessableEntity, Code: CodeInvalid,
			Message: fmt.Sprintf("the idempotency key of this run of %s was used for run %q, which is another", asked, run.RunID),
			Details: &Details{Field: "Idempotency-Key", Hint: "use a new key for each request; the same one only to repeat a request"},
		}
	}
	scheduled := &Scheduled{
		Success: true, RunID: run.RunID, DAGRunID: run.RunID, Status: run.Status, StartTime: run.CreatedTime, Existing: true,
		Tasks: make([]ScheduledTask, len(run.Tasks)),
	}
	for i := range run.Tasks {
		scheduled.Tasks[i] = ScheduledTask{ID: run.Tasks[i].ID, TaskRunID: run.Tasks[i].TaskRunID, Status: run.Tasks[i].Status}
	}
	return scheduled, nil
}

// plan checks what is asked, and makes what is to be submitted.
func (d *Direct) plan(ctx context.Context, asked *order) (*engine.Submission, error) {
	if err := asked.settings.check(); err != nil {
		return nil, err
	}
	if err := asked.task.check(); err != nil {
		return nil, err
	}
	catalog, revision, err := d.language.Current(ctx)
	if err == nil {
		asked.declared, err = d.backend.Declared(ctx)
	}
	if err != nil {
		return nil, d.explain(ctx, "plan "+asked.String(), err)
	}
	submission, err := d.graph(asked, catalog)
	if err != nil {
		return nil, unplannable(asked, err)
	}
	submission.Revision = revision
	if err := asked.override(submission); err != nil {
		return nil, err
	}
	if !asked.unwatched {
		if err := d.checkQueues(ctx, asked, submission.Plan); err != nil {
			return nil, err
		}
	}
	if err := d.fill(asked, catalog, submission); err != nil {
		return nil, err
	}
	return submission, nil
}

// graph makes a submission with all that its values have no part in.
func (d *Direct) graph(asked *order, catalog *spec.Catalog) (submission *engine.Submission, err error) {
	submission = &engine.Submission{
		Name: asked.settings.RunID, IdempotencyKey: language.CallerKey(asked.settings.IdempotencyKey), Context: asked.settings.Context,
		Request: asked.request(), Actor: d.options.Actor, Cause: d.options.Cause,
	}
	switch {
	case asked.kind == spec.KindDAG:
		submission.DAG = asked.id
		submission.Options = catalog.RunOptions(asked.id)
		submission.Plan, err = catalog.PlanDAG(asked.id)
		if definition, lookupErr := catalog.Lookup(spec.KindDAG, asked.id); lookupErr == nil {
			if submission.Context == "" {
				submission.Context = definition.DAG.Context
			}
			if definition.DAG.Schedule != nil || definition.DAG.MaxActiveRuns > 0 {
				submission.Pin = pin(asked.id)
			}
		}
	case asked.task.IgnoreDependencies:
		submission.Task = asked.id
		submission.Plan, err = catalog.PlanTaskAlone(asked.id)
	default:
		submission.Task = asked.id
		submission.Plan, err = catalog.PlanTask(asked.id)
	}
	if submission.Context == "" {
		submission.Context = asked.declared.DefaultContext
	}
	return submission, err
}

// pin is what all runs of a DAG are kept together by that has rules across runs.
func pin(dag string) string { return "dag/" + dag }

// fill gives a submission its values.
func (d *Direct) fill(asked *order, catalog *spec.Catalog, submission *engine.Submission) (err error) {
	submission.Options.LogicalDate = asked.date
	defer func() { submission.Values.Trigger = asked.trigger }()
	now := asked.now
	if now.IsZero() {
		now = d.backend.Now()
	}
	submission.Values, err = catalog.Values(spec.Request{
		Plan: submission.Plan, DAGID: submission.DAG, Context: asked.settings.Context, DefaultContext: asked.declared.DefaultContext,
		ParameterSets: asked.settings.ParameterSets, Parameters: asked.settings.Parameters, Env: asked.settings.EnvVars,
		Sensitive: asked.sensitive, Now: now, LogicalDate: asked.date,
	})
	if err != nil {
		return unplannable(asked, err)
	}
	return nil
}

// PlanDate plans the run of a DAG for a logical date of its schedule. A queue that no agent serves now is no reason to
// refuse it: its agents may be away for a moment. Errors: an *Error below 500 when the DAG can't be run as it is
// defined; others pass.
func (d *Direct) PlanDate(ctx context.Context, dag string, date time.Time) (*engine.Submission, error) {
	submission, err := d.plan(ctx, &order{kind: spec.KindDAG, id: dag, date: date, unwatched: true})
	if err != nil {
		return nil, err
	}
	submission.IdempotencyKey = language.DateKey(dag, date)
	return submission, nil
}

// unplannable is the error of a task or DAG that cannot be run as it was asked for.
func unplannable(what *order, err error) *Error {
	answer := &Error{Status: http.StatusUnprocessableEntity, Code: CodeInvalid, Message: err.Error()}
	var unknown *spec.UnknownError
	if problem, ok := errors.AsType[spec.Problem](err); ok {
		answer.Message = problem.Message
		if problem.Hint != "" {
			answer.Details = &Details{Hint: problem.Hint}
		}
	}
	if !errors.As(err, &unknown) {
		return answer
	}
	if answer.Details == nil {
		answer.Details = &Details{}
	}
	answer.Details.Nearest = unknown.Nearest
	switch {
	case unknown.Kind == what.kind && (unknown.ID == what.id || strings.HasPrefix(what.id, unknown.ID+":")):
		answer.Status, answer.Code = http.StatusNotFound, CodeNotFound
		answer.Details.Hint = "`cyclonetix list-" + strings.ToLower(string(what.kind)) + "s` shows those that there are, `cyclonetix verify-config` those with problems"
	case unknown.Kind == spec.KindContext:
		answer.Details.Field = "context"
		answer.Details.Hint = "`cyclonetix list-contexts` shows those that there are"
	case unknown.Kind == spec.KindParameterSet:
		answer.Details.Field = "parameter_sets"
		answer.Details.Hint = "`cyclonetix list-parameter-sets` shows those that there are"
	case unknown.Kind != spec.KindTask && unknown.Kind != spec.KindDAG:
		answer.Details.Field = "parameters"
		if len(unknown.Nearest) == 0 {
			answer.Details.Hint = "a parameter must be declared by a task of the plan; --env sets any variable"
		}
	}
	return answer
}

// checkQueues refuses a queue that nobody declared: its tasks would wait forever.
func (d *Direct) checkQueues(ctx context.Context, asked *order, plan *workflow.Plan) error {
	declared := asked.declared.Queues
	if len(declared) == 0 {
		return nil
	}
	complete := false
	for _, one := range plan.Specs {
		if slices.Contains(declared, one.Queue) {
			continue
		}
		if !complete {
			agents, err := d.backend.Agents(ctx)
			if err != nil {
				return d.explain(ctx, "read which queues agents serve", err)
			}
			declared = slices.Clone(declared)
			for i := range agents {
				declared = append(declared, agents[i].Queues...)
			}
			complete = true
		}
		if !slices.Contains(declared, one.Queue) {
			slices.Sort(declared)
			near := nearest.Names(one.Queue, slices.Values(slices.Compact(declared)))
			message := fmt.Sprintf("task %q names queue %q, which is not declared", one.TaskID, one.Queue)
			if len(near) > 0 {
				message += fmt.Sprintf(": did you mean %q?", near[0])
			}
			return &Error{
				Status: http.StatusUnprocessableEntity, Code: CodeInvalid, Message: message,
				Details: &Details{
					Field: "queue", Nearest: near, Allowed: slices.Compact(declared),
					Hint: "add it to queues in the configuration of the server, or start an agent that serves it",
				},
			}
		}
	}
	return nil
}

// planTasks gives a plan's nodes. Each comes after those that it waits for, as the plan has them.
func planTasks(plan *workflow.Plan) []PlanTask {
	tasks := make([]PlanTask, len(plan.Nodes))
	for number, node := range plan.Nodes {
		one := plan.Specs[node.Spec]
		task := PlanTask{
			ID: node.Name, TaskID: one.TaskID, Queue: one.Queue, Priority: one.Priority,
			Dependencies: make([]string, len(node.Dependencies)),
		}
		for i, parent := range node.Dependencies {
			task.Dependencies[i] = tasks[parent].ID
			task.Level = max(task.Level, tasks[parent].Level+1)
		}
		tasks[number] = task
	}
	return tasks
}

func (o *order) String() string {
	if o.kind == spec.KindDAG {
		return fmt.Sprintf("DAG %q", o.id)
	}
	return fmt.Sprintf("task %q", o.id)
}

// missing is the error of a field that must be given.
func missing(field string) *Error {
	err := badField(field, "it must be given")
	err.Message = field + " is missing"
	return err
}
