package checkout

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
)

// settings are all that git has of a configuration. Nothing in them runs a program, and nothing works in the background,
// where it would outlive its task.
const settings = `[core]
	hooksPath = /dev/null
	fsmonitor = false
	askPass =
	sshCommand =
[credential]
	helper =
[safe]
	directory = *
[init]
	defaultBranch = main
	templateDir =
[gc]
	autoDetach = false
[maintenance]
	autoDetach = false
[fetch]
	recurseSubmodules = false
	writeCommitGraph = false
[submodule]
	recurse = false
[uploadpack]
	allowAnySHA1InWant = true
[http]
	lowSpeedLimit = 1
	lowSpeedTime = 60
[advice]
	detachedHead = false
`

const (
	settingsFile = "gitconfig"
	private      = 0o700
)

// prepareRoot makes the folder of the mirrors, and git's settings in it.
func prepareRoot(root string) error {
	if err := os.MkdirAll(root, private); err != nil {
		return fmt.Errorf("make the folder of git's cache (git.cache.path): %w", err)
	}
	if err := checkOwner(root); err != nil {
		return err
	}
	path := filepath.Join(root, settingsFile)
	if there, err := os.ReadFile(path); err == nil && string(there) == settings {
		return nil
	}
	file, err := os.CreateTemp(root, settingsFile+"-*")
	if err != nil {
		return fmt.Errorf("write git's settings into its cache (git.cache.path): %w", err)
	}
	_, err = file.WriteString(settings)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("write git's settings into its cache (git.cache.path): %w", err)
	}
	return nil
}

