package keeper

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// run starts a command that should start.
func run(t *testing.T, k *Keeper, c Command) *Process {
	t.Helper()
	if c.Env == nil {
		c.Env = testEnv
	}
	p, err := k.Run(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// exit waits for the end of a command.
func exit(t *testing.T, p *Process) Exit {
	t.Helper()
	select {
	case e, ok := <-p.Exited():
		if !ok {
			t.Fatal("the exit was taken already")
		}
		return e
	case <-time.After(patience):
		t.Fatalf("process %d does not end", p.PID())
		return Exit{}
	}
}

// output runs a command to its end.
func output(t *testing.T, k *Keeper, c Command) (stdout, stderr string, e Exit) {
	t.Helper()
	p := run(t, k, c)
	var wg sync.WaitGroup
	var out, errs []byte
	wg.Go(func() { out, _ = io.ReadAll(p.Stdout) })
	wg.Go(func() { errs, _ = io.ReadAll(p.Stderr) })
	wg.Wait()
	return string(out), string(errs), exit(t, p)
}

func expectLine(r io.Reader, want string) error {
	var got []byte
	for b := make([]byte, 1); ; {
		if _, err := r.Read(b); err != nil {
			return fmt.Errorf("read %q, then %w", got, err)
		}
		if b[0] == '\n' {
			break
		}
		got = append(got, b[0])
	}
	if string(got) != want {
		return fmt.Errorf("read line %q, want %q", got, want)
	}
	return nil
}

func TestExit(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		for _, test := range []struct {
			command Command
			out     string
			want    Exit
		}{
			{Command{Script: "echo out; echo err >&2"}, "out\n/err\n", Exit{Code: 0}},
			{Command{Script: "exit 7"}, "/", Exit{Code: 7}},
			{Command{Script: "exit 255"}, "/", Exit{Code: 255}},
			{Command{Script: "kill -TERM $$"}, "/", Exit{Code: -1, Signal: syscall.SIGTERM}},
			{Command{Script: "kill -KILL $$"}, "/", Exit{Code: -1, Signal: syscall.SIGKILL}},
			{Command{Script: "not-a-command-of-anybody 2>/dev/null"}, "/", Exit{Code: 127}},
			{Command{Script: "-x 2>/dev/null; echo on"}, "on\n/", Exit{}},
			{Command{Args: []string{"printf", "%s|", "a b", "", "$X"}}, "a b||$X|/", Exit{}},
			{Command{Args: []string{"/bin/sh", "-c", "exit 3"}}, "/", Exit{Code: 3}},
			{Command{Script: "cat; echo $?"}, "0\n/", Exit{}},
			{Command{Script: `printf '\000\377\001'`}, "\x00\xff\x01/", Exit{}},
			{Command{Script: "pwd", Dir: "/"}, "/\n/", Exit{}},
			{Command{Script: "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort", Env: []string{"PATH=/usr/bin:/bin", "A=1 2", "B="}}, "A=1 2\nB=\nPATH=/usr/bin:/bin\n/", Exit{}},
		} {
			out, errs, e := output(t, k, test.command)
			if got := out + "/" + errs; got != test.out {
				t.Errorf("%+v: output %q, want %q", test.command, got, test.out)
			}
			if e.Duration <= 0 {
				t.Errorf("%+v: duration %v", test.command, e.Duration)
			}
			e.Duration = 0
			if e != test.want {
				t.Errorf("%+v: %+v, want %+v", test.command, e, test.want)
			}
		}
	})
}

