package embedded

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestFullDiskIsExplained(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		explain(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, "/data", nil),
		explain(&os.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}, "/data", nil),
		explain(errors.New("exit status 1"), "/data", []byte("FATAL: could not write: No space left on device\n")),
	} {
		mustSay(t, err, ErrDiskFull, "/data", "MB free", "--embedded-data-directory")
	}
	err := explain(errors.New("exit status 1"), "/data", []byte("1\n2\n3\n4\n5\n6\n7\n8\n9\n"))
	if err.Error() != "exit status 1; its last words:\n2\n3\n4\n5\n6\n7\n8\n9" {
		t.Errorf("got %q", err)
	}
}

// Where this process may mount, the disk is a real one.
func TestFullDisk(t *testing.T) {
	if !mayMount {
		return
	}
	t.Run("when the data is made", func(t *testing.T) {
		disk := mountSmall(t, 20)
		_, err := Start(t.Context(), Options{DataDirectory: filepath.Join(disk, "data")})
		mustSay(t, err, ErrDiskFull, disk, "MB free")
		entries, err := os.ReadDir(disk)
		if err != nil || len(entries) != 1 || entries[0].Name() != "data.lock" {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	})
	t.Run("at a later start", func(t *testing.T) {
		disk := mountSmall(t, 200)
		o := Options{DataDirectory: filepath.Join(disk, "data"), Settings: map[string]string{"shared_buffers": "16MB"}}
		s := start(t, o)
		ask(t, s.URL(), "CREATE TABLE kept AS SELECT 1 AS n")
		stop(t, s)

		ballast := filepath.Join(disk, "ballast")
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk does not get full: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = Start(t.Context(), o)
		mustSay(t, err, ErrDiskFull, disk)

		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		s = start(t, o)
		if got := ask(t, s.URL(), "SELECT n FROM kept"); got != "1" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("mount point as data directory", func(t *testing.T) {
		disk := mountSmall(t, 1)
		_, err := Start(t.Context(), Options{DataDirectory: disk})
		mustSay(t, err, nil, "is a mount point", filepath.Join(disk, "postgres"))
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
