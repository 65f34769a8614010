package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// prefix begins the name of every database that this package makes. The process's token follows.
const prefix = "cyclo_test_"

// lockClass is the class of the advisory locks that tell that a process lives.
const lockClass = 0x6379636c // "cycl"

// server is a PostgreSQL server in use by this process.
type server struct {
	base    string // the URL of the database to work from
	token   string // of this process, eight hexadecimal digits
	private *privateServer

	// mu keeps administration to one statement at a time: conn is one connection, and a template
	// may have no users while it is cloned.
	mu        sync.Mutex
	conn      *pgx.Conn // holds the lock of the token
	serial    int
	templates map[string]*template
}

// template is a database to clone, or the error of its making.
type template struct {
	database string
	err      error
}

// newServer connects to the server at url, or starts a private one when url is empty.
func newServer(ctx context.Context, url string) (_ *server, err error) {
	s := &server{base: url, templates: map[string]*template{}}
	if url == "" {
		if s.private, err = startPrivate(ctx); err != nil {
			return nil, err
		}
		s.base = s.private.url()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	var token [4]byte
	_, _ = rand.Read(token[:]) // never fails
	s.token = hex.EncodeToString(token[:])
	if s.conn, err = pgx.Connect(ctx, s.base); err != nil {
		return nil, fmt.Errorf("connect to the server for tests: %w", err)
	}
	if _, err := s.conn.Exec(ctx, "SELECT pg_advisory_lock($1, $2)", lockClass, lockKey(s.token)); err != nil {
		return nil, fmt.Errorf("lock the token of this process: %w", err)
	}
	if err := s.removeAbandoned(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// lockKey is the key of the advisory lock that a living process with this token holds; 0 for what
// is no token.
func lockKey(token string) int32 {
	bytes, err := hex.DecodeString(token)
	if err != nil || len(bytes) != 4 {
		return 0
	}
	return int32(binary.BigEndian.Uint32(bytes)) //nolint:gosec // a key may be negative
}

// removeAbandoned drops the databases of processes that live no more: nobody holds their lock.
func (s *server) removeAbandoned(ctx context.Context) error {
	rows, err := s.conn.Query(ctx, "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", prefix)
	if err != nil {
		return fmt.Errorf("list old databases of tests: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list old databases of tests: %w", err)
	}
	for _, name := range names {
		token, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "_")
		key := lockKey(token)
		if key == 0 || token == s.token {
			continue
		}
		var free bool
		if err := s.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", lockClass, key).Scan(&free); err != nil {
			return fmt.Errorf("look for the owner of database %s: %w", name, err)
		}
		if !free {
			continue
		}
		if err := s.dropNow(ctx, name); err != nil {
			return err
		}
		if _, err := s.conn.Exec(ctx, "SELECT pg_advisory_unlock($1, $2)", lockClass, key); err != nil {
			return fmt.Errorf("unlock database %s: %w", name, err)
		}
	}
	return nil
}

// create makes a database from the template of that name and returns its name.
func (s *server) create(ctx context.Context, templateName string, fill func(url string) error) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	source := "template0"
	if fill != nil {
		t, ok := s.templates[templateName]
		if !ok {
			t = &template{}
			t.database, t.err = s.makeTemplate(ctx, fill)
			s.templates[templateName] = t
		}
		if t.err != nil {
			return "", fmt.Errorf("make template %s: %w", templateName, t.err)
		}
		source = t.database
	}
	return s.clone(ctx, source)
}

func (s *server) makeTemplate(ctx context.Context, fill func(url string) error) (string, error) {
	name, err := s.clone(ctx, "template0")
	if err != nil {
		return "", err
	}
	url, err := s.url(name)
	if err != nil {
		return "", err
	}
	if err := fill(url); err != nil {
		return "", err
	}
	// A backend outlives its connection by a moment, and a template with users cannot be cloned.
	for _, sql := range []string{
		"ALTER DATABASE " + name + " ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '" + name + "'",
	} {
		if _, err := s.conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("close template: %w", err)
		}
	}
	return name, nil
}

func (s *server) clone(ctx context.Context, source string) (string, error) {
	s.serial++
	name := fmt.Sprintf("%s%s_%d", prefix, s.token, s.serial)
	if _, err := s.conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+source); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return name, nil
}

// drop removes a database, whoever is connected to it.
func (s *server) drop(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropNow(ctx, name)
}

func (s *server) dropNow(ctx context.Context, name string) error {
	if _, err := s.conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// url is the URL of another database of the server.
func (s *server) url(database string) (string, error) {
	u, err := url.Parse(s.base)
	if err != nil || u.Scheme == "" {
		return "", errors.New("CYCLO_TEST_DATABASE_URL is no URL of the form postgres://USER:PASSWORD@HOST/DATABASE")
	}
	u.Path = "/" + database
	return u.String(), nil
}

// close drops the templates and ends a private server.
func (s *server) close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.conn != nil {
		for _, t := range s.templates {
			if s.private == nil && t.database != "" {
				err = errors.Join(err, s.dropNow(ctx, t.database))
			}
		}
		err = errors.Join(err, s.conn.Close(ctx))
	}
	if s.private != nil {
		err = errors.Join(err, s.private.close(ctx))
	}
	return err
}
