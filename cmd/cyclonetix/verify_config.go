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
			checks := []check{checkSettings(settings, err)}
			for _, warning := range warnings {
				checks = append(checks, check{name: "warning", finding: warning.String()})
			}
			checks = append(checks, checkDefinitions(settings), p.checkBackend(ctx, settings))
			return p.writeChecks(checks)
		},
	}
}

// check is one thing that was looked at. It has failed when there is an error or a problem.
type check struct {
	name    string
	err     error
	finding string
	report
}

func (c *check) failed() bool { return c.err != nil || len(c.problems) > 0 }

// checkSettings tells what is wrong with the configuration. What could be read of it is looked at further.
func checkSettings(settings *config.Config, err error) check {
	c := check{name: "configuration", finding: fmt.Sprintf("%s set, of %d keys", count(set(settings), "key"), len(settings.Sources))}
	var wrong config.Errors
	if !errors.As(err, &wrong) {
		c.err = err
		return c
	}
	for _, one := range wrong {
		file, line, column := one.Place()
		c.problems = append(c.problems, spec.Problem{File: file, Line: line, Column: column, Message: one.Text})
	}
	c.finding = c.summary()
	return c
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
	catalog := spec.NewCatalog(loaded.Definitions, spec.CatalogOptions{Queues: declaredQueues(settings), DefaultContext: settings.DefaultContext})
	c := check{name: "definitions", report: report{append(problems, catalog.Problems()...), catalog.Warnings()}}
	c.sort()
	c.finding = count(len(loaded.Definitions), "definition") + ", " + c.summary()
	if len(loaded.Definitions) == 0 && len(c.problems) == 0 {
		c.finding = fmt.Sprintf("none: there is no .yaml or .yml file in %s and the other directories", settings.TaskDirectory)
	}
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
	type result struct {
		Check    string        `json:"check"`
		OK       bool          `json:"ok"`
		Text     string        `json:"text"`
		Hint     string        `json:"hint,omitempty"`
		Problems []problemJSON `json:"problems,omitempty"`
		Warnings []problemJSON `json:"warnings,omitempty"`
	}
	var results []result
	failed := false
	for i := range checks {
		c := &checks[i]
		failed = failed || c.failed()
		one := result{
			Check: c.name, OK: !c.failed(), Text: c.finding, Problems: problemsJSON(c.problems), Warnings: problemsJSON(c.warnings),
		}
		if c.err != nil {
			one.Text, one.Hint = cmp.Or(c.err.Error(), "failed"), hintOf(c.err)
		}
		results = append(results, one)
		if p.format == formatJSON {
			continue
		}
		mark := p.paint(p.out, green, "ok   ")
		if !one.OK {
			mark = p.paint(p.out, red, "error")
		}
		fmt.Fprintf(p.out, "%s  %s: %s\n", mark, one.Check, one.Text)
		p.showHint(one.Hint)
		p.showProblems("", c.problems)
		p.showProblems("warning: ", c.warnings)
	}
	if p.format == formatJSON {
		if err := writeJSON(p.out, results); err != nil {
			return err
		}
	}
	if failed {
		return statusError(exitFailed)
	}
	return nil
}
