package checkout

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
)

const (
	mirrorSuffix = ".git"
	lockSuffix   = ".lock"
	makingInfix  = ".new-"

	// The times of these files of a mirror say when it was fetched and used last.
	fetchedFile = "cyclonetix-fetched"
	usedFile    = "cyclonetix-used"

	headRef  = "refs/cyclonetix/head"  // the remote's HEAD
	askedRef = "refs/cyclonetix/asked" // what is neither a branch nor a tag
)

// mirror is a bare copy of a repository.
type mirror struct{ path string }

var notInNames = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// keyOf is the name of a repository's mirror, without suffix. It begins with something that people recognise.
func keyOf(r *gitrepo.Repository) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{r.Fetch, r.Username, r.Password}, "\x00")))
	name := strings.Trim(notInNames.ReplaceAllString(r.Host+"-"+filepath.Base(r.Fetch), "-"), "-.")
	name = strings.TrimSuffix(name, mirrorSuffix)
	return name[:min(len(name), 60)] + "-" + hex.EncodeToString(sum[:12])
}

func (m mirror) exists() bool {
	_, err := os.Lstat(filepath.Join(m.path, fetchedFile))
	return err == nil
}

// fresh tells whether the last fetch was within a time.
func (m mirror) fresh(ttl time.Duration) bool {
	info, err := os.Lstat(filepath.Join(m.path, fetchedFile))
	if err != nil {
		return false
	}
	age := time.Since(info.ModTime())
	return age >= 0 && age < ttl
}

// stamp notes that something was done to the mirror now.
func stamp(mirror, name string) error {
	path := filepath.Join(mirror, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	now := time.Now()
	return errors.Join(file.Close(), os.Chtimes(path, now, now))
}

// temporary is a path for a mirror that is being made.
func (w *work) temporary(key string) string {
	return filepath.Join(w.root, fmt.Sprintf("%s%s%d-%d", key, makingInfix, os.Getpid(), w.store.numbers.Add(1)))
}

// create makes a mirror at a path.
func (w *work) create(path string) error {
	w.run.Say("git: fetching " + w.repository.String())
	exit, err := w.local("init", "--quiet", "--bare", "--template=", "--", path)
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return w.failed("git's cache has no place for", exit)
	}
	err = w.fetchInto(path)
	if errors.Is(err, errBroken) {
		return w.failed("git cannot fetch", w.last)
	}
	return err
}

// replace makes the mirror anew. The old one stays until the new one is whole. The lock must be exclusive.
func (w *work) replace() error {
	key := strings.TrimSuffix(filepath.Base(w.mirror.path), mirrorSuffix)
	made := w.temporary(key)
	if err := w.create(made); err != nil {
		_ = os.RemoveAll(made)
		return err
	}
	old := w.temporary(key)
	if err := os.Rename(w.mirror.path, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put the copy of %s into git's cache: %w", w.repository, err)
	}
	err := os.Rename(made, w.mirror.path)
	_ = os.RemoveAll(old)
	if err != nil {
		return fmt.Errorf("put the copy of %s into git's cache: %w", w.repository, err)
	}
	return nil
}

// fetchAll brings the mirror up to date.
func (w *work) fetchAll(path string) error {
	w.run.Say("git: fetching " + w.repository.String())
	if err := w.fetchInto(path); err != nil {
		return err
	}
	// Packs that came one by one are put together now and then, here and not in the background. It is no loss if it fails.
	_, err := w.local("--git-dir="+path, "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")
	return err
}

func (w *work) fetchInto(path string) error {
	removeRemains(path)
	all := []string{"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"}
	exit, err := w.remote(path, append(all, "+HEAD:"+headRef)...)
	if err == nil && exit.Code != 0 && strings.Contains(exit.Stderr, "find remote ref HEAD") { // its default branch has no commit yet
		if exit, err = w.remote(path, all...); err == nil && exit.Code == 0 {
			_, err = w.local("--git-dir="+path, "update-ref", "-d", headRef)
		}
	}
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return w.fault(path, exit)
	}
	if err := stamp(path, fetchedFile); err != nil {
		return fmt.Errorf("note that %s was fetched: %w", w.repository, err)
	}
	return nil
}