func TestProcess(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		before := time.Now()
		p := run(t, k, Command{Script: "echo $$ $PPID; exec sleep 1000"})
		if p.StartedAt().Before(before) || p.StartedAt().After(time.Now()) {
			t.Errorf("started at %v, asked at %v", p.StartedAt(), before)
		}
		if err := expectLine(p.Stdout, fmt.Sprint(p.PID(), k.PID())); err != nil {
			t.Error(err)
		}
		if group, err := syscall.Getpgid(p.PID()); err != nil || group != p.PID() {
			t.Errorf("group %d, %v; want %d", group, err, p.PID())
		}
		if err := p.Signal(syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		if e := exit(t, p); e.Signal != syscall.SIGHUP || e.Code != -1 || e.Lost {
			t.Errorf("%+v", e)
		}
		if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
		if e, ok := <-p.Exited(); ok {
			t.Errorf("a second exit %+v", e)
		}
	})
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode fs.FileMode, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("plain", 0o644, "#!/bin/sh\n")
	garbage := write("garbage", 0o755, "\x01\x02\x03")
	orphan := write("orphan", 0o755, "#!/no/such/interpreter\n")
	many := make([]string, 40)
	for i := range many {
		many[i] = strings.Repeat("x", 100<<10)
	}
	eachSystem(t, func(t *testing.T, k *Keeper) {
		for _, test := range []struct {
			name    string
			command Command
			is      error // nil: none in particular
			says    string
		}{
			{"nothing", Command{}, nil, "either arguments or a script"},
			{"both", Command{Args: []string{"true"}, Script: "true"}, nil, "either arguments or a script"},
			{"unknown program", Command{Args: []string{"no-such-program"}, Env: testEnv}, exec.ErrNotFound, `start "no-such-program": no such program in PATH (/usr/local/bin:/usr/bin:/bin)`},
			{"empty program", Command{Args: []string{""}}, exec.ErrNotFound, `start "": no such program`},
			{"missing program", Command{Args: []string{"/no/such/program"}}, syscall.ENOENT, `start "/no/such/program": no such program`},
			{"missing interpreter", Command{Args: []string{orphan}}, syscall.ENOENT, "interpreter in its first line"},
			{"not executable in PATH", Command{Args: []string{"plain"}, Env: []string{"PATH=" + dir}}, fs.ErrPermission, "not executable"},
			{"not executable", Command{Args: []string{plain}}, syscall.EACCES, "permission denied"},
			{"neither program nor script", Command{Args: []string{garbage}}, syscall.ENOEXEC, "begins with #!"},
			{"missing directory", Command{Script: "true", Dir: "/no/such/dir"}, syscall.ENOENT, `start "/bin/sh": directory "/no/such/dir": no such file or directory`},
			{"file as directory", Command{Script: "true", Dir: plain}, syscall.ENOTDIR, fmt.Sprintf("directory %q: not a directory", plain)},
			{"NUL in argument", Command{Args: []string{"echo", "a\x00b"}}, nil, "argument 1 has a NUL"},
			{"NUL in script", Command{Script: "echo \x00"}, nil, "the script has a NUL at byte 5"},
			{"NUL in environment", Command{Script: "true", Env: []string{"SECRET=\x00hidden"}}, nil, `environment variable "SECRET" has a NUL`},
			{"NUL in directory", Command{Script: "true", Dir: "/\x00"}, nil, "has a NUL"},
			{"too many arguments", Command{Args: append([]string{"true"}, many...), Env: testEnv}, syscall.E2BIG, "pass large values in files"},
		} {
			p, err := k.Run(test.command)
			if err == nil {
				t.Errorf("%s: started as %d", test.name, p.PID())
				continue
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%s: %v, want %v", test.name, err, test.is)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %q, want %q in it", test.name, err, test.says)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("%s: %q shows a value", test.name, err)
			}
		}
		if maxStringBytes > 0 {
			long := strings.Repeat("x", maxStringBytes)
			_, err := k.Run(Command{Args: []string{"echo", long}, Env: testEnv})
			if !errors.Is(err, syscall.E2BIG) || !strings.Contains(err.Error(), "argument 1 has 131072 bytes") {
				t.Errorf("one long argument: %.200v", err)
			}
			_, err = k.Run(Command{Script: "true", Env: []string{"LONG=" + long}})
			if !errors.Is(err, syscall.E2BIG) || !strings.Contains(err.Error(), `variable "LONG" has 131077 bytes`) {
				t.Errorf("one long variable: %.200v", err)
			}
		}
		// And it still works.
		if out, _, e := output(t, k, Command{Script: "echo fine"}); out != "fine\n" || e.Code != 0 {
			t.Errorf("%q, %+v", out, e)
		}
	})
}

