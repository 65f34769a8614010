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
		Long: "Start a run that repeats one which has ended: with what that was given and asked for, by today's definitions. The id of the\n" +
			"new run goes to standard output.\n\n" +
			"What is kept ends at once, with its output; its files in $CYCLO_RUN_DIR stay with the old run. A task whose items come from\n" +
			"an output (for_each) is kept as a whole, or runs all its items again.",
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
	flags.StringVar(&request.FromTask, "from-task", "", "run this `task` and all after it, and keep what completed of the rest; for one that was added to the run, what added it")
	flags.BoolVar(&request.ResetParams, "reset-params", false, "leave out what the run was given: environment, parameters, queue, time-out, retries, priority, bound")
	flags.BoolVar(&wait, "wait", false, "watch the run until it has ended; exit with 1 when it failed")
	return command
}
