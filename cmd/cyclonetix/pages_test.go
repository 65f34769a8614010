package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/embedded"
)

// reader does what a page tells its reader to do: it writes the files, starts the servers, and types the commands.
type reader struct {
	*testing.T

	root, folder string // of the repository, and of the reader's own files
	environ      []string
	server       *exec.Cmd
	said         *bytes.Buffer // by the server
	run          string        // that was named last
	printed      string        // by the last command
}

// TestBeginnersPages runs the commands of the README's first screen and of docs/getting-started.md as they stand there.
func TestBeginnersPages(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	readme, start := r.blocks("README.md"), r.blocks("docs/getting-started.md")
	// The README's first screen is the page's first section.
	for _, begin := range []string{readme[0].text, start[0].text} {
		if line, _, _ := strings.Cut(begin, "\n"); !strings.HasPrefix(line, "make run") {
			t.Fatalf("a page begins with %q", line)
		}
	}
	r.serve(r.root, "make run")
	for line := range strings.Lines(readme[1].text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			r.types(r.root, command)
		}
	}
	folder := r.root
	for _, block := range start[1:] {
		switch block.language {
		case "yaml":
			folder = r.folder
			r.writes(block.text)
		case "sh":
			for line := range strings.Lines(block.text) {
				r.follows(folder, strings.TrimSpace(line))
			}
		default:
			t.Fatalf("there is a block in %q, which nobody tests", block.language)
		}
	}
	r.stops()
}

// follows does what a line of a page says.
func (r *reader) follows(folder, line string) {
	r.Helper()
	switch {
	case line == `export PATH="$PWD/bin:$PATH"`: // its own is so
	case line == "cyclonetix serve":
		r.stops()
		r.serve(folder, line)
	case strings.HasPrefix(line, "cyclonetix list-runs --dag "): // it says to wait for the next minute
		r.until(line, func() bool { return strings.Contains(r.printed, "completed") })
	default:
		r.types(folder, line)
	}
	if strings.HasPrefix(line, "cyclonetix logs RUN hello") && !regexp.MustCompile(`^hello \S+\n$`).MatchString(r.printed) {
		r.Errorf("%s prints %q", line, r.printed)
	}
}

// block is a block of code on a page.
type block struct{ language, text string }

func (r *reader) blocks(page string) (all []block) {
	r.Helper()
	text, err := os.ReadFile(filepath.Join(r.root, page))
	if err != nil {
		r.Fatal(err)
	}
	for _, found := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, block{found[1], found[2]})
	}
	if len(all) < 2 {
		r.Fatalf("%s has %d blocks of code", page, len(all))
	}
	return all
}

func newReader(t *testing.T) *reader {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// PostgreSQL's user must reach the folder, and the path of a socket is short.
	data, err := os.MkdirTemp("/tmp", "cyclonetix-pages-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o755); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	r := &reader{T: t, root: root, folder: t.TempDir()}
	t.Cleanup(func() {
		if r.server != nil { // the test failed
			_ = syscall.Kill(-r.server.Process.Pid, syscall.SIGKILL)
			_ = r.server.Wait()
			t.Logf("the server said:\n%s", r.said)
		}
		if err := embedded.Remove(t.Context(), filepath.Join(data, "data")); err != nil {
			t.Log(err)
		}
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	r.environ = append(os.Environ(),
		fmt.Sprintf("CYCLO_CLUSTER_ID=test_pages_%d", os.Getpid()), "CYCLO_SERVER_LISTEN=127.0.0.1:0", // others may run beside
		"CYCLO_EMBEDDED_DATA_DIRECTORY="+filepath.Join(data, "data"),
		"PATH="+filepath.Join(root, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"),
	)
	return r
}

// command is a command of the shell in a folder.
func (r *reader) command(folder, line string) *exec.Cmd {
	command := exec.Command("sh", "-c", "exec "+line) //nolint:gosec,noctx // the pages are ours
	command.Dir, command.Env = folder, r.environ
	return command
}

// serve starts a server, and waits until it answers.
func (r *reader) serve(folder, line string) {
	r.Helper()
	r.server, r.said = r.command(folder, line), &bytes.Buffer{}
	r.server.Stdout, r.server.Stderr = r.said, r.said
	r.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C reaches all of make
	if err := r.server.Start(); err != nil {
		r.Fatal(err)
	}
	r.until("cyclonetix list-tasks", func() bool { return true })
}

// stops is a Ctrl-C in the server's terminal.
func (r *reader) stops() {
	r.Helper()
	if err := syscall.Kill(-r.server.Process.Pid, syscall.SIGINT); err != nil {
		r.Fatal(err)
	}
	_ = r.server.Wait() // make has a status of its own for it
	if said := r.said.String(); strings.Contains(said, "panic") {
		r.Errorf("the server said:\n%s", said)
	}
	r.server = nil
}

// patienceOfReaders is how long something may take that takes a minute at most when the machine is quick.
const patienceOfReaders = 3 * time.Minute

// until types a command until it succeeds and shows what is wanted.
func (r *reader) until(line string, shows func() bool) {
	r.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		out, err := r.command(r.folder, line).Output()
		if r.printed = string(out); err == nil && shows() {
			r.remember()
			return
		}
		if time.Since(begin) > patienceOfReaders {
			r.Fatalf("%s: %v, %s", line, err, out)
		}
	}
}

// types runs a command, which must succeed. RUN is the run that was named last.
func (r *reader) types(folder, line string) {
	r.Helper()
	line = regexp.MustCompile(`\bRUN\b`).ReplaceAllString(line, r.run)
	command := r.command(folder, line)
	var talk bytes.Buffer
	command.Stderr = &talk
	out, err := command.Output()
	if err != nil {
		r.Fatalf("%s: %v\n%s%s", line, err, out, &talk)
	}
	r.printed = string(out)
	r.remember()
}

// remember takes note of the first run that was printed.
func (r *reader) remember() {
	if found := regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`).FindString(r.printed); found != "" {
		r.run = found
	}
}

// writes makes a file whose name is in its first line.
func (r *reader) writes(text string) {
	r.Helper()
	first, _, _ := strings.Cut(text, "\n")
	name, ok := strings.CutPrefix(first, "# ")
	if !ok {
		r.Fatalf("a file begins with %q, not with its name", first)
	}
	path := filepath.Join(r.folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}
