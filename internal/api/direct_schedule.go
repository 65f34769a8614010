package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// target is what is to be run: a task by outcome, or a DAG.
type target struct {
	kind spec.Kind
	id   string
}

// ScheduleTask implements Service.
func (d *Direct) ScheduleTask(ctx context.Context, request *ScheduleTask) (*Scheduled, error) {
	if request.TaskID == "" {
		return nil, missing("task_id")
	}
	return d.schedule(ctx, target{spec.KindTask, request.TaskID}, &request.Settings)
}

// ScheduleDAG implements Service.
func (d *Direct) ScheduleDAG(ctx context.Context, request *ScheduleDAG) (*Scheduled, error) {
	if request.DAGID == "" {
		return nil, missing("dag_id")
	}
	return d.schedule(ctx, target{spec.KindDAG, request.DAGID}, &request.Settings)
}

// Plan implements Service.
func (d *Direct) Plan(ctx context.Context, request *PlanRequest) (*Plan, error) {
	what := target{spec.KindTask, request.TaskID}
	switch {
	case request.TaskID == "" && request.DAGID == "":
		return nil, missing("task_id")
	case request.TaskID != "" && request.DAGID != "":
		return nil, badField("dag_id", "give task_id or dag_id, not both")
	case request.DAGID != "":
		what = target{spec.KindDAG, request.DAGID}
	}
	planned, err := d.plan(ctx, what, &request.Settings)
	if err != nil {
		return nil, err
	}
	return &Plan{TaskID: request.TaskID, DAGID: request.DAGID, Tasks: planTasks(planned.Plan)}, nil
}

func (d *Direct) schedule(ctx context.Context, what target, settings *Settings) (*Scheduled, error) {
	submission, err := d.plan(ctx, what, settings)
	if err != nil {
		return nil, err
	}
	answers, err := d.backend.Submit(ctx, []engine.Submission{*submission})
	switch {
	case errors.Is(err, engine.ErrNameTaken):
		return nil, &Error{
			Status: http.StatusConflict, Code: CodeConflict, Message: fmt.Sprintf("the run id %q is used already", settings.RunID),
			Details: &Details{Field: "run_id", Hint: "choose another, or leave it out"},
		}
	case err != nil:
		return nil, d.explain(ctx, "start a run of "+what.String(), err)
	}
	made := &answers[0]
	if made.Existing {
		return d.existing(ctx, made)
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

// existing answers for a run that the same request made before.
func (d *Direct) existing(ctx context.Context, made *engine.Submitted) (*Scheduled, error) {
	run, err := d.Run(ctx, made.ID.String(), Include{Tasks: true})
	if err != nil {
		return nil, err
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

// plan checks a request, and makes what is to be submitted.
func (d *Direct) plan(ctx context.Context, what target, settings *Settings) (*engine.Submission, error) {
	if settings.RunID != "" && !workflow.ValidRunName(settings.RunID) {
		return nil, badField("run_id", fmt.Sprintf("%q is no run id: it takes 1 to 200 of A-Z a-z 0-9 _ . -, and has not the form of a UUID", settings.RunID))
	}
	catalog, revision, err := d.definitions.current(ctx)
	if err != nil {
		return nil, d.explain(ctx, "plan "+what.String(), err)
	}
	submission := &engine.Submission{
		Name: settings.RunID, IdempotencyKey: settings.IdempotencyKey, Revision: revision,
		Actor: d.options.Actor, Cause: d.options.Cause,
	}
	submission.Context = settings.Context
	if what.kind == spec.KindDAG {
		submission.DAG = what.id
		submission.Plan, err = catalog.PlanDAG(what.id)
		if definition, lookupErr := catalog.Lookup(spec.KindDAG, what.id); lookupErr == nil && submission.Context == "" {
			submission.Context = definition.DAG.Context
		}
	} else {
		submission.Task = what.id
		submission.Plan, err = catalog.PlanTask(what.id)
	}
	if err != nil {
		return nil, unplannable(what, err)
	}
	if submission.Context == "" {
		submission.Context = d.options.DefaultContext
	}
	submission.Values, err = catalog.Values(spec.Request{
		Plan: submission.Plan, DAGID: submission.DAG, Context: settings.Context, DefaultContext: d.options.DefaultContext,
		Parameters: settings.Parameters, Env: settings.EnvVars,
	})
	if err != nil {
		return nil, unplannable(what, err)
	}
	if err := d.checkQueues(ctx, submission.Plan); err != nil {
		return nil, err
	}
	return submission, nil
}

// unplannable is the error of a task or DAG that cannot be run as it was asked for.
func unplannable(what target, err error) *Error {
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
	case unknown.Kind == what.kind && unknown.ID == what.id:
		answer.Status, answer.Code = http.StatusNotFound, CodeNotFound
		answer.Details.Hint = "`cyclonetix list-" + strings.ToLower(string(what.kind)) + "s` shows those that there are, `cyclonetix verify-config` those with problems"
	case unknown.Kind != spec.KindTask && unknown.Kind != spec.KindDAG && unknown.Kind != spec.KindContext:
		answer.Details.Field = "parameters"
		if len(unknown.Nearest) == 0 {
			answer.Details.Hint = "a parameter must be declared by a task of the plan; --env sets any variable"
		}
	}
	return answer
}

// checkQueues refuses a queue that nobody declared: its tasks would wait forever.
func (d *Direct) checkQueues(ctx context.Context, plan *workflow.Plan) error {
	declared := d.options.Queues
	if len(declared) == 0 {
		return nil
	}
	asked := false
	for _, one := range plan.Specs {
		if slices.Contains(declared, one.Queue) {
			continue
		}
		if !asked {
			agents, err := d.backend.Agents(ctx)
			if err != nil {
				return d.explain(ctx, "read which queues agents serve", err)
			}
			declared = slices.Clone(declared)
			for i := range agents {
				declared = append(declared, agents[i].Queues...)
			}
			asked = true
		}
		if !slices.Contains(declared, one.Queue) {
			slices.Sort(declared)
			return &Error{
				Status: http.StatusUnprocessableEntity, Code: CodeInvalid,
				Message: fmt.Sprintf("task %q names queue %q, which is not declared", one.TaskID, one.Queue),
				Details: &Details{
					Field: "queue", Allowed: slices.Compact(declared),
					Hint: "add it to queues in the configuration, or start an agent that serves it",
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

func (t target) String() string {
	if t.kind == spec.KindDAG {
		return fmt.Sprintf("DAG %q", t.id)
	}
	return fmt.Sprintf("task %q", t.id)
}

// missing is the error of a field that must be given.
func missing(field string) *Error {
	err := badField(field, "it must be given")
	err.Message = field + " is missing"
	return err
}