// fetched is the commit, after branches, tags and HEAD were fetched.
func (w *work) fetched() (commit string, err error) {
	if strings.HasPrefix(w.name(), askedRef) {
		return w.fetchRef() // the one that the mirror may have is old
	}
	if commit, err = w.resolve(); err != nil || commit != "" {
		return commit, err
	}
	if gitrepo.IsCommit(w.ref) {
		return w.fetchRef()
	}
	return "", w.unknown()
}

// fetchRef fetches a revision that is neither a branch nor a tag.
func (w *work) fetchRef() (commit string, err error) {
	exit, err := w.remote(w.mirror.path, "+"+w.ref+":"+askedRef+"/"+w.ref)
	if err != nil {
		return "", err
	}
	if exit.Code != 0 {
		for _, said := range []string{"find remote ref", "not our ref", "unadvertised object", "upload-pack: not our ref"} {
			if strings.Contains(exit.Stderr, said) {
				return "", w.unknown()
			}
		}
		return "", w.fault(w.mirror.path, exit)
	}
	if commit, err = w.resolve(); err == nil && commit == "" {
		err = w.unknown()
	}
	return commit, err
}

func (w *work) unknown() error {
	switch {
	case w.ref == "":
		return fmt.Errorf("the repository %s has no HEAD: give the task's git a ref", w.repository)
	case gitrepo.IsCommit(w.ref):
		return fmt.Errorf("the repository %s has no commit %s", w.repository, w.ref)
	default:
		return fmt.Errorf("the repository %s has no branch, tag or commit %q", w.repository, w.ref)
	}
}

// name is what the ref is called in the mirror; empty where it may be a branch, a tag or the beginning of a commit.
func (w *work) name() string {
	switch {
	case w.ref == "", w.ref == "HEAD":
		return headRef
	case gitrepo.IsCommit(w.ref), strings.HasPrefix(w.ref, "refs/heads/"), strings.HasPrefix(w.ref, "refs/tags/"):
		return w.ref
	case strings.HasPrefix(w.ref, "refs/"):
		return askedRef + "/" + w.ref
	default:
		return ""
	}
}

// resolve gives the commit that the ref stands for in the mirror, or nothing. The error is errBroken, or the runner's.
func (w *work) resolve() (commit string, err error) {
	names := []string{w.name()}
	if names[0] == "" {
		names = []string{"refs/heads/" + w.ref, "refs/tags/" + w.ref}
		if gitrepo.MayBeCommit(w.ref) {
			names = append(names, w.ref)
		}
	}
	for _, name := range names {
		exit, err := w.local("--git-dir="+w.mirror.path, "rev-parse", "--verify", "--quiet", name+"^{commit}")
		switch {
		case err != nil:
			return "", err
		case exit.Code == 0 && gitrepo.IsCommit(strings.TrimSpace(exit.Stdout)):
			return strings.TrimSpace(exit.Stdout), nil
		case exit.Code > exitFatal:
			return "", w.failed("git cannot look for a commit of", exit)
		case exit.Code != 1 && !strings.Contains(exit.Stderr, "is ambiguous") && !strings.Contains(exit.Stderr, "expected commit type"):
			return "", errBroken
		}
	}
	return "", nil
}

