package agent

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/checkout"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// remote serves the folder of an origin over HTTP.
type remote struct {
	*httptest.Server
	password string // empty for none
	fetches  atomic.Int32
	before   func(*http.Request) // of each request; may be nil
	nonsense atomic.Bool         // what it answers
}

func serve(t testing.TB, o *origin, password string, before func(*http.Request)) *remote {
	t.Helper()
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(core)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(o.path), "GIT_HTTP_EXPORT_ALL=1", "HOME=/nonexistent"},
	}
	r := &remote{password: password, before: before}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if _, given, _ := request.BasicAuth(); r.password != "" && given != r.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(request.URL.Path, "/info/refs") {
			r.fetches.Add(1)
		}
		if r.before != nil {
			r.before(request)
		}
		if r.nonsense.Load() {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = w.Write([]byte("no packet at all"))
			return
		}
		backend.ServeHTTP(w, request)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *remote) repository() string { return r.URL + "/project" }

// TestRepositorySecrets looks for a password wherever it might be left.
func TestRepositorySecrets(t *testing.T) {
	t.Parallel()
	const password = "s3cret/of:the+host"
	o := newOrigin(t)
	o.commit("hello", "there")
	commandLines := func(*http.Request) {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // none where there is no such file system
		for _, line := range lines {
			if content, _ := os.ReadFile(line); bytes.Contains(content, []byte("s3cret")) {
				t.Errorf("on a command line: %q", content)
			}
		}
	}
	server := serve(t, o, password, commandLines)
	host := strings.TrimPrefix(server.URL, "http://")
	work := t.TempDir()
	option, cache := withGit(t, func(g *Git) {
		g.Checkout.Credentials = []checkout.Credential{{Domain: "elsewhere.example", Password: "other"}, {Domain: "http://" + host, Username: "me", Password: password}}
	})
	c := newCluster()
	startAgent(t, c, option, func(o *Options) { o.WorkDir, o.CleanupTempFiles = work, false })
	const look = `cat hello .git/config; env; git log; grep -r s3cret . && exit 1; exit 0`
	inURL := strings.Replace(server.repository(), "http://", "http://me:s3cret%2Fof%3Athe+host@", 1)
	wrongURL := strings.Replace(server.repository(), "http://", "http://me:wr0ng@", 1)
	members := c.submit(
		inRepository(look, workflow.Git{Repository: server.repository()}),
		inRepository(look, workflow.Git{Repository: inURL}),
		inRepository(look, workflow.Git{Repository: wrongURL}),
		inRepository(look, workflow.Git{Repository: strings.Replace(server.repository(), "http://", "http://git@", 1)}),
	)
	c.wantEnd(t, members[3], workflow.TaskCompleted, "")
	c.wantEnd(t, members[0], workflow.TaskCompleted, "")
	c.wantEnd(t, members[1], workflow.TaskCompleted, "")
	c.wantEnd(t, members[2], workflow.TaskFailed, "does not accept the credentials: see git.auth.credentials")
	for i, m := range members {
		for _, stream := range []engine.Stream{engine.StreamStdout, engine.StreamStderr, engine.StreamAgent} {
			if out := c.output(m, stream); bytes.Contains(out, []byte("s3cret")) || bytes.Contains(out, []byte("wr0ng")) {
				t.Errorf("task %d shows it: %s", i, out)
			}
		}
		if reason := c.end(t, m).Reason; strings.Contains(reason, "wr0ng") {
			t.Error(reason)
		}
	}
	for _, root := range []string{work, cache} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			if content, _ := os.ReadFile(path); bytes.Contains(content, []byte("s3cret")) || bytes.Contains(content, []byte("wr0ng")) {
				t.Errorf("%s holds it", path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestRepositoryCredentialsStayAtTheirHost gives a password to its host alone, and over plain http only where that was said.
func TestRepositoryCredentialsStayAtTheirHost(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit()
	asked := serve(t, o, "password", nil)
	host := strings.TrimPrefix(asked.URL, "http://")
	option, _ := withGit(t, func(g *Git) {
		g.Checkout.Credentials = []checkout.Credential{{Domain: host, Password: "password"}, {Domain: "http://elsewhere.example", Password: "password"}}
	})
	c := newCluster()
	startAgent(t, c, option)
	c.wantEnd(t, c.submit(inRepository("true", workflow.Git{Repository: asked.repository()}))[0],
		workflow.TaskFailed, "asks for credentials, or does not exist: see git.auth.credentials of the agent")
	if asked.fetches.Load() != 0 {
		t.Error("the password was given unencrypted")
	}
}

// TestRepositoryCache holds that tasks share what was fetched.
func TestRepositoryCache(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("hello", "first")
	server := serve(t, o, "", nil)
	option, cache := withGit(t)
	c, other := newCluster(), newCluster() // two agents on a host
	startAgent(t, c, option)
	startAgent(t, other, option)
	show := func(ref string) *workflow.TaskSpec {
		return inRepository("cat hello", workflow.Git{Repository: server.repository(), Ref: ref})
	}
	var specs []*workflow.TaskSpec
	for range 6 {
		specs = append(specs, show("main"))
	}
	members, others := c.submit(specs...), other.submit(specs...)
	for i := range members {
		c.wantEnd(t, members[i], workflow.TaskCompleted, "")
		other.wantEnd(t, others[i], workflow.TaskCompleted, "")
	}
	if n := server.fetches.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}

	// A branch is as old as the last fetch; what the mirror does not know is fetched at once.
	second := o.commit("hello", "second")
	o.git("branch", "dev")
	at := func(ref, want string) {
		t.Helper()
		m := c.submit(show(ref))[0]
		c.wantEnd(t, m, workflow.TaskCompleted, "")
		if out := string(c.output(m, engine.StreamStdout)); out != want {
			t.Errorf("%s is %q, want %q", ref, out, want)
		}
	}
	at("main", "first")
	at("dev", "second")
	at("main", "second")
	if n := server.fetches.Load(); n != 2 {
		t.Errorf("fetched %d times", n)
	}

	// An old mirror fetches; without the remote a commit that it has is there still, and a branch fails.
	mirrors, _ := filepath.Glob(filepath.Join(cache, "*.git"))
	if len(mirrors) != 1 {
		t.Fatalf("mirrors: %q", mirrors)
	}
	age := func() {
		old := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(filepath.Join(mirrors[0], "cyclonetix-fetched"), old, old); err != nil {
			t.Fatal(err)
		}
	}
	o.commit("hello", "third")
	age()
	at("main", "third")

	// A remote that talks nonsense is no reason to throw away what was fetched.
	was, err := os.Stat(mirrors[0])
	if err != nil {
		t.Fatal(err)
	}
	age()
	server.nonsense.Store(true)
	c.wantEnd(t, c.submit(show("main"))[0], workflow.TaskFailed, "cannot be started: git cannot fetch "+server.repository()+": git says: fatal: ")
	server.nonsense.Store(false)
	at("main", "third")
	if is, err := os.Stat(mirrors[0]); err != nil || !os.SameFile(was, is) {
		t.Errorf("it was made anew (%v)", err)
	}
	server.Close()
	age()
	at(first, "first")
	at(second, "second")
	c.wantEnd(t, c.submit(show("main"))[0], workflow.TaskFailed, "cannot be reached: ")
}

// TestRepositoryStopped ends tasks that fetch from a host which says nothing.
func TestRepositoryStopped(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit()
	type hold struct{ asked, left chan struct{} }
	holds := make(chan hold, 10)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	server := serve(t, o, "", func(request *http.Request) {
		h := hold{make(chan struct{}), make(chan struct{})}
		holds <- h
		select {
		case <-request.Context().Done(): // git is gone
			close(h.left)
		case <-over:
		}
	})
	t.Cleanup(server.CloseClientConnections)
	spec := func(path string) *workflow.TaskSpec {
		return inRepository("true", workflow.Git{Repository: server.URL + "/" + path})
	}
	wait := func(what string, done <-chan struct{}) {
		t.Helper()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatal("git lives on after " + what)
		}
	}
	option, _ := withGit(t)
	c := newCluster()
	c.keepReturned = true
	agent := startAgent(t, c, option)

	cancelled := c.submit(spec("one"))[0]
	h := <-holds
	// Another one waits for the same mirror, and no remote.
	waiting := c.submit(spec("one"))[0]
	c.kill(waiting)
	c.wantEnd(t, waiting, workflow.TaskCancelled, "cancelled")
	c.kill(cancelled)
	c.wantEnd(t, cancelled, workflow.TaskCancelled, "cancelled while its files were fetched from "+server.URL+"/one")
	wait("a cancelled task", h.left)

	late := spec("two")
	late.TimeoutSeconds = 0.3
	timedOut := c.submit(late)[0]
	h = <-holds
	c.wantEnd(t, timedOut, workflow.TaskFailed, "timed out after 0.3 s while its files were fetched from "+server.URL+"/two")
	wait("a time-out", h.left)

	lost := c.submit(spec("three"))[0]
	h = <-holds
	c.expectReturns()
	c.declareDead()
	wait("a lost registration", h.left)
	c.wait(t, "the loss", func() bool { return c.lost[lost] })

	_ = c.submit(spec("four"))[0]
	h = <-holds
	agent.stop()
	agent.wait(t)
	wait("the agent's end", h.left)
}

// TestRepositoryKeeperKilled holds that git does not outlive the process that keeps it.
func TestRepositoryKeeperKilled(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit()
	left := make(chan struct{}, 1)
	asked := make(chan struct{}, 1)
	var first atomic.Bool
	server := serve(t, o, "", func(request *http.Request) {
		if !first.CompareAndSwap(false, true) {
			return
		}
		asked <- struct{}{}
		<-request.Context().Done()
		left <- struct{}{}
	})
	option, _ := withGit(t)
	c := newCluster()
	agent := startAgent(t, c, option)
	spec := inRepository("true", workflow.Git{Repository: server.repository()})
	m := c.submit(spec)[0]
	<-asked
	process, err := os.FindProcess(agent.life.Load().runner.(*processRunner).keeper.PID())
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(30 * time.Second):
		t.Fatal("git lives on")
	}
	c.wait(t, "the task to be given up", func() bool { return c.lost[m] })
	c.wantEnd(t, c.submit(spec)[0], workflow.TaskCompleted, "")
}
