// Package migrations holds the schema of the Postgres backend as golang-migrate
// files. A migration that has landed is never changed.
package migrations

import (
	"embed"
	"io/fs"
	"strconv"
	"strings"
)

// Files are the migrations: NNNN_name.up.sql and NNNN_name.down.sql.
//
//go:embed *.sql
var Files embed.FS

// Newest is the number of the newest migration.
func Newest() int {
	names, _ := fs.Glob(Files, "*.up.sql") // the pattern is good
	newest := 0
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		if version, err := strconv.Atoi(number); err == nil {
			newest = max(newest, version)
		}
	}
	return newest
}
