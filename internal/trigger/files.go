package trigger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// reloadEvery is how often definitions are looked at that somebody else published.
	reloadEvery = 15 * time.Second
	// lookEvery is how often a folder is looked at. One that takes long is looked at less often, so that
	// no more than a part of a processor is spent.
	lookEvery = time.Second
	lookShare = 20
	// lookPatience is how long one look may hold up others.
	lookPatience = 5 * time.Second
	// firstDelay and lastDelay bound the pause after runs could not be started.
	firstDelay, lastDelay = time.Second, time.Minute
	// stopGrace is how long a look that is under way may go on when the server stops.
	stopGrace = 500 * time.Millisecond
)

// Definitions knows the DAGs that have triggers, and of which revision they are.
type Definitions interface {
	Triggered(ctx context.Context) (dags []*spec.DAG, revision int64, err error)
}

// Files starts a run for each file that arrives in a folder that a DAG watches. Any number may work side by side.
type Files struct {
	Arrivals    engine.Arrivals
	Definitions Definitions
	Starter     Starter
	Logger      *slog.Logger
	// Now is the clock.
	Now func() time.Time

	revision int64
	folders  map[string]*folder // by DAG; nil before the definitions were read
	loadedAt time.Time
	patience time.Duration // instead of lookPatience, for tests
}

// Run looks until the context ends. Refreshed signals that definitions were published in this process. It does not wait
// for a disk that no longer answers.
func (f *Files) Run(ctx context.Context, refreshed <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.run(ctx, refreshed)
	}()
	<-ctx.Done()
	select {
	case <-ended:
	case <-time.After(stopGrace):
		f.Logger.Warn("a folder that is looked at for files does not answer")
	}
}

func (f *Files) run(ctx context.Context, refreshed <-chan struct{}) {
	told := ""
	for {
		next, err := f.Turn(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := max(0, next.Sub(f.Now()))
		if err != nil {
			pause = firstDelay
			if told != err.Error() {
				f.Logger.Warn("files can't be looked for now; trying again", "error", err)
			}
			told = err.Error()
		} else {
			told = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-refreshed:
			f.loadedAt = time.Time{}
		case <-time.After(pause):
		}
	}
}

// Turn looks at all folders whose time it is, starts what is to be started, and says when to come again.
func (f *Files) Turn(ctx context.Context) (next time.Time, err error) {
	now := f.Now()
	if f.folders == nil || now.Sub(f.loadedAt) >= reloadEvery || f.loadedAt.After(now) {
		if err := f.load(ctx); err != nil {
			return now, err
		}
		f.loadedAt = now
	}
	next = now.Add(reloadEvery)
	f.lookAtAll(ctx, now)
	for _, folder := range f.folders {
		switch {
		case folder.busy():
			next = now.Add(lookEvery) // it does not answer; the others do
		case folder.next.Before(next):
			next = folder.next
		}
	}
	return next, nil
}

// lookAtAll looks at the folders whose time it is, side by side. One that does not answer for a while is left alone until
// it does, so that it holds up no others.
func (f *Files) lookAtAll(ctx context.Context, now time.Time) {
	var looks []*folder
	for _, folder := range f.folders {
		if folder.busy() || folder.next.After(now) || ctx.Err() != nil {
			continue
		}
		done := make(chan struct{})
		folder.done = done
		looks = append(looks, folder)
		go func() {
			defer close(done)
			f.look(ctx, folder)
		}()
	}
	if len(looks) == 0 {
		return
	}
	patience := time.NewTimer(cmp.Or(f.patience, lookPatience))
	defer patience.Stop()
	for i, folder := range looks {
		select {
		case <-folder.done:
			continue
		case <-patience.C:
		}
		for _, late := range looks[i:] {
			if late.busy() {
				f.Logger.Warn("a folder that is looked at for files does not answer; it is looked at again when it does", "dag", late.dag, "path", late.path)
			}
		}
		return
	}
}

// load reads which folders to look at. What is known of those that stay is kept.
func (f *Files) load(ctx context.Context) error {
	dags, revision, err := f.Definitions.Triggered(ctx)
	if err != nil {
		return fmt.Errorf("read the triggers: %w", err)
	}
	if f.folders != nil && revision == f.revision {
		return nil
	}
	folders := make(map[string]*folder, len(dags))
	for _, dag := range dags {
		rule := dag.Triggers.FileArrival
		if rule == nil {
			continue
		}
		if former := f.folders[dag.ID]; former != nil && former.rule == *rule {
			folders[dag.ID] = former
			continue
		}
		path, err := filepath.Abs(rule.Path)
		if err != nil {
			return fmt.Errorf("find the folder of DAG %s: %w", dag.ID, err)
		}
		folders[dag.ID] = &folder{dag: dag.ID, rule: *rule, path: path}
	}
	f.folders, f.revision = folders, revision
	return nil
}

// look looks at a folder, and starts runs for what has arrived.
func (f *Files) look(ctx context.Context, folder *folder) {
	begun := f.Now()
	trouble, err := f.deal(ctx, folder, begun)
	now := f.Now()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		f.tell(folder, trouble, err)
		folder.delay = min(max(firstDelay, 2*folder.delay), lastDelay)
		folder.next = now.Add(folder.delay)
		return
	case folder.trouble != "":
		f.Logger.Info("the file trigger of a DAG works again", "dag", folder.dag, "path", folder.path)
		folder.trouble = ""
	}
	folder.delay = 0
	if folder.next = now; len(folder.ready) == 0 {
		folder.next = now.Add(max(lookEvery, lookShare*now.Sub(begun)))
	}
}

