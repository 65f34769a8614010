package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/embedded"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
)

func (p *program) sql() *cobra.Command {
	var statements []string
	command := &cobra.Command{
		Use: "sql [-c SQL] [-- PSQL-ARGUMENT…]", Short: "Open psql on the backend",
		Long: "Open psql on the backend, with the views for people first in the search path: runs, task_runs, queues, agents.\n" +
			"What stands after -- goes to psql.",
		Example: "  cyclonetix sql\n  cyclonetix sql -c 'SELECT status, count(*) FROM runs GROUP BY status'\n  cyclonetix sql -- --csv -c 'TABLE agents'",
		Args: func(command *cobra.Command, args []string) error {
			if own := command.ArgsLenAtDash(); len(args) > 0 && own != 0 {
				return &usageError{fmt.Sprintf("sql takes SQL after -c, and psql's own arguments after --, and not %q", args[0]), command.CommandPath()}
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			settings, _, err := p.configuration()
			if err != nil {
				return err
			}
			target, _, err := p.database(settings)
			if err != nil {
				return err
			}
			if target == "" {
				return errNoDatabase
			}
			if settings.PostgreSQL.DirectURL != "" && target == settings.BackendURL {
				target = settings.PostgreSQL.DirectURL // a pooler takes no search_path at the start of a session
			}
			psql, err := findPSQL(command.Context())
			if err != nil {
				return err
			}
			for _, statement := range statements {
				args = append(args, "-c", statement)
			}
			return execPSQL(psql, target, schemaOf(settings), args)
		},
	}
	command.Flags().StringArrayVarP(&statements, "command", "c", nil, "run `SQL` and exit; may be repeated")
	return command
}

// schemaOf is the schema of the cluster's views.
func schemaOf(settings *config.Config) string {
	if settings.ClusterID == postgres.DefaultCluster {
		return "cyclonetix"
	}
	return "cyclonetix_" + settings.ClusterID
}

// findPSQL finds psql, beside the server's programs where it is not in the path.
func findPSQL(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("psql"); err == nil {
		return path, nil
	}
	if binaries, err := embedded.FindBinaries(ctx); err == nil {
		if path := binaries.Path("psql"); exec.Command(path, "--version").Run() == nil { //nolint:noctx // it ends at once
			return path, nil
		}
	}
	return "", withHint(errors.New("psql is not on this machine"),
		"install it: apt-get install postgresql-client (Debian, Ubuntu), dnf install postgresql (Fedora), brew install libpq (macOS)")
}

// withoutPassword takes the password out of a URL. Of two, the query's counts, as for libpq.
func withoutPassword(target string) (shown, password string) {
	parsed, err := url.Parse(target)
	if err != nil {
		return target, ""
	}
	password, given := parsed.User.Password()
	if given {
		parsed.User = url.User(parsed.User.Username())
	}
	const name = "password"
	if query := parsed.Query(); query.Has(name) {
		given, password = true, query.Get(name)
		query.Del(name)
		parsed.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq takes a + as it is
	}
	if !given {
		return target, ""
	}
	return parsed.String(), password
}

// execPSQL becomes psql. The password does not go through its arguments, which everybody can see.
func execPSQL(psql, target, schema string, args []string) error {
	target, password := withoutPassword(target)
	variables := []string{"PGOPTIONS=" + strings.TrimSpace(os.Getenv("PGOPTIONS")+" -c search_path="+schema+",public")}
	if password != "" {
		variables = append(variables, "PGPASSWORD="+password)
	}
	environment := slices.Concat(variables, os.Environ()) // psql takes the first of two
	arguments := append([]string{"psql", "--dbname", target}, args...)
	if err := syscall.Exec(psql, arguments, environment); err != nil {
		return fmt.Errorf("start %s: %w", psql, err)
	}
	return nil // not reached: this process is psql now
}
