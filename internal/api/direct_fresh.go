package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// freshRuns is how many of the newest runs by outcome are looked at for work that need not be done again, and freshNodes
	// how many nodes of them.
	freshRuns  = 100
	freshNodes = 1_000_000
	// freshReach is how much longer ago than its end a task's run may have begun.
	freshReach = 7 * 24 * time.Hour
)

// reuse keeps the task runs of earlier runs by outcome that are fresh enough (fresh_for), and what only they need.
//
// A success is reused where its task and all that it depends on are defined as they were, and were given the same.
// Tasks with items, and those that wait for an evaluation point, are never reused.
func (d *Direct) reuse(ctx context.Context, submission *engine.Submission) error {
	f := freshness{direct: d, plan: submission.Plan, now: d.backend.Now(), found: map[int32]*source{}}
	window := f.candidates()
	if len(f.open) == 0 {
		return nil
	}
	f.prints = fingerprints(submission.Plan, &submission.Values)
	since := f.now.Add(-window)
	runs, err := d.backend.Outcomes(ctx, since.Add(-freshReach), freshRuns)
	if err != nil {
		return d.explain(ctx, "look for work that is fresh", err)
	}
	budget := freshNodes
	for i := range runs {
		run := &runs[i]
		if len(f.open) == 0 || budget < 0 {
			break
		}
		if run.Request != nil && run.Request.IgnoreDependencies || !run.EndTime.IsZero() && run.EndTime.Before(since) {
			continue
		}
		looked, err := f.look(ctx, run)
		if budget -= looked; err != nil && !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, engine.ErrGone) {
			return d.explain(ctx, "look for work that is fresh in run "+run.Name, err)
		}
	}
	submission.Options.Kept = f.kept()
	return nil
}

// freshness looks for earlier work of a plan.
type freshness struct {
	direct *Direct
	plan   *workflow.Plan
	now    time.Time
	prints []workflow.Hash
	open   []int32           // nodes that may be fresh, and were not found yet
	found  map[int32]*source // of those that were
}

// source is a run that did work which is fresh.
type source struct {
	run   workflow.RunID
	tasks map[string]*engine.TaskRunView
}

// candidates finds the nodes that may be fresh, and the longest time that one stays so.
func (f *freshness) candidates() (window time.Duration) {
	for i := range f.plan.Nodes {
		spec := f.plan.Specs[f.plan.Nodes[i].Spec]
		if spec.FreshForSeconds > 0 && spec.ForEach == nil && spec.Item == nil {
			f.open = append(f.open, int32(i)) //nolint:gosec // bounded
			window = max(window, freshFor(spec))
		}
	}
	return window
}

func freshFor(spec *workflow.TaskSpec) time.Duration {
	return time.Duration(spec.FreshForSeconds * float64(time.Second))
}

// look looks for the open nodes in a run, and says how many nodes that had.
func (f *freshness) look(ctx context.Context, run *engine.RunView) (nodes int, err error) {
	catalog, err := f.direct.language.Catalog(ctx, run.Revision)
	if err != nil {
		return 0, err
	}
	plan, err := catalog.PlanTask(run.DAG)
	if err != nil {
		return 0, nil //nolint:nilerr // it was planned in another way
	}
	if run.Request != nil && run.Request.GitRef != nil {
		overrideGitRef(plan, *run.Request.GitRef)
	}
	given, err := f.direct.backend.Given(ctx, run.ID)
	if err != nil {
		return len(plan.Nodes), err
	}
	if len(given.Former) > 0 {
		return len(plan.Nodes), nil // its tasks were given more than that
	}
	prints := fingerprints(plan, given)
	byName := make(map[string]workflow.Hash, len(plan.Nodes))
	for i := range plan.Nodes {
		byName[plan.Nodes[i].Name] = prints[i]
	}
	same := func(node int32) bool {
		return !f.prints[node].IsZero() && byName[f.plan.Nodes[node].Name] == f.prints[node]
	}
	if !slices.ContainsFunc(f.open, same) {
		return len(plan.Nodes), nil
	}
	tasks, err := f.direct.backend.TaskRuns(ctx, run.ID)
	if err != nil {
		return len(plan.Nodes), err
	}
	if run.Request == nil && len(tasks) < len(plan.Nodes) {
		return len(plan.Nodes), nil // it ran without what its task depends on
	}
	from := &source{run: run.ID, tasks: make(map[string]*engine.TaskRunView, len(tasks))}
	for i := range tasks {
		from.tasks[tasks[i].Name] = &tasks[i]
	}
	f.open = slices.DeleteFunc(f.open, func(node int32) bool {
		task := from.tasks[f.plan.Nodes[node].Name]
		if !same(node) || task == nil || task.Status != workflow.TaskCompleted || task.Cause == workflow.CauseKept ||
			task.EndTime.Before(f.now.Add(-freshFor(f.plan.Specs[f.plan.Nodes[node].Spec]))) {
			return false
		}
		f.found[node] = from
		return true
	})
	return len(plan.Nodes), nil
}