// deal does what look does. The error comes with what it means.
func (f *Files) deal(ctx context.Context, folder *folder, now time.Time) (trouble string, err error) {
	if folder.known == nil {
		known, err := f.Arrivals.Arrivals(ctx, folder.dag)
		if err != nil {
			return "what is known of its files can't be read", err //nolint:wrapcheck // it says what it did
		}
		folder.remember(known)
	}
	var gone []workflow.Hash
	var partly error
	if len(folder.ready) == 0 {
		switch err := folder.read(now); {
		case err == nil:
			gone = folder.gone(now)
		case errors.Is(err, errTooMany):
			partly = err
		default:
			return "its folder can't be read", err
		}
	}
	started, failed := f.start(ctx, folder)
	if started+len(gone) > 0 {
		// What is not noted is started again: there is a run for it, and then it is noted.
		if err := f.Arrivals.NoteArrivals(ctx, folder.dag, folder.arrivals(started), gone); err != nil {
			return "for which files there are runs can't be noted", err //nolint:wrapcheck // it says what it did
		}
		folder.note(started, gone)
	}
	if failed != nil {
		return "no run can be started for a file that has arrived", failed
	}
	return "its folder can't be read to the end", partly
}

const (
	// startsAtOnce bounds the runs of one folder that are started before it is the turn of others, and startBatch those
	// that are started in one step.
	startsAtOnce = 200
	startBatch   = 50
)

// start starts runs for the first of what has arrived, until one can't be started, and gives their number.
func (f *Files) start(ctx context.Context, folder *folder) (started int, failed error) {
	for batch := range slices.Chunk(folder.ready[:min(startsAtOnce, len(folder.ready))], startBatch) {
		runs := make([]api.TriggeredRun, len(batch))
		for i, name := range batch {
			runs[i] = folder.run(name)
		}
		if f.Starter.StartAllTriggered(ctx, runs) == nil {
			started += len(batch)
			continue
		}
		for i := range runs { // those before the one that is to blame can be started
			if _, err := f.Starter.StartTriggered(ctx, &runs[i]); err != nil {
				return started, err //nolint:wrapcheck // it says what it did
			}
			started++
		}
	}
	return started, nil
}

// tell logs what stands in the way, once.
func (f *Files) tell(folder *folder, what string, err error) {
	if text := what + ": " + err.Error(); text != folder.trouble {
		folder.trouble = text
		f.Logger.Warn("the file trigger of a DAG has to wait: "+what, "dag", folder.dag, "path", folder.path, "error", err, "hint", folder.hint(err))
	}
}
