package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
)

// queueCheck is how often a task that names an undeclared queue is looked at again: an agent that
// serves the queue may have come.
const queueCheck = 10 * time.Second

// publisher brings the definitions of the directories into the backend, and keeps them current.
type publisher struct {
	backend  engine.Backend
	loader   *spec.Loader
	server   string // tells apart whose configuration declares
	declares engine.Declared
	source   string
	logger   *slog.Logger

	publishing sync.Mutex // one at a time
	mu         sync.Mutex
	waits      []chan struct{} // of those who want to know of new revisions
	catalog    *spec.Catalog
	waiting    bool            // a definition was left out for its queue alone
	told       map[string]bool // the problems that were logged last
	warned     map[string]bool // and the warnings
}

func newPublisher(backend engine.Backend, settings *config.Config, logger *slog.Logger) *publisher {
	return &publisher{
		backend: backend, loader: spec.NewLoader(directoriesOf(settings), spec.Defaults{Queue: settings.DefaultQueue}),
		declares: engine.Declared{Queues: declaredQueues(settings), DefaultContext: settings.DefaultContext},
		server:   serverName(settings),
		source:   settings.TaskDirectory, logger: logger,
	}
}

// changed signals each time that there is a new revision.
func (p *publisher) changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	waits := make(chan struct{}, 1)
	p.waits = append(p.waits, waits)
	return waits
}

// declareEvery is how often what this server declares is said again, so that it counts: see engine.DeclaredFor.
const declareEvery = time.Minute

// serverName is that of a server over its restarts: the new configuration takes the place of the old one.
func serverName(settings *config.Config) string {
	return strings.Join([]string{hostName(), settings.Server.Listen, settings.TaskDirectory}, " ")
}

// watch publishes each change, until the context ends.
func (p *publisher) watch(ctx context.Context) {
	again := func() {
		if err := p.publish(ctx); err != nil && ctx.Err() == nil {
			p.logger.Error("definitions could not be published; the next change tries again", "error", err)
		}
	}
	var queues sync.WaitGroup
	defer queues.Wait()
	queues.Go(func() {
		for sleep(ctx, declareEvery) {
			if err := p.backend.Declare(ctx, p.server, p.declares); err != nil && ctx.Err() == nil {
				p.logger.Warn("the queues of this server could not be declared; trying again in a minute", "error", err)
			}
		}
	})
	queues.Go(func() {
		for sleep(ctx, queueCheck) {
			p.mu.Lock()
			waiting := p.waiting
			p.mu.Unlock()
			if waiting {
				again()
			}
		}
	})
	p.loader.Watch(ctx, again)
}

// key names a definition.
type key struct{ kind, id string }

