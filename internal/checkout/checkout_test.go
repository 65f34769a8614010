package checkout

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/gitrepo"
)

var errStop = errors.New("stop")

// direct runs processes as they are, and gives up when it is to wait.
type direct struct{ said []string }

func (d *direct) Run(command *Command) (Exit, error) {
	program, err := exec.LookPath(command.Args[0])
	if err != nil {
		return Exit{}, err
	}
	var stdout, stderr bytes.Buffer
	process := exec.Cmd{Path: program, Args: command.Args, Env: command.Env, Dir: command.Dir, Stdout: &stdout, Stderr: &stderr}
	err = process.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return Exit{}, err
	}
	return Exit{Code: process.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}, nil
}

func (d *direct) Pause(time.Duration) error { return errStop }
func (d *direct) Say(line string)           { d.said = append(d.said, line) }

func parse(t *testing.T, text string) *gitrepo.Repository {
	t.Helper()
	r, err := gitrepo.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// repository makes a folder by commands of git.
func repository(t *testing.T, commands ...string) string {
	t.Helper()
	path := t.TempDir()
	for _, command := range commands {
		process := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, strings.Fields(command)...)...)
		process.Dir = path
		if out, err := process.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v: %s", command, err, out)
		}
	}
	return path
}

func TestKeys(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, text := range []string{
		"https://example.com/org/a.git", "https://example.com/org/b.git", "https://other.example/org/a.git", "https://u:s3cret@example.com/org/a.git",
		"https://u:t3cret@example.com/org/a.git", "https://s3cret@example.com/org/a.git", "git@example.com:org/a.git", "/srv/..git", "/", "/-", "/" + strings.Repeat("x", 300),
	} {
		key := keyOf(parse(t, text))
		if other, there := seen[key]; there {
			t.Errorf("%s and %s have the key %s", text, other, key)
		}
		seen[key] = text
		if strings.ContainsAny(key, "/ @:") || strings.Contains(key, "cret") || strings.HasPrefix(key, ".") || len(key) > 100 || strings.Contains(key, makingInfix) {
			t.Errorf("%s has the key %s", text, key)
		}
	}
}

func TestCredential(t *testing.T) {
	t.Parallel()
	s := New(Options{Credentials: []Credential{
		{Domain: "example.com", Username: "one", Password: "1"}, {Domain: "Example.com:443", Username: "two", Password: "2"},
		{Domain: "token.example", Password: "3"}, {Domain: "http://plain.example:8080", Username: "four", Password: "4"}, {Domain: "https://port.example:8443", Username: "five", Password: "5"},
	}})
	for text, want := range map[string]string{
		"https://example.com/a": "one:1", "https://two@example.com/a": "two:2", "https://three@example.com/a": "one:1", "https://EXAMPLE.com:443/a": "one:1", "https://example.com:444/a": ":",
		"http://example.com/a": ":", "https://token.example/a": "git:3", "https://me@token.example/a": "me:3", "http://plain.example:8080/a": "four:4", "https://plain.example:8080/a": ":",
		"https://port.example:8443/a": "five:5", "https://port.example/a": ":", "https://u:p@example.com/a": "u:p", "https://:p@example.com/a": "git:p", "ssh://git@example.com/a": ":", "/srv/a": ":",
		"https://sub.example.com/a": ":", "https://example.com.evil.example/a": ":",
	} {
		if username, password := s.credential(parse(t, text)); username+":"+password != want {
			t.Errorf("%s is opened by %s:%s, wanted %s", text, username, password, want)
		}
	}
}

func TestStoppedWhileWaiting(t *testing.T) {
	t.Parallel()
	r := parse(t, repository(t, "init --quiet"))
	root := t.TempDir()
	held, err := openLock(filepath.Join(root, keyOf(r)+lockSuffix))
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	if !held.try(exclusive) {
		t.Fatal("nobody has it, and it can't be taken")
	}
	if _, err := New(Options{Path: root}).Checkout(&direct{}, r, "", t.TempDir()); !errors.Is(err, errStop) {
		t.Errorf("error %v", err)
	}
}

func TestHeads(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		commands []string
		ref      string
		want     string // of the error; empty for none
	}{
		"empty":                {[]string{"init --quiet"}, "", "has no HEAD: give the task's git a ref"},
		"empty, a branch":      {[]string{"init --quiet"}, "main", `has no branch, tag or commit "main"`},
		"unborn":               {[]string{"init --quiet -b x", "commit -q --allow-empty -m x", "symbolic-ref HEAD refs/heads/y"}, "", "has no HEAD"},
		"unborn, a branch":     {[]string{"init --quiet -b x", "commit -q --allow-empty -m x", "symbolic-ref HEAD refs/heads/y"}, "x", ""},
		"detached":             {[]string{"init --quiet -b x", "commit -q --allow-empty -m x", "checkout -q --detach"}, "HEAD", ""},
		"a tag of no commit":   {[]string{"init --quiet -b x", "commit -q --allow-empty -m x", "tag t HEAD^{tree}"}, "t", `has no branch, tag or commit "t"`},
		"an abbreviated none":  {[]string{"init --quiet -b x", "commit -q --allow-empty -m x"}, "0123456", `has no branch, tag or commit "0123456"`},
		"a bare one":           {[]string{"init --quiet --bare"}, "refs/notes/x", `has no branch, tag or commit "refs/notes/x"`},
		"no repository at all": {nil, "", "is no git repository"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, alone := range []bool{false, true} {
				dir := filepath.Join(t.TempDir(), "attempt")
				if err := os.Mkdir(dir, private); err != nil {
					t.Fatal(err)
				}
				_, err := New(Options{Path: filepath.Join(t.TempDir(), "cache"), NoCache: alone}).Checkout(&direct{}, parse(t, repository(t, test.commands...)), test.ref, dir)
				switch {
				case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
					t.Errorf("error %v, wanted %q", err, test.want)
				}
				if left, _ := filepath.Glob(dir + ".*"); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			}
		})
	}
}

// TestHeadThatGoes holds that nobody gets a HEAD which the remote has no more.
func TestHeadThatGoes(t *testing.T) {
	t.Parallel()
	path := repository(t, "init --quiet -b x", "commit -q --allow-empty -m x")
	s := New(Options{Path: filepath.Join(t.TempDir(), "cache")})
	if _, err := s.Checkout(&direct{}, parse(t, path), "", t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "-C", path, "symbolic-ref", "HEAD", "refs/heads/y").CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	if _, err := s.Checkout(&direct{}, parse(t, path), "", t.TempDir()); err == nil || !strings.Contains(err.Error(), "has no HEAD") {
		t.Errorf("error %v", err)
	}
}
