package spec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// stamp tells whether a file is still the one that was read.
type stamp struct {
	id       fileID
	size     int64
	modified int64 // Unix time in nanoseconds
	mode     fs.FileMode
}

// fileID names a file or directory whatever path leads to it.
type fileID struct{ device, inode uint64 }

func stampOf(info fs.FileInfo) stamp {
	return stamp{idOf(info), info.Size(), info.ModTime().UnixNano(), info.Mode()}
}

func idOf(info fs.FileInfo) fileID {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return fileID{uint64(stat.Dev), stat.Ino} //nolint:gosec,unconvert // Dev is signed and shorter on some systems
	}
	return fileID{}
}

// identify names what a path leads to; the zero name stands for nothing.
func identify(path string) fileID {
	info, err := os.Stat(path)
	if err != nil {
		return fileID{}
	}
	return idOf(info)
}

// source is a file that may hold definitions.
type source struct {
	kind  Kind
	path  string
	stamp stamp
}

// tree is what the directories hold at one time.
type tree struct {
	files       []source
	directories []string  // all that were read
	absent      []string  // roots that do not exist
	unread      []string  // paths that could not be read
	problems    []Problem // why not
}

// scan finds the files with definitions of one kind under some roots. Symbolic
// links are followed, each file and directory is taken once, and a link that leads
// back to a directory above it is told. A root may also be a single file.
func (t *tree) scan(kind Kind, roots []string) {
	w := walk{tree: t, kind: kind, seen: make(map[fileID]bool)}
	for _, root := range roots {
		root = filepath.Clean(root)
		info, err := os.Stat(root)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			t.absent = append(t.absent, root)
		case err != nil:
			t.unreadable(kind, root, err)
		case info.IsDir():
			w.directory(root, info, nil)
		default:
			w.file(root, info)
		}
	}
}

func (t *tree) unreadable(kind Kind, path string, err error) {
	t.unread = append(t.unread, path)
	t.problems = append(t.problems, fileProblem(kind, path, reason(err)))
}

func fileProblem(kind Kind, path, message string) Problem {
	return Problem{File: path, Kind: kind, Message: message}
}

// reason is an error of the file system without the path, which stands before it.
func reason(err error) string {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		if errors.Is(err, syscall.ELOOP) {
			return "the symbolic link leads in a circle"
		}
		return "cannot be read: " + failed.Err.Error()
	}
	return "cannot be read: " + err.Error()
}

// walk is the scan of one kind.
type walk struct {
	tree *tree
	kind Kind
	seen map[fileID]bool
}

// directory reads a directory. above holds the directories that it lies in.
func (w *walk) directory(path string, info fs.FileInfo, above []fileID) {
	id := idOf(info)
	if slices.Contains(above, id) {
		w.tree.problems = append(w.tree.problems,
			fileProblem(w.kind, path, "the symbolic link leads back to a directory that it lies in"))
		return
	}
	if w.seen[id] {
		return
	}
	w.seen[id] = true
	w.tree.directories = append(w.tree.directories, path)
	entries, err := os.ReadDir(path)
	if err != nil {
		w.tree.unreadable(w.kind, path, err)
	}
	inside := append(slices.Clip(above), id)
	for _, entry := range entries {
		if !ignored(entry.Name()) {
			w.entry(filepath.Join(path, entry.Name()), entry, inside)
		}
	}
}

func (w *walk) entry(path string, entry fs.DirEntry, inside []fileID) {
	link := entry.Type()&fs.ModeSymlink != 0
	if !entry.IsDir() && !link && !holdsDefinitions(path) {
		return
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		w.directory(path, info, inside)
	case err == nil && holdsDefinitions(path):
		w.file(path, info)
	case err == nil, errors.Is(err, fs.ErrNotExist) && (!link || !holdsDefinitions(path)):
		// another kind of file, or one that went away just now
	default:
		w.tree.unreadable(w.kind, path, err)
	}
}

func (w *walk) file(path string, info fs.FileInfo) {
	if id := idOf(info); !w.seen[id] {
		w.seen[id] = true
		w.tree.files = append(w.tree.files, source{w.kind, path, stampOf(info)})
	}
}

// ignored tells names that are hidden or that editors use while they save.
func ignored(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasPrefix(name, "~")
}

func holdsDefinitions(path string) bool {
	extension := filepath.Ext(path)
	return extension == ".yaml" || extension == ".yml"
}

// under tells whether a path is another or lies in it.
func under(path, directory string) bool {
	return path == directory || strings.HasPrefix(path, strings.TrimSuffix(directory, string(filepath.Separator))+string(filepath.Separator))
}
