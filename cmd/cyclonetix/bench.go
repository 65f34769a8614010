package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/bench"
	"github.com/cyclonetix/cyclonetix/internal/discovery"
	"github.com/cyclonetix/cyclonetix/internal/embedded"
)

func (p *program) bench() *cobra.Command {
	var only []string
	var rounds int
	var scale float64
	var names strings.Builder
	for _, known := range bench.Cases() {
		fmt.Fprintf(&names, "\n  %-15s %s", known[0], known[1])
	}
	command := &cobra.Command{
		Use: "bench [--only CASE,…]", Short: "Measure this set-up",
		Long: "Measure Cyclonetix on the database of the configuration, else on that of the running server, else on a private\n" +
			"server in a temporary directory. It makes schemas of its own and drops them at the end. All cases take about ten\n" +
			"minutes; nothing else should be busy. What the figures mean stands in docs/benchmarks.md.\n\nCases:" + names.String(),
		Args: p.takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			url, done, err := p.benchDatabase(ctx)
			if err != nil {
				return err
			}
			defer done()
			report, err := bench.Run(ctx, bench.Options{URL: url, Only: only, Rounds: rounds, Scale: scale, Say: p.talk})
			if report != nil && len(report.Rows) > 0 {
				write := report.WriteTable
				if p.format == formatJSON {
					write = report.WriteJSON
				}
				err = errors.Join(err, write(p.out))
			}
			return err
		},
	}
	command.Flags().StringSliceVar(&only, "only", nil, "run these `cases` only, separated by commas")
	command.Flags().IntVar(&rounds, "rounds", 0, "`number` of rounds; a figure is their median (default 3)")
	command.Flags().Float64Var(&scale, "scale", 1, "multiply the sizes by this `factor`; the bars are meant for 1")
	return command
}

// benchDatabase is the database to measure: the configured one, the running server's, or a private one.
func (p *program) benchDatabase(ctx context.Context) (url string, done func(), err error) {
	settings, _, err := p.configuration()
	if err != nil {
		return "", nil, err
	}
	if settings.BackendURL != "" {
		return settings.BackendURL, func() {}, nil
	}
	if running, err := discovery.Find(settings.ClusterID); err == nil && running.BackendURL != "" {
		p.talk("measuring on the database of the running server")
		return running.BackendURL, func() {}, nil
	}
	directory, err := os.MkdirTemp("", "cyclonetix-bench-*")
	if err != nil {
		return "", nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	// Root's server runs as another user, who has to get through.
	if err := os.Chmod(directory, 0o711); err != nil { //nolint:gosec // the data in it have a mode of their own
		return "", nil, errors.Join(fmt.Errorf("open the temporary directory to the server's user: %w", err), os.RemoveAll(directory))
	}
	p.talk("measuring on a private database in %s", directory)
	started, err := embedded.Start(ctx, embedded.Options{DataDirectory: filepath.Join(directory, "postgres")})
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("start a private database: %w", err), os.RemoveAll(directory))
	}
	return started.URL(), func() {
		_ = started.Stop(context.WithoutCancel(ctx)) // its data go with it
		_ = os.RemoveAll(directory)
	}, nil
}
