package cookbook_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// recipe is a section of the page.
type recipe struct {
	folder   string
	excerpts []string // of its files
	steps    []step
}

// step is a command that the page shows, and what it shows of its standard output.
type step struct{ command, output string }

var (
	folderLink = regexp.MustCompile(`\]\(\.\./examples/cookbook/([a-z-]+)\)`)
	fence      = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
)

// recipes reads the page: each section that links to a folder is a recipe.
func recipes(t *testing.T) []recipe {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []recipe
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, _, _ := strings.Cut(section, "\n")
		folder := folderLink.FindStringSubmatch(section)
		if folder == nil {
			t.Fatalf("%s: section %q links to no folder", filepath.Base(page), title)
		}
		one := recipe{folder: folder[1]}
		for _, block := range fence.FindAllStringSubmatch(section, -1) {
			switch language, body := block[1], block[2]; language {
			case "yaml":
				one.excerpts = append(one.excerpts, body)
			case "console":
				one.steps = append(one.steps, steps(t, body)...)
			default:
				t.Fatalf("%s: section %q has a block in %q, which nobody tests", filepath.Base(page), title, language)
			}
		}
		if len(one.steps) == 0 {
			t.Fatalf("%s: section %q has no command", filepath.Base(page), title)
		}
		all = append(all, one)
	}
	return all
}

// steps reads a console block: a command stands after "$ ", and after "> " goes on.
func steps(t *testing.T, block string) (all []step) {
	t.Helper()
	for line := range strings.Lines(block) {
		last := len(all) - 1
		command, begins := strings.CutPrefix(line, "$ ")
		more, goesOn := strings.CutPrefix(line, "> ")
		switch {
		case begins:
			all = append(all, step{command: command})
		case last < 0:
			t.Fatalf("a console block begins with %q, not with a command", line)
		case goesOn && all[last].output == "":
			all[last].command += more
		default:
			all[last].output += line
		}
	}
	return all
}

// startsServer tells whether the recipe starts servers itself.
func (r *recipe) startsServer() bool {
	for _, step := range r.steps {
		if strings.Contains(step.command, "cyclonetix serve") {
			return true
		}
	}
	return false
}

var looking = regexp.MustCompile(`^(cyclonetix (show|list|logs|sql)\b|cat )`)

// looks tells whether the command changes nothing, so that it can be run again.
func (s *step) looks() bool { return looking.MatchString(s.command) }

// changing is what differs from one time to the next, and what stands for it.
var changing = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \((now|\d+[smhd] ago)\)`), "TIME"},
	{regexp.MustCompile(`\b(now|\d+[smhd] ago)\b`), "AGO"},
	{regexp.MustCompile(`\b\d+(ms|\.\d+s|m\d\ds)\b`), "DURATION"},
}

// settled is a text without what differs from one time to the next: ids, times, the name of the agent (which is that of the
// host with the number of its process), the width of columns, and empty lines.
func settled(text string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	agent := regexp.MustCompile(`\b(host|` + regexp.QuoteMeta(host) + `)-\d+\b`)
	var lines []string
	for line := range strings.Lines(text) {
		line = agent.ReplaceAllString(line, "AGENT")
		for _, one := range changing {
			line = one.pattern.ReplaceAllString(line, one.word)
		}
		if fields := strings.Fields(line); len(fields) > 0 {
			lines = append(lines, strings.Join(fields, " "))
		}
	}
	return strings.Join(lines, "\n")
}
