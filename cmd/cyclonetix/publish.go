package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
)

// publisher brings the definitions of the directories into the backend, and keeps them current.
type publisher struct {
	backend engine.Definitions
	loader  *spec.Loader
	queues  []string
	source  string
	logger  *slog.Logger

	mu      sync.Mutex
	catalog *spec.Catalog
	told    []string // the problems that were logged last
}

func newPublisher(backend engine.Definitions, settings *config.Config, logger *slog.Logger) *publisher {
	return &publisher{
		backend: backend, loader: spec.NewLoader(directoriesOf(settings), spec.Defaults{Queue: settings.DefaultQueue}),
		queues: declaredQueues(settings), source: settings.TaskDirectory, logger: logger,
	}
}

// watch publishes each change, until the context ends.
func (p *publisher) watch(ctx context.Context) {
	p.loader.Watch(ctx, func() {
		if err := p.publish(ctx); err != nil && ctx.Err() == nil {
			p.logger.Error("definitions could not be published; the next change tries again", "error", err)
		}
	})
}

// publish makes what the directories hold the current definitions. One that has a problem keeps its
// last good version, and the problem is logged.
func (p *publisher) publish(ctx context.Context) error {
	set, problems := p.loader.Load()
	catalog := spec.NewCatalog(set.Definitions, spec.CatalogOptions{Queues: p.queues})
	p.tell(append(problems, catalog.Problems()...))
	var current []engine.Definition
	withheld := map[[2]string]bool{}
	for _, kind := range []spec.Kind{spec.KindTask, spec.KindDAG, spec.KindContext} {
		for definition := range catalog.Definitions(kind) {
			current = append(current, engine.Definition{Kind: string(kind), ID: definition.ID, Body: definition.Encode()})
		}
		for _, id := range catalog.Withheld(kind) {
			withheld[[2]string{string(kind), id}] = true
		}
	}
	if len(withheld) > 0 || set.Partial {
		kept, err := p.lastGood(ctx, current, withheld, set.Partial)
		if err != nil {
			return err
		}
		current = append(current, kept...)
	}
	revision, changed, err := p.backend.Publish(ctx, current, p.source)
	if err != nil {
		return fmt.Errorf("publish the definitions: %w", err)
	}
	if changed {
		p.logger.Info("definitions are published", "revision", revision, "definitions", len(current))
	}
	p.mu.Lock()
	p.catalog = catalog
	p.mu.Unlock()
	return nil
}

// lastGood gives the published versions of what is withheld now. When something could not be read at
// all, it gives those of everything that seems to be gone.
func (p *publisher) lastGood(ctx context.Context, current []engine.Definition, withheld map[[2]string]bool, partial bool) ([]engine.Definition, error) {
	revision, err := p.backend.Revision(ctx)
	if err != nil || revision == 0 {
		return nil, err //nolint:wrapcheck // it names itself
	}
	before, err := p.backend.LoadDefinitions(ctx, revision)
	if err != nil {
		return nil, fmt.Errorf("load the definitions of revision %d: %w", revision, err)
	}
	there := make(map[[2]string]bool, len(current))
	for _, definition := range current {
		there[[2]string{definition.Kind, definition.ID}] = true
	}
	return slices.DeleteFunc(before, func(definition engine.Definition) bool {
		key := [2]string{definition.Kind, definition.ID}
		return there[key] || !withheld[key] && !partial
	}), nil
}

// tell logs the problems that were not logged before.
func (p *publisher) tell(problems []spec.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now []string
	for i := range problems {
		text := problems[i].Error()
		now = append(now, text)
		if !slices.Contains(p.told, text) {
			p.logger.Warn("a definition has a problem: "+text, "hint", problems[i].Hint)
		}
	}
	if len(now) == 0 && len(p.told) > 0 {
		p.logger.Info("all problems of definitions are mended")
	}
	p.told = now
}

// suggestion is a task to begin with: one that nothing depends on and that depends on others; else
// any; empty when there is none.
func (p *publisher) suggestion() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	needed := map[string]bool{}
	for definition := range p.catalog.Definitions(spec.KindTask) {
		for _, id := range definition.Task.Dependencies {
			needed[id] = true
		}
	}
	best := ""
	for definition := range p.catalog.Definitions(spec.KindTask) {
		switch {
		case needed[definition.ID]:
		case len(definition.Task.Dependencies) > 0:
			return definition.ID
		case best == "":
			best = definition.ID
		}
	}
	return best
}
