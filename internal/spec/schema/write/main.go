// Command write puts the schemas of all kinds of definitions into a directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/spec/schema"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: write DIRECTORY")
		os.Exit(2)
	}
	for _, kind := range spec.Kinds {
		if err := os.WriteFile(filepath.Join(os.Args[1], schema.Name(kind)), schema.Of(kind), 0o644); err != nil { //nolint:gosec // everybody may read them
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
	}
}
