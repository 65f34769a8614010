package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// secrets are what of a URL must not stand in a program's arguments, which everybody can see.
type secrets struct{ password, sslPassword string }

var errServiceToo = errors.New("the URL of the database names a service and an sslpassword: put the sslpassword into the service's file")

// withoutSecrets takes the passwords out of a URL. Of two passwords, the query's counts, as for libpq.
func withoutSecrets(target string) (shown string, hidden secrets, err error) {
	parsed, err := url.Parse(target)
	if err != nil {
		return target, hidden, nil //nolint:nilerr // psql says what is wrong with it
	}
	password, changed := parsed.User.Password()
	if changed {
		hidden.password, parsed.User = password, url.User(parsed.User.Username())
	}
	query := parsed.Query()
	take := func(name string, into *string) {
		if query.Has(name) {
			changed, *into = true, query.Get(name)
			query.Del(name)
		}
	}
	take("password", &hidden.password)
	take("sslpassword", &hidden.sslPassword)
	if hidden.sslPassword != "" {
		if query.Has("service") {
			return "", hidden, errServiceToo
		}
		query.Set("service", serviceName)
	}
	if !changed {
		return target, hidden, nil
	}
	parsed.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq takes a + as it is
	return parsed.String(), hidden, nil
}

// serviceName is the service that gives psql the password of a client's key.
const serviceName = "cyclonetix"

// execPSQL becomes psql. Passwords do not go through its arguments.
func execPSQL(psql, target, schema string, args []string) error {
	target, hidden, err := withoutSecrets(target)
	if err != nil {
		return err
	}
	variables := []string{"PGOPTIONS=" + strings.TrimSpace(os.Getenv("PGOPTIONS")+" -c search_path="+schema+",public")}
	if hidden.password != "" {
		variables = append(variables, "PGPASSWORD="+hidden.password)
	}
	if hidden.sslPassword != "" {
		path, err := serviceFile(hidden.sslPassword)
		if err != nil {
			return fmt.Errorf("hand the sslpassword to psql: %w", err)
		}
		variables = append(variables, "PGSERVICEFILE="+path)
	}
	environment := slices.Concat(variables, os.Environ()) // psql takes the first of two
	arguments := append([]string{"psql", "--dbname", target}, args...)
	if err := syscall.Exec(psql, arguments, environment); err != nil {
		return fmt.Errorf("start %s: %w", psql, err)
	}
	return nil // not reached: this process is psql now
}

// serviceFile gives the path of a file with the password of a client's key, for which libpq has no variable of the
// environment. The file has no name any more and stays open: it goes with psql, which nobody could wait for to remove it.
func serviceFile(password string) (path string, err error) {
	if strings.ContainsAny(password, "\r\n") {
		return "", errors.New("it has more than one line")
	}
	file, err := os.CreateTemp("", "cyclonetix-") // with mode 0600
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // what was written is read through the copy
	if err := os.Remove(file.Name()); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(file, "[%s]\nsslpassword=%s\n", serviceName, password); err != nil {
		return "", err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	inherited, err := syscall.Dup(int(file.Fd())) // unlike the file itself, psql gets it
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/dev/fd/%d", inherited), nil
}
