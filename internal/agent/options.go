package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// What an Options leaves open.
const (
	DefaultHeartbeatInterval = 5 * time.Second
	DefaultLogBytes          = 10 << 20
)

// Options say what an agent is and how it runs tasks.
type Options struct {
	// Open registers the agent. It is called at the start, and again when the registration was lost.
	Open func(ctx context.Context, info engine.AgentInfo) (engine.AgentSession, error)
	// Info describes the agent. ID and Slots (at least 1) must be given; Resources are those of Host.
	Info engine.AgentInfo
	// Host is what tasks may set aside; nil for what this machine has. MemoryLimitMB, and CPULimitPercent in percent of one
	// core, lower it, unless they are 0.
	Host                           *Host
	MemoryLimitMB, CPULimitPercent int
	// Executor runs the tasks: Processes or Noop.
	Executor Executor
	// ExecutionTimeout bounds an attempt whose task gives no time-out; 0 leaves it unbounded.
	ExecutionTimeout time.Duration
	// ShutdownGrace is how long Drain waits for tasks that run.
	ShutdownGrace time.Duration
	// LogBytes bounds what is kept of the output of one attempt; 0 is DefaultLogBytes.
	LogBytes int
	// WorkDir is where working directories are made; empty for a folder of the user's own in
	// the system's temporary directory. Agents of one user may share it.
	WorkDir string
	// CleanupTempFiles removes the working directory of an attempt after its end.
	CleanupTempFiles bool
	// InheritEnv names variables of the agent's own environment that its tasks see, besides
	// PATH, HOME, LANG, TZ and TMPDIR.
	InheritEnv []string
	// Secrets looks up a secret that a task names (${secret:NAME}). Its error is shown. When nil, NAME is
	// the variable CYCLO_SECRET_NAME of the agent's own environment.
	Secrets func(name string) (string, error)
	// Git is how tasks get files from repositories.
	Git Git
	// Logger is slog.Default() when nil.
	Logger *slog.Logger

	killGrace time.Duration // between SIGTERM and SIGKILL; the constant of that name when 0
	patience  time.Duration // the constant of that name when 0
	onLife    func(*life)   // for tests; called when a life begins
}

func (o *Options) complete() {
	o.Info.Slots = max(o.Info.Slots, 1)
	if o.Info.HeartbeatInterval <= 0 {
		o.Info.HeartbeatInterval = DefaultHeartbeatInterval
	}
	if o.LogBytes <= 0 {
		o.LogBytes = DefaultLogBytes
	}
	if o.WorkDir == "" {
		o.WorkDir = filepath.Join(os.TempDir(), "cyclonetix-"+strconv.Itoa(os.Geteuid()))
	}
	if o.Git.Checkout.Path == "" {
		o.Git.Checkout.Path = filepath.Join(o.WorkDir, "git")
		if dir, err := os.UserCacheDir(); err == nil {
			o.Git.Checkout.Path = filepath.Join(dir, "cyclonetix", "git")
		}
	}
	if o.Secrets == nil {
		o.Secrets = secretOfEnvironment
	}
	if o.Executor == nil {
		o.Executor = Processes()
	}
	if o.killGrace == 0 {
		o.killGrace = killGrace
	}
	if o.patience == 0 {
		o.patience = patience
	}
	if o.onLife == nil {
		o.onLife = func(*life) {}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}
