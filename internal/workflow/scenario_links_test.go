package workflow

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The page of the rules links to every scenario, once, and to nothing that is not there.
func TestEveryScenarioIsLinked(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/workflow-rules.md")
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]int{}
	for _, match := range regexp.MustCompile(`\[([^\]]+)\]\(\.\./internal/workflow/([^)]+)\)`).FindAllSubmatch(page, -1) {
		text, path := string(match[1]), string(match[2])
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the page links to what is not there: %v", err)
		}
		if filepath.Ext(path) != ".scenario" {
			continue
		}
		if linked[path]++; linked[path] > 1 {
			t.Errorf("the page links to %s twice", path)
		}
		if "testdata/"+text+".scenario" != path {
			t.Errorf("the link to %s is called %s", path, text)
		}
	}
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no scenarios (%v)", err)
	}
	for _, file := range files {
		if linked[file] == 0 {
			t.Errorf("docs/workflow-rules.md does not link to %s", file)
		}
	}
}
