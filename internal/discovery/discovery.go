// Package discovery lets commands find the server that runs on this machine.
//
// A server writes a small file for its cluster and process, which only its user can read, since the
// backend's URL in it may hold a password. Commands of the same user look for the newest file of
// their cluster whose process lives. A server that was killed leaves its file; nobody believes it,
// and the next server removes it.
package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoServer is the error when no server of the cluster runs here, as far as this user can see.
var ErrNoServer = errors.New("no running server found")

// Info tells about a running server.
type Info struct {
	URL        string    `json:"url"`         // of its API, such as http://127.0.0.1:3000
	Backend    string    `json:"backend"`     // postgresql, redis or memory
	BackendURL string    `json:"backend_url"` // may hold a password; empty with memory
	ClusterID  string    `json:"cluster_id"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Version    string    `json:"version"` // of the program

	// Process tells apart processes that had the same id one after the other. Write sets it.
	Process string `json:"process"`
}

// clusterPattern keeps a cluster id from leading out of the folder, or into another's names.
var clusterPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// Write tells that this process serves info.ClusterID. PID, Process and, when it is zero, Started
// are filled in. The file goes with remove, which can be called more than once.
func Write(info Info) (remove func(), err error) {
	if !clusterPattern.MatchString(info.ClusterID) {
		return nil, fmt.Errorf("tell where the server is: bad cluster id %q", info.ClusterID)
	}
	info.PID = os.Getpid()
	if info.Process, err = processIdentity(info.PID); err != nil {
		return nil, fmt.Errorf("tell where the server is: %w", err)
	}
	if info.Started.IsZero() {
		info.Started = time.Now().UTC()
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("tell where the server is: %w", err)
	}
	var firstErr error
	for _, dir := range folders() {
		path := filepath.Join(dir, fileName(info.ClusterID, info.PID))
		err := makePrivate(dir)
		if err == nil {
			removeDead(dir)
			err = writeFile(path, append(text, '\n'))
		}
		if err == nil {
			return func() { _ = os.Remove(path) }, nil // gone already: fine
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return nil, fmt.Errorf("tell where the server is: %w", firstErr)
}

// Find returns the server of the cluster that runs here; of several, the one started last. The
// error is ErrNoServer when there is none.
func Find(clusterID string) (Info, error) {
	var newest Info
	found := false
	for _, dir := range folders() {
		if !isPrivate(dir) {
			continue
		}
		for _, info := range read(dir) {
			if info.ClusterID == clusterID && alive(info) && (!found || info.Started.After(newest.Started)) {
				newest, found = info, true
			}
		}
	}
	if !found {
		if others := Clusters(); len(others) > 0 {
			return Info{}, &OtherClusterError{Wanted: clusterID, Found: others}
		}
		return Info{}, fmt.Errorf("%w for cluster %q: start one with \"cyclonetix serve\", or say where it is with --server URL", ErrNoServer, clusterID)
	}
	return newest, nil
}

// mostNamed is how many servers of other clusters an error names.
const mostNamed = 3

// OtherClusterError tells that there are servers of other clusters only. It is an ErrNoServer.
type OtherClusterError struct {
	Wanted string
	Found  []Info // one of each cluster, at least one in all
}

func (e *OtherClusterError) Error() string {
	var names []string
	for i := range e.Found {
		if len(names) == mostNamed {
			names = append(names, "others")
			break
		}
		name := strconv.Quote(e.Found[i].ClusterID)
		if e.Found[i].URL != "" {
			name += " at " + e.Found[i].URL
		}
		names = append(names, name)
	}
	return fmt.Sprintf("no server of cluster %q runs on this machine, but one of %s", e.Wanted, strings.Join(names, ", one of "))
}

// Is tells that this is an ErrNoServer.
func (e *OtherClusterError) Is(target error) bool { return target == ErrNoServer }

// Clusters gives the servers that run here, of each cluster that which was started last, by the clusters' ids.
func Clusters() []Info {
	newest := make(map[string]Info)
	for _, dir := range folders() {
		if !isPrivate(dir) {
			continue
		}
		for _, info := range read(dir) {
			if known, ok := newest[info.ClusterID]; alive(info) && (!ok || info.Started.After(known.Started)) {
				newest[info.ClusterID] = info
			}
		}
	}
	return slices.SortedFunc(maps.Values(newest), func(a, b Info) int { return strings.Compare(a.ClusterID, b.ClusterID) })
}

func fileName(clusterID string, pid int) string {
	return "server." + clusterID + "." + strconv.Itoa(pid) + ".json"
}

// folders are the places for the files of this user, the best first. A server and a command need
// not have the same environment (one may come from cron, the other from a desktop), so all are
// searched.
func folders() []string {
	uid := os.Geteuid()
	var dirs []string
	add := func(dir string) {
		if slices.Contains(dirs, dir) {
			return
		}
		dirs = append(dirs, dir)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) && uid != 0 {
		add(filepath.Join(dir, "cyclonetix"))
	}
	if uid == 0 {
		add(filepath.Join(systemFolder, "cyclonetix"))
	} else if parent := filepath.Join(systemFolder, "user", strconv.Itoa(uid)); isPrivate(parent) {
		add(filepath.Join(parent, "cyclonetix"))
	}
	for _, temporary := range []string{os.TempDir(), "/tmp"} {
		add(filepath.Join(temporary, "cyclonetix-"+strconv.Itoa(uid)))
	}
	return dirs
}

// systemFolder is where the system keeps what does not outlive a boot; a variable for tests.
var systemFolder = "/run"

// makePrivate makes the folder, or takes one that nobody else may write. Where everybody may make
// files, anybody could have made it first.
func makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if !isPrivate(dir) {
		return fmt.Errorf("%s is not a folder of this user alone: remove it", dir)
	}
	return nil
}

// isPrivate says whether dir is a folder of this user that nobody else may write.
func isPrivate(dir string) bool {
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir() && ownedByMe(info) && info.Mode().Perm()&0o022 == 0
}

// read returns what the files of a folder tell. A file that tells nothing is passed over.
func read(dir string) []Info {
	paths, _ := filepath.Glob(filepath.Join(dir, "server.*.json")) // fails only on an odd folder name
	var infos []Info
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var info Info
		if json.Unmarshal(text, &info) == nil && filepath.Base(path) == fileName(info.ClusterID, info.PID) {
			infos = append(infos, info)
		}
	}
	return infos
}

func removeDead(dir string) {
	for _, info := range read(dir) {
		if !alive(info) {
			_ = os.Remove(filepath.Join(dir, fileName(info.ClusterID, info.PID))) // nobody believes it anyway
		}
	}
}

// alive says whether the process that wrote info still runs.
func alive(info Info) bool {
	identity, err := processIdentity(info.PID)
	return err == nil && identity == info.Process
}

// writeFile writes a file for this user alone, in one step.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".server-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err = f.Write(text)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
