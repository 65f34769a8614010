package embedded

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// address is where the server listens.
type address struct {
	folder string // of the socket
	port   int    // part of the socket's name, and the TCP port
	tcp    bool
}

// socketPort is the port of a server that only listens on its socket, which is named by it.
const socketPort = 5432

// longestSocket is the longest path of a socket: 107 bytes on Linux, 103 on macOS.
const longestSocket = len(unix.RawSockaddrUnix{}.Path) - 1

func chooseSocket(dir string, a account, tcp bool) (address, error) {
	at := address{folder: dir, port: socketPort, tcp: tcp}
	if tcp {
		port, err := freePort()
		if err != nil {
			return at, err
		}
		at.port = port
	}
	// The data directory is a fine place: it is closed to others, and lives as long as the server.
	// But the path has to be short, and clients take a comma for the start of another host.
	if len(at.socket()) > longestSocket || strings.Contains(dir, ",") {
		folder, err := shortFolder(dir, a)
		if err != nil {
			return at, err
		}
		at.folder = folder
	}
	if err := removeSockets(at.folder); err != nil {
		return at, err
	}
	return at, nil
}

func (at address) socket() string {
	return filepath.Join(at.folder, ".s.PGSQL."+strconv.Itoa(at.port))
}

// shortFolder makes a folder with a short path for the socket of the server on dir: always the
// same one, closed to others.
func shortFolder(dir string, a account) (string, error) {
	hash := fnv.New64a()
	hash.Write([]byte(dir)) // never fails
	name := fmt.Sprintf("cyclonetix-%d-%x", a.uid, hash.Sum64())
	var firstErr error
	for _, base := range runtimeFolders(a) {
		folder := filepath.Join(base, name)
		if len(folder)+len("/.s.PGSQL.65535") > longestSocket {
			continue
		}
		err := makePrivate(folder, a)
		if err == nil {
			return folder, nil
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	if firstErr == nil {
		firstErr = errors.New("every folder for temporary files has too long a path")
	}
	return "", fmt.Errorf("make a folder for the socket of %s: %w", dir, firstErr)
}

// runtimeFolders are places for sockets. Those of root must be passable for another user.
func runtimeFolders(a account) []string {
	var folders []string
	if a.drop {
		folders = append(folders, "/run")
	} else if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		folders = append(folders, dir)
	}
	return append(folders, os.TempDir(), "/tmp")
}

// makePrivate makes a folder for the account alone, or takes one that is just that. In a place
// where everybody may write, anybody could have made it first: that one is refused.
func makePrivate(folder string, a account) error {
	err := os.Mkdir(folder, 0o700)
	if err == nil {
		return a.give(folder)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	if st := info.Sys().(*syscall.Stat_t); !info.IsDir() || st.Uid != a.uid || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s is not a private folder of user %s: remove it", folder, a.name)
	}
	return nil
}

// removeSockets removes what a killed server left. Its lock file would otherwise stop the next one
// when another process got the id that it names.
func removeSockets(folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("remove old sockets: %w", err)
	}
	defer root.Close()
	names, err := fs.Glob(root.FS(), ".s.PGSQL.*")
	if err != nil {
		return fmt.Errorf("remove old sockets: %w", err)
	}
	for _, name := range names {
		if err := root.Remove(name); err != nil {
			return fmt.Errorf("remove old socket: %w", err)
		}
	}
	return nil
}

// freePort returns a TCP port that is free just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port for PostgreSQL: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// arguments are those of the postgres program. What decides where it listens is here and not in a
// file, so that no setting of the user's can hide the server from us.
func (at address) arguments(dir string) []string {
	listen := ""
	if at.tcp {
		listen = "127.0.0.1"
	}
	return []string{
		"-D", dir,
		"-c", "port=" + strconv.Itoa(at.port),
		"-c", "listen_addresses=" + listen,
		"-c", `unix_socket_directories="` + strings.ReplaceAll(at.folder, `"`, `""`) + `"`,
		"-c", "unix_socket_permissions=0700",
	}
}

// url is the URL of a database over the socket.
func (at address) url(database string) string {
	// libpq reads a + as itself, so spaces are written as %20; slashes stay, for the reader.
	host := strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(at.folder))
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%d", superuser, database, host, at.port)
}

// tcpURL is the URL of a database over loopback.
func (at address) tcpURL(database, password string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(at.port)), Path: "/" + database,
	}
	return u.String()
}
