package spec

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watchTimes are the times of a watch.
type watchTimes struct {
	quiet  time.Duration // without events, before a change is told
	most   time.Duration // that a change waits for quiet
	rescan time.Duration // between looks at everything, should an event have been lost
	// poll is the time between looks at everything where the system's events cannot
	// be had, and at the roots alone where they can: no event tells that a
	// directory above a root was replaced.
	poll time.Duration
}

var defaultWatchTimes = watchTimes{100 * time.Millisecond, time.Second, 30 * time.Second, 2 * time.Second}

// Watch calls changed each time when Load would find something other than it
// found last, until the context ends. Changes that come close together are told
// once, and none while changed runs. Directories may come and go.
func (l *Loader) Watch(ctx context.Context, changed func()) {
	w := watch{loader: l, changed: changed}
	if watcher, err := fsnotify.NewWatcher(); err == nil {
		defer watcher.Close() //nolint:errcheck // it ends with us
		w.watcher = watcher
	}
	w.look()
	w.run(ctx)
}

type watch struct {
	loader  *Loader
	changed func()
	watcher *fsnotify.Watcher // nil where there is none to be had
	watched map[string]fileID // another directory may have come to have a path
	inside  map[string]bool   // directories that are read, as opposed to those above one that is absent
	roots   []fileID
	looked  time.Time
	polling bool // some directory is not watched
	touched bool // an event named a file with definitions
}

func (w *watch) run(ctx context.Context) {
	times := w.loader.watching
	var events chan fsnotify.Event
	var failures chan error
	if w.watcher != nil {
		events, failures = w.watcher.Events, w.watcher.Errors
	}
	var first time.Time // of the events that were not told yet
	quiet := time.NewTimer(times.quiet)
	quiet.Stop()
	poll := time.NewTicker(times.poll)
	defer poll.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			if ignored(filepath.Base(event.Name)) && filepath.Base(event.Name) != "..data" {
				continue
			}
			w.touched = w.touched || holdsDefinitions(event.Name) && w.inside[filepath.Dir(event.Name)]
			if first.IsZero() {
				first = time.Now()
			}
			quiet.Reset(min(times.quiet, max(0, times.most-time.Since(first))))
		case <-failures: //nolint:errcheck // events were lost, whatever it says
			quiet.Reset(times.quiet)
		case <-quiet.C:
			first = time.Time{}
			w.look()
		case <-poll.C:
			if w.polling || time.Since(w.looked) >= times.rescan || !slices.Equal(w.roots, w.loader.roots()) {
				w.look()
			}
		}
	}
}

// look watches directories that are new and tells a change.
func (w *watch) look() {
	w.looked, w.roots = time.Now(), w.loader.roots()
	now := w.loader.scan()
	for w.follow(now) {
		now = w.loader.scan() // there may have been changes before a new watch began
	}
	if w.touched || w.loader.outdated(now) {
		w.touched = false
		w.changed()
	}
}

// follow brings the watched directories in line with those that are there. It
// reports whether there are new ones.
func (w *watch) follow(now *tree) (added bool) {
	wanted := make(map[string]fileID)
	w.inside = make(map[string]bool)
	for _, path := range now.directories {
		w.inside[path] = true
		wanted[path] = identify(path)
	}
	for _, path := range now.absent {
		path = existing(path)
		wanted[path] = identify(path)
	}
	for _, file := range now.files {
		path := filepath.Dir(file.path)
		if _, ok := wanted[path]; !ok {
			wanted[path] = identify(path) // a root that is a file
			w.inside[path] = true
		}
	}
	w.polling = w.watcher == nil
	if w.watcher == nil {
		return false
	}
	alive := make(map[string]fileID)
	for _, path := range w.watcher.WatchList() {
		if w.watched[path] == wanted[path] {
			alive[path] = wanted[path]
		} else {
			_ = w.watcher.Remove(path) // it may be gone by itself
		}
	}
	for path, id := range wanted {
		if _, ok := alive[path]; ok {
			continue
		}
		if w.watcher.Add(path) == nil {
			alive[path] = id
			added = true
		} else {
			w.polling = true
		}
	}
	w.watched = alive
	return added
}

// existing is the nearest directory above a path that exists.
func existing(path string) string {
	for {
		parent := filepath.Dir(path)
		if _, err := os.Stat(parent); err == nil || parent == path {
			return parent
		}
		path = parent
	}
}
