package embedded

import (
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestAccount(t *testing.T) {
	t.Parallel()
	account, err := accountFor("/")
	if err != nil {
		t.Fatal(err)
	}
	if root := os.Geteuid() == 0; account.drop != root || account.uid == 0 {
		t.Errorf("as user %d PostgreSQL would run as %+v", os.Geteuid(), account)
	}
}

// What only root has to care for: another user runs the server.
func asRoot(t *testing.T, name string, test func(t *testing.T)) {
	if os.Geteuid() == 0 {
		t.Run(name, test)
	}
}

func TestUserThatRunsTheServer(t *testing.T) {
	asRoot(t, "the owner of the folder", func(t *testing.T) {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		owner, err := strconv.Atoi(nobody.Uid)
		if err != nil {
			t.Fatal(err)
		}
		_, dir := place(t)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
		s := start(t, fast(dir))
		if got := ownerOf(t, filepath.Join(dir, "postmaster.pid")); got != owner {
			t.Errorf("the server runs as %d", got)
		}
		if got := ask(t, s.URL(), "SELECT 1"); got != "1" {
			t.Errorf("got %q", got)
		}
	})
	asRoot(t, "data of root", func(t *testing.T) {
		_, dir := place(t)
		stop(t, start(t, fast(dir)))
		if err := os.Chown(dir, 0, 0); err != nil {
			t.Fatal(err)
		}
		_, err := Start(t.Context(), fast(dir))
		mustSay(t, err, nil, "belongs to user root", "chown -R", dir)
	})
	asRoot(t, "closed parent", func(t *testing.T) {
		folder, _ := place(t)
		closed := filepath.Join(folder, "closed")
		if err := os.MkdirAll(filepath.Join(closed, "open", "closed too"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{closed, filepath.Join(closed, "open", "closed too")} {
			if err := os.Chmod(p, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		dir := filepath.Join(closed, "open", "closed too", "data")
		_, err := Start(t.Context(), fast(dir))
		mustSay(t, err, nil, "cannot enter", "--embedded-data-directory")
		command := regexp.MustCompile(`run "chmod o\+x (.*?)"`).FindStringSubmatch(err.Error())
		if want := closed + " " + filepath.Join(closed, "open", "closed too"); command == nil || command[1] != want {
			t.Fatalf("the error does not name %s: %v", want, err)
		}
		for _, p := range []string{closed, filepath.Dir(dir)} { // the advice
			if err := os.Chmod(p, 0o701); err != nil {
				t.Fatal(err)
			}
		}
		start(t, fast(dir))
	})
	asRoot(t, "strict umask", func(t *testing.T) {
		folder, _ := place(t)
		dir := filepath.Join(folder, "a", "b", "data")
		account, err := accountFor(dir)
		if err != nil {
			t.Fatal(err)
		}
		old := syscall.Umask(0o077)
		_, err = prepareParent(dir, account)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		start(t, fast(dir))
	})
	asRoot(t, "a link planted by the owner", func(t *testing.T) {
		folder, dir := place(t)
		stop(t, start(t, fast(dir)))
		victim := filepath.Join(folder, "victim")
		if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"pg_hba.conf.new", "cyclonetix.conf"} {
			path := filepath.Join(dir, name)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(victim, path); err != nil {
				t.Fatal(err)
			}
		}
		start(t, fast(dir))
		if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
			t.Errorf("root wrote through a link: %q, %v", text, err)
		}
		if ownerOf(t, victim) != 0 {
			t.Error("root gave a file away through a link")
		}
	})
}

func TestClosedFolders(t *testing.T) {
	t.Parallel()
	folder, _ := place(t)
	inner := filepath.Join(folder, "closed", "open")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(inner), 0o710); err != nil {
		t.Fatal(err)
	}
	stranger := account{uid: 4711, gid: 4711}
	closed := strings.Join(stranger.closedFolders(inner), " ")
	if !strings.Contains(closed, filepath.Dir(inner)) || strings.Contains(closed, inner) {
		t.Errorf("closed folders: %s", closed)
	}
	member := account{uid: 4711, gid: uint32(os.Getegid())}
	if got := member.closedFolders(inner); strings.Contains(strings.Join(got, " "), "closed") {
		t.Errorf("closed folders for a member of the group: %s", got)
	}
}

func ownerOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}
