package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is the user that PostgreSQL runs as.
type account struct {
	uid, gid uint32
	name     string
	drop     bool // this process is root, and its children become that user
}

// accountFor returns the present user; for root the owner of the data in dir, else postgres, else
// nobody. Keeping to the owner means that a user named postgres who appears later (with a package)
// does not lock the data.
func accountFor(dir string) (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		return account{uid: uint32(uid), gid: uint32(os.Getegid()), name: userName(uint32(uid))}, nil //nolint:gosec // the kernel has 32 bits for it
	}
	if info, err := os.Stat(dir); err == nil {
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 {
			return account{uid: st.Uid, gid: st.Gid, name: userName(st.Uid), drop: true}, nil
		}
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		// macOS has negative ids; they wrap to what the kernel uses.
		uid, err1 := strconv.ParseInt(u.Uid, 10, 64)
		gid, err2 := strconv.ParseInt(u.Gid, 10, 64)
		if err1 != nil || err2 != nil || uid == 0 {
			continue
		}
		return account{uid: uint32(uid), gid: uint32(gid), name: name, drop: true}, nil //nolint:gosec // to wrap is meant
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as: " +
		"make one with \"useradd --system postgres\", or run cyclonetix as another user")
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// command is a child that runs as the account. Its folder is /, since the present one may be
// closed to that user.
func (a account) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = childEnvironment()
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if a.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return cmd
}

// give hands a file or folder that this process just made to the account.
func (a account) give(path string) error {
	if !a.drop {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// mustReach makes sure that the account can enter dir. It asks the kernel, by starting a program
// there, since modes do not tell of access lists; they only help to say what is in the way.
func (a account) mustReach(ctx context.Context, dir string, b Binaries) error {
	if !a.drop {
		return nil
	}
	cmd := a.command(b.Path("postgres"), "--version")
	cmd.Dir = dir
	_, err := run(ctx, cmd)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("start postgres as user %s: %w", a.name, err)
	}
	mend := "let that user enter it"
	if closed := a.closedFolders(dir); len(closed) > 0 {
		mend = fmt.Sprintf("run \"chmod o+x %s\"", strings.Join(closed, " "))
	}
	return fmt.Errorf("PostgreSQL, which root has to run as user %s, cannot enter %s: %s, "+
		"or choose a folder that it can reach with --embedded-data-directory", a.name, dir, mend)
}

// closedFolders lists dir and its parents that the account may not enter by their modes.
func (a account) closedFolders(dir string) []string {
	var closed []string
	for {
		if info, err := os.Stat(dir); err == nil && !a.mayEnter(info) {
			closed = append([]string{dir}, closed...)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return closed
		}
		dir = parent
	}
}

func (a account) mayEnter(info fs.FileInfo) bool {
	st := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case st.Uid == a.uid:
		return mode&0o100 != 0
	case st.Gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}
