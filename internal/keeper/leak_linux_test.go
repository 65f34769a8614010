package keeper

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// openFiles lists what a process has open.
func openFiles(t *testing.T, pid int) (files []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if target, err := os.Readlink(dir + n.Name()); err == nil {
			files = append(files, n.Name()+" "+target)
		}
	}
	return files
}

// status returns a line of /proc/PID/status.
func status(t *testing.T, pid int, key string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("process %d has no %s", pid, key)
	return ""
}

// A command has three descriptors and the signals of a fresh process; nothing
// that its agent was left open by others reaches it, nor the keeper.
func TestInherits(t *testing.T) {
	left, err := os.CreateTemp(t.TempDir(), "left-open")
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	fd, err := syscall.Dup(int(left.Fd())) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	// os/exec gives what an ordinary child gets.
	limits := func(out []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	const ask = "ulimit -a; umask"
	want := limits(exec.Command(shell, "-c", ask).Output())

	for _, portable := range []bool{false, true} {
		k, err := startWith(systemFor(portable))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		p := run(t, k, Command{Args: []string{"sleep", "1000"}})
		files := openFiles(t, p.PID())
		// While it is loaded, its libraries are open.
		for deadline := time.Now().Add(10 * time.Second); len(files) != 3 && time.Now().Before(deadline); files = openFiles(t, p.PID()) {
			runtime.Gosched()
		}
		if len(files) != 3 || files[0] != "0 /dev/null" || !strings.HasPrefix(files[1], "1 pipe:") || !strings.HasPrefix(files[2], "2 pipe:") {
			t.Errorf("open: %q", files)
		}
		for _, key := range []string{"SigBlk", "SigIgn", "SigCgt"} {
			if mask := status(t, p.PID(), key); strings.Trim(mask, "0") != "" && key != "SigIgn" || key == "SigIgn" && mask != status(t, os.Getpid(), key) {
				t.Errorf("%s is %s", key, mask)
			}
		}
		for _, f := range openFiles(t, k.PID()) {
			if strings.Contains(f, "left-open") {
				t.Errorf("the keeper has %s", f)
			}
		}
		if out, _, _ := output(t, k, Command{Script: ask}); out != want {
			t.Errorf("limits\n%s, want\n%s", out, want)
		}
	}
}

// Many starts at once leave no descriptor, goroutine or memory behind, here or
// in the keeper. (Not parallel: it counts.)
func TestLeak(t *testing.T) {
	for _, portable := range []bool{false, true} {
		k, err := startWith(systemFor(portable))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		many := func(workers, each int) {
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for i := range each {
						var err error
						switch i % 4 {
						case 0, 1:
							err = capture(k, testEnv)
						case 2: // through files
							err = capture(k, append(testEnv, "A="+strings.Repeat("x", 100<<10)))
						case 3:
							if _, e := k.Run(Command{Args: []string{"/no/such"}}); e == nil {
								err = fmt.Errorf("it started")
							}
						}
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		}
		many(100, 4)
		memory := func() (kib int) {
			fmt.Sscan(status(t, k.PID(), "RssAnon"), &kib)
			return kib
		}
		goroutines, ours, theirs, before := runtime.NumGoroutine(), len(openFiles(t, os.Getpid())), len(openFiles(t, k.PID())), memory()
		many(50, 40)
		eventually(t, "all goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines })
		if n := openFiles(t, os.Getpid()); len(n) > ours {
			t.Errorf("%d files are open, were %d: %q", len(n), ours, n)
		}
		eventually(t, "the keeper's files are closed", func() bool { return len(openFiles(t, k.PID())) <= theirs })
		limit := 2 << 10 // a fast keeper allocates nothing
		if portable {
			limit = 32 << 10 // this one collects garbage, at its leisure
		}
		if grown := memory() - before; grown > limit {
			t.Errorf("the keeper grew by %d KiB, from %d", grown, before)
		}
		t.Logf("the keeper's memory: %d KiB, of it %s shared with the agent's file", memory(), status(t, k.PID(), "RssFile"))
		if n := childrenOf(k.PID()); n != 0 {
			t.Errorf("the keeper has %d children", n)
		}
	}
}

// childrenOf counts children, zombies too.
func childrenOf(pid int) (n int) {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		n += len(bytes.Fields(list))
	}
	return n
}

// A job in a group of its own outlives its leader, but not the keeper.
func TestOwnGroup(t *testing.T) {
	for _, end := range []struct {
		name string
		of   func(k *Keeper)
	}{
		{"closed", func(k *Keeper) { k.Close() }},
		{"killed", func(k *Keeper) { syscall.Kill(k.PID(), syscall.SIGKILL) }},
	} {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			k, err := Start()
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			p := run(t, k, Command{Script: `perl -e 'setpgrp; $| = 1; print "$$\n"; exec "sleep", "1000"' & sleep 1000`})
			job := 0
			if _, err := fmt.Fscan(p.Stdout, &job); err != nil {
				t.Fatal(err)
			}
			if err := p.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			exit(t, p)
			expectGone(t, p.PID())
			if len(members(job)) != 1 {
				t.Fatalf("job %d leads no group", job)
			}
			end.of(k)
			expectGone(t, job)
		})
	}
}
