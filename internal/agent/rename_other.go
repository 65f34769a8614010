//go:build !linux

package agent

import (
	"io/fs"
	"os"
)

// renameNew renames a folder to a name that must be free. Error: fs.ErrExist. Between the look and the rename somebody
// may make the name; only an empty folder can be replaced then, and whoever made it finds this one instead.
func renameNew(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}
