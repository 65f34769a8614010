package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Options say how an orchestrator works. The zero value of a field means its default.
type Options struct {
	// ID is the orchestrator's name.
	ID     string
	Limits workflow.Limits
	// Writers is how many writers work side by side, each on a part of the buckets with a memory of its own,
	// where the backend can make use of them: two (docs/design/0003-writers.md).
	Writers int
	// TickInterval is how often a writer looks for what no ring told it: a second.
	TickInterval time.Duration
	Logger       *slog.Logger
	Observer     Observer
	// Language knows the definitions; nil for an orchestrator whose runs never ask for any.
	Language Language
	// Schedules is the backend's, unless a test has another.
	Schedules engine.Schedules
}

// Observer is told what was committed, for metrics, by all writers.
type Observer interface {
	Committed(duration time.Duration, changes []*workflow.Change)
}

// Orchestrator owns the runs of its buckets and moves them on.
type Orchestrator struct {
	backend engine.Backend
	options Options
}

// New makes an orchestrator; Run starts it.
func New(backend engine.Backend, options Options) *Orchestrator {
	if options.Limits == (workflow.Limits{}) {
		options.Limits = workflow.DefaultLimits
	}
	if options.Writers == 0 {
		options.Writers = 2
	}
	if options.TickInterval == 0 {
		options.TickInterval = time.Second
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.Observer == nil {
		options.Observer = nobody{}
	}
	if options.Language == nil {
		options.Language = noLanguage{}
	}
	if options.Schedules == nil {
		options.Schedules = backend
	}
	return &Orchestrator{backend: backend, options: options}
}

type nobody struct{}

func (nobody) Committed(time.Duration, []*workflow.Change) {}

// Run works until the context ends. It takes the buckets first: ready is called when it has them (nil for
// nobody to tell). Errors: engine.ErrWriterExists when another orchestrator lives. When this one
// was declared dead (it was frozen, say), it begins anew.
func (o *Orchestrator) Run(ctx context.Context, ready func()) error {
	for again := false; ; again = true {
		writers, err := o.open(ctx, again)
		if again && ctx.Err() != nil && err != nil {
			return nil //nolint:nilerr // stopped while it had no buckets
		}
		if err != nil {
			return fmt.Errorf("start orchestrator %s: %w", o.options.ID, err)
		}
		if ready != nil {
			ready()
			ready = nil
		}
		err = o.work(ctx, writers)
		closeErr := closeAll(context.WithoutCancel(ctx), writers)
		if ctx.Err() != nil {
			return closeErr
		}
		if !errors.Is(err, engine.ErrFenced) {
			return errors.Join(err, closeErr)
		}
		o.options.Logger.Warn("this orchestrator was declared dead; it begins anew", "error", err)
	}
}

// work runs the writers, until the context ends or one of them can't go on.
func (o *Orchestrator) work(ctx context.Context, writers []engine.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make([]error, len(writers))
	var running sync.WaitGroup
	for i, writer := range writers {
		running.Go(func() {
			defer cancel()
			failures[i] = newLoop(writer, o.options).run(ctx)
		})
	}
	running.Wait()
	return errors.Join(failures...)
}

func closeAll(ctx context.Context, writers []engine.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	// Side by side: each may have to wait for a commit that hangs.
	failures := make([]error, len(writers))
	var closing sync.WaitGroup
	for i, writer := range writers {
		closing.Go(func() { failures[i] = writer.Close(ctx) })
	}
	closing.Wait()
	return errors.Join(failures...)
}

// open takes the buckets. At the start an error is the caller's matter; when it begins anew, a backend
// that fails is asked again until it answers.
func (o *Orchestrator) open(ctx context.Context, again bool) ([]engine.Writer, error) {
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		if again && !sleep(ctx, delay) {
			return nil, ctx.Err() //nolint:wrapcheck // says it all
		}
		writers, err := o.backend.OpenWriters(ctx, o.options.ID, o.options.Writers)
		if err == nil || !again || errors.Is(err, engine.ErrWriterExists) || errors.Is(err, engine.ErrSchemaNewer) {
			return writers, err //nolint:wrapcheck // wrapped by the caller
		}
		o.options.Logger.Warn("the buckets can't be taken; trying again", "error", err)
	}
}

// The delays after a backend failed.
const (
	firstDelay = 20 * time.Millisecond
	lastDelay  = 2 * time.Second
)

// run turns the loop until the context ends or the writer is fenced.
func (l *loop) run(ctx context.Context) error {
	ticker := time.NewTicker(l.options.TickInterval)
	defer ticker.Stop()
	defer func() { l.questions.end() }()
	delay := firstDelay
	tick := true
	for ctx.Err() == nil {
		err := l.step(ctx, tick)
		tick = false
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, engine.ErrFenced):
			return err
		case err != nil:
			l.options.Logger.Warn("the backend failed; trying again", "error", err, "delay", delay)
			if !sleep(ctx, delay) {
				return nil
			}
			delay = min(2*delay, lastDelay)
			select {
			case <-ticker.C:
				tick = true // what fails may be something else than the heartbeat
			default:
			}
			continue
		}
		delay = firstDelay
		if l.busy() {
			select {
			case <-ticker.C:
				tick = true
			default:
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
			tick = true
		case <-l.writer.Wake():
		case <-l.answered():
		case <-l.timers.next(l.writer.Now()):
		}
	}
	return nil
}

func sleep(ctx context.Context, delay time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(delay):
		return true
	}
}
