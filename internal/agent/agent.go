package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/checkout"
	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// Agent is one agent. Run it once.
type Agent struct {
	options Options
	logger  *slog.Logger
	host    Host
	env     *environment
	dirs    *directories
	git     *checkout.Store

	drain     chan struct{} // closed by Drain
	drainOnce sync.Once
}

// New makes an agent. The error says which folder cannot be used.
func New(options Options) (*Agent, error) {
	options.complete()
	dirs, err := newDirectories(options.WorkDir, options.CleanupTempFiles, options.Logger)
	if err != nil {
		return nil, err
	}
	var host Host
	if options.Host != nil {
		host = *options.Host
	} else {
		host = thisHost(options.WorkDir)
	}
	host.lower(options.MemoryLimitMB, options.CPULimitPercent)
	options.Info.Resources = host.Total()
	return &Agent{
		host:    host,
		options: options,
		logger:  options.Logger.With("agent", options.Info.ID),
		env:     newEnvironment(options.Info.ID, dirs.runs, options.InheritEnv, options.Secrets),
		dirs:    dirs,
		git:     checkout.New(options.Git.Checkout),
		drain:   make(chan struct{}),
	}, nil
}

// Run registers and works until the agent is stopped. When ctx ends, tasks are
// killed within a second and handed back, and Run returns in less than two
// seconds. After Drain it returns when its tasks ended, or after the grace time
// in the same manner. It returns nil in both cases; losing a registration is no
// end, the agent gets a new one. The error tells that tasks cannot be run here at all.
func (a *Agent) Run(ctx context.Context) error {
	defer a.dirs.close(lastRemoval)
	retry := backoff{}
	for {
		began := time.Now()
		session := a.register(ctx)
		if session == nil {
			return nil
		}
		a.dirs.registered(session.LiveRuns)
		l := newLife(a, session, began)
		if err := l.run(ctx); err != nil {
			return err
		}
		if !l.isLost() || ctx.Err() != nil || closed(a.drain) {
			return nil
		}
		a.logger.Warn("registration lost: what ran was killed, registering anew", "incarnation", session.Incarnation(), "error", l.lostErr)
		if time.Since(began) > a.options.Info.HeartbeatInterval {
			retry = backoff{}
		}
		if !a.pause(ctx, &retry) {
			return nil
		}
	}
}

// Drain makes the agent take no more work; see Run. It does not wait, and may be called often.
func (a *Agent) Drain() { a.drainOnce.Do(func() { close(a.drain) }) }

// register gives a session, or nil when the agent is to stop.
func (a *Agent) register(ctx context.Context) engine.AgentSession {
	retry := backoff{}
	for {
		session, err := a.options.Open(ctx, a.options.Info)
		if err == nil {
			a.logger.Info("agent is registered", "incarnation", session.Incarnation(), "slots", a.options.Info.Slots,
				"cpu", a.host.CPU, "memory_mb", a.host.MemoryMB, "gpus", len(a.host.GPUs), "disk_mb", a.host.DiskMB)
			return session
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, engine.ErrSchemaNewer) {
			a.logger.Error("agent cannot register until it is upgraded", "error", err)
		} else {
			a.logger.Warn("agent cannot register yet; trying again", "error", err)
		}
		if !a.pause(ctx, &retry) {
			return nil
		}
	}
}

// pause waits before something is tried again. It reports false when the agent is to stop.
func (a *Agent) pause(ctx context.Context, retry *backoff) bool {
	timer := time.NewTimer(retry.next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-a.drain:
		return false
	}
}
