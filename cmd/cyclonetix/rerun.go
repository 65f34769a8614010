package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) rerun() *cobra.Command {
	var request api.Rerun
	var wait bool
	command := &cobra.Command{
		Use: "rerun RUN", Short: "Start a run that repeats one which has ended",
		Long: "Start a run that repeats one which has ended: with what that was given, by today's definitions. The id of the new run\n" +
			"goes to standard output.",
		Args: p.takes("RUN"),
		PreRunE: func(command *cobra.Command, _ []string) error {
			if request.FailedOnly && request.FromTask != "" {
				return p.usage(command, fmt.Errorf("--failed-only and --from-task do not go together"))
			}
			return nil
		},
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			scheduled, err := service.Rerun(ctx, args[0], &request)
			if err != nil {
				return err
			}
			return p.started(ctx, service, &scheduling{wait: wait}, scheduled)
		}),
	}
	flags := command.Flags()
	flags.BoolVar(&request.FailedOnly, "failed-only", false, "keep what completed, and run the rest")
	flags.StringVar(&request.FromTask, "from-task", "", "run this `task` and all after it, and keep what completed of the rest")
	flags.BoolVar(&request.ResetParams, "reset-params", false, "leave out the environment and the parameters that the run was given")
	flags.BoolVar(&wait, "wait", false, "watch the run until it has ended; exit with 1 when it failed")
	return command
}
