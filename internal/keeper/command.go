package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Command is what Run starts: either Args or Script.
//
// Its standard input is /dev/null, no other descriptor but its output is open,
// and it leads a new process group.
type Command struct {
	// Args is the program and its arguments. A program without a slash is
	// looked up in the PATH of Env; a relative path counts from Dir.
	Args []string

	// Script is a text for /bin/sh -c, of any length: a long one, which the
	// kernel would refuse as an argument, is read by the shell from a file
	// that has no name.
	Script string

	// Env is the whole environment, as KEY=VALUE; nothing is inherited.
	Env []string

	// Dir is the working directory; empty means that of the agent when its
	// keeper started, from where a relative one counts too.
	Dir string
}

const (
	shell = "/bin/sh"

	// maxScriptArg is the longest script passed as an argument, in bytes.
	maxScriptArg = 100 << 10

	// scriptFD is where the shell finds a longer one. The first thing that the
	// script does is to close it, so that no command inherits it. (The shell
	// reads on from a descriptor of its own.)
	scriptFD     = 3
	scriptPath   = "/dev/fd/3"
	scriptPrefix = "exec 3<&-; "
)

// defaultPath is where a program is looked up if Env has no PATH.
const defaultPath = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

// name is the command in messages.
func (c *Command) name() string {
	if len(c.Args) > 0 {
		return c.Args[0]
	}
	return shell
}

// encoded is a request ready to be sent, but for its id.
type encoded struct {
	message []byte
	flags   int
	argc    int
	envc    int
	size    int
	rights  []*os.File // the script, the body
}

func (e *encoded) close() {
	for _, f := range e.rights {
		f.Close()
	}
}

// encode checks a command and writes its request, with room for the header.
func (c *Command) encode(buf []byte) (encoded, error) {
	var e encoded
	args := c.Args
	if (len(args) == 0) == (c.Script == "") {
		return e, errors.New("a command needs either arguments or a script")
	}
	if c.Script != "" {
		if i := strings.IndexByte(c.Script, 0); i >= 0 {
			return e, fmt.Errorf("the script has a NUL at byte %d: remove it", i)
		}
		text := c.Script
		if len(text) > maxScriptArg {
			f, err := scriptFile(text)
			if err != nil {
				return e, fmt.Errorf("keep a script of %d bytes: %w", len(text), err)
			}
			e.rights = append(e.rights, f)
			e.flags |= hasScript
			text = ". " + scriptPath
		} else if text[0] == '-' || text[0] == '+' {
			text = " " + text // not an option of the shell
		}
		args = []string{shell, "-c", text}
	}
	if err := c.check(args); err != nil {
		e.close()
		return e, err
	}
	path, err := findProgram(args[0], c.Env)
	if err != nil {
		e.close()
		return e, err
	}

	b := append(buf[:0], make([]byte, requestHeader)...) //nolint:gocritic // the message is put together in the buffer that is lent
	b = append(append(b, c.Dir...), 0)
	b = append(append(b, path...), 0)
	for _, s := range args {
		b = append(append(b, s...), 0)
	}
	for _, s := range c.Env {
		b = append(append(b, s...), 0)
	}
	e.message, e.argc, e.envc, e.size = b, len(args), len(c.Env), len(b)-requestHeader
	if e.size > maxInline {
		f, err := fileWith(b[requestHeader:])
		if err != nil {
			e.close()
			return e, fmt.Errorf("keep arguments and environment of %d bytes: %w", e.size, err)
		}
		e.rights = append(e.rights, f)
		e.flags |= hasBody
		e.message = b[:requestHeader]
	}
	return e, nil
}

// check refuses what no process can be given.
func (c *Command) check(args []string) error {
	if strings.IndexByte(c.Dir, 0) >= 0 {
		return fmt.Errorf("the directory %q has a NUL: remove it", c.Dir)
	}
	for i, s := range args {
		if strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("argument %d has a NUL: remove it", i)
		}
		if maxStringBytes > 0 && len(s) >= maxStringBytes {
			return fmt.Errorf("argument %d has %d bytes, one can have at most %d: pass it in a file: %w", i, len(s), maxStringBytes-1, syscall.E2BIG)
		}
	}
	for _, s := range c.Env {
		key, _, _ := strings.Cut(s, "=")
		if strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("environment variable %q has a NUL: remove it", key)
		}
		if maxStringBytes > 0 && len(s) >= maxStringBytes {
			return fmt.Errorf("environment variable %q has %d bytes with its name, one can have at most %d: pass it in a file: %w", key, len(s), maxStringBytes-1, syscall.E2BIG)
		}
	}
	return nil
}

// findProgram does what exec.LookPath does, with the PATH that the command
// will have. Relative elements are skipped: they would make what runs depend
// on the working directory.
func findProgram(name string, env []string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	path := defaultPath
	for _, s := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(s, "PATH="); ok {
			path = v
			break
		}
	}
	var denied error
	for dir := range strings.SplitSeq(path, ":") {
		if !filepath.IsAbs(dir) || name == "" {
			continue
		}
		file := dir + "/" + name
		var st syscall.Stat_t
		if syscall.Stat(file, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
			continue
		}
		if st.Mode&0o111 != 0 && syscall.Access(file, 1) == nil {
			return file, nil
		}
		denied = fs.ErrPermission
	}
	if denied != nil {
		return "", fmt.Errorf("start %q: found in PATH (%s), but not executable: %w", name, path, denied)
	}
	return "", fmt.Errorf("start %q: no such program in PATH (%s): %w", name, path, exec.ErrNotFound)
}

// startError says what the keeper could not do.
func (c *Command) startError(r report, e *encoded) error {
	errno := syscall.Errno(r.status)
	switch {
	case r.stage == stageDir:
		return fmt.Errorf("start %q: directory %q: %w", c.name(), c.Dir, errno)
	case r.stage == stageExec && errno == syscall.ENOENT:
		return fmt.Errorf("start %q: no such program, or the interpreter in its first line is missing: %w", c.name(), errno)
	case r.stage == stageExec && errno == syscall.E2BIG:
		return fmt.Errorf("start %q: arguments and environment have %d bytes, more than the system takes; pass large values in files: %w", c.name(), e.size, errno)
	case r.stage == stageExec && errno == syscall.ENOEXEC:
		return fmt.Errorf("start %q: neither a program of this machine nor a script that begins with #!: %w", c.name(), errno)
	case errno == syscall.EAGAIN:
		return fmt.Errorf("start %q: the limit of processes is reached (ulimit -u, pids.max): %w", c.name(), errno)
	default:
		return fmt.Errorf("start %q: %w", c.name(), errno)
	}
}

func scriptFile(text string) (*os.File, error) {
	b := make([]byte, 0, len(scriptPrefix)+len(text)+1)
	b = append(b, scriptPrefix...)
	b = append(b, text...)
	if !bytes.HasSuffix(b, []byte("\n")) {
		b = append(b, '\n')
	}
	return fileWith(b)
}

// fileWith returns a file without a name that holds b, at its beginning.
func fileWith(b []byte) (*os.File, error) {
	f, err := memoryFile()
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func unlinkedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "cyclonetix-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
