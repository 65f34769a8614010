package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// origin is a repository that others fetch from.
type origin struct {
	t    testing.TB
	path string
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{t, filepath.Join(t.TempDir(), "project")}
	o.git("init", "--quiet", "--initial-branch=main", "--", o.path)
	return o
}

func (o *origin) git(arguments ...string) string {
	o.t.Helper()
	command := exec.Command("git", arguments...)
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}
	if _, err := os.Stat(o.path); err == nil {
		command.Dir = o.path
	}
	out, err := command.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %s: %v: %s", arguments, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files, by name and content, and gives the name of the commit with them.
func (o *origin) commit(files ...string) string {
	o.t.Helper()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(o.path, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			o.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			o.t.Fatal(err)
		}
	}
	o.git("add", "--all")
	o.git("commit", "--quiet", "--allow-empty", "--message=x")
	return o.git("rev-parse", "HEAD")
}

// withGit lets an agent keep its mirrors in a folder of the test.
func withGit(t testing.TB, change ...func(*Git)) (func(*Options), string) {
	t.Helper()
	cache := filepath.Join(t.TempDir(), "cache")
	return func(o *Options) {
		o.killGrace = 200 * time.Millisecond
		o.Git.Checkout.Path, o.Git.Checkout.TTL = cache, time.Hour
		for _, f := range change {
			f(&o.Git)
		}
	}, cache
}

func inRepository(command string, git workflow.Git) *workflow.TaskSpec {
	spec := shell(command)
	spec.Git = &git
	return spec
}

func (c *cluster) wantEnd(t testing.TB, m workflow.Member, status workflow.TaskStatus, reason string) engine.End {
	t.Helper()
	end := c.end(t, m)
	if end.Status != status || !strings.Contains(end.Reason, reason) || reason == "" && end.Reason != "" {
		t.Errorf("ended %v: %q, want %v with %q\n%s", end.Status, end.Reason, status, reason, c.output(m, engine.StreamStderr))
	}
	return end
}

