package spec

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// settled is how old a change must be when a file is read for its time stamp to
// be trusted: a second change may have left the time, which may be coarse, as it was.
const settled = 2 * time.Second

// Directories say where definitions lie. What a file defines follows from the
// directory that it is in. One that does not exist is empty.
type Directories struct {
	Tasks, DAGs, Contexts, ParameterSets []string
}

// Loader keeps up with the definitions in directories. It may be used by several
// goroutines at once.
type Loader struct {
	directories Directories
	defaults    Defaults
	watching    watchTimes

	mutex  sync.Mutex
	files  map[fileKey]*loaded
	latest *tree // what the last Load saw
}

type fileKey struct {
	kind Kind
	path string
}

// loaded is what was read from a file.
type loaded struct {
	stamp       stamp
	racy        bool // the stamp cannot be trusted
	hash        workflow.Hash
	definitions []Definition
	problems    []Problem
	good        bool // the definitions are those of the last version without problems
}

// Set is what directories hold.
type Set struct {
	// Definitions are in the order of their kinds, files and places.
	Definitions []Definition
	// Partial tells that some file could not be read to its end and has no last
	// good version here. What seems to be gone may be in that file, so nothing
	// that was published before should be taken back.
	Partial bool
}

// NewLoader makes a loader; it reads nothing yet.
func NewLoader(directories Directories, defaults Defaults) *Loader {
	return &Loader{
		directories: directories, defaults: defaults, watching: defaultWatchTimes,
		files: make(map[fileKey]*loaded), latest: &tree{},
	}
}

// Load reads what changed since it was called last, and gives all definitions and
// all problems in them. A file with problems keeps the definitions of its last
// version without; if it never had one here, those definitions count that are
// good. A file that went away takes its definitions with it.
func (l *Loader) Load() (*Set, []Problem) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	now := l.scan()
	set := &Set{}
	problems := slices.Clone(now.problems)
	files := make(map[fileKey]*loaded, len(now.files))
	for _, file := range now.files {
		key := fileKey{file.kind, file.path}
		files[key] = l.load(file, l.files[key])
	}
	for key, former := range l.files {
		unread := func(path string) bool { return under(key.path, path) }
		if files[key] == nil && slices.ContainsFunc(now.unread, unread) {
			files[key] = former
		}
	}
	set.Partial = len(now.unread) > 0
	keys := make([]fileKey, 0, len(files))
	for key := range files {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b fileKey) int {
		return cmp.Or(cmp.Compare(kindOrder(a.kind), kindOrder(b.kind)), cmp.Compare(a.path, b.path))
	})
	for _, key := range keys {
		file := files[key]
		set.Definitions = append(set.Definitions, file.definitions...)
		problems = append(problems, file.problems...)
		set.Partial = set.Partial || !file.good
	}
	l.files, l.latest = files, now
	sortProblems(problems)
	return set, problems
}

func kindOrder(kind Kind) int {
	return slices.Index(Kinds, kind)
}

func (l *Loader) scan() *tree {
	now := &tree{}
	now.scan(KindTask, l.directories.Tasks)
	now.scan(KindDAG, l.directories.DAGs)
	now.scan(KindContext, l.directories.Contexts)
	now.scan(KindParameterSet, l.directories.ParameterSets)
	return now
}

// roots names the directories themselves.
func (l *Loader) roots() (ids []fileID) {
	for _, paths := range [][]string{l.directories.Tasks, l.directories.DAGs, l.directories.Contexts, l.directories.ParameterSets} {
		for _, path := range paths {
			ids = append(ids, identify(path))
		}
	}
	return ids
}

// outdated tells whether the directories are not what Load saw last.
func (l *Loader) outdated(now *tree) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return !slices.Equal(now.files, l.latest.files) || !slices.Equal(now.problems, l.latest.problems)
}

// load reads a file, unless it is what it was.
func (l *Loader) load(file source, former *loaded) *loaded {
	if former != nil && former.stamp == file.stamp && !former.racy {
		return former
	}
	next := &loaded{stamp: file.stamp, racy: time.Since(time.Unix(0, file.stamp.modified)) < settled}
	data, err := readFile(file.path)
	if err != nil {
		next.racy = true // try again
		next.problems = []Problem{fileProblem(file.kind, file.path, reason(err))}
	} else {
		next.hash = workflow.HashOf(data)
		if former != nil && former.hash == next.hash {
			next.definitions, next.problems, next.good = former.definitions, former.problems, former.good
			return next
		}
		next.definitions, next.problems = Parse(file.kind, file.path, data, l.defaults)
	}
	next.good = len(next.problems) == 0
	if !next.good && former != nil && former.good {
		next.definitions, next.good = former.definitions, true
	}
	return next
}

var (
	errTooLarge   = fmt.Errorf("it has more than %d MiB", MaxFileBytes>>20)
	errNotRegular = errors.New("it is no regular file")
)

// readFile reads a file, but not one that is too large, nor a device or a pipe,
// which might never end.
func readFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errNotRegular
	case info.Size() > MaxFileBytes:
		return nil, errTooLarge
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxFileBytes+1))
	if err == nil && len(data) > MaxFileBytes {
		return nil, errTooLarge // it grew
	}
	return data, err
}