// kept are the nodes that are fresh, and those that only they need.
func (f *freshness) kept() []workflow.KeptNode {
	if len(f.found) == 0 {
		return nil
	}
	needed := make([]bool, len(f.plan.Nodes))
	needed[len(needed)-1] = true // the outcome
	sources := make([]*source, len(needed))
	var kept []workflow.KeptNode
	for i := len(needed) - 1; i >= 0; i-- { // each before those that it waits for
		node := &f.plan.Nodes[i]
		from := f.found[int32(i)] //nolint:gosec // bounded
		if from == nil && !needed[i] {
			from = sources[i]
		}
		for _, parent := range node.Dependencies {
			if from == nil {
				needed[parent] = true
			} else if sources[parent] == nil {
				sources[parent] = from
			}
		}
		if from == nil {
			continue
		}
		one := workflow.KeptNode{Node: int32(i)} //nolint:gosec // bounded
		if task := from.tasks[node.Name]; task != nil && task.Status == workflow.TaskCompleted {
			one.From, one.FromNode = from.run, task.Node
		}
		kept = append(kept, one)
	}
	slices.Reverse(kept)
	return kept
}

// fingerprints are hashes of what the nodes of a plan by outcome are made from: their definitions and values, and those
// of all that they wait for. One that is never the same twice is zero.
func fingerprints(plan *workflow.Plan, values *workflow.RunValues) []workflow.Hash {
	shared := encode(values.Variables, values.Env)
	prints := make([]workflow.Hash, len(plan.Nodes))
nodes:
	for i := range plan.Nodes {
		spec := plan.Specs[plan.Nodes[i].Spec]
		if spec.EvaluationPoint {
			continue
		}
		variant := spec.TaskID + ":" + spec.Variant
		own := encode(
			spec.TaskID, spec.Variant, spec.Parameters, spec.Env, spec.Variables, spec.ForEach, spec.Item, spec.Git,
			values.Parameters[spec.TaskID], values.Parameters[variant], values.Sensitive[spec.TaskID], values.Sensitive[variant],
		)
		moment, steady := moments(string(own)+string(shared), values.Macros)
		if !steady {
			continue
		}
		parts := [][]byte{shared, own, encode(spec.Command), []byte(moment)}
		for _, parent := range plan.Nodes[i].Dependencies {
			if prints[parent].IsZero() {
				continue nodes
			}
			parts = append(parts, prints[parent][:])
		}
		prints[i] = workflow.HashOf(parts...)
	}
	return prints
}

func encode(content ...any) []byte {
	text, err := json.Marshal(content)
	if err != nil {
		panic(fmt.Sprintf("encode values: %v", err)) // they were checked when the plan was made
	}
	return text
}

// moments are the dates that values mean by macros. Steady is false where there is a macro that differs from run to run.
func moments(text string, macros *workflow.Macros) (dates string, steady bool) {
	for _, macro := range []string{"${TIME}", "${DATETIME}", "${RANDOM:", "${RUN_ID}"} {
		if strings.Contains(text, macro) {
			return "", false
		}
	}
	day, logical := strings.Contains(text, "${DATE}"), strings.Contains(text, "${LOGICAL_DATE}")
	switch {
	case !day && !logical:
		return "", true
	case macros == nil:
		return "", false
	}
	if day {
		dates = macros.Time.UTC().Format(time.DateOnly)
	}
	if logical {
		dates += "/" + macros.LogicalDate.UTC().Format(time.RFC3339)
	}
	return dates, true
}
