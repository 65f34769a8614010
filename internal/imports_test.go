// Package internal_test holds what is true of all packages together.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/cyclonetix/cyclonetix"

// rule says what the files of a package must not import.
type rule struct {
	// in are packages, as paths in the module; "" means all.
	in []string
	// except are packages that the rule does not hold for.
	except []string
	// forbidden are import paths, with all below them. Those that begin with "./" are of this module.
	forbidden []string
	// tests tells that the rule holds for tests, too.
	tests  bool
	reason string
}

var rules = []rule{
	{
		in: []string{"internal/workflow"}, forbidden: []string{"./", "github.com", "golang.org", "go.yaml.in", "pgregory.net"},
		reason: "workflow is the heart: it knows the rules and nothing else, so it uses the standard library only",
	},
	{
		in: []string{"internal/workflow"}, forbidden: []string{"os", "net", "context", "log", "database/sql"},
		reason: "workflow decides and does nothing: no I/O",
	},
	{
		in: []string{"internal/engine"}, forbidden: []string{
			"./internal/spec", "./internal/postgres", "./internal/memory", "./internal/redis", "./internal/orchestrator", "./internal/agent",
			"./internal/api", "./internal/server", "./internal/client", "./internal/config", "./db", "./cmd",
		},
		reason: "engine is the seam: what stands on either side imports it, and it imports only workflow",
	},
	{
		in: []string{"internal/spec"}, forbidden: []string{
			"./internal/engine", "./internal/postgres", "./internal/memory", "./internal/redis", "./internal/orchestrator", "./internal/agent",
			"./internal/api", "./internal/server", "./internal/client", "./internal/config", "./db", "./cmd",
		},
		reason: "spec turns YAML into workflow's nouns; it knows no backend",
	},
	{
		in: []string{"internal/postgres", "internal/memory", "internal/redis"}, forbidden: []string{
			"./internal/orchestrator", "./internal/agent", "./internal/api", "./internal/server", "./internal/client", "./internal/config", "./cmd",
		},
		reason: "a backend implements engine; whoever uses it comes through engine",
	},
	{
		in: []string{"internal/postgres"}, forbidden: []string{"./internal/memory", "./internal/redis"},
		reason: "backends never import each other: what they share belongs to engine",
	},
	{
		in: []string{"internal/memory"}, forbidden: []string{"./internal/postgres", "./internal/redis", "./db"},
		reason: "backends never import each other: what they share belongs to engine",
	},
	{
		in: []string{"internal/orchestrator", "internal/agent"}, forbidden: []string{
			"./internal/postgres", "./internal/memory", "./internal/redis", "./db", "./internal/api", "./internal/server", "./internal/client",
			"./internal/config", "./cmd",
		},
		reason: "orchestrator and agent work on any backend, so they know engine and no implementation of it; configuration comes as options",
	},
	{
		in: []string{"internal/orchestrator"}, forbidden: []string{"./internal/agent"},
		reason: "orchestrator and agent meet in the backend only: they may be different processes",
	},
	{
		in: []string{"internal/agent"}, forbidden: []string{"./internal/orchestrator"},
		reason: "orchestrator and agent meet in the backend only: they may be different processes",
	},
	{
		in: []string{"internal/api", "internal/server", "internal/client"}, forbidden: []string{
			"./internal/postgres", "./internal/memory", "./internal/redis", "./db", "./internal/orchestrator", "./internal/agent", "./internal/config", "./cmd",
		},
		reason: "the API works on any backend, so it knows engine and no implementation of it; configuration comes as options",
	},
	{
		in: []string{"internal/client"}, forbidden: []string{"./internal/server", "./internal/engine", "./internal/spec"},
		reason: "the client knows the server only by its API",
	},
	{
		in: []string{"internal/api"}, forbidden: []string{"./internal/server", "./internal/client", "net/http/httptest"},
		reason: "api is what server and client have in common: they import it",
	},
	{
		in: []string{"internal/config", "internal/discovery", "internal/embedded", "internal/keeper", "internal/checkout", "internal/gitrepo"}, forbidden: []string{
			"./internal/orchestrator", "./internal/agent", "./internal/api", "./internal/server", "./internal/client", "./internal/postgres",
			"./internal/memory", "./internal/engine", "./db", "./cmd",
		},
		reason: "these are tools that know nothing of runs",
	},
	{
		// embedded uses the driver to set up the server that it has just started, bench measures bare River beside ours.
		in: []string{""}, except: []string{"internal/postgres", "internal/embedded", "internal/bench", "internal/pgtest", "db"},
		forbidden: []string{"github.com/jackc/pgx", "github.com/riverqueue", "github.com/golang-migrate", "./db", "database/sql"},
		reason:    "types of the database's drivers and of River stay in internal/postgres",
	},
	{
		in: []string{""}, except: []string{"internal/server"}, forbidden: []string{"github.com/labstack/echo", "html/template"},
		reason: "HTTP routing and pages are the server's own affair",
	},
	{
		in: []string{""}, except: []string{"cmd/cyclonetix"}, forbidden: []string{"github.com/spf13/cobra"},
		reason: "only the command line knows cobra",
	},
	{
		in: []string{""}, forbidden: []string{"./cmd"}, tests: true,
		reason: "imports go down only, and nothing is above the commands",
	},
}