func TestRepository(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a/hello", "first")
	o.git("tag", "-a", "v1", "-m", "x")
	o.git("branch", "dev")
	o.git("branch", "both")
	o.git("update-ref", "refs/pull/7/head", first)
	second := o.commit("a/hello", "second")
	o.git("tag", "both")
	option, _ := withGit(t, func(g *Git) {
		g.Environments = []GitEnvironment{
			{Name: "shell", SetupCommands: []string{"echo setting up", `printf 'GREETING=hi' > "$(pwd)/rc"`}, PreExecute: "source ./rc"},
			{Name: "broken", SetupCommands: []string{"true", "echo no such thing >&2; exit 9"}},
		}
	})
	c := newCluster()
	startAgent(t, c, option)
	const show = `cat a/hello; echo " $CYCLO_GIT_COMMIT $(git rev-parse HEAD)"`
	withValues := inRepository(`pwd; cat hello`, workflow.Git{Repository: "${HERE}", Ref: "${WHICH}", Path: "${FOLDER}"})
	withValues.Env = map[string]string{"HERE": o.path, "WHICH": "v1", "FOLDER": "./a/"}
	tests := map[string]struct {
		spec   *workflow.TaskSpec
		status workflow.TaskStatus
		reason string
		out    string
		log    string
	}{
		"HEAD":               {spec: inRepository(show, workflow.Git{Repository: o.path}), out: "second " + second + " " + second + "\n"},
		"file URL":           {spec: inRepository(show, workflow.Git{Repository: "file://" + o.path, Ref: "main"}), out: "second " + second + " " + second + "\n"},
		"branch":             {spec: inRepository(show, workflow.Git{Repository: o.path, Ref: "dev"}), out: "first " + first + " " + first + "\n"},
		"whole branch":       {spec: inRepository(show, workflow.Git{Repository: o.path, Ref: "refs/heads/dev"}), out: "first " + first + " " + first + "\n"},
		"tag":                {spec: inRepository(show, workflow.Git{Repository: o.path, Ref: "v1"}), out: "first " + first + " " + first + "\n"},
		"commit":             {spec: inRepository(show, workflow.Git{Repository: o.path, Ref: first}), out: "first " + first + " " + first + "\n"},
		"another ref":        {spec: inRepository(show, workflow.Git{Repository: o.path, Ref: "refs/pull/7/head"}), out: "first " + first + " " + first + "\n"},
		"branch before tag":  {spec: inRepository(show, workflow.Git{Repository: o.path, Ref: "both"}), out: "first " + first + " " + first + "\n"},
		"short commit":       {spec: inRepository(show, workflow.Git{Repository: o.path, Ref: first[:10]}), out: "first " + first + " " + first + "\n"},
		"values":             {spec: withValues, out: "first"},
		"environment":        {spec: inRepository(`echo "$GREETING"`, workflow.Git{Repository: o.path, Environment: "shell"}), out: "setting up\nhi\n"},
		"broken environment": {spec: inRepository("true", workflow.Git{Repository: o.path, Environment: "broken"}), status: workflow.TaskFailed, reason: `cannot be started: command 2 of the git environment "broken" failed: exit code 9: no such thing`},
		"no environment":     {spec: inRepository("true", workflow.Git{Repository: o.path, Environment: "nix"}), status: workflow.TaskFailed, reason: `this agent has no git environment "nix": it has shell, broken (git.environments)`},
		"unknown ref":        {spec: inRepository("true", workflow.Git{Repository: o.path, Ref: "nope"}), status: workflow.TaskFailed, reason: `has no branch, tag or commit "nope"`},
		"unknown commit":     {spec: inRepository("true", workflow.Git{Repository: o.path, Ref: strings.Repeat("1", 40)}), status: workflow.TaskFailed, reason: `has no commit 1111`},
		"option as ref":      {spec: inRepository("true", workflow.Git{Repository: o.path, Ref: "--upload-pack=x"}), status: workflow.TaskFailed, reason: "begins with a dash"},
		"no repository":      {spec: inRepository("true", workflow.Git{Repository: o.path + "/none"}), status: workflow.TaskFailed, reason: "/none is no git repository"},
		"ext":                {spec: inRepository("true", workflow.Git{Repository: "ext::sh -c id"}), status: workflow.TaskFailed, reason: "it is no repository"},
		"no folder":          {spec: inRepository("true", workflow.Git{Repository: o.path, Path: "b"}), status: workflow.TaskFailed, reason: `there is no folder "b" in the repository`},
		"a file as folder":   {spec: inRepository("true", workflow.Git{Repository: o.path, Path: "a/hello"}), status: workflow.TaskFailed, reason: `"a/hello" is no folder`},
		"out":                {spec: inRepository("true", workflow.Git{Repository: o.path, Path: "../x"}), status: workflow.TaskFailed, reason: `leaves the repository`},
		"its own failure":    {spec: inRepository("exit 3", workflow.Git{Repository: o.path}), status: workflow.TaskFailed, reason: "exit code 3"},
		"its last words":     {spec: inRepository("echo so >&2; exit 3", workflow.Git{Repository: o.path}), status: workflow.TaskFailed, reason: "exit code 3: so"},
	}
	members := map[string]workflow.Member{}
	for name, test := range tests {
		members[name] = c.submit(test.spec)[0]
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.status == 0 {
				test.status = workflow.TaskCompleted
			}
			end := c.wantEnd(t, members[name], test.status, test.reason)
			if !end.Started && !strings.Contains(end.Reason, "it is no repository") {
				t.Error("not started")
			}
			if name == "its own failure" && end.Reason != "exit code 3" {
				t.Errorf("a line of git is in the reason: %s", end.Reason)
			}
			if out := string(c.output(members[name], engine.StreamStdout)); !strings.HasSuffix(out, test.out) || test.out == "" && out != "" {
				t.Errorf("printed %q, want %q\n%s", out, test.out, c.output(members[name], engine.StreamStderr))
			}
		})
	}
	c.checkEmpty(t)
}