// A request that exceeds a packet goes through a file.
func TestLargeRequest(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		env := append([]string{}, testEnv...)
		for i := range 10 {
			env = append(env, fmt.Sprintf("V%d=%s", i, strings.Repeat(fmt.Sprint(i), 20000)))
		}
		for range 3 {
			out, _, e := output(t, k, Command{Script: `echo ${#V0} ${#V9} $#; printf %.3s $V7`, Env: env})
			if out != "20000 20000 0\n777" || e.Code != 0 {
				t.Fatalf("%.100q, %+v", out, e)
			}
		}
	})
}

// A script of any length runs, with nothing open that a short one has not.
func TestLongScript(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		for _, size := range []int{maxScriptArg, maxScriptArg + 1, 3 << 20} {
			var text strings.Builder
			text.WriteString("n=0\n")
			for text.Len() < size-120 {
				text.WriteString("n=$((n+1)) # and something to make it longer\n")
			}
			lines := strings.Count(text.String(), "\n") - 1
			text.WriteString("echo $n $0; (: <&3) 2>/dev/null || echo closed; exit 9")
			text.WriteString(strings.Repeat(" ", max(0, size-text.Len())))
			if text.Len() != size {
				t.Fatalf("script of %d bytes, want %d", text.Len(), size)
			}
			out, errs, e := output(t, k, Command{Script: text.String()})
			if want := fmt.Sprintf("%d /bin/sh\nclosed\n", lines); out != want || errs != "" || e.Code != 9 {
				t.Errorf("%d bytes: %q, %q, %+v; want %q", size, out, errs, e, want)
			}
		}
	})
}

func TestMuchOutput(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		const size = 64 << 20 // one line
		p := run(t, k, Command{Script: fmt.Sprintf("head -c %d /dev/zero", size)})
		n, err := io.Copy(io.Discard, p.Stdout)
		if n != size || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if e := exit(t, p); e.Code != 0 {
			t.Errorf("%+v", e)
		}
	})
}

// Nobody who leaves the group and keeps the pipe holds up the reader, and what
// was written is read however late.
func TestDetachedHoldsPipe(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		p := run(t, k, Command{Script: detached + ` & d=$!; head -c 60000 /dev/zero; echo $d >&2; sleep 1000`})
		// Its leader ends long before anything is read.
		pid := 0
		if _, err := fmt.Fscan(bufio.NewReader(p.Stderr), &pid); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
		eventually(t, "the child leaves the group", func() bool {
			group, err := syscall.Getpgid(pid)
			return err == nil && group == pid
		})
		if err := p.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if e := exit(t, p); e.Signal != syscall.SIGKILL {
			t.Errorf("%+v", e)
		}
		time.Sleep(2 * outputGrace) // the reader is slow
		out, err := io.ReadAll(p.Stdout)
		if err != nil || !bytes.Equal(out, make([]byte, 60000)) {
			t.Errorf("read %d bytes, %v", len(out), err)
		}
		if rest, err := io.ReadAll(p.Stderr); err != nil || len(rest) != 0 {
			t.Errorf("read %q, %v", rest, err)
		}
		if n, err := p.Stdout.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read again: %d, %v", n, err)
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("the detached process was killed: %v", err)
		}
	})
}

// detached is a command that leaves session and group under its own pid.
const detached = `perl -e 'use POSIX; POSIX::setsid(); exec "sleep", "1000"'`

func TestCloseEndsRead(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		p := run(t, k, Command{Script: "echo; exec sleep 1000"})
		if err := expectLine(p.Stdout, ""); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := p.Stdout.Read(make([]byte, 1))
			ended <- err
		}()
		p.Stdout.Close()
		if err := <-ended; !errors.Is(err, os.ErrClosed) {
			t.Errorf("read: %v", err)
		}
	})
}
