// Package embedded runs a private PostgreSQL server from the binaries on the machine, for whoever
// has no database at hand yet.
//
// The server is a child of this process and ends with it, also when this process is killed. It
// listens on a Unix socket in a folder that only its own user (and root) can enter, which is why
// local connections need no password. PostgreSQL refuses to run as root: started by root it runs
// as the user that owns the data, or as postgres, or as nobody.
//
// The life of a data directory:
//
//	lock DIR.lock ─► stop what an earlier life left ─► initdb into a sibling, rename ─► run ─► stop
//	   │ held by another: ErrInUse                        (only when there is no data yet)
//
// The lock goes with the process that holds it, so a killed one blocks nobody. Whoever holds the
// lock owns everything that still runs on the directory.
package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// superuser is the role that everybody who can reach the socket is. It is not called like the
	// schema of Cyclonetix, since a search path of "$user" would then prefer that schema.
	superuser = "postgres"
	database  = "cyclonetix"

	fastStop      = time.Second     // for a shutdown with a checkpoint
	immediateStop = 5 * time.Second // for one without; PostgreSQL kills its own children after 5 s
)

// Options say where and how the server runs.
type Options struct {
	// DataDirectory holds the data; empty means DefaultDataDirectory. It is made when it is
	// missing. Its parent takes the lock file and, for a moment, the new data.
	DataDirectory string
	// LogWriter gets what PostgreSQL logs, from one goroutine. Nil drops it; the last lines are
	// kept for error texts in any case.
	LogWriter io.Writer
	// Settings are PostgreSQL settings by name. They win over the ones that this package chooses
	// and lose against ALTER SYSTEM.
	Settings map[string]string
	// TCP makes the server listen on a free port of 127.0.0.1 too, with a password: see
	// Server.TCPURL.
	TCP bool

	searchIn []string // for tests: the only folders to look for binaries in
}

// Server is a running PostgreSQL server.
type Server struct {
	dataDirectory string
	binaries      Binaries
	url, tcpURL   string

	process *process
	log     *tail
	done    chan struct{}

	stopOnce sync.Once
	stopped  chan struct{} // closed when Stop was asked for
	err      error         // set before done is closed
}

