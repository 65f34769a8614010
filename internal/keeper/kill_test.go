package keeper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// startTree starts tree and waits until it is complete.
func startTree(t *testing.T, k *Keeper) *Process {
	t.Helper()
	p := run(t, k, Command{Script: tree})
	if err := expectLine(p.Stdout, "up"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tree is up", func() bool { return len(members(p.PID())) >= 1 })
	return p
}

func expectGone(t *testing.T, group int) {
	t.Helper()
	eventually(t, fmt.Sprintf("group %d is gone", group), func() bool { return len(members(group)) == 0 })
}

// A signal reaches the whole group, and SIGKILL those who ignore the others.
func TestSignalGroup(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		p := startTree(t, k)
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		// Orders keep their order: once this one has an effect, that one had its chance.
		q := run(t, k, Command{Script: "exec sleep 1000"})
		if err := q.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		exit(t, q)
		if len(members(p.PID())) == 0 {
			t.Error("what ignores SIGTERM is gone")
		}
		select {
		case e := <-p.Exited():
			t.Fatalf("it ended: %+v", e)
		default:
		}
		if err := p.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if e := exit(t, p); e.Signal != syscall.SIGKILL {
			t.Errorf("%+v", e)
		}
		expectGone(t, p.PID())
		if _, err := io.Copy(io.Discard, p.Stdout); err != nil {
			t.Error(err)
		}
	})
}

// What a leader leaves in its group is killed, and holds no pipe.
func TestLeaderLeavesChildren(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		out, _, e := output(t, k, Command{Script: `trap "" HUP TERM; sleep 1000 & (sleep 1000 & sleep 1000) & echo $$; exit 4`})
		if e.Code != 4 || e.Signal != 0 {
			t.Errorf("%+v", e)
		}
		group := 0
		if _, err := fmt.Sscan(out, &group); err != nil {
			t.Fatal(err)
		}
		expectGone(t, group)
	})
}

func TestClose(t *testing.T) {
	for _, portable := range []bool{false, true} {
		k, err := startWith(systemFor(portable))
		if err != nil {
			t.Fatal(err)
		}
		keeper := k.PID()
		var trees []*Process
		for range 3 {
			trees = append(trees, startTree(t, k))
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		for _, p := range trees {
			if e := exit(t, p); e.Signal != syscall.SIGKILL || e.Lost {
				t.Errorf("%+v", e)
			}
			expectGone(t, p.PID())
		}
		if err := syscall.Kill(keeper, 0); err != syscall.ESRCH {
			t.Errorf("the keeper is still there: %v", err)
		}
		if _, err := k.Run(Command{Script: "true"}); !errors.Is(err, ErrClosed) {
			t.Errorf("run after close: %v", err)
		}
		if err := k.Close(); err != nil || k.PID() != 0 {
			t.Errorf("closed again: %v, pid %d", err, k.PID())
		}
	}
}

// kill -9 of the agent kills all that it started, and its keeper.
func TestAgentKilled(t *testing.T) {
	for _, mode := range []string{"fast", "portable"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			agent := exec.Command(os.Args[0])
			agent.Env = append(os.Environ(), fakeAgent+"="+mode)
			agent.Stderr = os.Stderr
			stdout, err := agent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := agent.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
			keeper, groups := 0, []int{}
			for in := bufio.NewScanner(stdout); in.Scan() && in.Text() != "ready"; {
				var what string
				var pid int
				if _, err := fmt.Sscan(in.Text(), &what, &pid); err != nil {
					t.Fatalf("agent says %q", in.Text())
				}
				if what == "keeper" {
					keeper = pid
				} else {
					groups = append(groups, pid)
				}
			}
			if keeper == 0 || len(groups) != 5 {
				t.Fatalf("keeper %d, groups %d", keeper, groups)
			}
			for _, g := range groups {
				eventually(t, "the tree is up", func() bool { return len(members(g)) >= 3 })
			}
			if err := agent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			agent.Wait()
			for _, g := range groups {
				expectGone(t, g)
			}
			expectGone(t, keeper) // it leads a group of its own
		})
	}
}

