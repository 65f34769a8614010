package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/postgres"
)

func (p *program) migrate() *cobra.Command {
	migrate := &cobra.Command{
		Use: "migrate", Short: "Bring the schema of the Postgres backend up to date, or take it back",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{"migrate needs up, down or status", command.CommandPath()}
			}
			return p.noCommand(command, args)
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	up := &cobra.Command{
		Use: "up", Short: "Apply the migrations that are missing",
		Args: p.takes(),
		RunE: p.withDatabase(func(ctx context.Context, options postgres.Options) error {
			if err := postgres.MigrateUp(ctx, options); err != nil {
				return err
			}
			return p.showSchema(ctx, options)
		}),
	}
	status := &cobra.Command{
		Use: "status", Short: "Show how far the schema is",
		Args: p.takes(),
		RunE: p.withDatabase(p.showSchema),
	}
	migrate.AddCommand(up, p.migrateDown(), status)
	return migrate
}

func (p *program) migrateDown() *cobra.Command {
	var steps int
	var confirm bool
	down := &cobra.Command{
		Use: "down", Short: "Take migrations back; what was stored by them is lost",
		Args: p.takes(),
		PreRunE: func(command *cobra.Command, _ []string) error {
			if steps < 1 {
				return p.usage(command, fmt.Errorf("--steps: %d is below 1", steps))
			}
			return nil
		},
		RunE: p.withDatabase(func(ctx context.Context, options postgres.Options) error {
			if !confirm {
				return withHint(errors.New("migrate down deletes what the migrations hold: runs, logs, definitions"), "give --confirm to do it")
			}
			if err := postgres.MigrateDown(ctx, options, steps); err != nil {
				return err
			}
			return p.showSchema(ctx, options)
		}),
	}
	down.Flags().IntVar(&steps, "steps", 1, "`number` of migrations to take back")
	down.Flags().BoolVar(&confirm, "confirm", false, "really do it")
	return down
}

func (p *program) showSchema(ctx context.Context, options postgres.Options) error {
	status, err := postgres.Status(ctx, options)
	if err != nil {
		return err
	}
	if p.format == formatJSON {
		return writeJSON(p.out, map[string]any{"version": status.Version, "newest": status.Newest, "dirty": status.Dirty})
	}
	fmt.Fprintf(p.out, "the schema is at migration %d; this program knows %d\n", status.Version, status.Newest)
	switch {
	case status.Dirty:
		return withHint(fmt.Errorf("migration %d broke off", status.Version), "mend what stopped it, then `cyclonetix migrate up`")
	case status.Version < status.Newest:
		p.talk("`cyclonetix migrate up` applies the rest; `cyclonetix serve` does so by itself")
	}
	return nil
}

// withDatabase gives a command the options to reach the database.
func (p *program) withDatabase(work func(ctx context.Context, options postgres.Options) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		settings, _, err := p.configuration()
		if err != nil {
			return err
		}
		url, _, err := p.database(settings)
		if err != nil {
			return err
		}
		if url == "" {
			return errNoDatabase
		}
		return p.explainDatabase(work(ctx, postgresOptions(settings, url, nil)))
	}
}

var errNoDatabase = errors.New("the server that runs keeps its state in its memory: there is no database")

// explainDatabase adds what to do about an error of the database.
func (p *program) explainDatabase(err error) error {
	switch {
	case err == nil || errors.Is(err, context.Canceled) || hintOf(err) != "":
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return withHint(errors.New("the database does not answer"), hintReach)
	}
	var operation *net.OpError
	var name *net.DNSError
	if errors.As(err, &operation) || errors.As(err, &name) {
		return withHint(err, hintReach)
	}
	return err
}

const hintReach = "see whether PostgreSQL runs there, and whether --backend-url is right"