// fill puts the commit into the folder. The error is errBroken where the mirror can't give it.
func (w *work) fill(dir, commit string) error {
	_ = stamp(w.mirror.path, usedFile) // it counts for eviction alone
	exit, err := w.local("init", "--quiet", "--template=", "--", dir)
	if err == nil && exit.Code != 0 {
		err = w.failed("the files cannot be written of", exit)
	}
	if err != nil {
		return err
	}
	exit, err = w.local("-C", dir, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-auto-gc", "--", w.mirror.path, commit)
	switch {
	case err != nil:
		return err
	case exit.Code > exitFatal, exit.Code != 0 && strings.Contains(exit.Stderr, noSpace):
		return w.failed("the files cannot be written of", exit)
	case exit.Code != 0:
		return errBroken
	}
	exit, err = w.local("-C", dir, "checkout", "--quiet", "--force", "--detach", commit)
	if err == nil && exit.Code == 0 {
		exit, err = w.local("-C", dir, "config", "remote.origin.url", w.repository.Fetch)
	}
	if err == nil && exit.Code != 0 {
		err = w.failed("the files cannot be written of", exit)
	}
	return err
}

// removeRemains removes what a fetch left behind that was killed. The mirror must be ours alone.
func removeRemains(path string) {
	for _, pattern := range []string{"*.lock", "objects/pack/tmp_*", "objects/*/tmp_obj_*", "objects/tmp_*"} {
		found, _ := fs.Glob(os.DirFS(path), pattern)
		for _, one := range found {
			_ = os.RemoveAll(filepath.Join(path, one))
		}
	}
	_ = filepath.WalkDir(filepath.Join(path, "refs"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".lock") {
			_ = os.Remove(path) //nolint:gosec // nobody else may write there
		}
		return nil
	})
}

// sweep removes what was being made for this key when somebody died. The lock must be exclusive.
func (w *work) sweep() {
	key := strings.TrimSuffix(filepath.Base(w.mirror.path), mirrorSuffix)
	entries, _ := os.ReadDir(w.root)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), key+makingInfix) {
			_ = os.RemoveAll(filepath.Join(w.root, entry.Name()))
		}
	}
}

// kept is a mirror among all.
type kept struct {
	path string
	size int64
	used time.Time
}

// evict removes what others left that died, and the mirrors that were used least recently, until all have their place.
// What is in use stays.
func (w *work) evict() {
	limit := w.store.options.MaxBytes
	entries, err := os.ReadDir(w.root)
	if err != nil {
		return
	}
	var all []kept
	var total int64
	for _, entry := range entries {
		if key, _, making := strings.Cut(entry.Name(), makingInfix); making {
			w.removeLeft(key, entry.Name())
			continue
		}
		if !entry.IsDir() || !strings.HasSuffix(entry.Name(), mirrorSuffix) {
			continue
		}
		path := filepath.Join(w.root, entry.Name())
		one := kept{path: path, size: sizeOf(path)}
		for _, name := range []string{usedFile, fetchedFile} {
			if info, err := os.Lstat(filepath.Join(path, name)); err == nil && info.ModTime().After(one.used) {
				one.used = info.ModTime()
			}
		}
		total += one.size
		if path != w.mirror.path {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, one := range all {
		if limit <= 0 || total <= limit {
			return
		}
		if w.remove(one.path) {
			total -= one.size
		}
	}
}

// removeLeft removes what was being made for a key when somebody died. Whoever lives has the key's lock.
func (w *work) removeLeft(key, name string) {
	if lock := w.nobodys(filepath.Join(w.root, key)); lock != nil {
		_ = os.RemoveAll(filepath.Join(w.root, name))
		lock.close()
	}
}

// nobodys gives the exclusive lock of a key, or nil where somebody has it.
func (w *work) nobodys(key string) *lock {
	lock, err := openLock(key + lockSuffix)
	if err != nil {
		return nil
	}
	if !lock.try(exclusive) {
		lock.close()
		return nil
	}
	return lock
}

// remove takes a mirror away that nobody uses.
func (w *work) remove(path string) bool {
	key := strings.TrimSuffix(path, mirrorSuffix)
	lock := w.nobodys(key)
	if lock == nil {
		return false
	}
	defer lock.close()
	gone := w.temporary(filepath.Base(key))
	if os.Rename(path, gone) != nil {
		return false
	}
	_ = os.RemoveAll(gone)
	return true
}

// sizeOf is the size of all files under a path, in bytes.
func sizeOf(path string) (size int64) {
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what is gone has no size
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}
