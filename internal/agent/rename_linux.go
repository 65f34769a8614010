package agent

import "golang.org/x/sys/unix"

// renameNew renames a folder to a name that must be free. Error: fs.ErrExist.
func renameNew(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}
