package checkout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
)

// Command is a process that is to be run, in a group of its own, without input.
type Command struct {
	Args []string
	Env  []string // the whole of it
	Dir  string
}

// Exit is how a process ended.
type Exit struct {
	// Code is its exit code; not 0 when a signal ended it.
	Code int
	// Stdout is what it printed, and Stderr the end of that.
	Stdout, Stderr string
}

// Runner runs processes and waits, until it is told to stop.
type Runner interface {
	// Run runs a process to its end. What it prints on standard error is shown to people. The error tells that it could not be
	// started (errors.Is exec.ErrNotFound where there is no such program), or that the caller is to give up: then the process
	// is dead.
	Run(command *Command) (Exit, error)
	// Pause waits. Its error tells that the caller is to give up.
	Pause(length time.Duration) error
	// Say tells people what goes on, in a line.
	Say(line string)
}

// Credential opens the repositories of a host.
type Credential struct {
	// Domain is HOST or HOST:PORT. The password goes over https alone, unless "http://" stands before it.
	Domain             string
	Username, Password string
}

// Options say where mirrors are kept, and what repositories are opened with.
type Options struct {
	// Path is the folder for mirrors, which need not exist. With NoCache only git's settings are there, and each check-out
	// has a mirror of its own beside its folder, which is removed at once.
	Path    string
	NoCache bool
	// MaxBytes bounds the size of all mirrors; 0 for no bound.
	MaxBytes int64
	// TTL is how old the last fetch may be where a branch or a tag is asked for; 0 fetches each time.
	TTL time.Duration
	// SSHKeyPath is the file of the key for ssh; empty for those that ssh finds itself.
	SSHKeyPath  string
	Credentials []Credential
	Policy      gitrepo.Policy
}

// Store checks commits out. It is safe for concurrent use.
type Store struct {
	options Options
	numbers atomic.Uint64 // for names of what is being made
}

// New makes a store. It touches nothing yet.
func New(options Options) *Store { return &Store{options: options} }

// Secrets are the texts that must be shown nowhere when the repository is fetched.
func (s *Store) Secrets(repository *gitrepo.Repository) []string {
	secrets := repository.Secrets()
	if _, password := s.credential(repository); password != "" {
		secrets = append(slices.Clip(secrets), password)
	}
	return secrets
}

// Checkout puts the commit that ref (a branch, a tag, a commit; empty for HEAD) stands for into an empty folder, and gives
// its name. An error of the Runner passes as it is; all others are one sentence for people, and show no credentials.
func (s *Store) Checkout(run Runner, repository *gitrepo.Repository, ref, dir string) (commit string, err error) {
	if err := s.options.Policy.Check(repository); err != nil {
		return "", err //nolint:wrapcheck // it says it all
	}
	if err := gitrepo.CheckRef(ref); err != nil {
		return "", fmt.Errorf("the ref: %w", err)
	}
	root, err := filepath.Abs(s.options.Path)
	if err != nil {
		return "", fmt.Errorf("find the folder of git's cache: %w", err)
	}
	if err := prepareRoot(root); err != nil {
		return "", err
	}
	w := &work{store: s, run: run, repository: repository, ref: ref, root: root}
	if s.options.NoCache {
		return w.alone(dir)
	}
	return w.cached(dir)
}

// work is one check-out.
type work struct {
	store      *Store
	run        Runner
	repository *gitrepo.Repository
	ref        string
	root       string
	mirror     mirror
	last       Exit // of a fetch that failed for an unknown reason
}

// errBroken tells that git can't read the mirror.
var errBroken = errors.New("the mirror is broken")

// alone uses a mirror that nobody else sees.
func (w *work) alone(dir string) (commit string, err error) {
	w.mirror = mirror{path: dir + mirrorSuffix}
	defer func() { _ = os.RemoveAll(w.mirror.path) }()
	if err := w.create(w.mirror.path); err != nil {
		return "", err
	}
	if commit, err = w.fetched(); err != nil {
		return "", w.unreadable(err)
	}
	return commit, w.unreadable(w.fill(dir, commit))
}

// cached uses the mirror that all share.
func (w *work) cached(dir string) (commit string, err error) {
	w.mirror = mirror{path: filepath.Join(w.root, keyOf(w.repository)+mirrorSuffix)}
	lock, err := openLock(strings.TrimSuffix(w.mirror.path, mirrorSuffix) + lockSuffix)
	if err != nil {
		return "", err
	}
	defer lock.close()
	if err := lock.take(shared, w.run); err != nil {
		return "", err
	}
	commit, err = w.known()
	if err == nil && commit != "" {
		if err = w.fill(dir, commit); err == nil {
			return commit, nil
		}
	}
	remake := errors.Is(err, errBroken)
	if err != nil && !remake {
		return "", err
	}
	for first := true; ; first = false {
		if commit, err = w.update(lock, remake); err != nil {
			return "", err
		}
		w.evict()
		// Between the locks somebody may evict the mirror: then it is broken for us.
		if err := lock.take(shared, w.run); err != nil {
			return "", err
		}
		err = w.fill(dir, commit)
		if !errors.Is(err, errBroken) || !first || remake {
			return commit, w.unreadable(err)
		}
		remake = true
	}
}

// update brings the mirror up to date under its exclusive lock, or makes it anew.
func (w *work) update(lock *lock, remake bool) (commit string, err error) {
	if err := lock.take(exclusive, w.run); err != nil {
		return "", err
	}
	w.sweep()
	if !remake {
		// Somebody else may have done it meanwhile.
		if commit, err = w.known(); err == nil && commit == "" {
			commit, err = w.refresh()
		}
		if !errors.Is(err, errBroken) {
			return commit, err
		}
	}
	w.run.Say("git: the kept copy of " + w.repository.String() + " cannot be read; making it anew")
	if err := w.replace(); err != nil {
		return "", err
	}
	commit, err = w.fetched()
	return commit, w.unreadable(err)
}

// known is the commit if the mirror has it and nothing must be fetched to be sure; else empty.
func (w *work) known() (commit string, err error) {
	if !w.mirror.exists() {
		return "", nil
	}
	if !gitrepo.IsCommit(w.ref) && !w.mirror.fresh(w.store.options.TTL) {
		return "", nil
	}
	return w.resolve()
}

// refresh fetches into a mirror that lacks the commit or is too old.
func (w *work) refresh() (commit string, err error) {
	if !w.mirror.exists() {
		err = w.replace()
	} else if _, err = w.resolve(); err == nil { // so a mirror that is none any more is not taken for a fault of the remote
		err = w.fetchAll(w.mirror.path)
	}
	if err != nil {
		return "", err
	}
	return w.fetched()
}

// unreadable says in words what can't be mended by trying again.
func (w *work) unreadable(err error) error {
	if errors.Is(err, errBroken) {
		return fmt.Errorf("the files of %s cannot be read from what was fetched: the task's log has what git says", w.repository)
	}
	return err
}
