package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/discovery"
	"github.com/cyclonetix/cyclonetix/internal/embedded"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	"github.com/cyclonetix/cyclonetix/internal/orchestrator"
	"github.com/cyclonetix/cyclonetix/internal/server"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/trigger"
)

// stack is all that runs in a server's process, from the database at the bottom to the pages.
//
//	embedded PostgreSQL ◀ backend ◀ definitions, orchestrator, jobs, server ◀ agent
//
// It is built from left to right and taken down from right to left: an agent hands back what it
// holds while everything else still works.
type stack struct {
	*program
	*serving

	settings   *config.Config
	logger     *slog.Logger
	listener   net.Listener     // of the pages; nil when they are not served
	embedded   *embedded.Server // nil when there is a database of the user's
	backend    engine.Backend
	backendURL string
	metrics    *server.Metrics // nil without the orchestrator's and the pages' parts
	published  *publisher

	parts  sync.WaitGroup
	failed chan error // the first error of a part; the others do not matter
}

// runServer runs the server until it is told to stop, by a signal or by the end of a part.
//
// SIGINT stops at once: tasks are killed and handed back. SIGTERM takes no more work and waits for
// what runs, at most agent.shutdown_grace_seconds.
func (p *program) runServer(ctx context.Context, s *serving) (err error) {
	settings, warnings, err := p.configuration()
	if err != nil {
		return err
	}
	s.roles = s.roles.orAll()
	if s.roles.ui {
		if err := settings.CheckListen(s.insecure); err != nil {
			return err
		}
	}
	logger, closeLog, err := newLogger(settings, p.err)
	if err != nil {
		return err
	}
	defer closeLog()
	for _, warning := range warnings {
		logger.Warn(warning.String())
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	st := &stack{program: p, serving: s, settings: settings, logger: logger, failed: make(chan error, 1)}
	// A signal while the stack is built ends the building.
	building, ready := context.WithCancel(ctx)
	defer ready()
	early := make(chan struct{})
	go func() {
		defer close(early)
		select {
		case <-building.Done():
		case first := <-signals:
			ready()
			signals <- first // it is handled when what was built is taken down
		}
	}()
	defer func() { err = errors.Join(err, st.takeDown(context.WithoutCancel(ctx))) }()
	if err = st.open(building); err == nil {
		err = st.run(ctx, building, func() { ready(); <-early }, signals)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return statusError(exitInterrupted)
	}
	return err
}

// open takes what another process may have, before anything is changed: the address, then the backend.
func (s *stack) open(ctx context.Context) (err error) {
	if s.roles.ui {
		s.listener, err = server.Listen(ctx, s.settings.Server.Listen)
		if errors.Is(err, server.ErrAddressInUse) {
			return withHint(err, "stop the other process, or choose another address: --server-listen 127.0.0.1:3001")
		}
		if err != nil {
			return err
		}
	}
	return s.openBackend(ctx)
}

// run starts the parts and waits for the end. ready is called when all is up.
func (s *stack) run(ctx, building context.Context, ready func(), signals <-chan os.Signal) error {
	working, stopParts := context.WithCancel(ctx)
	defer s.parts.Wait()
	defer stopParts()
	url, err := s.startParts(working, building)
	if err != nil {
		return err
	}
	agentEnded := make(chan struct{})
	stopAgent, drain := func() {}, func() {}
	if s.roles.agent {
		if stopAgent, drain, err = s.startAgent(working, agentEnded); err != nil {
			return err
		}
	} else {
		close(agentEnded)
	}
	forget, err := s.announce(url)
	if err != nil {
		return err
	}
	defer forget()
	ready()
	err = s.wait(signals, drain, agentEnded)
	go func() { // who asks again does not want to wait
		<-signals
		os.Exit(exitInterrupted)
	}()
	stopAgent()
	<-agentEnded
	return err
}

// wait returns when the server is to stop: after a signal, or with the error of a part.
func (s *stack) wait(signals <-chan os.Signal, drain func(), agentEnded <-chan struct{}) error {
	var databaseEnded <-chan struct{}
	if s.embedded != nil {
		databaseEnded = s.embedded.Done()
	}
	var drained <-chan struct{}
	for {
		select {
		case received := <-signals:
			if received == syscall.SIGINT || drained != nil || !s.roles.agent {
				s.logger.Info("stopping")
				return nil
			}
			s.logger.Info("stopping when the tasks that run have ended", "at_most_seconds", s.settings.Agent.ShutdownGraceSeconds)
			drain()
			drained = agentEnded
		case <-drained:
			return nil
		case err := <-s.failed:
			return err
		case <-databaseEnded:
			return fmt.Errorf("the embedded database is gone: %w", s.embedded.Err())
		}
	}
}

// startParts starts all but the agent, and gives the URL of the pages; empty when they are not served.
//
// The jobs come first, since they make the partitions. The orchestrator comes before the definitions:
// one that is refused, as there is another, has changed none of them.
func (s *stack) startParts(working, building context.Context) (url string, err error) {
	if s.debugListen != "" {
		if err := s.startDebug(working); err != nil {
			return "", err
		}
	}
	if !s.roles.orchestrator && !s.roles.ui {
		return "", nil
	}
	s.metrics = server.NewMetrics(programVersion(), server.NewClusterCollector(s.backend, s.logger))
	known := language.New(s.backend)
	starter := s.newDirect("trigger", known)
	jobs := &engine.Jobs{}
	trigger.HandleCompleted(jobs, s.backend, starter, s.logger)
	if err := s.backend.StartJobs(working, jobs, engine.Retention{Days: s.settings.PostgreSQL.RetentionDays}); err != nil {
		return "", fmt.Errorf("start the jobs: %w", err)
	}
	if s.roles.orchestrator {
		if err := s.startOrchestrator(working, building, known); err != nil {
			return "", err
		}
	}
	s.published = newPublisher(s.backend, s.settings, s.logger)
	if err := s.published.publish(building); err != nil {
		return "", err
	}
	s.part(func() error { s.published.watch(working); return nil })
	if s.roles.orchestrator {
		scheduler := &orchestrator.Scheduler{
			Backend: s.backend, Planner: newPlanner(s.backend, known), Logger: s.logger, Now: s.backend.Now,
		}
		s.part(func() error { scheduler.Run(working, s.published.changed()); return nil })
		files := &trigger.Files{Arrivals: s.backend, Definitions: known, Starter: starter, Logger: s.logger, Now: s.backend.Now}
		s.part(func() error { files.Run(working, s.published.changed()); return nil })
	}
	if s.roles.ui {
		return s.startPages(working, known)
	}
	return "", nil
}

// part runs a part of the stack until it ends. An error of it ends the others.
func (s *stack) part(work func() error) {
	s.parts.Go(func() {
		if err := work(); err != nil {
			select {
			case s.failed <- err:
			default: // another part failed before
			}
		}
	})
}

// startOrchestrator returns when the orchestrator has its buckets.
func (s *stack) startOrchestrator(working, building context.Context, known *language.Language) error {
	limits := engineLimits(s.settings)
	id := s.settings.Orchestrator.ID
	if id == "auto" {
		id = processName()
	}
	o := orchestrator.New(s.backend, orchestrator.Options{ID: id, Limits: limits, Logger: s.logger, Observer: s.metrics, Language: known})
	took, ended := make(chan struct{}), make(chan error, 1)
	s.part(func() error {
		err := o.Run(working, func() { close(took) })
		ended <- err
		return err
	})
	select {
	case <-took:
		return nil
	case err := <-ended:
		if errors.Is(err, engine.ErrWriterExists) {
			return withHint(err, "this version runs one orchestrator: stop the other one, or start with --agent or --ui only")
		}
		return err
	case <-building.Done():
		return context.Cause(building)
	}
}

// newDirect makes what starts runs for others; by whom is told by what it is used for.
func (s *stack) newDirect(by string, known *language.Language) *api.Direct {
	return api.NewDirect(s.backend, api.DirectOptions{
		Actor: by, Cause: by, Version: programVersion(), Language: known, Logger: s.logger,
		Secrets: spec.Lookups{Env: os.LookupEnv, Secret: secretOfServer},
	})
}

// secretOfServer is where the server looks secrets up, as agents do: NAME is $CYCLO_SECRET_NAME.
func secretOfServer(name string) (string, error) {
	if text, ok := os.LookupEnv(spec.SecretVariables + name); ok {
		return text, nil
	}
	return "", fmt.Errorf("the server has no secret %s: set %s%s in its environment", name, spec.SecretVariables, name)
}

func (s *stack) startPages(working context.Context, known *language.Language) (url string, err error) {
	direct := s.newDirect("api", known)
	options := server.Options{
		Service: direct, Triggers: direct, Address: s.settings.Server.Listen, AdvertiseURL: s.settings.Server.AdvertiseURL,
		Title: s.settings.UI.Title, Refresh: time.Duration(s.settings.UI.RefreshIntervalSeconds) * time.Second, Logger: s.logger,
	}
	if s.settings.Monitoring.Prometheus.Enabled {
		options.Metrics, options.MetricsPath = s.metrics, s.settings.Monitoring.Prometheus.Endpoint
	}
	pages, err := server.New(s.listener, options)
	if err != nil {
		return "", err
	}
	s.part(func() error { return pages.Serve(working) })
	return pages.URL(), nil
}

// startAgent gives what stops the agent, and what lets it finish what it has; ended is closed when it has ended.
func (s *stack) startAgent(working context.Context, ended chan<- struct{}) (stop, drain func(), err error) {
	options := agentOptions(s.settings, s.backend, s.logger)
	a, err := agent.New(options)
	if err != nil {
		return nil, nil, fmt.Errorf("start the agent: %w", err)
	}
	ctx, stop := context.WithCancel(working)
	s.part(func() error {
		defer close(ended)
		return a.Run(ctx)
	})
	return stop, a.Drain, nil
}

// announce lets commands find this server, and tells the user what to do next.
func (s *stack) announce(url string) (forget func(), err error) {
	if !s.roles.orchestrator && !s.roles.ui {
		s.talk("the agent works; stop it with Ctrl-C")
		return func() {}, nil
	}
	forget, err = discovery.Write(discovery.Info{
		URL: url, Backend: s.settings.Backend, BackendURL: s.backendURL, ClusterID: s.settings.ClusterID, Version: programVersion(),
	})
	if err != nil {
		return nil, err
	}
	s.greet(url)
	return forget, nil
}

// takeDown closes what open opened, when all parts have ended.
func (s *stack) takeDown(ctx context.Context) error {
	if s.listener != nil {
		_ = s.listener.Close() // the pages have closed it already, where they were served
	}
	if s.backend != nil {
		s.backend.Close()
	}
	if s.embedded != nil {
		return s.embedded.Stop(ctx)
	}
	return nil
}

// processName tells apart the processes of a cluster.
func processName() string { return fmt.Sprintf("%s-%d", hostName(), os.Getpid()) }

func hostName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "localhost"
	}
	return host
}
