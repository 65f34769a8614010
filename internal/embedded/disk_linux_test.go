package embedded

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

var mayMount = os.Geteuid() == 0

// mountSmall mounts a disk of some megabytes.
func mountSmall(t *testing.T, megabytes int) string {
	t.Helper()
	folder, dir := place(t)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", megabytes)); err != nil {
		t.Fatalf("mount a small disk on %s in %s: %v", dir, folder, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
