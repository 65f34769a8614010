package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/checkout"
	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/discovery"
	"github.com/cyclonetix/cyclonetix/internal/embedded"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The values of the key backend.
const (
	backendPostgres = "postgresql"
	backendMemory   = "memory"
)

// openBackend opens the backend of the configuration, and starts the embedded database where none is named.
func (s *stack) openBackend(ctx context.Context) error {
	if s.settings.Backend == backendMemory {
		if s.roles != (roles{}).orAll() {
			return withHint(errors.New("the backend memory works in one process only, with all roles"), "leave out --orchestrator, --agent and --ui")
		}
		s.backend = memory.New(memory.Options{MaxPendingSubmits: s.settings.Orchestrator.MaxPendingSubmits})
		return nil
	}
	if err := s.findDatabase(ctx); err != nil {
		return err
	}
	options := postgresOptions(s.settings, s.backendURL, s.logger)
	if s.roles.orchestrator || s.roles.ui {
		if err := postgres.MigrateUp(ctx, options); err != nil {
			return s.explainDatabase(fmt.Errorf("bring the schema up to date: %w", err))
		}
	}
	backend, err := postgres.Open(ctx, options)
	if err != nil {
		return s.explainDatabase(err)
	}
	s.backend = backend
	return nil
}

// findDatabase finds the database's URL: the configured one; for a process without an orchestrator
// that of the server that runs here; else that of an embedded server, which it starts.
func (s *stack) findDatabase(ctx context.Context) error {
	if s.backendURL = s.settings.BackendURL; s.backendURL != "" {
		return nil
	}
	if !s.roles.orchestrator {
		running, err := discovery.Find(s.settings.ClusterID)
		other, ofOther := errors.AsType[*discovery.OtherClusterError](err)
		switch {
		case ofOther:
			return explainOther(other)
		case err != nil:
			return withHint(errors.New("no server runs on this machine, and no database is configured"),
				"start `cyclonetix serve --orchestrator --ui` first, or give --backend-url URL")
		case running.BackendURL == "":
			return errNoDatabase
		}
		s.backendURL = running.BackendURL
		return nil
	}
	started, err := embedded.Start(ctx, embedded.Options{DataDirectory: s.settings.Embedded.DataDirectory})
	if err != nil {
		return fmt.Errorf("start the embedded database: %w", err)
	}
	s.embedded, s.backendURL = started, started.URL()
	s.logger.Info("the embedded database runs", "version", started.Version(), "data", started.DataDirectory())
	return nil
}

// postgresOptions are the configuration's settings of a database. The direct URL goes with the configured one.
func postgresOptions(settings *config.Config, url string, logger *slog.Logger) postgres.Options {
	own := settings.PostgreSQL
	options := postgres.Options{
		URL: url, Cluster: settings.ClusterID, MaxConnections: own.MaxConnections,
		StatementTimeout:   time.Duration(own.StatementTimeoutSeconds) * time.Second,
		ConnectionLifetime: time.Duration(own.ConnectionLifetimeSeconds) * time.Second,
		PreparedStatements: own.UsePreparedStatements, Interval: postgres.Interval(own.PartitionInterval),
		MaxPendingSubmits: settings.Orchestrator.MaxPendingSubmits, Logger: logger,
	}
	if url == settings.BackendURL {
		options.DirectURL = own.DirectURL
	}
	return options
}

func agentOptions(settings *config.Config, backend engine.Backend, logger *slog.Logger) agent.Options {
	own := settings.Agent
	return agent.Options{
		Open: backend.OpenAgent,
		Info: engine.AgentInfo{
			ID: processName(), Queues: own.Queues, Tags: own.Tags, Slots: own.Concurrency, Version: programVersion(),
			HeartbeatInterval: time.Duration(own.HeartbeatIntervalSeconds) * time.Second,
		},
		ExecutionTimeout: time.Duration(own.ExecutionTimeoutSeconds) * time.Second,
		ShutdownGrace:    time.Duration(own.ShutdownGraceSeconds) * time.Second,
		LogBytes:         settings.Logs.MaxBytesPerTask, CleanupTempFiles: own.CleanupTempFiles,
		MemoryLimitMB: own.Execution.MemoryLimitMB, CPULimitPercent: own.Execution.CPULimitPercent,
		InheritEnv: own.Execution.InheritEnv, Git: gitOptions(&settings.Git), Logger: logger,
	}
}

func gitOptions(own *config.Git) agent.Git {
	options := agent.Git{
		Checkout: checkout.Options{
			Path: own.Cache.Path, NoCache: !own.Cache.Enabled, MaxBytes: int64(own.Cache.MaxSizeMB) << 20,
			TTL: time.Duration(own.Cache.TTLMinutes) * time.Minute, SSHKeyPath: own.Auth.SSHKeyPath,
			Policy: gitrepo.Policy{
				AllowedDomains: own.Security.AllowedDomains, AllowedRepos: own.Security.AllowedRepos, DisallowedRepos: own.Security.DisallowedRepos,
			},
		},
		FailOnFindings: own.Security.Scan.FailOnFindings,
	}
	if own.Security.Scan.Enabled {
		options.Scan = own.Security.Scan.Command
	}
	for _, one := range own.Auth.Credentials {
		options.Checkout.Credentials = append(options.Checkout.Credentials, checkout.Credential(one))
	}
	for _, one := range own.Environments {
		options.Environments = append(options.Environments, agent.GitEnvironment(one))
	}
	return options
}

func engineLimits(settings *config.Config) workflow.Limits {
	limits := workflow.DefaultLimits
	limits.MaxRescues = settings.Agent.MaxRescues
	return limits
}

// declaredQueues are those that tasks may name; agents that are registered may add to them.
func declaredQueues(settings *config.Config) []string {
	declared := append(slices.Clone(settings.Queues), settings.Agent.Queues...)
	slices.Sort(declared)
	return slices.Compact(declared)
}
