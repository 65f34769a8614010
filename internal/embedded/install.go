package embedded

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
)

var (
	// ErrNoBinaries is the error when the machine has no PostgreSQL that Cyclonetix works with.
	ErrNoBinaries = errors.New("no PostgreSQL server found on this machine")
	// ErrOtherVersion is the error when the data is of a PostgreSQL major whose binaries are not
	// on the machine.
	ErrOtherVersion = errors.New("the data is of another PostgreSQL version")
)

// told is an error with a text of its own that is also one of the errors of this package.
type told struct {
	is   error
	text string
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.is }

func noBinaries(unsupported []Binaries) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%v (versions %d to %d will do)", ErrNoBinaries, oldestMajor, newestMajor)
	for _, b := range unsupported {
		fmt.Fprintf(&text, "\n  %s holds version %s, which Cyclonetix does not work with", b.Dir, b.Version)
	}
	fmt.Fprintf(&text, `
there are three ways on:
  install it:            %s
  use another server:    cyclonetix serve --backend-url postgres://USER:PASSWORD@HOST/DATABASE
  run it in a container: docker run -d --name cyclonetix-postgres -p 127.0.0.1:5432:5432 \
                           -e POSTGRES_PASSWORD=PASSWORD -e POSTGRES_DB=cyclonetix -v cyclonetix:/var/lib/postgresql/data postgres:17
                         cyclonetix serve --backend-url postgres://postgres:PASSWORD@127.0.0.1/cyclonetix`, readSystem().install(""))
	return &told{is: ErrNoBinaries, text: text.String()}
}

func otherVersion(dir string, major int, have Binaries, a account) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s holds data of PostgreSQL %d, and this machine has PostgreSQL %s (%s), which cannot read it\n", dir, major, have.Version, have.Dir)
	if major >= oldestMajor && major <= newestMajor {
		fmt.Fprintf(&text, "there are two ways on:\n"+
			"  install PostgreSQL %d beside it, and Cyclonetix uses that for this data: %s\n", major, readSystem().install(fmt.Sprint(major)))
	}
	fmt.Fprintf(&text, `  move the data by a dump, as user %[1]s, with the programs of both versions (OLD, %[2]s):
    OLD/pg_ctl -D %[3]s -o "-h '' -k /tmp" -w start
    OLD/pg_dumpall -h /tmp -U postgres -f /tmp/dump.sql
    OLD/pg_ctl -D %[3]s -w stop
    mv %[3]s %[3]s.%[4]d
    %[2]s/initdb -D %[3]s -U postgres -E UTF8
    %[2]s/pg_ctl -D %[3]s -o "-h '' -k /tmp" -w start
    psql -h /tmp -U postgres -d postgres -f /tmp/dump.sql
    %[2]s/pg_ctl -D %[3]s -w stop
an empty folder given with --embedded-data-directory starts afresh`, a.name, have.Dir, dir, major)
	return &told{is: ErrOtherVersion, text: text.String()}
}

// system is what the machine runs, as far as it matters for installing a package: the ids of
// /etc/os-release, or "darwin".
type system []string

func readSystem() system {
	if runtime.GOOS != "linux" {
		return system{runtime.GOOS}
	}
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if f, err := os.Open(path); err == nil {
			defer f.Close()
			return parseSystem(bufio.NewScanner(f))
		}
	}
	return nil
}

// parseSystem returns ID and then the words of ID_LIKE.
func parseSystem(lines *bufio.Scanner) system {
	var id, like []string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		words := strings.Fields(strings.Trim(value, `"'`))
		switch name {
		case "ID":
			id = words
		case "ID_LIKE":
			like = words
		}
	}
	return append(id, like...)
}

// install is the command that installs a PostgreSQL major, or any with "".
func (s system) install(major string) string {
	for _, id := range s {
		switch id {
		case "debian", "ubuntu":
			if major != "" {
				return "apt-get install postgresql-" + major
			}
			return "apt-get install postgresql"
		case "fedora", "rhel", "centos", "amzn":
			if major != "" {
				return "dnf install postgresql" + major + "-server postgresql" + major + "-contrib"
			}
			return "dnf install postgresql-server postgresql-contrib"
		case "alpine":
			if major == "" {
				major = "17"
			}
			return "apk add postgresql" + major + " postgresql" + major + "-contrib"
		case "arch":
			return "pacman -S postgresql"
		case "suse", "opensuse":
			return "zypper install postgresql" + major + "-server postgresql" + major + "-contrib"
		case "darwin":
			if major == "" {
				major = "17"
			}
			return "brew install postgresql@" + major
		}
	}
	return strings.TrimSpace("the package postgresql " + major + " of your system")
}
