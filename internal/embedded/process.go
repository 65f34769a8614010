package embedded

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// process is a child in a process group of its own, so that Ctrl-C on the terminal does not reach
// it. Where the system can do that, the child gets a signal when this process dies.
type process struct {
	pid    int
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process was waited for
	err    error         // of Wait; set before exited is closed
}

// startProcess starts cmd; the child gets signal when this process dies.
//
// Linux sends that signal when the starting *thread* dies, and Go's threads come and go: so the
// goroutine keeps its thread until the child has ended.
func startProcess(cmd *exec.Cmd, signal syscall.Signal) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr, signal)

	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run runs cmd to its end and returns what it wrote. A context that ends stops its whole group.
func run(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // gone already: fine
		<-p.exited
		return nil, context.Cause(ctx)
	}
	return out.Bytes(), p.err
}

// signal sends a signal to the process, not to its group. One that has ended is left alone: its
// id may be another's by now.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// state says how the process ended.
func (p *process) state() string {
	if p.cmd.ProcessState == nil {
		return "unknown state"
	}
	return p.cmd.ProcessState.String()
}

// childEnvironment is what PostgreSQL's programs see: nothing that could change what they do (PG…,
// LC_…), nor what is not theirs to know (this program's own settings hold passwords).
func childEnvironment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// tail passes a log on and keeps its last part.
type tail struct {
	next io.Writer

	mu   sync.Mutex
	kept []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - tailSize; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	t.mu.Unlock()
	if t.next != nil {
		// A writer that fails must not stop the log: PostgreSQL would block on a full pipe.
		_, _ = t.next.Write(p)
	}
	return len(p), nil
}

func (t *tail) lines() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.kept)
}

// lastLines returns the last n lines of text, for an error.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