// TestRepositoryPolicy holds that nothing is fetched that is not allowed, and that files are scanned first.
func TestRepositoryPolicy(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit("virus", "x", "inner/file", "y")
	if err := os.Symlink("/etc", filepath.Join(o.path, "etc")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("inner", filepath.Join(o.path, "there")); err != nil {
		t.Fatal(err)
	}
	o.commit()
	for name, test := range map[string]struct {
		change func(*Git)
		git    workflow.Git
		want   string // empty: it runs
	}{
		"domain":           {func(g *Git) { g.Checkout.Policy.AllowedDomains = []string{"github.com"} }, workflow.Git{}, "is refused by git.security.allowed_domains of this agent: a path has no domain"},
		"allowed":          {func(g *Git) { g.Checkout.Policy.AllowedRepos = []string{filepath.Dir(o.path) + "/*"} }, workflow.Git{}, ""},
		"not allowed":      {func(g *Git) { g.Checkout.Policy.AllowedRepos = []string{"/srv/*"} }, workflow.Git{}, "is refused by git.security.allowed_repos"},
		"disallowed":       {func(g *Git) { g.Checkout.Policy.DisallowedRepos = []string{o.path} }, workflow.Git{}, "is refused by git.security.disallowed_repos"},
		"scan, good":       {func(g *Git) { g.Scan, g.FailOnFindings = "test -f {repo_path}/virus && test -z \"$SECRET\"", true }, workflow.Git{}, ""},
		"scan, bad":        {func(g *Git) { g.Scan, g.FailOnFindings = "ls {repo_path} | grep virus && exit 4", true }, workflow.Git{}, "the scan of its repository (git.security.scan) found something: exit code 4"},
		"scan, told":       {func(g *Git) { g.Scan = "exit 4" }, workflow.Git{}, ""},
		"link":             {func(*Git) {}, workflow.Git{Path: "there"}, ""},
		"link that leaves": {func(*Git) {}, workflow.Git{Path: "etc"}, `the folder "etc" is a link that leaves the repository`},
		"no cache":         {func(g *Git) { g.Checkout.NoCache = true }, workflow.Git{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			option, cache := withGit(t, test.change)
			c := newCluster()
			startAgent(t, c, option)
			test.git.Repository = o.path
			spec := inRepository("true", test.git)
			spec.Env = map[string]string{"SECRET": "x"}
			m := c.submit(spec)[0]
			status := workflow.TaskCompleted
			if test.want != "" {
				status = workflow.TaskFailed
			}
			c.wantEnd(t, m, status, test.want)
			mirrors, _ := filepath.Glob(filepath.Join(cache, "*.git"))
			if fetched := len(mirrors) > 0; fetched != (!strings.Contains(test.want, "refused") && name != "no cache") {
				t.Errorf("fetched: %v", fetched)
			}
			if name == "scan, told" && !strings.Contains(string(c.output(m, engine.StreamStderr)), "found something: exit code 4") {
				t.Error("nobody is told")
			}
		})
	}
}

// TestRepositoryMirrors holds that mirrors that break are made anew, and that old ones go.
func TestRepositoryMirrors(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	commit := o.commit("hello", "there", "big", strings.Repeat("x", 1000))
	option, cache := withGit(t)
	c := newCluster()
	startAgent(t, c, option)
	run := func() {
		t.Helper()
		for _, ref := range []string{"", commit} {
			c.wantEnd(t, c.submit(inRepository("cat hello", workflow.Git{Repository: o.path, Ref: ref}))[0], workflow.TaskCompleted, "")
		}
	}
	run()
	mirrors, _ := filepath.Glob(filepath.Join(cache, "*.git"))
	if len(mirrors) != 1 {
		t.Fatalf("mirrors: %q", mirrors)
	}
	remove := func(pattern string) {
		t.Helper()
		found, _ := filepath.Glob(filepath.Join(mirrors[0], pattern))
		if len(found) == 0 {
			t.Fatal("nothing to break: " + pattern)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, pattern := range []string{"objects/*", "HEAD", "refs", "cyclonetix-fetched"} {
		remove(pattern)
		run()
		if pattern == "cyclonetix-fetched" {
			break
		}
		remove(pattern)
		old := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(filepath.Join(mirrors[0], "cyclonetix-fetched"), old, old); err != nil {
			t.Fatal(err)
		}
		run()
	}
	// What somebody left who was killed is in nobody's way.
	for _, name := range []string{"packed-refs.lock", "config.lock", "shallow.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x"} {
		if err := os.WriteFile(filepath.Join(mirrors[0], name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left := strings.TrimSuffix(mirrors[0], ".git") + ".new-1-1"
	if err := os.MkdirAll(filepath.Join(left, "objects"), 0o700); err != nil {
		t.Fatal(err)
	}
	o.commit("hello", "again")
	o.git("branch", "later")
	c.wantEnd(t, c.submit(inRepository("grep again hello", workflow.Git{Repository: o.path, Ref: "later"}))[0], workflow.TaskCompleted, "")
	if _, err := os.Stat(left); err == nil {
		t.Error("what was left is there still")
	}
	if rest, _ := filepath.Glob(filepath.Join(cache, "*.new-*")); len(rest) > 0 {
		t.Errorf("left behind: %q", rest)
	}
}

// TestRepositoryEviction lets the mirrors go that were used least recently, but not those in use.
func TestRepositoryEviction(t *testing.T) {
	t.Parallel()
	var origins []*origin
	random := make([]byte, 600<<10)
	for i := range 3 {
		o := newOrigin(t)
		seed := uint32(i + 1)
		for at := range random { // nothing that git could pack
			seed = seed*1664525 + 1013904223
			random[at] = byte(seed >> 24)
		}
		o.commit("data", string(random))
		origins = append(origins, o)
	}
	option, cache := withGit(t, func(g *Git) { g.Checkout.MaxBytes = 1 << 20 })
	c := newCluster()
	startAgent(t, c, option)
	for _, left := range []string{"host-a-0123.new-1-1", "host-b-0123.new-1-1"} {
		if err := os.MkdirAll(filepath.Join(cache, left, "objects"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	held, err := os.Create(filepath.Join(cache, "host-b-0123.lock"))
	if err == nil {
		err = flock(held, syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for i, o := range origins {
		c.wantEnd(t, c.submit(inRepository("true", workflow.Git{Repository: o.path}))[0], workflow.TaskCompleted, "")
		mirrors, _ := filepath.Glob(filepath.Join(cache, "*.git"))
		if len(mirrors) != 1 {
			t.Errorf("after %d: %q", i+1, mirrors)
		}
	}
	c.wantEnd(t, c.submit(inRepository("test -s data", workflow.Git{Repository: origins[0].path}))[0], workflow.TaskCompleted, "")
	if rest, _ := filepath.Glob(filepath.Join(cache, "*.new-*")); len(rest) != 1 || filepath.Base(rest[0]) != "host-b-0123.new-1-1" {
		t.Errorf("left behind: %q, but that of somebody who lives", rest)
	}
}

// TestRepositoryRunsNothing holds that neither a repository nor the user's configuration makes git run anything.
func TestRepositoryRunsNothing(t *testing.T) { //nolint:paralleltest // it sets the environment
	o := newOrigin(t)
	o.commit(".gitattributes", "* filter=evil\n", ".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ext::touch /tmp/x\n", "hello", "there")
	home, touched := t.TempDir(), filepath.Join(t.TempDir(), "touched")
	hooks := filepath.Join(home, "hooks")
	if err := os.Mkdir(hooks, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, hook := range []string{"post-checkout", "reference-transaction", "pre-auto-gc"} {
		if err := os.WriteFile(filepath.Join(hooks, hook), []byte("#!/bin/sh\ntouch "+touched+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := "[core]\n\thooksPath = " + hooks + "\n\tfsmonitor = touch " + touched + "\n[filter \"evil\"]\n\tsmudge = touch " + touched +
		"; cat\n[credential]\n\thelper = !touch " + touched + "\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", "/nonexistent")
	t.Setenv("GIT_SSH_COMMAND", "touch "+touched)
	option, _ := withGit(t)
	c := newCluster()
	startAgent(t, c, option)
	c.wantEnd(t, c.submit(inRepository("cat hello", workflow.Git{Repository: o.path}))[0], workflow.TaskCompleted, "")
	if _, err := os.Stat(touched); err == nil {
		t.Error("something ran")
	}
}

// TestNoGit says what is missing on an agent without git.
func TestNoGit(t *testing.T) { //nolint:paralleltest // it sets the environment
	t.Setenv("PATH", t.TempDir())
	option, _ := withGit(t)
	c := newCluster()
	startAgent(t, c, option)
	c.wantEnd(t, c.submit(inRepository("true", workflow.Git{Repository: "/srv/x"}))[0], workflow.TaskFailed, "cannot be started: git is not installed on this agent")
}

// TestRepositoryOverSSH holds that ssh gets the key and the host, asks nobody, and leaves nothing behind that is shared.
func TestRepositoryOverSSH(t *testing.T) { //nolint:paralleltest // it sets the environment
	o := newOrigin(t)
	o.commit("hello", "there")
	programs := t.TempDir()
	said := filepath.Join(programs, "said")
	fake := `#!/bin/sh
printf '%s|' "$@" >> ` + said + `
case "$*" in *unknown*) echo "Host key verification failed." >&2; exit 255;; esac
for last; do :; done
exec sh -c "$last"
`
	if err := os.WriteFile(filepath.Join(programs, "ssh"), []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	option, _ := withGit(t, func(g *Git) { g.Checkout.SSHKeyPath = "/etc/it's a key" })
	c := newCluster()
	startAgent(t, c, option)
	members := c.submit(
		inRepository("cat hello", workflow.Git{Repository: "git@host.example:" + o.path}),
		inRepository("cat hello", workflow.Git{Repository: "ssh://git@host.example:2222" + o.path}),
		inRepository("cat hello", workflow.Git{Repository: "git@unknown.example:x"}),
	)
	c.wantEnd(t, members[0], workflow.TaskCompleted, "")
	c.wantEnd(t, members[1], workflow.TaskCompleted, "")
	c.wantEnd(t, members[2], workflow.TaskFailed, "the repository git@unknown.example:x is on a host whose SSH key is not known: add it to the known_hosts")
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"BatchMode=yes|", "ControlPath=none|", "-i|/etc/it's a key|", "IdentitiesOnly=yes|", "git@host.example|", "-p|2222|"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("ssh was not told %q: %s", want, text)
		}
	}
}

// TestRepositoryCacheOfOthers refuses a cache that others can write to.
func TestRepositoryCacheOfOthers(t *testing.T) {
	t.Parallel()
	option, cache := withGit(t)
	if err := os.Mkdir(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cache, 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	c := newCluster()
	startAgent(t, c, option)
	c.wantEnd(t, c.submit(inRepository("true", workflow.Git{Repository: "/srv/x"}))[0], workflow.TaskFailed, "everybody can write to the folder of git's cache")
}
