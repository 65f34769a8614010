package trigger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// mostFiles bounds the files of one folder that are looked at, and so what is kept in memory.
	mostFiles = 250_000
	// A file that went is remembered for a while, and so many of them: a disk may be away for a moment, and then its files
	// are none that have arrived.
	rememberGone = 24 * time.Hour
	mostGone     = 100_000
)

// folder is what a DAG watches, and what is known of it.
type folder struct {
	dag  string
	rule workflow.FileArrival
	path string // absolute

	// known are files that have a run, nil before they were asked for. waiting are those that have none yet, by name;
	// ready are those of them that have arrived, in the order of their names. The folder is read again when none is left.
	known   map[workflow.Hash]*knownFile
	waiting map[string]*waitingFile
	ready   []string
	turn    int64 // counts the looks

	done    <-chan struct{} // closed when the look that was begun last has ended; till then all else is that look's
	next    time.Time       // when to look again
	trouble string          // that was told
	delay   time.Duration
}

// busy tells whether a look is under way.
func (f *folder) busy() bool {
	select {
	case <-f.done:
		return false
	default:
		return f.done != nil
	}
}

// stamp tells one content of a file from another.
type stamp struct{ size, modified int64 }

type knownFile struct {
	stamp
	seen int64     // the turn in which it was there
	gone time.Time // when it was missed first; zero for one that is there
}

type waitingFile struct {
	stamp
	since time.Time // when it was first seen like this
	seen  int64
}

var errTooMany = fmt.Errorf("it has more than %d files", mostFiles)

func (f *folder) remember(arrivals []engine.Arrival) {
	f.known, f.waiting = make(map[workflow.Hash]*knownFile, len(arrivals)), map[string]*waitingFile{}
	for _, one := range arrivals {
		f.known[one.File] = &knownFile{stamp: stamp{one.Size, one.Modified}}
	}
}

// read sees what is in the folder. After an error nothing is to be taken for gone; after errTooMany what was seen counts.
func (f *folder) read(now time.Time) error {
	directory, err := os.Open(f.path)
	if err != nil {
		return err //nolint:wrapcheck // it names the path
	}
	defer directory.Close() //nolint:errcheck // nothing was written
	f.turn++
	for count := 0; ; {
		entries, err := directory.ReadDir(1000)
		for _, entry := range entries {
			f.see(entry, now)
		}
		count += len(entries)
		switch {
		case errors.Is(err, io.EOF):
			f.sort(now)
			return nil
		case err != nil:
			return err //nolint:wrapcheck // it names the path
		case count > mostFiles:
			f.sort(now)
			return errTooMany
		}
	}
}

// see looks at one entry of the folder.
func (f *folder) see(entry fs.DirEntry, now time.Time) {
	name := entry.Name()
	known := f.known[f.fileHash(name)]
	if known != nil {
		known.seen = f.turn // whatever the pattern is now
	}
	if entry.IsDir() || !f.wants(name) {
		return
	}
	info, err := os.Stat(filepath.Join(f.path, name)) // of what a link points to
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	is := stamp{info.Size(), info.ModTime().UnixNano()}
	one := f.waiting[name]
	switch {
	case known != nil && known.stamp == is:
		delete(f.waiting, name)
	case one == nil || one.stamp != is:
		f.waiting[name] = &waitingFile{stamp: is, since: now, seen: f.turn}
	default:
		one.seen = f.turn
	}
}

// wants tells whether the name is one of a file that counts. Those that are being written often have a name that begins
// with a dot or ends in .part. A name that is no text could not be given to a task.
func (f *folder) wants(name string) bool {
	if strings.HasPrefix(name, ".") && !strings.HasPrefix(f.rule.Pattern, ".") ||
		strings.HasSuffix(name, ".part") && !strings.HasSuffix(f.rule.Pattern, ".part") {
		return false
	}
	fits, err := filepath.Match(f.rule.Pattern, name)
	return fits && err == nil && utf8.ValidString(name)
}

// sort forgets files that went before they had arrived, and finds those that have been as they are for long enough.
func (f *folder) sort(now time.Time) {
	wait := time.Duration(f.rule.WaitSeconds * float64(time.Second))
	for name, one := range f.waiting {
		switch {
		case one.seen != f.turn:
			delete(f.waiting, name)
		case now.Sub(one.since) >= wait:
			f.ready = append(f.ready, name)
		}
	}
	slices.Sort(f.ready)
}

// gone are files that had a run and that can be forgotten, as they are no longer there.
func (f *folder) gone(now time.Time) []workflow.Hash {
	var missed, old []workflow.Hash
	for file, one := range f.known {
		if one.seen == f.turn {
			one.gone = time.Time{}
			continue
		}
		if one.gone.IsZero() {
			one.gone = now
		}
		missed = append(missed, file)
		if now.Sub(one.gone) >= rememberGone {
			old = append(old, file)
		}
	}
	if len(missed) > mostGone {
		return missed
	}
	return old
}

// note takes note of the runs that were started for the first of what is ready, and of files that are forgotten.
func (f *folder) note(started int, gone []workflow.Hash) {
	for _, file := range gone {
		delete(f.known, file)
	}
	for _, name := range f.ready[:started] {
		f.known[f.fileHash(name)] = &knownFile{stamp: f.waiting[name].stamp, seen: f.turn}
		delete(f.waiting, name)
	}
	f.ready = f.ready[started:]
	if len(f.ready) == 0 {
		f.ready = nil
	}
}

// fileHash names a file.
func (f *folder) fileHash(name string) workflow.Hash {
	return workflow.HashOf([]byte(filepath.Join(f.path, name)))
}

// arrivals are the first of what is ready.
func (f *folder) arrivals(count int) []engine.Arrival {
	arrivals := make([]engine.Arrival, count)
	for i, name := range f.ready[:count] {
		arrivals[i] = f.arrival(name)
	}
	return arrivals
}

func (f *folder) arrival(name string) engine.Arrival {
	one := f.waiting[name]
	return engine.Arrival{File: f.fileHash(name), Size: one.size, Modified: one.modified}
}

// run is the run for a file.
func (f *folder) run(name string) api.TriggeredRun {
	one := f.arrival(name)
	return api.TriggeredRun{
		DAGID: f.dag, Occasion: fmt.Sprintf("%s/%d/%d", one.File, one.Size, one.Modified),
		Trigger: workflow.Trigger{Kind: workflow.TriggerFileArrival, File: filepath.Join(f.path, name)},
	}
}

// hint says what to do about what stands in the way.
func (f *folder) hint(err error) string {
	var path *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "make the folder, or correct the path in the DAG's triggers; it is looked for again"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that the server runs as read the folder"
	case errors.Is(err, errTooMany):
		return "move files that are done with away; which of them are looked at is chance"
	case errors.As(err, &path):
		return "see whether the path is a folder that can be read"
	}
	return hintOf(err)
}
