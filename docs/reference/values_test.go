package reference_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// TestExampleOfValues plays the worked example of the page: its definitions, and the table of commands with what the task prints.
func TestExampleOfValues(t *testing.T) {
	t.Parallel()
	_, section, found := strings.Cut(read(t, page), "\n### An example\n")
	section, _, ends := strings.Cut(section, "\n### ")
	if !found || !ends {
		t.Fatal("the page has no section \"An example\"")
	}
	kinds := map[string]spec.Kind{
		"# contexts": spec.KindContext, "# parameter sets": spec.KindParameterSet, "# a task": spec.KindTask, "# a DAG": spec.KindDAG,
	}
	var definitions []spec.Definition
	for _, block := range regexp.MustCompile("(?s)```yaml\n([^\n]*)\n(.*?)```").FindAllStringSubmatch(section, -1) {
		kind, ok := kinds[block[1]]
		if !ok {
			t.Fatalf("a block begins with %q, which is no kind", block[1])
		}
		parsed, problems := spec.Parse(kind, "the page", []byte(block[2]), spec.Defaults{})
		if len(problems) > 0 {
			t.Fatalf("%s: %v", block[1], problems)
		}
		definitions = append(definitions, parsed...)
	}
	catalog := spec.NewCatalog(definitions, spec.CatalogOptions{})
	rows := regexp.MustCompile("(?m)^\\| `(schedule-[^`]*)` \\| `([^`]*)` \\|$").FindAllStringSubmatch(section, -1)
	if len(rows) < 4 {
		t.Fatalf("the table has %d commands, there were 4", len(rows))
	}
	for _, row := range rows {
		if diff := cmp.Diff(row[2], prints(t, catalog, strings.Fields(row[1]))); diff != "" {
			t.Errorf("%s (-page +task):\n%s", row[1], diff)
		}
	}
}

// prints runs the task with the values that a command line gives it.
func prints(t *testing.T, catalog *spec.Catalog, command []string) string {
	t.Helper()
	request := spec.Request{Parameters: map[string]workflow.Value{}, Env: map[string]string{}}
	var err error
	switch command[0] {
	case "schedule-task":
		request.Plan, err = catalog.PlanTask(command[1])
	case "schedule-dag":
		request.DAGID = command[1]
		request.Plan, err = catalog.PlanDAG(command[1])
	default:
		t.Fatalf("%s starts no run", command[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	for flags := command[2:]; len(flags) > 0; flags = flags[2:] {
		name, value, _ := strings.Cut(flags[1], "=")
		switch flags[0] {
		case "--context":
			request.Context = name
		case "--param-set":
			request.ParameterSets = append(request.ParameterSets, name)
		case "--param":
			request.Parameters[name] = workflow.StringValue(value)
		case "--env":
			request.Env[name] = value
		default:
			t.Fatalf("the test does not know %s", flags[0])
		}
	}
	values, err := catalog.Values(request)
	if err != nil {
		t.Fatal(err)
	}
	task := request.Plan.Specs[0]
	environment, _, err := spec.Environment(task, &values, spec.Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", task.Command) //nolint:gosec // the page's own
	shell.Env = environment
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}