// publish makes what the directories hold the current definitions, and the queues of the configuration those that
// may be named. A definition that has a problem keeps its last good version. Where it has none, it is published as
// broken, so that whoever wants to run it is told what is wrong, and where.
func (p *publisher) publish(ctx context.Context) error {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	if err := p.backend.Declare(ctx, p.server, p.declares); err != nil {
		return err //nolint:wrapcheck // says it all
	}
	set, problems := p.loader.Load()
	queues, err := p.declared(ctx)
	if err != nil {
		return err
	}
	unchecked := spec.NewCatalog(set.Definitions, spec.CatalogOptions{})
	catalog := spec.NewCatalog(set.Definitions, spec.CatalogOptions{Queues: queues, DefaultContext: p.declares.DefaultContext})
	problems = append(problems, catalog.Problems()...)
	p.tell(problems)
	p.warn(catalog.Warnings())

	var current []engine.Definition
	withheld := map[key]bool{}
	for _, kind := range spec.Kinds {
		for definition := range catalog.Definitions(kind) {
			current = append(current, stored(definition))
		}
		for _, id := range catalog.Withheld(kind) {
			withheld[key{string(kind), id}] = true
		}
	}
	if len(withheld) > 0 || set.Partial {
		kept, err := p.lastGood(ctx, current, withheld, set.Partial)
		if err != nil {
			return err
		}
		current = append(current, kept...)
		for _, definition := range kept {
			delete(withheld, key{definition.Kind, definition.ID})
		}
		current = append(current, broken(withheld, problems)...)
	}
	revision, changed, err := p.backend.Publish(ctx, current, p.source)
	if err != nil {
		return fmt.Errorf("publish the definitions: %w", err)
	}
	if changed {
		p.logger.Info("definitions are published", "revision", revision, "definitions", len(current))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, waits := range p.waits {
		if !changed {
			break
		}
		select {
		case waits <- struct{}{}:
		default: // it has not looked since the last time
		}
	}
	p.catalog, p.waiting = catalog, len(catalog.Problems()) > len(unchecked.Problems())
	return nil
}

func stored(definition *spec.Definition) engine.Definition {
	return engine.Definition{Kind: string(definition.Kind), ID: definition.ID, Body: definition.Encode()}
}

// broken are definitions as they are stored for want of a good version: each says what is wrong.
func broken(withheld map[key]bool, problems []spec.Problem) (definitions []engine.Definition) {
	reasons, more := map[key]string{}, map[key]int{}
	for i := range problems {
		at := key{string(problems[i].Kind), problems[i].ID}
		if !withheld[at] {
			continue
		}
		if reasons[at] == "" {
			reasons[at] = problems[i].Error()
		} else {
			more[at]++
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(withheld), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	}) {
		reason := reasons[at]
		if more[at] > 0 {
			reason += " (and " + count(more[at], "more problem") + ")"
		}
		definitions = append(definitions, stored(&spec.Definition{Kind: spec.Kind(at.kind), ID: at.id, Broken: true, Reason: reason}))
	}
	return definitions
}

// declared are the queues that tasks may name: those of the servers' configurations, and those of registered agents.
func (p *publisher) declared(ctx context.Context) ([]string, error) {
	declared, err := p.backend.Declared(ctx)
	if err != nil || len(declared.Queues) == 0 {
		return nil, err //nolint:wrapcheck // says it all
	}
	agents, err := p.backend.Agents(ctx)
	if err != nil {
		return nil, fmt.Errorf("read which queues agents serve: %w", err)
	}
	queues := declared.Queues
	for i := range agents {
		queues = append(queues, agents[i].Queues...)
	}
	slices.Sort(queues)
	return slices.Compact(queues), nil
}

// lastGood gives the published versions of what is withheld now. When something could not be read at
// all, it gives those of everything that seems to be gone.
func (p *publisher) lastGood(ctx context.Context, current []engine.Definition, withheld map[key]bool, partial bool) ([]engine.Definition, error) {
	revision, err := p.backend.Revision(ctx)
	if err != nil || revision == 0 {
		return nil, err
	}
	before, err := p.backend.LoadDefinitions(ctx, revision)
	if err != nil {
		return nil, fmt.Errorf("load the definitions of revision %d: %w", revision, err)
	}
	there := make(map[key]bool, len(current))
	for _, definition := range current {
		there[key{definition.Kind, definition.ID}] = true
	}
	return slices.DeleteFunc(before, func(definition engine.Definition) bool {
		at := key{definition.Kind, definition.ID}
		return there[at] || !withheld[at] && !partial || spec.IsBroken(definition.Body)
	}), nil
}

// tell logs the problems that were not logged before.
func (p *publisher) tell(problems []spec.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := make(map[string]bool, len(problems))
	for i := range problems {
		text := problems[i].Error()
		now[text] = true
		if !p.told[text] {
			p.logger.Warn("a definition has a problem: "+text, hintAttributes(problems[i].Hint)...)
		}
	}
	if len(now) == 0 && len(p.told) > 0 {
		p.logger.Info("all problems of definitions are mended")
	}
	p.told = now
}

// hintAttributes are those of a log line about what has a hint, or none.
func hintAttributes(hint string) []any {
	if hint == "" {
		return nil
	}
	return []any{"hint", hint}
}

// warn logs the warnings that were not logged before.
func (p *publisher) warn(warnings []spec.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := make(map[string]bool, len(warnings))
	for i := range warnings {
		text := warnings[i].Error()
		now[text] = true
		if !p.warned[text] {
			p.logger.Warn("a definition says something that may not be meant: "+text, hintAttributes(warnings[i].Hint)...)
		}
	}
	p.warned = now
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
