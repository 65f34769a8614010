package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// scheduling is what the commands that start a run have in common.
type scheduling struct {
	settings     api.Settings
	task         api.TaskSettings
	parameters   []string
	env          []string
	wait, dryRun bool
}

func (s *scheduling) addFlags(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&s.settings.Context, "context", "", "`id` of the context for all tasks")
	flags.StringArrayVar(&s.parameters, "param", nil, "parameter `K=V` for every task that declares K, or TASK.K=V for one task; may be repeated")
	flags.StringArrayVar(&s.env, "env", nil, "environment variable `K=V` for all tasks, over everything else; may be repeated")
	flags.StringArrayVar(&s.settings.ParameterSets, "param-set", nil, "`id` of a parameter set for all tasks that declare its parameters, under --param; may be repeated")
	optionalNumber(flags, &s.settings.Priority, "priority", "`number` from 1 (first) to 4, of all tasks")
	optionalNumber(flags, &s.settings.MaxParallel, "max-parallel", "`number` of tasks that may run at once; 0 for no bound")
	optionalText(flags, &s.settings.GitRef, "git-ref", "branch, tag or commit (`ref`) of all tasks that have a repository")
	flags.StringVar(&s.settings.RunID, "run-id", "", "an `id` of your own for the run")
	flags.BoolVar(&s.wait, "wait", false, "watch the run until it has ended; exit with 1 when it failed")
	flags.BoolVar(&s.dryRun, "dry-run", false, "show what would run, in which order; start nothing")
}

// addTaskFlags adds the flags that mean the task that is asked for.
func (s *scheduling) addTaskFlags(command *cobra.Command) {
	flags := command.Flags()
	optionalText(flags, &s.task.Queue, "queue", "`queue` of the task, not of those that it depends on")
	optionalSeconds(flags, &s.settings.TimeoutSeconds, "timeout", "`seconds` that an attempt of the task may take; 0 for the agent's default")
	optionalNumber(flags, &s.task.Retries, "retries", "how `often` a failed attempt of the task is tried again")
	optionalSeconds(flags, &s.task.RetryDelaySeconds, "retry-delay", "`seconds` before the first of them")
	flags.BoolVar(&s.task.IgnoreDependencies, "ignore-dependencies", false, "run the task alone, whatever it depends on")
}

// read takes the values of the flags into the settings.
func (s *scheduling) read() error {
	if s.wait && s.dryRun {
		return fmt.Errorf("--wait and --dry-run do not go together")
	}
	parameters, err := pairs("--param", s.parameters)
	if err != nil {
		return err
	}
	if len(parameters) > 0 {
		s.settings.Parameters = make(map[string]workflow.Value, len(parameters))
		for name, value := range parameters {
			s.settings.Parameters[name] = workflow.StringValue(value)
		}
	}
	s.settings.EnvVars, err = pairs("--env", s.env)
	return err
}

// pairs reads K=V; the last one of the same K counts.
func pairs(flag string, given []string) (map[string]string, error) {
	values := make(map[string]string, len(given))
	for _, text := range given {
		name, value, found := strings.Cut(text, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("%s: %q is not of the form K=V", flag, text)
		}
		values[name] = value
	}
	return values, nil
}

// started tells that a run was started, and watches it when that was asked for.
func (p *program) started(ctx context.Context, service api.Service, s *scheduling, scheduled *api.Scheduled) error {
	if !s.wait {
		if p.format == formatJSON {
			return writeJSON(p.out, scheduled)
		}
		fmt.Fprintln(p.out, scheduled.RunID)
		p.talk("a run of %s is %s; watch it: %s show-run %s --follow",
			count(len(scheduled.Tasks), "task"), scheduled.Status, calledAs(), scheduled.RunID)
		return nil
	}
	if p.format != formatJSON {
		fmt.Fprintln(p.out, scheduled.RunID)
	}
	run, err := p.watch(ctx, service, scheduled.RunID)
	if err != nil {
		return err
	}
	return p.ended(ctx, service, run)
}

func (p *program) writePlan(plan *api.Plan) error {
	if p.format == formatJSON {
		return writeJSON(p.out, plan)
	}
	levels, kept := 0, 0
	rows := make([][]cell, len(plan.Tasks))
	for i, task := range plan.Tasks {
		mark := ""
		if task.Kept {
			mark = "kept"
			kept++
		}
		rows[i] = []cell{
			text(fmt.Sprint(task.Level + 1)), text(task.ID), text(task.Queue), text(mark), text(strings.Join(task.Dependencies, ", ")),
		}
		levels = max(levels, task.Level+1)
	}
	columns := []column{{"STEP", true}, {title: "TASK"}, {title: "QUEUE"}, {title: "FRESH"}, {title: "DEPENDS ON"}}
	if kept == 0 {
		columns = slices.Delete(columns, 3, 4)
		for i := range rows {
			rows[i] = slices.Delete(rows[i], 3, 4)
		}
		p.talk("%s in %s; nothing was started", count(len(plan.Tasks), "task"), count(levels, "step"))
	} else {
		p.talk("%s in %s, of which %d would be kept from earlier runs; nothing was started", count(len(plan.Tasks), "task"), count(levels, "step"), kept)
	}
	p.writeTable(columns, rows)
	return nil
}

// count is a number with its noun.
func count(number int, noun string) string {
	if number != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", number, noun)
}