// Start starts the server, making its data first where there is none, and returns when it takes
// connections. The context bounds the start alone: a server once started runs until Stop, or until
// this process ends.
//
// Errors to look for: ErrNoBinaries, ErrInUse, ErrOtherVersion, ErrDiskFull. All texts say what to
// do.
func Start(ctx context.Context, o Options) (*Server, error) {
	dir, err := chosenDirectory(o.DataDirectory)
	if err != nil {
		return nil, err
	}
	account, err := accountFor(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = prepareParent(dir, account); err != nil {
		return nil, err
	}
	lock, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	server, err := startLocked(ctx, dir, account, lock, o)
	if err != nil {
		lock.release()
		return nil, err
	}
	return server, nil
}

// startLocked does the part of Start that needs the lock. The server that it returns releases the
// lock at its end.
func startLocked(ctx context.Context, dir string, account account, lock *lock, o Options) (*Server, error) {
	removeUnfinished(ctx, dir)
	data, err := inspect(dir, account)
	if err != nil {
		return nil, err
	}
	folders := o.searchIn
	if folders == nil {
		folders = usualFolders(ctx)
	}
	binaries, err := chooseBinaries(ctx, dir, data.major, account, folders)
	if err != nil {
		return nil, err
	}
	if err := account.mustReach(ctx, filepath.Dir(dir), binaries); err != nil {
		return nil, err
	}
	if data.major == 0 {
		if err := initialise(ctx, dir, account, binaries, o.Settings["fsync"] != "off"); err != nil {
			return nil, err
		}
	} else if err := clearLeftovers(ctx, dir); err != nil {
		return nil, err
	}

	at, err := chooseSocket(dir, account, o.TCP)
	if err != nil {
		return nil, err
	}
	preload := binaries.hasLibrary(ctx, "pg_stat_statements")
	if err := writeSettings(dir, account, preload, o); err != nil {
		return nil, explain(err, dir, nil)
	}

	log := &tail{next: o.LogWriter}
	cmd := account.command(binaries.Path("postgres"), at.arguments(dir)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Second // a child of a killed postmaster may hold the pipe for a while
	p, err := startProcess(cmd, syscall.SIGINT)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	s := &Server{
		dataDirectory: dir, binaries: binaries, url: at.url(database),
		process: p, log: log, done: make(chan struct{}), stopped: make(chan struct{}),
	}
	go s.watch(lock)

	if err = s.waitReady(ctx); err == nil {
		s.tcpURL, err = s.furnish(ctx, at, account, preload, o.TCP)
	}
	if err != nil {
		select {
		case <-s.done: // it ended by itself: its log says why
			err = s.err
		default:
			s.shutDown()
		}
		return nil, err
	}
	return s, nil
}

// URL is where to connect, in the form that libpq and pgx take: a superuser's URL over the socket,
// to a database that exists. It stays the same over restarts unless TCP is on.
func (s *Server) URL() string { return s.url }

// TCPURL is the URL over loopback TCP, with its password; empty unless Options.TCP was set.
func (s *Server) TCPURL() string { return s.tcpURL }

// DataDirectory is the absolute path of the data.
func (s *Server) DataDirectory() string { return s.dataDirectory }

// Version is the server's version, such as "17.2".
func (s *Server) Version() string { return s.binaries.Version }

// Done is closed when the server has ended, for whatever reason, and its data directory is free.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why the server ended without Stop, with the last words of its log. It is nil before
// Done is closed, and after Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop ends the server and waits until it is gone. It asks for a fast shutdown; when that takes
// over a second, or until ctx ends, it goes on with an immediate one, from which the next start
// recovers without loss. Stopping twice, or what has ended, is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { close(s.stopped) })
	ctx, cancel := context.WithTimeout(ctx, fastStop)
	defer cancel()
	for _, step := range []struct {
		signal syscall.Signal
		until  <-chan struct{}
	}{
		{syscall.SIGINT, ctx.Done()},
		{syscall.SIGQUIT, after(immediateStop)},
		{syscall.SIGKILL, after(immediateStop)},
	} {
		s.process.signal(step.signal)
		select {
		case <-s.done:
			return nil
		case <-step.until:
		}
	}
	return fmt.Errorf("stop postgres: process %d does not end", s.process.pid)
}

// shutDown stops a server whose start went wrong.
func (s *Server) shutDown() {
	ctx, cancel := context.WithTimeout(context.Background(), fastStop)
	defer cancel()
	_ = s.Stop(ctx) // the error of the start is the one to report
}

// watch waits for the end of the process, then frees the data directory.
func (s *Server) watch(lock *lock) {
	<-s.process.exited
	select {
	case <-s.stopped:
	default:
		err := fmt.Errorf("postgres ended by itself (%s)", s.process.state())
		s.err = explain(err, s.dataDirectory, s.log.lines())
	}
	lock.release()
	close(s.done)
}

// waitReady returns when the server takes connections: it says so in its pid file.
func (s *Server) waitReady(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if f, err := readPidFile(s.dataDirectory); err == nil && f.pid == s.process.pid && f.ready {
			return nil
		}
		select {
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return fmt.Errorf("wait for postgres on %s: %w", s.dataDirectory, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Remove stops what still runs on a data directory and deletes the directory with its lock file.
// The error is ErrInUse when another process holds it.
func Remove(ctx context.Context, dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("remove data directory: %w", err)
	}
	lock, err := acquire(dir)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := clearLeftovers(ctx, dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove data directory: %w", err)
	}
	return os.Remove(lock.path())
}

// after is time.After as a channel that closes.
func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}
