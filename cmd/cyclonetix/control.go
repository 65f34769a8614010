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

func (p *program) pauseRun() *cobra.Command {
	return p.controlRun(api.ActionPause, "pause-run RUN", "Pause a run",
		"Pause a run: nothing more of it starts until it is resumed, and what runs goes on.")
}

func (p *program) resumeRun() *cobra.Command {
	return p.controlRun(api.ActionResume, "resume-run RUN", "Let a paused run go on", "Let a run go on that was paused.")
}

func (p *program) controlRun(action api.RunAction, use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: p.takes("RUN"),
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			run, err := service.ControlRun(ctx, args[0], action)
			if err != nil {
				return err
			}
			if p.format == formatJSON {
				return writeJSON(p.out, run)
			}
			fmt.Fprintf(p.out, "%s %s\n", run.RunID, p.paint(p.out, runLooks[run.Status].colour, run.Status.String()))
			return nil
		}),
	}
}

func (p *program) controlTask(action api.TaskAction, short string) *cobra.Command {
	return &cobra.Command{
		Use: string(action) + " RUN TASK", Short: short,
		Long: short + ". Without #N, TASK means the last iteration of a task that ran more than once.",
		Args: p.takes("RUN", "TASK"),
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			run, err := service.Run(ctx, args[0], api.Include{Tasks: true})
			if err != nil {
				return err
			}
			task := findTask(run, args[1])
			if task == nil {
				return unknownTask(run, args[1])
			}
			controlled, err := service.ControlTask(ctx, task.TaskRunID, action)
			if err != nil {
				return err
			}
			if p.format == formatJSON {
				return writeJSON(p.out, controlled)
			}
			fmt.Fprintf(p.out, "%s %s %s\n", controlled.RunID, controlled.ID,
				p.paint(p.out, taskLooks[controlled.Status].colour, controlled.Status.String()))
			if action == api.ActionRetry && !controlled.RunStatus.Ended() {
				p.talk("the run is %s; watch it: %s show-run %s --follow", controlled.RunStatus, calledAs(), controlled.RunID)
			}
			return nil
		}),
	}
}

// findTask finds a task run by its name, without an iteration the last one; nil when there is none.
func findTask(run *api.Run, name string) *api.Task {
	exact := strings.Contains(name, "#")
	for i := range slices.Backward(run.Tasks) {
		if id := run.Tasks[i].ID; id == name || !exact && workflow.BaseName(id) == name {
			return &run.Tasks[i]
		}
	}
	return nil
}
