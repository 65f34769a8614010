package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The majors that Cyclonetix works with.
const (
	oldestMajor = 14
	newestMajor = 18
)

// Binaries are the server programs of one PostgreSQL version.
type Binaries struct {
	Dir     string // holds initdb and postgres, mostly psql and pg_dump too
	Version string // such as "17.2"
	Major   int    // such as 17
}

// Path is the path of one of the programs.
func (b Binaries) Path(program string) string { return filepath.Join(b.Dir, program) }

// FindBinaries returns the newest PostgreSQL binaries on the machine that Cyclonetix works with.
// The error is ErrNoBinaries when there are none.
func FindBinaries(ctx context.Context) (Binaries, error) {
	account, err := accountFor("/")
	if err != nil {
		return Binaries{}, err
	}
	return chooseBinaries(ctx, "", 0, account, usualFolders(ctx))
}

// chooseBinaries returns the binaries for the data in dir, which are of the given major, or the
// newest ones for new data (major 0).
func chooseBinaries(ctx context.Context, dir string, major int, a account, folders []string) (Binaries, error) {
	var found, unsupported []Binaries
	for _, folder := range folders {
		b, err := inspectBinaries(ctx, folder, a)
		switch {
		case ctx.Err() != nil:
			return Binaries{}, fmt.Errorf("look for PostgreSQL: %w", context.Cause(ctx))
		case err != nil: // none there, or none that this user can run
		case b.Major < oldestMajor || b.Major > newestMajor:
			unsupported = append(unsupported, b)
		default:
			found = append(found, b)
		}
	}
	if len(found) == 0 {
		return Binaries{}, noBinaries(unsupported)
	}
	slices.SortStableFunc(found, func(x, y Binaries) int { return compareVersions(y.Version, x.Version) })
	if major == 0 {
		return found[0], nil
	}
	for _, b := range found {
		if b.Major == major {
			return b, nil
		}
	}
	return Binaries{}, otherVersion(dir, major, found[0], a)
}

// usualFolders are the folders in which PostgreSQL may be, those of PATH first.
func usualFolders(ctx context.Context) []string {
	var folders []string
	add := func(folder string) {
		if resolved, err := filepath.EvalSymlinks(folder); err == nil && !slices.Contains(folders, resolved) {
			folders = append(folders, resolved)
		}
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			add(filepath.Dir(path))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/lib/postgresql*/bin",  // SUSE
		"/usr/pgsql-*/bin",          // the PostgreSQL project's own packages for Fedora and RHEL
		"/usr/libexec/postgresql*",  // Alpine
		"/usr/local/pgsql/bin",      // built from source
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		"/opt/local/lib/postgresql*/bin", // MacPorts
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		matches, _ := filepath.Glob(pattern) // the patterns are well formed
		for _, folder := range matches {
			add(folder)
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		add(strings.TrimSpace(string(out)))
	}
	return folders
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// inspectBinaries asks the server program in folder for its version, as the user that will run it.
func inspectBinaries(ctx context.Context, folder string, a account) (Binaries, error) {
	b := Binaries{Dir: folder}
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(b.Path(program)); err != nil {
			return b, err
		}
	}
	out, err := run(ctx, a.command(b.Path("postgres"), "--version"))
	if err != nil {
		return b, fmt.Errorf("run %s: %w", b.Path("postgres"), err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return b, fmt.Errorf("%s is not PostgreSQL", b.Path("postgres"))
	}
	b.Version = string(match[1])
	b.Major, err = strconv.Atoi(string(match[2]))
	return b, err
}

// hasLibrary says whether the server can preload a library. A server told to preload one that is
// missing does not start.
func (b Binaries) hasLibrary(ctx context.Context, name string) bool {
	folders := []string{
		filepath.Join(b.Dir, "../lib"), filepath.Join(b.Dir, "../lib/postgresql"), filepath.Join(b.Dir, "../lib64/pgsql"),
	}
	if out, err := exec.CommandContext(ctx, b.Path("pg_config"), "--pkglibdir").Output(); err == nil {
		folders = []string{strings.TrimSpace(string(out))}
	}
	for _, folder := range folders {
		for _, ending := range []string{".so", ".dylib"} {
			if _, err := os.Stat(filepath.Join(folder, name+ending)); err == nil {
				return true
			}
		}
	}
	return false
}

// compareVersions orders versions such as "17.2" and "18beta1" by their numbers.
func compareVersions(a, b string) int {
	return slices.Compare(versionNumbers(a), versionNumbers(b))
}

func versionNumbers(version string) []int {
	var numbers []int
	for _, digits := range strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(digits) // digits alone
		numbers = append(numbers, n)
	}
	if strings.ContainsAny(version, "abcr") { // 18beta1, 18rc1: before 18.0
		numbers = append(numbers[:1], -1)
	}
	return numbers
}
