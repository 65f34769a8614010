package discovery

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// childVariable makes the test program a server of the cluster that it names.
const childVariable = "DISCOVERY_TEST_CLUSTER"

func TestMain(m *testing.M) {
	if folder, cluster, ok := strings.Cut(os.Getenv(childVariable), ":"); ok {
		systemFolder = folder
		if _, err := Write(Info{ClusterID: cluster, URL: "http://child"}); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString("written\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends it; select {} would be found out as a deadlock
	}
	os.Exit(m.Run())
}

// place points all folders to fresh ones and returns the first of folders.
func place(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	old := systemFolder
	systemFolder = filepath.Join(base, "run")
	t.Cleanup(func() { systemFolder = old })
	for _, dir := range []string{systemFolder, filepath.Join(base, "tmp"), filepath.Join(base, "xdg")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(base, "xdg"))
	t.Setenv("TMPDIR", filepath.Join(base, "tmp"))
	return folders()[0]
}

func write(t *testing.T, info Info) func() {
	t.Helper()
	remove, err := Write(info)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	return remove
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestWriteAndFind(t *testing.T) {
	dir := place(t)
	want := Info{
		URL: "http://127.0.0.1:3000", Backend: "postgresql", BackendURL: "postgres://u:secret@h/d",
		ClusterID: "default_cluster", Started: time.Now().UTC(), Version: "1.2.3",
	}
	remove := write(t, want)
	got, err := Find("default_cluster")
	if err != nil {
		t.Fatal(err)
	}
	want.PID = os.Getpid()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Info{}, "Process")); diff != "" {
		t.Error(diff)
	}
	if got.Process == "" {
		t.Error("the process is not told")
	}
	path := filepath.Join(dir, fileName("default_cluster", os.Getpid()))
	for p, mode := range map[string]os.FileMode{path: 0o600, dir: 0o700} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
	}
	if names := files(t, dir); len(names) != 1 {
		t.Errorf("files: %v", names)
	}
	remove()
	remove()
	if _, err := Find("default_cluster"); !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "cyclonetix serve") {
		t.Errorf("got %v", err)
	}
}

func TestOtherClustersAreNamed(t *testing.T) {
	place(t)
	for _, cluster := range []string{"b", "a", "e", "c"} {
		write(t, Info{ClusterID: cluster, URL: "http://" + cluster})
	}
	_, err := Find("none")
	const want = `no server of cluster "none" runs on this machine, but one of "a" at http://a, one of "b" at http://b, one of "c" at http://c, one of others`
	if !errors.Is(err, ErrNoServer) || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestClustersAreApart(t *testing.T) {
	place(t)
	removeA := write(t, Info{ClusterID: "a", URL: "http://a"})
	write(t, Info{ClusterID: "a_b", URL: "http://ab"})
	removeA()
	if _, err := Find("a"); !errors.Is(err, ErrNoServer) {
		t.Errorf("got %v", err)
	}
	if got, err := Find("a_b"); err != nil || got.URL != "http://ab" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, id := range []string{"", "../a", "a/b", "a.b"} {
		if _, err := Write(Info{ClusterID: id}); err == nil {
			t.Errorf("cluster id %q is taken", id)
		}
	}
}

func TestNewestLivingServerWins(t *testing.T) {
	dir := place(t)
	write(t, Info{ClusterID: "c", URL: "http://old", Started: time.Now().Add(-time.Hour)})
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+systemFolder+":c")
	child.Stderr = os.Stderr
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if got, err := Find("c"); err != nil || got.URL != "http://child" || got.PID != child.Process.Pid {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	if got, err := Find("c"); err != nil || got.URL != "http://old" {
		t.Errorf("got %+v, %v", got, err)
	}
	if n := len(files(t, dir)); n != 2 {
		t.Fatalf("%d files", n)
	}
	write(t, Info{ClusterID: "d"})
	for _, name := range files(t, dir) {
		if name == fileName("c", child.Process.Pid) {
			t.Error("the file of the dead server is still there")
		}
	}
}

func TestReusedProcessID(t *testing.T) {
	dir := place(t)
	write(t, Info{ClusterID: "c"})
	path := filepath.Join(dir, fileName("c", os.Getpid()))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var info Info
	if err := json.Unmarshal(text, &info); err != nil {
		t.Fatal(err)
	}
	info.Process += "0"
	if text, err = json.Marshal(info); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find("c"); !errors.Is(err, ErrNoServer) {
		t.Errorf("got %v", err)
	}
}

func TestOddFilesAreIgnored(t *testing.T) {
	dir := place(t)
	write(t, Info{ClusterID: "c", URL: "http://c"})
	for name, text := range map[string]string{
		"server.c.1.json": "{", "server.json": "[]", "server.c.x.json": "null", "letter": "x",
		"server.c.2.json": `{"cluster_id": "c", "pid": -1}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "server.c.3.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := Find("c"); err != nil || got.URL != "http://c" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A folder that others may write is no place to believe in: the next one is taken.
func TestForeignFolder(t *testing.T) {
	dir := place(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	remove := write(t, Info{ClusterID: "c", URL: "http://c"})
	if names := files(t, dir); len(names) > 0 {
		t.Errorf("files: %v", names)
	}
	if got, err := Find("c"); err != nil || got.URL != "http://c" {
		t.Errorf("got %+v, %v", got, err)
	}
	remove()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), dir); err != nil {
		t.Fatal(err)
	}
	if isPrivate(dir) {
		t.Error("a link passes for a folder")
	}
}

func TestServerFromAnotherEnvironment(t *testing.T) {
	place(t)
	write(t, Info{ClusterID: "c", URL: "http://c"})
	t.Setenv("XDG_RUNTIME_DIR", "")
	if os.Geteuid() == 0 { // root's folder does not depend on it
		if got, err := Find("c"); err != nil || got.URL != "http://c" {
			t.Errorf("got %+v, %v", got, err)
		}
		return
	}
	write(t, Info{ClusterID: "d", URL: "http://d"})
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if got, err := Find("d"); err != nil || got.URL != "http://d" {
		t.Errorf("got %+v, %v", got, err)
	}
}
