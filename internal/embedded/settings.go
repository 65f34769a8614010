package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	settingsFile = "cyclonetix.conf"
	passwordFile = "cyclonetix.password"
	includeLine  = "include_if_exists = '" + settingsFile + "'"
)

// chosenSettings suit a server with one application and many small transactions, on a machine that
// it shares. What is not here is PostgreSQL's default; fsync and synchronous_commit are, so that
// nobody takes them for forgotten.
func chosenSettings(memory uint64) map[string]string {
	// An eighth of the memory: the machine has other work. More than 1 GB would make the
	// checkpoint of a shutdown long.
	buffers := min(max(memory>>20/8, 64), 1024)
	return map[string]string{
		"fsync":              "on",
		"synchronous_commit": "on",

		"shared_buffers":       fmt.Sprintf("%dMB", buffers),
		"effective_cache_size": fmt.Sprintf("%dMB", max(memory>>20/2, 128)),
		"work_mem":             "16MB",
		"maintenance_work_mem": "128MB",
		"random_page_cost":     "1.1",
		"jit":                  "off", // compiling takes longer than any statement here

		"max_connections":           "100",
		"max_locks_per_transaction": "256", // a lock for every partition and its indexes

		"max_wal_size":       "1GB",
		"checkpoint_timeout": "15min", // fewer full pages in the WAL

		"autovacuum_naptime": "15s", // queues leave dead rows fast

		"lc_messages":       "C", // errors are recognised by their English text
		"log_destination":   "stderr",
		"logging_collector": "off",
		"log_line_prefix":   "%m [%p] ",
		"cluster_name":      "cyclonetix",
	}
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// writeSettings writes the settings and the rules of access of the server on dir.
func writeSettings(dir string, a account, preloadStatements bool, o Options) error {
	settings := chosenSettings(machineMemory())
	if preloadStatements {
		settings["shared_preload_libraries"] = "pg_stat_statements"
	}
	maps.Copy(settings, o.Settings)

	var text bytes.Buffer
	text.WriteString("# Written by cyclonetix at every start. To change a setting, use ALTER SYSTEM: it wins.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !settingName.MatchString(name) {
			return fmt.Errorf("%q is not the name of a PostgreSQL setting", name)
		}
		fmt.Fprintf(&text, "%s = %s\n", name, quoteSetting(settings[name]))
	}
	if err := writeIn(dir, settingsFile, text.Bytes(), a); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}

	conf, err := readIn(dir, "postgresql.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read settings: %w", err)
	}
	if !bytes.Contains(conf, []byte(includeLine)) {
		conf = append(bytes.TrimRight(conf, "\n"), "\n\n"+includeLine+"\n"...)
		if err := writeIn(dir, "postgresql.conf", conf, a); err != nil {
			return fmt.Errorf("write settings: %w", err)
		}
	}

	rules := "# Written by cyclonetix at every start.\n" +
		"# The socket lies in a folder that only this server's user can enter.\n" +
		"local all all trust\n"
	if o.TCP {
		rules += "host all all 127.0.0.1/32 scram-sha-256\n"
	}
	if err := writeIn(dir, "pg_hba.conf", []byte(rules), a); err != nil {
		return fmt.Errorf("write rules of access: %w", err)
	}
	return nil
}

func quoteSetting(value string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(value) + "'"
}

// furnish makes in the server what its users expect: the database, the extension that counts
// statements, and for TCP a password. It returns the URL over TCP, if any. That it connects at all
// proves the URL.
func (s *Server) furnish(ctx context.Context, at address, a account, statements, tcp bool) (tcpURL string, err error) {
	err = onDatabase(ctx, at.url("postgres"), func(conn *pgx.Conn) error {
		var exists bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			if _, err := conn.Exec(ctx, "CREATE DATABASE "+database+" TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
				return fmt.Errorf("create database: %w", err)
			}
		}
		if !tcp {
			return nil
		}
		password, err := s.password(a)
		if err != nil {
			return err
		}
		tcpURL = at.tcpURL(database, password)
		// SET PASSWORD takes no parameters; the password is letters and digits.
		_, err = conn.Exec(ctx, "SET password_encryption = 'scram-sha-256'; ALTER ROLE "+superuser+" PASSWORD '"+password+"'")
		return err
	})
	if err == nil && statements {
		err = onDatabase(ctx, at.url(database), func(conn *pgx.Conn) error {
			var missing bool
			err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions
				WHERE name = 'pg_stat_statements' AND installed_version IS NULL)`).Scan(&missing)
			if err == nil && missing {
				_, err = conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
			}
			return err
		})
	}
	if err != nil {
		return "", explain(fmt.Errorf("prepare postgres on %s: %w", s.dataDirectory, err), s.dataDirectory, s.log.lines())
	}
	return tcpURL, nil
}

// password returns the server's password for TCP, which is made once and kept with the data.
func (s *Server) password(a account) (string, error) {
	switch text, err := readIn(s.dataDirectory, passwordFile); {
	case err == nil && passwordPattern.Match(text):
		return string(text), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read password: %w", err)
	}
	password := rand.Text()
	if err := writeIn(s.dataDirectory, passwordFile, []byte(password), a); err != nil {
		return "", fmt.Errorf("write password: %w", err)
	}
	return password, nil
}

var passwordPattern = regexp.MustCompile(`^[A-Z2-7]{20,}$`)

func onDatabase(ctx context.Context, url string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}
