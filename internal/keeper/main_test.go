package keeper

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// fakeAgent makes a test process an agent that starts trees of processes,
// prints their groups, and waits to be killed.
const fakeAgent = "KEEPER_TEST_FAKE_AGENT"

func TestMain(m *testing.M) {
	MaybeMain()
	if mode := os.Getenv(fakeAgent); mode != "" {
		if err := beFakeAgent(mode == "portable"); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		select {} // until killed
	}
	os.Exit(m.Run())
}

func beFakeAgent(portable bool) error {
	k, err := startWith(systemFor(portable))
	if err != nil {
		return err
	}
	fmt.Println("keeper", k.PID())
	for range 5 {
		p, err := k.Run(Command{Script: tree, Env: testEnv})
		if err != nil {
			return err
		}
		if err := expectLine(p.Stdout, "up"); err != nil {
			return err
		}
		fmt.Println("group", p.PID())
	}
	fmt.Println("ready")
	go func() { time.Sleep(time.Hour) }() // the runtime should not call it a deadlock
	return nil
}

// tree is a leader that ignores SIGTERM, with a child and a grandchild.
const tree = `trap "" TERM; (sleep 1000 & sleep 1000) & echo up; sleep 1000; sleep 1000`

var testEnv = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}

func systemFor(portable bool) (socket int, _ bool) {
	if portable {
		return syscall.SOCK_STREAM, true
	}
	return socketType, false
}

// eachSystem runs a test under the fastest keeper of this platform and under
// the portable one.
func eachSystem(t *testing.T, f func(t *testing.T, k *Keeper)) {
	for _, name := range []string{"fast", "portable"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, err := startWith(systemFor(name == "portable"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := k.Close(); err != nil {
					t.Error(err)
				}
			})
			f(t, k)
		})
	}
}

// patience is how long something may take that should come soon.
const patience = 30 * time.Second

// eventually polls what the system does not announce.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen: %s", what)
		}
	}
}
