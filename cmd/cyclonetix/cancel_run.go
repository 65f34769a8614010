package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

func (p *program) cancelRun() *cobra.Command {
	return &cobra.Command{
		Use: "cancel-run RUN", Short: "Cancel a run",
		Long: "Cancel a run: tasks that have not started never will, those that run get SIGTERM, and SIGKILL if they do not heed it.",
		Args: p.takes("RUN"),
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			cancelled, err := service.CancelRun(ctx, args[0])
			if err != nil {
				return err
			}
			if p.format == formatJSON {
				return writeJSON(p.out, cancelled)
			}
			fmt.Fprintf(p.out, "%s %s\n", cancelled.RunID, p.paint(p.out, runLooks[cancelled.Status].colour, cancelled.Status.String()))
			if !cancelled.Status.Ended() {
				p.talk("it is cancelled, and ends when its processes have: `%s show-run %s --follow` watches it", calledAs(), cancelled.RunID)
			}
			return nil
		}),
	}
}
