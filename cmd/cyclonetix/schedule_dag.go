package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) scheduleDAG() *cobra.Command {
	var s scheduling
	command := &cobra.Command{
		Use: "schedule-dag DAG", Short: "Start a run of a DAG",
		Long:    "Start a run of the tasks that a DAG lists. The run's id goes to standard output.",
		Args:    p.takes("DAG"),
		PreRunE: func(command *cobra.Command, _ []string) error { return p.usage(command, s.read()) },
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			if s.dryRun {
				plan, err := service.Plan(ctx, &api.PlanRequest{DAGID: args[0], Settings: s.settings})
				if err != nil {
					return err
				}
				return p.writePlan(plan)
			}
			scheduled, err := service.ScheduleDAG(ctx, &api.ScheduleDAG{DAGID: args[0], Settings: s.settings})
			if err != nil {
				return err
			}
			return p.started(ctx, service, &s, scheduled)
		}),
	}
	s.addFlags(command)
	optionalSeconds(command.Flags(), &s.settings.TimeoutSeconds, "timeout", "`seconds` that the whole run may take; 0 for no bound")
	return command
}
