package reference_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/docs/reference"
)

const (
	page    = "../workflow-reference.md"
	schemas = "../../schemas"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPageIsCurrent(t *testing.T) {
	t.Parallel()
	there := read(t, page)
	updated, err := reference.Update([]byte(there), os.DirFS(schemas))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(there, string(updated)); diff != "" {
		t.Errorf("%s is not current: run go generate ./docs/reference (-page +schemas):\n%s", filepath.Base(page), diff)
	}
}

// TestEveryKindHasATable also asks for one of each map with fields.
func TestEveryKindHasATable(t *testing.T) {
	t.Parallel()
	text := read(t, page)
	files, err := filepath.Glob(filepath.Join(schemas, "*.schema.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("find the schemas: %v, %v", files, err)
	}
	for _, file := range files {
		kind := strings.TrimSuffix(filepath.Base(file), ".schema.json")
		var schema struct {
			Defs map[string]struct {
				Properties map[string]json.RawMessage `json:"properties"`
			} `json:"$defs"`
		}
		if err := json.Unmarshal([]byte(read(t, file)), &schema); err != nil {
			t.Fatal(err)
		}
		wanted := []string{kind}
		for name, form := range schema.Defs[kind].Properties {
			if strings.Contains(string(form), `"properties"`) && kind+"."+name != "dag.tasks" { // a task's own
				wanted = append(wanted, kind+"."+name)
			}
		}
		for _, one := range wanted {
			if !strings.Contains(text, "<!-- fields of "+one+" -->\n") {
				t.Errorf("the page has no table of %s", one)
			}
		}
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"thing.schema.json": {Data: []byte(`{"$defs": {"thing": {
		"type": "object", "required": ["id"], "additionalProperties": false, "properties": {
			"count": {"type": ["integer", "null"], "minimum": 1, "maximum": 10000, "default": 2, "description": "How many."},
			"id":    {"type": ["string", "number", "boolean"], "pattern": "^[A-Za-z0-9_.-]{1,200}$", "description": "a|b"},
			"mode":  {"enum": ["on", "off", null], "default": "on", "description": "How."},
			"inner": {"anyOf": [{"type": "boolean"}, {"type": "object", "properties": {"deep": {"type": "boolean"}}}, {"type": "null"}]}
		}}}}`)}}
	const before = "text\n<!-- fields of thing -->\nold\n<!-- end of fields -->\nmore\n<!-- fields of thing.inner -->\n<!-- end of fields -->\n"
	const want = "text\n<!-- fields of thing -->\n" +
		"| field | value | default | meaning |\n|---|---|---|---|\n" +
		"| `id` | id | required | a\\|b |\n" +
		"| `count` | whole number, 1 to 10,000 | `2` | How many. |\n" +
		"| `inner` | true or false, or map with the fields below |  |  |\n" +
		"| `mode` | `on`, `off` | `on` | How. |\n" +
		"<!-- end of fields -->\nmore\n<!-- fields of thing.inner -->\n" +
		"| field | value | default | meaning |\n|---|---|---|---|\n" +
		"| `deep` | true or false |  |  |\n" +
		"<!-- end of fields -->\n"
	got, err := reference.Update([]byte(before), files)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, says := range map[string]string{
		"thing.none": "there is no field none", "thing.count": "count has no fields", "other": "other.schema.json",
	} {
		_, err := reference.Update([]byte("<!-- fields of "+name+" -->\n<!-- end of fields -->"), files)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want it to say %q", name, err, says)
		}
	}
}

// TestLinks finds links from one page of the folder to what is not there.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("find the pages: %v, %v", pages, err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, from := range append(pages, "../../README.md") {
		text := read(t, from)
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			to := from
			if target != "" {
				to = filepath.Join(filepath.Dir(from), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", filepath.Base(from), found[1], err)
				continue
			}
			if anchor != "" && !anchors(read(t, to))[anchor] {
				t.Errorf("%s links to %s, where no heading is called so", filepath.Base(from), found[1])
			}
		}
	}
}

// anchors are the names by which a page's headings are linked to.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := strings.ToLower(regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(heading[1], ""))
		names[strings.ReplaceAll(name, " ", "-")] = true
	}
	return names
}