// TestImports holds the packages to the order that the architecture gives them: imports go down only.
func TestImports(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		files++
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		imports, err := importsOf(path)
		if err != nil {
			return err
		}
		for _, imported := range imports {
			for i := range rules {
				if rules[i].breaks(filepath.ToSlash(relative), imported) {
					t.Errorf("%s imports %s, but %s", relative, imported, rules[i].reason)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("there is nothing to check")
	}
}

// TestRules makes sure that a broken rule would be noticed.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		file, imported string
		broken         bool
	}{
		{"internal/workflow/run.go", "fmt", false},
		{"internal/workflow/run.go", "os", true},
		{"internal/workflow/run.go", module + "/internal/engine", true},
		{"internal/workflow/run_test.go", "os", false},
		{"internal/memory/backend.go", module + "/internal/postgres", true},
		{"internal/memory/backend.go", module + "/internal/engine", false},
		{"internal/server/page.go", module + "/db", true},
		{"internal/server/page.go", "github.com/labstack/echo/v4", false},
		{"cmd/cyclonetix/main.go", "github.com/jackc/pgx/v5", true},
		{"internal/postgres/backend.go", "github.com/jackc/pgx/v5/pgxpool", false},
		{"internal/engine/run_test.go", module + "/cmd/cyclonetix", true},
	} {
		broken := slices.ContainsFunc(rules, func(r rule) bool { return r.breaks(test.file, test.imported) })
		if broken != test.broken {
			t.Errorf("%s imports %s: broken is %t", test.file, test.imported, broken)
		}
	}
}

func (r *rule) breaks(file, imported string) bool {
	if strings.HasSuffix(file, "_test.go") && !r.tests {
		return false
	}
	inside := func(path string) bool {
		return path == "" || strings.HasPrefix(file, path+"/")
	}
	if !slices.ContainsFunc(r.in, inside) || slices.ContainsFunc(r.except, inside) {
		return false
	}
	return slices.ContainsFunc(r.forbidden, func(path string) bool {
		if local, ok := strings.CutPrefix(path, "./"); ok {
			path = strings.TrimSuffix(module+"/"+local, "/")
		}
		return imported == path || strings.HasPrefix(imported, path+"/")
	})
}

func importsOf(path string) ([]string, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var imports []string
	for _, one := range parsed.Imports {
		imported, err := strconv.Unquote(one.Path.Value)
		if err != nil {
			return nil, err
		}
		imports = append(imports, imported)
	}
	return imports, nil
}
