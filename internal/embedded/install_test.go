package embedded

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNoBinaries(t *testing.T) {
	t.Parallel()
	folder, dir := place(t)
	_, err := Start(t.Context(), Options{DataDirectory: dir, searchIn: []string{folder, "/nowhere"}})
	mustSay(t, err, ErrNoBinaries, "install it:", readSystem().install(""), "--backend-url postgres://", "docker run")

	old := fakeBinaries(t, folder, "postgres (PostgreSQL) 9.6.24")
	_, err = Start(t.Context(), Options{DataDirectory: dir, searchIn: []string{old}})
	mustSay(t, err, ErrNoBinaries, old+" holds version 9.6.24")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a data directory was made: %v", err)
	}
}

func TestNewestOrMatchingBinaries(t *testing.T) {
	t.Parallel()
	folder, _ := place(t)
	account, err := accountFor("/")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, version := range []string{"15.9", "17.2 (Debian 17.2-1)", "18beta1", "15.10", "19.1", "fifteen"} {
		folders = append(folders, fakeBinaries(t, folder, "postgres (PostgreSQL) "+version))
	}
	for major, want := range map[int]string{0: "18beta1", 15: "15.10", 17: "17.2"} {
		b, err := chooseBinaries(t.Context(), "/data", major, account, folders)
		if err != nil {
			t.Error(err)
		}
		if b.Version != want {
			t.Errorf("for data of %d: %s, not %s", major, b.Version, want)
		}
	}
	_, err = chooseBinaries(t.Context(), "/data", 16, account, folders)
	mustSay(t, err, ErrOtherVersion, "PostgreSQL 16", "18beta1")
}

// fakeBinaries makes a folder with a postgres that says its version.
func fakeBinaries(t *testing.T, folder, version string) string {
	t.Helper()
	dir, err := os.MkdirTemp(folder, "bin-*")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	ordered := []string{"9.6.24", "14.0", "15.9", "15.10", "17.2", "18beta1", "18.0", "18.1"}
	shuffled := slices.Clone(ordered)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, compareVersions)
	if !slices.Equal(shuffled, ordered) {
		t.Errorf("got %v", shuffled)
	}
}

func TestInstallCommand(t *testing.T) {
	t.Parallel()
	for release, want := range map[string][2]string{
		"ID=debian\n": {"apt-get install postgresql", "apt-get install postgresql-16"},
		"NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"": {"apt-get install postgresql", "apt-get install postgresql-16"},
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n":               {"dnf install postgresql-server postgresql-contrib", "dnf install postgresql16-server postgresql16-contrib"},
		"ID=alpine\n":    {"apk add postgresql17 postgresql17-contrib", "apk add postgresql16 postgresql16-contrib"},
		"ID=arch":        {"pacman -S postgresql", "pacman -S postgresql"},
		"ID_LIKE='suse'": {"zypper install postgresql-server postgresql-contrib", "zypper install postgresql16-server postgresql16-contrib"},
		"ID=plan9":       {"the package postgresql  of your system", "the package postgresql 16 of your system"},
	} {
		s := parseSystem(bufio.NewScanner(strings.NewReader(release)))
		if got := [2]string{s.install(""), s.install("16")}; got != want {
			t.Errorf("%q: %q", release, got)
		}
	}
	if got := (system{"darwin"}).install(""); got != "brew install postgresql@17" {
		t.Error(got)
	}
}
