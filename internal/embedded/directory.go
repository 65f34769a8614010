package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultDataDirectory is where the data lies when nothing else is said: /var/lib/cyclonetix/postgres
// for root, else a folder among the user's application data.
func DefaultDataDirectory() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/cyclonetix/postgres", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "cyclonetix", "postgres"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the data: %w: set it with --embedded-data-directory", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "cyclonetix", "postgres"), nil
	}
	return filepath.Join(home, ".local", "share", "cyclonetix", "postgres"), nil
}

// chosenDirectory is the absolute path of the data; where it exists, without symbolic links.
func chosenDirectory(dir string) (string, error) {
	if dir == "" {
		return DefaultDataDirectory()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find data directory: %w", err)
	}
	switch resolved, err := filepath.EvalSymlinks(dir); {
	case err == nil:
		return resolved, nil
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(dir); err == nil {
			return "", fmt.Errorf("data directory %s is a symbolic link to nowhere", dir)
		}
		return dir, nil
	default:
		return "", fmt.Errorf("find data directory: %w", err)
	}
}

// prepareParent makes the folders above dir and returns dir without symbolic links. Made by root,
// they can be entered by everybody, whatever the umask: PostgreSQL's user has to pass.
func prepareParent(dir string, a account) (string, error) {
	parent := filepath.Dir(dir)
	mode := fs.FileMode(0o700)
	if a.drop {
		mode = 0o755
	}
	var missing []string
	for p := parent; ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil || p == filepath.Dir(p) {
			break
		}
		missing = append(missing, p)
	}
	if err := os.MkdirAll(parent, mode); err != nil {
		return "", explain(fmt.Errorf("make folder for the data: %w", err), dir, nil)
	}
	for _, p := range missing {
		if err := os.Chmod(p, mode); err != nil {
			return "", fmt.Errorf("make folder for the data: %w", err)
		}
	}
	parent, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return "", fmt.Errorf("find data directory: %w", err)
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// data is what a data directory holds.
type data struct {
	major int // of PostgreSQL; 0 when there is no data yet
}

// inspect looks at dir and refuses what is neither data of the account nor an empty place.
func inspect(dir string, a account) (data, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return data{}, nil
	} else if err != nil {
		return data{}, fmt.Errorf("inspect data directory: %w", err)
	}
	if !info.IsDir() {
		return data{}, fmt.Errorf("data directory %s is not a folder", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return data{}, fmt.Errorf("inspect data directory: %w", err)
	}
	var version string
	for _, entry := range entries {
		if entry.Name() == "PG_VERSION" {
			version = entry.Name()
		}
	}
	if version == "" {
		if mounted(dir, info) {
			return data{}, mountError(dir)
		}
		if len(entries) > 0 {
			return data{}, fmt.Errorf("data directory %s is not empty and holds no PostgreSQL data: choose another folder with --embedded-data-directory", dir)
		}
		return data{}, nil
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != a.uid {
		hint := "run cyclonetix as that user, or choose another folder with --embedded-data-directory"
		if a.drop {
			hint = fmt.Sprintf("run \"chown -R %s %s\"", a.name, dir)
		}
		return data{}, fmt.Errorf("data directory %s belongs to user %s, and PostgreSQL would run as %s: %s", dir, userName(st.Uid), a.name, hint)
	}
	text, err := readIn(dir, "PG_VERSION")
	if err != nil {
		return data{}, fmt.Errorf("inspect data directory: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || major <= 0 {
		return data{}, fmt.Errorf("inspect data directory: %s holds %.20q, which is no version of PostgreSQL", filepath.Join(dir, "PG_VERSION"), text)
	}
	return data{major: major}, nil
}

// mounted says whether dir is a mount point, as far as device numbers tell.
func mounted(dir string, info fs.FileInfo) bool {
	parent, err := os.Stat(filepath.Dir(dir))
	return err == nil && parent.Sys().(*syscall.Stat_t).Dev != info.Sys().(*syscall.Stat_t).Dev
}

func mountError(dir string) error {
	return fmt.Errorf("data directory %s is a mount point, which fresh data cannot be moved to: choose a folder inside it, as in --embedded-data-directory %s",
		dir, filepath.Join(dir, "postgres"))
}

// freshPrefix is how the names of fresh data for dir begin, which lies beside it until it is whole.
func freshPrefix(dir string) string { return "." + filepath.Base(dir) + ".init-" }

// removeUnfinished removes fresh data for dir whose maker was killed. What is left of initdb may
// still write for a moment, which can undo a removal. What cannot be removed is in nobody's way.
func removeUnfinished(ctx context.Context, dir string) {
	parent := filepath.Dir(dir)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), freshPrefix(dir)) {
			_ = poll(ctx, time.Second, func() bool { return os.RemoveAll(filepath.Join(parent, entry.Name())) == nil })
		}
	}
}

// initialise makes the data in dir. It is made beside dir and renamed when it is whole, so that no
// death on the way leaves half of it. With sync, it is on the disk when this returns.
func initialise(ctx context.Context, dir string, a account, b Binaries, sync bool) error {
	parent := filepath.Dir(dir)
	fresh, err := os.MkdirTemp(parent, freshPrefix(dir))
	if err != nil {
		return explain(fmt.Errorf("make data directory: %w", err), dir, nil)
	}
	defer func() { _ = os.RemoveAll(fresh) }() // gone already when all went well
	if err := a.give(fresh); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	out, err := initdb(ctx, fresh, "C.UTF-8", a, b, sync)
	if err != nil && strings.Contains(string(out), "invalid locale") {
		out, err = initdb(ctx, fresh, "C", a, b, sync)
	}
	if err != nil {
		return explain(fmt.Errorf("make data directory with %s: %w", b.Path("initdb"), err), dir, out)
	}
	// Not os.Rename, which refuses to replace an empty folder.
	if err := syscall.Rename(fresh, dir); err != nil {
		if errors.Is(err, syscall.EBUSY) {
			return mountError(dir)
		}
		return fmt.Errorf("make data directory: %w", err)
	}
	return syncFolder(parent)
}

func initdb(ctx context.Context, dir, locale string, a account, b Binaries, sync bool) ([]byte, error) {
	args := []string{"--pgdata", dir, "--username", superuser,
		"--encoding", "UTF8", "--locale", locale, "--auth", "trust", "--no-instructions"}
	if !sync {
		args = append(args, "--no-sync")
	}
	return run(ctx, a.command(b.Path("initdb"), args...))
}

// syncFolder makes a rename in dir last through a loss of power.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// readIn reads a file of a folder that another user may own: no link leads out of it.
func readIn(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(name)
}

// writeIn writes a file of a folder that another user may own, as that user's, in one step.
func writeIn(dir, name string, text []byte, a account) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	temporary := name + ".new"
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil && a.drop {
		err = f.Chown(int(a.uid), int(a.gid))
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = root.Rename(temporary, name)
	}
	return err
}
