package keeper

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
)

// A keeper that is stopped does not hold up Close.
func TestCloseStoppedKeeper(t *testing.T) {
	t.Parallel()
	k, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	p := startTree(t, k)
	if err := syscall.Kill(k.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the keeper is stopped", func() bool { // until then it may still see the end, and report it
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", k.PID()))
		_, state, _ := bytes.Cut(stat, []byte(") "))
		return err == nil && bytes.HasPrefix(state, []byte("T"))
	})
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if e := exit(t, p); !e.Lost {
		t.Errorf("%+v", e)
	}
	expectGone(t, p.PID())
}
