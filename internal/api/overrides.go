package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The bounds of what a definition may say, and a request likewise.
const (
	maxSeconds  = 10 * 365 * 86400
	maxRetries  = 10_000
	maxParallel = 1_000_000
)

// check checks the fields that a definition does not check.
func (s *Settings) check() error {
	switch {
	case s.RunID != "" && !workflow.ValidRunName(s.RunID):
		return badField("run_id", fmt.Sprintf("%q is no run id: it takes 1 to 200 of A-Z a-z 0-9 _ . -, and has not the form of a UUID", s.RunID))
	case !within(s.TimeoutSeconds, 0, maxSeconds):
		return badSeconds("timeout_seconds", *s.TimeoutSeconds)
	case !within(s.Priority, 1, workflow.MaxPriority):
		return badField("priority", fmt.Sprintf("%d is not from 1 (first) to %d", *s.Priority, workflow.MaxPriority))
	case !within(s.MaxParallel, 0, maxParallel):
		return badField("max_parallel", fmt.Sprintf("%d is not from 0 (no bound) to %d", *s.MaxParallel, maxParallel))
	}
	if s.GitRef != nil && *s.GitRef == "" {
		return badField("git_ref", "it is empty: give a branch, a tag or a commit")
	}
	if s.GitRef != nil {
		if err := gitrepo.CheckRef(*s.GitRef); err != nil {
			return badField("git_ref", err.Error())
		}
	}
	for _, id := range s.ParameterSets {
		if !workflow.ValidID(id) {
			return badField("parameter_sets", fmt.Sprintf("%q is no id of a parameter set", id))
		}
	}
	return nil
}

func (s *TaskSettings) check() error {
	switch {
	case s.Queue != nil && !workflow.ValidID(*s.Queue):
		return badField("queue", fmt.Sprintf("%q is no name of a queue: it takes 1 to 200 of A-Z a-z 0-9 _ . -", *s.Queue))
	case !within(s.Retries, 0, maxRetries):
		return badField("retries", fmt.Sprintf("%d is not from 0 to %d", *s.Retries, maxRetries))
	case !within(s.RetryDelaySeconds, 0, maxSeconds):
		return badSeconds("retry_delay_seconds", *s.RetryDelaySeconds)
	}
	return nil
}

// forTask names the first field that a DAG does not take; empty when none is given.
func (s *TaskSettings) forTask() string {
	switch {
	case s.Queue != nil:
		return "queue"
	case s.Retries != nil:
		return "retries"
	case s.RetryDelaySeconds != nil:
		return "retry_delay_seconds"
	case s.IgnoreDependencies:
		return "ignore_dependencies"
	}
	return ""
}

// within tells whether a number is in its bounds, or not given. A NaN is in none.
func within[T int | float64](number *T, least, most T) bool {
	return number == nil || *number >= least && *number <= most
}

func badSeconds(field string, given float64) *Error {
	return badField(field, fmt.Sprintf("%v is not from 0 to %d seconds", given, maxSeconds))
}

// override lays what was asked for over what is defined. The specifications that change are copied. The error is an
// *Error: it tells that nothing is there to be overridden.
func (o *order) override(submission *engine.Submission) error {
	s, t := &o.settings, &o.task
	change := func(number int32, how func(*workflow.TaskSpec)) {
		changed := *submission.Plan.Specs[number]
		how(&changed)
		submission.Plan.Specs[number] = &changed
	}
	if s.Priority != nil {
		submission.Options.Priority = *s.Priority
		for number := range submission.Plan.Specs {
			change(int32(number), func(one *workflow.TaskSpec) { one.Priority = *s.Priority }) //nolint:gosec // bounded
		}
	}
	if s.GitRef != nil {
		submission.Options.GitRef = *s.GitRef
		if !overrideGitRef(submission.Plan, *s.GitRef) {
			return noGit(o, *s.GitRef)
		}
	}
	if s.MaxParallel != nil {
		submission.Options.MaxParallel = *s.MaxParallel
	}
	if o.kind == spec.KindDAG {
		if s.TimeoutSeconds != nil {
			submission.Options.TimeoutSeconds = *s.TimeoutSeconds
		}
		return nil
	}
	for _, number := range targetSpecs(submission.Plan) {
		change(number, func(one *workflow.TaskSpec) {
			set(&one.Queue, t.Queue)
			set(&one.TimeoutSeconds, s.TimeoutSeconds)
			if t.Retries != nil && one.Retries == (workflow.Retries{}) { // it defines none, so no delay either
				one.Retries.DelaySeconds = workflow.DefaultRetryDelaySeconds
			}
			set(&one.Retries.Count, t.Retries)
			set(&one.Retries.DelaySeconds, t.RetryDelaySeconds)
		})
	}
	return nil
}

// overrideGitRef gives all tasks of a plan that have a repository this revision. It is false where none has.
func overrideGitRef(plan *workflow.Plan, ref string) (found bool) {
	for number, one := range plan.Specs {
		found = found || one.Git != nil
		plan.Specs[number] = one.WithGitRef(ref)
	}
	return found
}

func noGit(o *order, ref string) *Error {
	err := badField("git_ref", "no task of "+o.String()+" has a repository (git), so there is nothing to take "+strconv.Quote(ref)+" from")
	err.Status, err.Code = http.StatusUnprocessableEntity, CodeInvalid
	return err
}

// request is what was asked for beside parameters and environment, as a rerun needs to know it.
func (o *order) request() engine.Request {
	s, t := &o.settings, &o.task
	return engine.Request{
		Context: s.Context, Priority: s.Priority, MaxParallel: s.MaxParallel, TimeoutSeconds: s.TimeoutSeconds,
		Queue: t.Queue, Retries: t.Retries, RetryDelaySeconds: t.RetryDelaySeconds, IgnoreDependencies: t.IgnoreDependencies,
		GitRef: s.GitRef,
	}
}

// ask asks for what was asked for before. Without overrides it is the context alone, and whether the task runs alone.
func (o *order) ask(former *engine.Request, overrides bool) {
	s, t := &o.settings, &o.task
	s.Context, t.IgnoreDependencies = former.Context, former.IgnoreDependencies
	if !overrides {
		return
	}
	s.Priority, s.MaxParallel, s.TimeoutSeconds, s.GitRef = former.Priority, former.MaxParallel, former.TimeoutSeconds, former.GitRef
	t.Queue, t.Retries, t.RetryDelaySeconds = former.Queue, former.Retries, former.RetryDelaySeconds
}

func set[T any](into, given *T) {
	if given != nil {
		*into = *given
	}
}

// targetSpecs are the specifications of the outcome of a plan, and of its items: the last node, as all others come
// before what waits for them.
func targetSpecs(plan *workflow.Plan) []int32 {
	last := plan.Nodes[len(plan.Nodes)-1]
	specs := []int32{last.Spec}
	for _, node := range plan.Nodes {
		if strings.HasPrefix(node.Name, last.Name+"[") {
			specs = append(specs, node.Spec)
		}
	}
	return specs
}
