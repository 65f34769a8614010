// Command write brings the tables of the workflow reference up to date.
package main

import (
	"fmt"
	"os"

	"github.com/cyclonetix/cyclonetix/docs/reference"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: write PAGE SCHEMAS")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func write(page, schemas string) error {
	text, err := os.ReadFile(page) //nolint:gosec // whoever calls it says which
	if err != nil {
		return err
	}
	updated, err := reference.Update(text, os.DirFS(schemas))
	if err != nil {
		return err
	}
	return os.WriteFile(page, updated, 0o644) //nolint:gosec // everybody may read it
}
