package gitrepo

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Repository is where a repository is.
type Repository struct {
	// Scheme is https, http, ssh, git or file.
	Scheme string
	// Host is the name of the machine in small letters, and Port what follows it; both are empty for file.
	Host, Port string
	// Fetch is what git is told: the URL without credentials. It never begins with a dash.
	Fetch string
	// Username and Password are those that were written into an http or https URL; the name may come alone. They are for git,
	// and shown to nobody.
	Username, Password string

	path    string   // as normalised; see name
	secrets []string // the credentials as they were written
}

// Schemes are those of the repositories that can be used.
var Schemes = []string{"https", "http", "ssh", "git", "file"}

// maxRepository bounds a name, in bytes.
const maxRepository = 4096

var (
	errForm = errors.New("it is no repository: write a URL (https, http, ssh, git or file), git@HOST:PATH, or an absolute path of the agent")
	scp     = regexp.MustCompile(`^(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*@)?([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):([^:].*)$`)
	host    = regexp.MustCompile(`^(?:[A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+)$`)
	user    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*$`)
)

// Parse reads the name of a repository. The error shows nothing of the text, which may hold credentials.
func Parse(text string) (*Repository, error) {
	switch {
	case text == "":
		return nil, errors.New("it is empty")
	case len(text) > maxRepository:
		return nil, fmt.Errorf("it has more than %d bytes", maxRepository)
	case strings.ContainsFunc(text, control):
		return nil, errors.New("it holds a control character")
	case strings.HasPrefix(text, "/"):
		return &Repository{Scheme: "file", Fetch: path.Clean(text), path: path.Clean(text)}, nil
	}
	if scheme, _, found := strings.Cut(text, "://"); found {
		return parseURL(strings.ToLower(scheme), text)
	}
	parts := scp.FindStringSubmatch(text)
	if parts == nil || strings.HasPrefix(parts[2], "-") || slices.Contains(Schemes, parts[1]) {
		return nil, errForm
	}
	return &Repository{Scheme: "ssh", Host: strings.ToLower(parts[1]), Fetch: text, path: parts[2]}, nil
}

func parseURL(scheme, text string) (*Repository, error) {
	if !slices.Contains(Schemes, scheme) {
		if len(scheme) > 20 || strings.ContainsAny(scheme, ":@/ ") {
			return nil, errForm
		}
		return nil, fmt.Errorf("its scheme %q is none of %s", scheme, strings.Join(Schemes, ", "))
	}
	parsed, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("it is no valid %s URL", scheme)
	}
	if parsed.RawQuery != "" || parsed.ForceQuery || strings.Contains(text, "#") {
		return nil, errors.New("its URL must have neither ? nor #")
	}
	r := &Repository{Scheme: scheme, Host: strings.ToLower(parsed.Hostname()), Port: parsed.Port(), path: parsed.Path}
	if strings.ContainsFunc(parsed.Path, control) {
		return nil, errors.New("it holds a control character")
	}
	if scheme == "file" {
		if parsed.Host != "" || parsed.User != nil || !strings.HasPrefix(parsed.Path, "/") {
			return nil, errors.New("a file URL is file:// and an absolute path of the agent")
		}
		r.path = path.Clean(parsed.Path)
		r.Fetch = r.path // as git would take a % as it is
		return r, nil
	}
	switch {
	case !host.MatchString(r.Host):
		return nil, fmt.Errorf("its %s URL names no host", scheme)
	case strings.Trim(parsed.Path, "/") == "":
		return nil, fmt.Errorf("its %s URL names a host, but no repository of it", scheme)
	}
	if parsed.User != nil {
		if err := r.takeUser(text, parsed.User); err != nil {
			return nil, err
		}
		if scheme != "ssh" {
			parsed.User = nil
		}
	}
	parsed.Scheme, parsed.Host = scheme, strings.ToLower(parsed.Host)
	r.Fetch = parsed.String()
	return r, nil
}

const (
	// tokenLength is how long a name of a user is, in bytes, that is a token in truth.
	tokenLength = 20
	// tokenPassword goes with it: servers that take one as a name take any password.
	tokenPassword = "x-oauth-basic" //nolint:gosec // it is known to all
)

// takeUser takes what stands before the @.
func (r *Repository) takeUser(text string, given *url.Userinfo) error {
	password, has := given.Password()
	switch {
	case r.Scheme == "ssh" && has:
		return errors.New("its ssh URL holds a password, which ssh does not take: use a key (git.auth.ssh_key_path)")
	case r.Scheme == "ssh" && !user.MatchString(given.Username()):
		return errors.New("its ssh URL names no valid user")
	case r.Scheme == "ssh":
		return nil
	case r.Scheme == "git":
		return errors.New("its git URL names a user, which that protocol does not have")
	case strings.ContainsFunc(given.Username()+password, control):
		return errors.New("its credentials hold a control character")
	}
	r.Username, r.Password = given.Username(), password
	_, written, _ := strings.Cut(text, "://")
	written, _, _ = strings.Cut(written, "/")
	written = written[:strings.LastIndexByte(written, '@')]
	name, secret, _ := strings.Cut(written, ":")
	switch {
	case has:
		r.secrets = append(r.secrets, password, secret)
	case len(r.Username) >= tokenLength:
		r.secrets = append(r.secrets, r.Username, name)
		r.Password = tokenPassword
	}
	r.secrets = slices.DeleteFunc(r.secrets, func(text string) bool { return text == "" })
	return nil
}

// Secrets are the texts in the name that must be shown nowhere.
func (r *Repository) Secrets() []string { return r.secrets }

// String is the name as it may be shown.
func (r *Repository) String() string { return r.Fetch }

// Origin is the scheme and the host of a URL, as git compares them.
func (r *Repository) Origin() string {
	at := r.Host
	if strings.Contains(at, ":") {
		at = "[" + at + "]"
	}
	if r.Port != "" {
		at += ":" + r.Port
	}
	return r.Scheme + "://" + at
}

// At tells whether the repository is on a host, given as HOST or HOST:PORT; without a port it is the one that the scheme has.
func (r *Repository) At(domain string) bool {
	return domain != "" && (domain == r.address() || domain == r.Host+":"+defaultPorts[r.Scheme] && r.address() == r.Host)
}

// address is the host with its port, unless that is the one that the scheme has anyway.
func (r *Repository) address() string {
	if r.Port == "" || r.Port == defaultPorts[r.Scheme] {
		return r.Host
	}
	return r.Host + ":" + r.Port
}

var defaultPorts = map[string]string{"https": "443", "http": "80", "ssh": "22", "git": "9418"}

// name is the same for all ways to name a repository: HOST[:PORT]/PATH, or the absolute path.
func (r *Repository) name() string {
	if r.Scheme == "file" {
		return r.path
	}
	return r.address() + trimmed(r.path)
}

// trimmed is a path in its shortest form, with a slash before it and without .git.
func trimmed(text string) string {
	return strings.TrimSuffix(path.Clean("/"+text), ".git")
}

// real is the name with all links followed; the name itself where there are none.
func (r *Repository) real() string {
	if r.Scheme != "file" {
		return r.name()
	}
	followed, err := filepath.EvalSymlinks(r.path)
	if err != nil {
		return r.path
	}
	return followed
}

func control(char rune) bool { return char < ' ' || char == 0x7f }