// checkOwner refuses a folder that others can write to: they could tell git what to run.
func checkOwner(root string) error {
	info, err := os.Stat(root)
	if err != nil {
		return fmt.Errorf("look at the folder of git's cache (git.cache.path): %w", err)
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if known && owner.Uid != uint32(os.Geteuid()) { //nolint:gosec // a user's number
		return fmt.Errorf("the folder of git's cache, %s, belongs to another user than the agent's: choose another one with git.cache.path", root)
	}
	const othersWrite = 0o002
	if info.Mode()&othersWrite != 0 {
		return fmt.Errorf("everybody can write to the folder of git's cache, %s: take that right away (chmod o-w), or choose another one with git.cache.path", root)
	}
	return nil
}

// inherited are the variables of the agent's own environment that git needs on its way to a remote.
var inherited = []string{
	"PATH", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
}

// environment is that of a process of git which may use one transport.
func (w *work) environment(transport string) []string {
	settings := filepath.Join(w.root, settingsFile)
	env := []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + settings, "HOME=/nonexistent", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=" + transport, "GIT_NO_LAZY_FETCH=1", "GIT_OPTIONAL_LOCKS=0",
		"LC_ALL=C", // its errors are read
	}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// local runs git where it needs no remote.
func (w *work) local(arguments ...string) (Exit, error) {
	return w.git(w.environment("file"), nil, arguments)
}

func (w *work) git(env, options, arguments []string) (Exit, error) {
	args := append(append([]string{"git"}, options...), arguments...)
	exit, err := w.run.Run(&Command{Args: args, Env: env, Dir: w.root})
	if errors.Is(err, exec.ErrNotFound) {
		return exit, fmt.Errorf("git is not installed on this agent, or not in its PATH (%s)", os.Getenv("PATH"))
	}
	return exit, err //nolint:wrapcheck // it is the runner's
}

// remote runs git fetch from the repository into the one at the path.
func (w *work) remote(path string, refspecs ...string) (Exit, error) {
	r := w.repository
	transport := r.Scheme
	options := []string{"--git-dir=" + path}
	if r.Scheme == "http" {
		transport += ":https" // a redirect may make it better
	}
	env := w.environment(transport)
	switch r.Scheme {
	case "https", "http":
		if len(w.store.options.Policy.AllowedDomains)+len(w.store.options.Policy.AllowedRepos)+len(w.store.options.Policy.DisallowedRepos) > 0 {
			options = append(options, "-c", "http.followRedirects=false") // it would lead past what is allowed
		}
		if username, password := w.store.credential(r); username != "" {
			options = append(options, "-c", "credential."+r.Origin()+".helper="+helper)
			env = append(env, helperUsername+"="+username, helperPassword+"="+password)
		}
	case "ssh":
		env = append(env, "GIT_SSH_COMMAND="+w.store.ssh(), "GIT_SSH_VARIANT=ssh")
	}
	arguments := []string{"fetch", "--quiet", "--force", "--prune", "--no-tags", "--no-recurse-submodules", "--no-auto-gc", "--", r.Fetch}
	return w.git(env, options, append(arguments, refspecs...))
}

// noSpace is what the system says of a full disk.
const noSpace = "No space left on device"

const (
	helperUsername = "CYCLO_GIT_USERNAME"
	helperPassword = "CYCLO_GIT_PASSWORD" //nolint:gosec // a name
	// helper is what git asks for a username and a password.
	helper = `!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$` + helperUsername + `" "$` + helperPassword + `"; }; f`
	// tokenUser is the username where only a token is known: servers take any.
	tokenUser = "git"
)

// credential is what opens a repository over http; both are empty where there is nothing. What is written in the URL wins.
func (s *Store) credential(r *gitrepo.Repository) (username, password string) {
	switch {
	case r.Scheme != "https" && r.Scheme != "http":
		return "", ""
	case r.Password != "":
		return orToken(r.Username), r.Password
	}
	var found *Credential
	for i := range s.options.Credentials {
		one := &s.options.Credentials[i]
		domain, plain := strings.CutPrefix(strings.ToLower(one.Domain), "http://")
		domain = strings.TrimPrefix(domain, "https://")
		if plain == (r.Scheme == "http") && r.At(domain) && (found == nil || r.Username != "" && one.Username == r.Username && found.Username != r.Username) {
			found = one
		}
	}
	if found == nil {
		return "", ""
	}
	return orToken(cmp.Or(found.Username, r.Username)), found.Password
}

func orToken(username string) string {
	if username == "" {
		return tokenUser
	}
	return username
}

// ssh is the command that git reaches a host with. It never asks, and leaves no process behind that others share.
func (s *Store) ssh() string {
	command := "ssh -o BatchMode=yes -o ControlMaster=no -o ControlPath=none -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
	if key := s.options.SSHKeyPath; key != "" {
		command += " -o IdentitiesOnly=yes -i '" + strings.ReplaceAll(key, "'", `'\''`) + "'"
	}
	return command
}

// remoteFaults are what git says when the remote, not the mirror, is the reason, with what people are told.
var remoteFaults = []struct{ said, reason string }{
	{"dubious ownership", "belongs to another user than the agent's"},
	{"Host key verification failed", "is on a host whose SSH key is not known: add it to the known_hosts of the agent's user (ssh-keyscan shows it)"},
	{"REMOTE HOST IDENTIFICATION HAS CHANGED", "is on a host whose SSH key has changed: see the known_hosts of the agent's user"},
	{"Permission denied (publickey", "does not accept the agent's SSH key: see git.auth.ssh_key_path"},
	{"Load key", "cannot be opened with the agent's SSH key: see git.auth.ssh_key_path"},
	{"Authentication failed", "does not accept the credentials: see git.auth.credentials of the agent"},
	{"could not read Username", "asks for credentials, or does not exist: see git.auth.credentials of the agent"},
	{"could not read Password", "asks for credentials, or does not exist: see git.auth.credentials of the agent"},
	{"error: 401", "asks for credentials: see git.auth.credentials of the agent"},
	{"error: 403", "does not accept the credentials: see git.auth.credentials of the agent"},
	{"Could not resolve host", "cannot be reached: its host is not known"},
	{"unable to look up", "cannot be reached: its host is not known"},
	{"Name or service not known", "cannot be reached: its host is not known"},
	{"Repository not found", "does not exist, or the agent's credentials do not open it"},
	{"' not found", "does not exist, or the agent's credentials do not open it"},
	{"does not appear to be a git repository", "is no git repository"},
	{"not a git repository", "is no git repository"},
	{"does not exist", "does not exist"},
	{"access denied or repository not exported", "does not exist, or is not open to all"},
	{"unable to update url base from redirection", "redirects to another URL, which git.security of this agent does not allow"},
	{"error: 30", "redirects to another URL, which git.security of this agent does not allow"},
	{"Connection refused", "cannot be reached: connection refused"},
	{"Connection timed out", "cannot be reached: connection timed out"},
	{"Failed to connect", "cannot be reached: its host does not answer"},
	{"unable to connect", "cannot be reached: its host does not answer"},
	{"Network is unreachable", "cannot be reached: the network is unreachable"},
	{"No route to host", "cannot be reached: no route to its host"},
	{"ertificate", "cannot be reached: its certificate is not trusted"},
	{"Operation too slow", "cannot be reached: nothing came for a minute"},
	{"Connection reset", "cannot be reached: the connection broke"},
	{"Connection closed", "cannot be reached: the connection was closed"},
	{"hung up unexpectedly", "cannot be reached: the connection broke"},
	{"early EOF", "cannot be reached: the connection broke"},
	{"RPC failed", "cannot be reached: the connection broke"},
	{"Could not read from remote repository", "cannot be reached, or does not exist"},
	{"error: 5", "cannot be reached: its server has an error"},
	{noSpace, "cannot be fetched: no space is left for git's cache"},
	{"cannot run ssh", "cannot be reached: ssh is not installed on this agent"},
}

// fault says why a fetch into the repository at a path failed. It is errBroken where that repository is the reason.
func (w *work) fault(path string, exit Exit) error {
	if strings.Contains(exit.Stderr, w.root) && !strings.Contains(exit.Stderr, noSpace) {
		w.last = exit
		return errBroken
	}
	for i := range remoteFaults {
		if strings.Contains(exit.Stderr, remoteFaults[i].said) {
			return fmt.Errorf("the repository %s %s", w.repository, remoteFaults[i].reason)
		}
	}
	if exit.Code <= exitFatal { // it was not killed
		// To look at all that it has takes less than to fetch all again.
		looked, err := w.local("--git-dir="+path, "rev-list", "--quiet", "--objects", "--all")
		if err != nil {
			return err
		}
		if looked.Code != 0 {
			w.last = exit
			return errBroken
		}
	}
	return w.failed("git cannot fetch", exit)
}

// exitFatal is the exit code of git's own errors; a larger one is a signal's.
const exitFatal = 128

// failed says that a step of git failed for a reason that we do not know.
func (w *work) failed(what string, exit Exit) error {
	line := strings.TrimSpace(exit.Stderr)
	if at := strings.LastIndexByte(line, '\n'); at >= 0 {
		line = line[at+1:]
	}
	line = strings.Map(func(char rune) rune {
		if unicode.IsPrint(char) {
			return char
		}
		return ' '
	}, strings.ToValidUTF8(line, "?"))
	const most = 200
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "…"
	}
	if line == "" {
		line = fmt.Sprintf("exit code %d", exit.Code)
	}
	return fmt.Errorf("%s %s: git says: %s", what, w.repository, line)
}
