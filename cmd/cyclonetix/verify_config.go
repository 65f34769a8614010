package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/discovery"
	"github.com/cyclonetix/cyclonetix/internal/embedded"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
	"github.com/cyclonetix/cyclonetix/internal/spec"
)

func (p *program) verifyConfig() *cobra.Command {
	return &cobra.Command{
		Use: "verify-config", Short: "Check the configuration, the definitions and the backend; start nothing",
		Args: p.takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			settings, warnings, err := config.Load(config.Options{File: p.configFile, Flags: p.given})
			if err != nil {
				return err
			}
			checks := []check{{"configuration", nil, fmt.Sprintf("%s set, of %d keys", count(set(settings), "key"), len(settings.Sources))}}
			for _, warning := range warnings {
				checks = append(checks, check{name: "warning", finding: warning.String()})
			}
			checks = append(checks, checkDefinitions(settings), p.checkBackend(ctx, settings))
			return p.writeChecks(checks)
		},
	}
}

// check is one thing that was looked at.
type check struct {
	name    string
	err     error
	finding string
}

func set(settings *config.Config) int {
	number := 0
	for _, source := range settings.Sources {
		if source != "default" {
			number++
		}
	}
	return number
}

func checkDefinitions(settings *config.Config) check {
	loaded, problems := spec.NewLoader(directoriesOf(settings), spec.Defaults{Queue: settings.DefaultQueue}).Load()
	catalog := spec.NewCatalog(loaded.Definitions, spec.CatalogOptions{Queues: declaredQueues(settings)})
	problems = append(problems, catalog.Problems()...)
	c := check{name: "definitions", finding: fmt.Sprintf("%s, no problems", count(len(loaded.Definitions), "definition"))}
	if len(loaded.Definitions) == 0 && len(problems) == 0 {
		c.finding = fmt.Sprintf("none: there is no .yaml or .yml file in %s and the other directories", settings.TaskDirectory)
	}
	var errs []error
	for i := range problems {
		errs = append(errs, problems[i])
	}
	c.err = errors.Join(errs...)
	return c
}

// checkBackend says what a server would find.
func (p *program) checkBackend(ctx context.Context, settings *config.Config) check {
	c := check{name: "backend"}
	url := settings.BackendURL
	if settings.Backend == backendMemory {
		c.finding = "memory: it forgets everything when the server ends"
		return c
	}
	if url == "" {
		if running, err := discovery.Find(settings.ClusterID); err == nil {
			url, c.finding = running.BackendURL, "the running server's "
		}
	}
	if url == "" {
		binaries, err := embedded.FindBinaries(ctx)
		c.err, c.finding = err, fmt.Sprintf("an embedded PostgreSQL %s from %s would be started", binaries.Version, binaries.Dir)
		return c
	}
	connect, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	status, err := postgres.Status(connect, postgresOptions(settings, url, nil))
	c.err = p.explainDatabase(err)
	c.finding += fmt.Sprintf("PostgreSQL answers; its schema is at migration %d of %d", status.Version, status.Newest)
	return c
}

func (p *program) writeChecks(checks []check) error {
	failed := false
	type result struct {
		Check string `json:"check"`
		OK    bool   `json:"ok"`
		Text  string `json:"text"`
	}
	var results []result
	for _, c := range checks {
		text := c.finding
		if c.err != nil {
			failed, text = true, cmp.Or(c.err.Error(), "failed")
		}
		results = append(results, result{c.name, c.err == nil, text})
	}
	if p.format == formatJSON {
		if err := writeJSON(p.out, results); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			mark := p.paint(p.out, green, "ok   ")
			if !r.OK {
				mark = p.paint(p.out, red, "error")
			}
			fmt.Fprintf(p.out, "%s  %s: %s\n", mark, r.Check, r.Text)
		}
	}
	if failed {
		return statusError(exitFailed)
	}
	return nil
}