// Signals that a terminal or a service manager sends to all do not end a keeper.
func TestKeeperIsDeaf(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		keeper := k.PID()
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
			if err := syscall.Kill(keeper, sig); err != nil {
				t.Fatal(err)
			}
			// It deafens only itself: the same signal ends a command.
			_, _, e := output(t, k, Command{Script: fmt.Sprintf("kill -%d $$; exit 1", sig)})
			if e.Signal != sig {
				t.Errorf("%v: %+v", sig, e)
			}
		}
		if group, err := syscall.Getpgid(keeper); err != nil || group != keeper {
			t.Errorf("group %d, %v", group, err)
		}
		if k.PID() != keeper {
			t.Errorf("another keeper: %d, was %d", k.PID(), keeper)
		}
	})
}

// A killed keeper takes its commands along, and the next Run has a new one.
func TestKeeperKilled(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		for range 3 {
			keeper := k.PID()
			var trees []*Process
			for range 3 {
				trees = append(trees, startTree(t, k))
			}
			if err := syscall.Kill(keeper, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for _, p := range trees {
				if e := exit(t, p); !e.Lost || e.Code != -1 || e.Duration <= 0 {
					t.Errorf("%+v", e)
				}
				if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
					t.Errorf("signal: %v", err)
				}
				expectGone(t, p.PID())
				if _, err := io.Copy(io.Discard, p.Stdout); err != nil {
					t.Error(err)
				}
			}
			if out, _, e := output(t, k, Command{Script: "echo again"}); out != "again\n" || e.Code != 0 {
				t.Errorf("%q, %+v", out, e)
			}
			if k.PID() == keeper || k.PID() == 0 {
				t.Errorf("keeper %d, was %d", k.PID(), keeper)
			}
		}
	})
}

// Under random kills of commands and keepers every start has one outcome,
// every process one end, and nothing is left.
func TestRandomKills(t *testing.T) {
	eachSystem(t, func(t *testing.T, k *Keeper) {
		const workers, each = 8, 40
		var started, lost, failed atomic.Int64
		var groups, keepers sync.Map
		stop := make(chan struct{})
		var killer, wg sync.WaitGroup
		killer.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(20+rand.IntN(80)) * time.Millisecond):
					if pid := k.PID(); pid != 0 {
						keepers.Store(pid, nil)
						syscall.Kill(pid, syscall.SIGKILL)
					}
				}
			}
		})
		for range workers {
			wg.Go(func() {
				for range each {
					script := []string{"true", "sleep 1000 & echo x", "sleep 0.01; exit 3", tree}[rand.IntN(4)]
					p, err := k.Run(Command{Script: script, Env: testEnv})
					if errors.Is(err, ErrLost) {
						failed.Add(1)
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					started.Add(1)
					groups.Store(p.PID(), script)
					if script == tree || rand.IntN(4) == 0 {
						p.Signal(syscall.SIGTERM)
						p.Signal(syscall.SIGKILL)
					}
					wg.Go(func() { io.Copy(io.Discard, p.Stderr) })
					io.Copy(io.Discard, p.Stdout)
					select {
					case e, ok := <-p.Exited():
						if !ok {
							t.Errorf("%d: closed without an exit", p.PID())
						}
						if e.Lost {
							lost.Add(1)
						}
					case <-time.After(patience):
						t.Errorf("%d (%s) does not end", p.PID(), script)
					}
					p.Close()
				}
			})
		}
		wg.Wait()
		close(stop)
		killer.Wait()
		t.Logf("%d started, %d of them lost, %d lost while starting", started.Load(), lost.Load(), failed.Load())
		if started.Load() == 0 {
			t.Error("nothing was started")
		}
		groups.Range(func(pid, _ any) bool {
			expectGone(t, pid.(int))
			return true
		})
		// What a keeper had started but not yet reported is gone too.
		keepers.Range(func(pid, _ any) bool {
			eventually(t, "the session is empty", func() bool { return len(sessionMembers(pid.(int))) == 0 })
			return true
		})
	})
}
