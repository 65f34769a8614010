package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) scheduleTask() *cobra.Command {
	var s scheduling
	command := &cobra.Command{
		Use: "schedule-task TASK", Short: "Start a run of a task and all that it depends on",
		Long: "Start a run by its outcome: of the task and, recursively, all that it depends on, and of nothing else.\n" +
			"The run's id goes to standard output.",
		Args:    p.takes("TASK"),
		PreRunE: func(command *cobra.Command, _ []string) error { return p.usage(command, s.read()) },
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			if s.dryRun {
				plan, err := service.Plan(ctx, &api.PlanRequest{TaskID: args[0], Settings: s.settings, TaskSettings: s.task})
				if err != nil {
					return err
				}
				return p.writePlan(plan)
			}
			scheduled, err := service.ScheduleTask(ctx, &api.ScheduleTask{TaskID: args[0], Settings: s.settings, TaskSettings: s.task})
			if err != nil {
				return err
			}
			return p.started(ctx, service, &s, scheduled)
		}),
	}
	s.addFlags(command)
	s.addTaskFlags(command)
	return command
}
