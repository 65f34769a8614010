package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cyclonetix/cyclonetix/internal/embedded"
)

// folderPrefix begins the names of the folders of private servers; the process id follows.
const folderPrefix = "cyclonetix-pgtest-"

// settings make the server fast and roomy. Nothing here outlives the process, so nothing needs to
// be on the disk.
var settings = map[string]string{
	"fsync":                          "off",
	"full_page_writes":               "off",
	"max_connections":                "400",
	"shared_buffers":                 "256MB",
	"superuser_reserved_connections": "10",
}

// privateServer is the embedded server in a folder for temporary files.
type privateServer struct {
	folder string
	server *embedded.Server
}

func startPrivate(ctx context.Context) (*privateServer, error) {
	removeForsaken(ctx)
	folder, err := os.MkdirTemp("", folderPrefix+strconv.Itoa(os.Getpid())+"-*")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the server for tests: %w", err)
	}
	p := &privateServer{folder: folder}
	if os.Geteuid() == 0 { // another user runs the server
		err = os.Chmod(folder, 0o711) //nolint:gosec // that user must get through
	}
	if err == nil {
		p.server, err = embedded.Start(ctx, embedded.Options{DataDirectory: filepath.Join(folder, "data"), Settings: settings})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a server for tests (CYCLO_TEST_DATABASE_URL names another): %w", err), os.RemoveAll(folder))
	}
	return p, nil
}

func (p *privateServer) url() string { return p.server.URL() }

func (p *privateServer) close(ctx context.Context) error {
	return errors.Join(p.server.Stop(ctx), os.RemoveAll(p.folder))
}

// removeForsaken removes the folders of processes that died before they did. It is a courtesy:
// what cannot be removed hinders nobody.
func removeForsaken(ctx context.Context) {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*")) // fails only on an odd TMPDIR
	for _, folder := range folders {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), folderPrefix), "-")
		pid, err := strconv.Atoi(id)
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		// The data's lock has the last word: a process id says nothing across containers.
		if embedded.Remove(ctx, filepath.Join(folder, "data")) == nil {
			_ = os.RemoveAll(folder)
		}
	}
}
