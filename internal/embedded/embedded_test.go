package embedded

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// childVariable makes the test program a server's parent, to be killed by a test: its value is the
// data directory.
const childVariable = "EMBEDDED_TEST_DATA_DIRECTORY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		beParent(dir)
	}
	os.Exit(m.Run())
}

// beParent starts a server, prints a line and waits for its death.
func beParent(dir string) {
	s, err := Start(context.Background(), fast(dir))
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("ready", s.process.pid)
	select {}
}

// startParent starts a process that runs a server on dir and returns with the first line it says.
func startParent(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := startParentOnly(t, dir)
	line, err := bufio.NewReader(cmd.out).ReadString('\n')
	if err != nil {
		t.Fatalf("the parent process said nothing: %v", err)
	}
	return cmd.Cmd, strings.TrimSpace(line)
}

type parent struct {
	*exec.Cmd
	out *os.File
}

func startParentOnly(t *testing.T, dir string) parent {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	t.Cleanup(func() { kill(cmd); _ = read.Close() })
	return parent{cmd, read}
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// place returns a folder that the server's user can pass, and a data directory to be made in it.
func place(t *testing.T) (folder, dir string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "cyclonetix-embedded-*")
	if err != nil {
		t.Fatal(err)
	}
	if folder, err = filepath.EvalSymlinks(folder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if os.Geteuid() == 0 {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder, filepath.Join(folder, "data")
}

// fast is for tests that are not about what lasts: it does not wait for the disk.
func fast(dir string) Options {
	return Options{DataDirectory: dir, Settings: map[string]string{"fsync": "off"}}
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("after Stop, Err is %v", err)
	}
}

// ask runs a statement and returns the value of its only row and column as text.
func ask(t *testing.T, url, sql string) string {
	t.Helper()
	answer, err := tryAsk(t.Context(), url, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func tryAsk(ctx context.Context, url, sql string) (answer string, err error) {
	err = onDatabase(ctx, url, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		for rows.Next() {
			if text := rows.RawValues(); len(text) > 0 {
				answer = string(text[0])
			}
		}
		return rows.Err()
	})
	return answer, err
}

// mustSay checks an error's kind and what its text has to hold.
func mustSay(t *testing.T, err, kind error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("the error is not %q: %v", kind, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

func TestDataSurvivesRestart(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	s := start(t, fast(dir))
	ask(t, s.URL(), "CREATE TABLE kept AS SELECT 'still here' AS text")
	url := s.URL()
	stop(t, s)
	stop(t, s) // twice is fine
	if _, err := tryAsk(t.Context(), url, "SELECT 1"); err == nil {
		t.Error("a stopped server answers")
	}

	s = start(t, fast(dir))
	if s.URL() != url {
		t.Errorf("the URL changed from %s to %s", url, s.URL())
	}
	if got := ask(t, s.URL(), "SELECT text FROM kept"); got != "still here" {
		t.Errorf("got %q", got)
	}
}

func TestServerIsPrivateAndSafe(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	s := start(t, Options{DataDirectory: dir, Settings: map[string]string{"application_name": `it's a \ test`}})
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "listen_addresses": "", "server_encoding": "UTF8",
		"max_locks_per_transaction": "256", "shared_preload_libraries": "pg_stat_statements",
		"application_name": `it's a \ test`, "server_version": s.Version(),
	} {
		if got := ask(t, s.URL(), "SELECT split_part(current_setting('"+setting+"'), ' (', 1)"); got != want {
			t.Errorf("%s is %q, not %q", setting, got, want)
		}
	}
	if got := ask(t, s.URL(), "SELECT count(*) > 0 FROM pg_stat_statements"); got != "t" {
		t.Error("statements are not counted")
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the socket has mode %v", info.Mode())
	}
	group, err := syscall.Getpgid(s.process.pid)
	if err != nil {
		t.Fatal(err)
	}
	if group != s.process.pid {
		t.Errorf("process group %d is not the server's own: Ctrl-C would reach it", group)
	}
	if info.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Error("the data belongs to root")
	}
}

func TestKilledParentLeavesNothingInTheWay(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	parent, said := startParent(t, dir)
	if !strings.HasPrefix(said, "ready") {
		t.Fatal(said)
	}

	_, err := Start(t.Context(), fast(dir))
	mustSay(t, err, ErrInUse, dir, fmt.Sprintf("process %d", parent.Process.Pid))
	mustSay(t, Remove(t.Context(), dir), ErrInUse)

	kill(parent)
	s := start(t, fast(dir)) // at once, while the old server may still shut down
	if got := ask(t, s.URL(), "SELECT 1"); got != "1" {
		t.Errorf("got %q", got)
	}
}

func TestTwoServersInOneProcess(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	s := start(t, fast(dir))
	_, err := Start(t.Context(), Options{DataDirectory: dir + "/../data/"})
	mustSay(t, err, ErrInUse, dir)
	if got := ask(t, s.URL(), "SELECT 1"); got != "1" {
		t.Errorf("got %q", got)
	}
}

// Where a parent's death is not told to the server, the server runs on.
func TestForsakenServerIsStopped(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	stop(t, start(t, fast(dir)))
	account, err := accountFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := FindBinaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := address{folder: dir, port: socketPort}
	cmd := account.command(binaries.Path("postgres"), at.arguments(dir)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = poll(t.Context(), immediateStop, func() bool {
		f, err := readPidFile(dir)
		return err == nil && f.ready
	})
	if err != nil {
		t.Fatal(err)
	}

	s := start(t, fast(dir))
	if err := <-ended; err != nil {
		t.Errorf("the old server did not shut down well: %v", err)
	}
	if s.process.pid == cmd.Process.Pid {
		t.Error("no new server")
	}
	if got := ask(t, s.URL(), "SELECT 1"); got != "1" {
		t.Errorf("got %q", got)
	}
}

func TestKilledServerIsToldAndReplaced(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	s, err := Start(t.Context(), fast(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background()) // it has ended when all goes well
	ask(t, s.URL(), "CREATE TABLE kept AS SELECT 1 AS n")

	// A backend deep in a computation does not notice that its server is gone.
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := tryAsk(t.Context(), s.URL()+"&application_name=busy", "SELECT count(*) FROM generate_series(1, 100000000000)"); err == nil {
			t.Error("the long statement ended")
		}
	})
	defer wg.Wait()
	err = poll(t.Context(), immediateStop, func() bool {
		n, err := tryAsk(t.Context(), s.URL(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'busy' AND state = 'active'")
		return err == nil && n == "1"
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.process.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	mustSay(t, s.Err(), nil, "ended by itself", "killed")

	s = start(t, fast(dir))
	if got := ask(t, s.URL(), "SELECT n FROM kept"); got != "1" {
		t.Errorf("got %q", got)
	}
}

func TestStalePidOfAnotherProcess(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	stop(t, start(t, fast(dir)))
	account, err := accountFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	stranger := account.command("sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer kill(stranger)
	for _, file := range []string{"postmaster.pid", ".s.PGSQL.5432.lock"} {
		text := fmt.Sprintf("%d\n%s\n1700000000\n5432\n%s\n\n 1 2\nready\n", stranger.Process.Pid, dir, dir)
		if err := writeIn(dir, file, []byte(text), account); err != nil {
			t.Fatal(err)
		}
	}
	start(t, fast(dir))
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process that got the id was harmed: %v", err)
	}
}

func TestHalfWrittenPidFile(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	stop(t, start(t, fast(dir)))
	account, err := accountFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeIn(dir, "postmaster.pid", nil, account); err != nil {
		t.Fatal(err)
	}
	start(t, fast(dir))
}

func TestDeathDuringInitdb(t *testing.T) {
	t.Parallel()
	folder, dir := place(t)
	parent := startParentOnly(t, dir)
	halfDone := func() bool {
		found, _ := filepath.Glob(filepath.Join(folder, ".data.init-*", "PG_VERSION"))
		return len(found) > 0
	}
	if err := poll(t.Context(), 6*immediateStop, halfDone); err != nil {
		t.Fatal(err)
	}
	kill(parent.Cmd)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("initdb was over before the parent died: %v", err)
	}

	start(t, fast(dir))
	if found, _ := filepath.Glob(filepath.Join(folder, ".data.init-*")); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
}

func TestStartGivenUp(t *testing.T) {
	t.Parallel()
	folder, dir := place(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	go func() {
		_ = poll(ctx, 6*immediateStop, func() bool {
			found, _ := filepath.Glob(filepath.Join(folder, ".data.init-*", "PG_VERSION"))
			return len(found) > 0
		})
		cancel(why)
	}()
	_, err := Start(ctx, Options{DataDirectory: dir})
	mustSay(t, err, why)
	if found, _ := filepath.Glob(filepath.Join(folder, "*data*")); len(found) != 1 || found[0] != dir+".lock" {
		t.Errorf("left behind: %v", found)
	}
}

func TestOtherVersion(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	s := start(t, fast(dir))
	stop(t, s)
	account, err := accountFor(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	for _, major := range []string{"9", "13", "99"} {
		if err := writeIn(dir, "PG_VERSION", []byte(major+"\n"), account); err != nil {
			t.Fatal(err)
		}
		_, err := Start(t.Context(), fast(dir))
		mustSay(t, err, ErrOtherVersion, dir, "PostgreSQL "+major, "PostgreSQL "+s.Version(), "pg_dumpall")
	}
	// A supported one that is not installed: it would be used if it were.
	other := oldestMajor
	if s.binaries.Major == other {
		other++
	}
	_, err = chooseBinaries(t.Context(), dir, other, account, []string{s.binaries.Dir})
	mustSay(t, err, ErrOtherVersion, fmt.Sprintf("install PostgreSQL %d beside it", other))

	if err := writeIn(dir, "PG_VERSION", []byte(fmt.Sprintln(s.binaries.Major)), account); err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("the refused start changed the data:\n%s\n%s", before, after)
	}
}

// snapshot lists the files of a folder with their sizes.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		fmt.Fprintln(&text, path, info.Size())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestOddPaths(t *testing.T) {
	for name, path := range map[string]string{
		"long":     strings.Repeat("a long way down/", 12) + "data",
		"comma":    "a,b/data",
		"quotes":   `it's "here"/data%20+&?`,
		"link":     "link/data",
		"umlaut":   "größe/data",
		"longname": strings.Repeat("x", 200),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, _ := place(t)
			if err := os.Mkdir(filepath.Join(folder, "real"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("real", filepath.Join(folder, "link")); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(folder, path)
			s := start(t, fast(dir))
			if got := ask(t, s.URL(), "SELECT 1"); got != "1" {
				t.Errorf("got %q", got)
			}
			stop(t, s)
			again := start(t, fast(dir))
			if again.URL() != s.URL() {
				t.Errorf("the URL changed from %s to %s", s.URL(), again.URL())
			}
			config, err := pgx.ParseConfig(s.URL())
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(config.Host)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o700 {
				t.Errorf("the folder of the socket has mode %v", info.Mode())
			}
			if config.Host != again.DataDirectory() {
				t.Cleanup(func() { _ = os.RemoveAll(config.Host) })
			}
		})
	}
}

func TestFolderOfAnotherIsNoPlaceForTheSocket(t *testing.T) {
	t.Parallel()
	folder, _ := place(t)
	account, err := accountFor("/")
	if err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(folder, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	mustSay(t, makePrivate(open, account), nil, "not a private folder")
	private := filepath.Join(folder, "private")
	for range 2 {
		if err := makePrivate(private, account); err != nil {
			t.Error(err)
		}
	}
	link := filepath.Join(folder, "link")
	if err := os.Symlink(private, link); err != nil {
		t.Fatal(err)
	}
	mustSay(t, makePrivate(link, account), nil, "not a private folder")
}

func TestTCP(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	s := start(t, Options{DataDirectory: dir, TCP: true})
	for _, url := range []string{s.URL(), s.TCPURL()} {
		if got := ask(t, url, "SELECT current_database()"); got != "cyclonetix" {
			t.Errorf("got %q", got)
		}
	}
	password := strings.SplitN(strings.SplitN(s.TCPURL(), "@", 2)[0], ":", 3)[2]
	if _, err := tryAsk(t.Context(), strings.Replace(s.TCPURL(), password, "wrong", 1), "SELECT 1"); err == nil {
		t.Error("a wrong password is taken")
	}
	stop(t, s)
	s = start(t, Options{DataDirectory: dir, TCP: true})
	if !strings.Contains(s.TCPURL(), password) {
		t.Error("the password changed")
	}
	stop(t, s)
	s = start(t, fast(dir))
	if s.TCPURL() != "" || ask(t, s.URL(), "SHOW listen_addresses") != "" {
		t.Error("the server listens on TCP unasked")
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	_, err := Start(t.Context(), Options{DataDirectory: dir, Settings: map[string]string{"work_mem = 1\nfsync": "off"}})
	mustSay(t, err, nil, "not the name of a PostgreSQL setting")
	var log bytes.Buffer
	_, err = Start(t.Context(), Options{DataDirectory: dir, Settings: map[string]string{"work_mem": "plenty"}, LogWriter: &log})
	mustSay(t, err, nil, "ended by itself", `invalid value for parameter "work_mem": "plenty"`)
	if !strings.Contains(log.String(), "plenty") {
		t.Errorf("the log was not passed on: %q", log.String())
	}
	start(t, fast(dir))
}

func TestUnfitDirectories(t *testing.T) {
	t.Parallel()
	folder, _ := place(t)
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("full/letter.txt")
	write("file")
	if err := os.Symlink("nowhere", filepath.Join(folder, "dangling")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"full": "not empty and holds no PostgreSQL data", "file": "not a folder",
		"dangling": "a symbolic link to nowhere", "file/data": "not a directory",
	} {
		_, err := Start(t.Context(), Options{DataDirectory: filepath.Join(folder, name)})
		mustSay(t, err, nil, want)
	}
}

func TestEmptyDirectoryIsTaken(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, fast(dir))
}

func TestRemove(t *testing.T) {
	t.Parallel()
	folder, dir := place(t)
	if err := Remove(t.Context(), dir); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	stop(t, start(t, fast(dir)))
	if err := Remove(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestDefaultDataDirectory(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/somewhere")
	want := "/somewhere/cyclonetix/postgres"
	if os.Geteuid() == 0 {
		want = "/var/lib/cyclonetix/postgres"
	}
	if got, err := DefaultDataDirectory(); err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

// So ends the way by a dump that ErrOtherVersion tells.
func TestDataMadeByHand(t *testing.T) {
	t.Parallel()
	_, dir := place(t)
	account, err := accountFor("/")
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := FindBinaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := account.give(dir); err != nil {
		t.Fatal(err)
	}
	if out, err := initdb(t.Context(), dir, "C", account, binaries, false); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range 2 {
		s := start(t, fast(dir))
		if got := ask(t, s.URL(), "SHOW max_locks_per_transaction"); got != "256" {
			t.Errorf("our settings do not hold: %s", got)
		}
		stop(t, s)
	}
	conf, err := readIn(dir, "postgresql.conf")
	if err != nil || strings.Count(string(conf), includeLine) != 1 {
		t.Errorf("postgresql.conf includes our settings %d times, %v", strings.Count(string(conf), includeLine), err)
	}
}
