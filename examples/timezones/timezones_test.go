// Package timezones_test runs the example's commands as an agent would, without an engine.
package timezones_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

const outcome = "timezone_report"

// task is a task file as far as the example uses the language; loading refuses any other field.
type task struct {
	ID             string
	Name           string
	Description    string
	Tags           []string
	TimeoutSeconds int `yaml:"timeout_seconds"`
	Retries        any
	Dependencies   []string
	Parameters     map[string]struct {
		Default     any
		Description string
	}
	Command string
}

type result struct {
	err    error
	output string
}

// A run of the tasks that the outcome needs, in a folder of its own.
type run struct {
	tasks   map[string]task
	results map[string]result
	dir     string
	data    string   // TIMEZONES_DATA
	env     []string // further variables, over the parameters' defaults
}

func TestReportAgreesWithDirectScript(t *testing.T) {
	t.Parallel()
	data := tables(t)
	r := newRun(t, data)
	r.start(t)
	r.mustSucceed(t)
	got := r.report(t, "csv")

	direct := t.TempDir()
	if out, err := exec.Command("sh", "direct.sh", data, direct).CombinedOutput(); err != nil {
		t.Fatalf("direct.sh: %v\n%s", err, out)
	}
	want, err := os.ReadFile(filepath.Join(direct, "timezone_report.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the tasks' report differs from the direct script's (-direct +tasks):\n%s", diff)
	}
}

func TestReportAgreesWithTables(t *testing.T) {
	t.Parallel()
	data := tables(t)
	r := newRun(t, data)
	r.start(t)
	r.mustSucceed(t)
	if diff := cmp.Diff(expected(t, data), parseReport(t, r.report(t, "csv"))); diff != "" {
		t.Errorf("the report differs from the tables (-tables +report):\n%s", diff)
	}
}

func TestPageShowsTheNumbers(t *testing.T) {
	t.Parallel()
	r := newRun(t, tables(t))
	r.env = []string{"REPORT_TITLE=Zones & <places>"}
	r.start(t)
	r.mustSucceed(t)

	page := r.report(t, "html")
	var total group
	countries := 0
	for _, g := range parseReport(t, r.report(t, "csv")) {
		switch g.kind {
		case "total":
			total = g
		case "country":
			countries++
			for _, cell := range []string{"<td>" + strings.ReplaceAll(g.name, "&", "&amp;") + "</td>", ">" + g.names + "</td>"} {
				if !strings.Contains(page, cell) {
					t.Errorf("%s: the page lacks %s", g.key, cell)
				}
			}
		}
	}
	checks := strings.Count(page, `<td class="passed">`)
	for _, want := range []string{
		"<h1>Zones &amp; &lt;places&gt;</h1>",
		fmt.Sprintf("<b>%d</b><span>zones</span>", total.zones),
		fmt.Sprintf("<b>%d</b><span>countries with a zone</span>", total.countries),
		fmt.Sprintf("<b>%d</b><span>countries without</span>", countries-total.countries),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if dots := strings.Count(page, "<circle "); dots != total.zones {
		t.Errorf("the map has %d dots, want one for each of %d zones", dots, total.zones)
	}
	if want := strings.Count(r.results["timezone_quality"].output, "passed  "); checks == 0 || checks != want {
		t.Errorf("the page shows %d checks, the task did %d", checks, want)
	}
}

func TestOutputDirectory(t *testing.T) {
	t.Parallel()
	r := newRun(t, tables(t))
	out := filepath.Join(t.TempDir(), "new", "folder")
	r.env = []string{"output_dir=" + out, "OUTPUT_DIR=" + out}
	r.start(t)
	r.mustSucceed(t)
	for _, format := range []string{"csv", "html"} {
		copied, err := os.ReadFile(filepath.Join(out, "timezone_report."+format))
		if err != nil {
			t.Fatal(err)
		}
		if string(copied) != r.report(t, format) {
			t.Errorf("the copied %s differs from the run's", format)
		}
	}
}

// A task whose agent was lost runs again, with the files of its first attempt in place.
func TestTasksCanRunAgain(t *testing.T) {
	t.Parallel()
	r := newRun(t, tables(t))
	r.start(t)
	r.mustSucceed(t)
	first := r.report(t, "csv") + r.report(t, "html")
	r.start(t)
	r.mustSucceed(t)
	if second := r.report(t, "csv") + r.report(t, "html"); second != first {
		t.Error("the second attempt of every task made another report")
	}
	if left, err := filepath.Glob(filepath.Join(r.dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("the tasks left %v, %v", left, err)
	}
}

func TestBadDataIsRefused(t *testing.T) {
	t.Parallel()
	row := func(fields ...string) string { return strings.Join(fields, "\t") + "\n" }
	for name, tc := range map[string]struct {
		zones, countries func(string) string // changes a table's text
		task             string              // the one that must fail
		says             string
	}{
		"zone listed twice": {
			zones: func(s string) string { return s + row("AD", "+4230+00131", "Europe/Andorra") },
			task:  "timezone_quality", says: "failed  no zone twice: 1 offend: Europe/Andorra",
		},
		"unknown country": {
			zones: func(s string) string { return strings.Replace(s, "\nAD\t", "\nAD,XQ\t", 1) },
			task:  "timezone_quality", says: "failed  every country of a zone is known: 1 offend: XQ (Europe/Andorra)",
		},
		"country twice in a zone": {
			zones: func(s string) string { return strings.Replace(s, "\nAD\t", "\nAD,AD\t", 1) },
			task:  "timezone_quality", says: "failed  no country twice in a zone: 1 offend: AD (Europe/Andorra)",
		},
		"coordinates of the wrong form": {
			zones: func(s string) string { return strings.Replace(s, "+4230+00131", "4230N00131E", 1) },
			task:  "timezone_quality", says: "failed  coordinates can be read: 1 offend: Europe/Andorra",
		},
		"61 minutes": {
			zones: func(s string) string { return strings.Replace(s, "+4230+00131", "+4261+00131", 1) },
			task:  "timezone_quality", says: "failed  coordinates can be read: 1 offend: Europe/Andorra",
		},
		"latitude beyond the pole": {
			zones: func(s string) string { return strings.Replace(s, "+4230+00131", "+9030+00131", 1) },
			task:  "timezone_quality", says: "failed  coordinates can be read: 1 offend: Europe/Andorra",
		},
		"zone name with a space": {
			zones: func(s string) string { return strings.Replace(s, "Europe/Andorra", "Europe/Andorra la Vella", 1) },
			task:  "timezone_quality", says: "failed  zone names are well formed: 1 offend: Europe/Andorra la Vella",
		},
		"country code of three letters": {
			countries: func(s string) string { return s + row("XQX", "Nowhere") },
			task:      "timezone_quality", says: "failed  country codes are two letters with a name: 1 offend: XQX",
		},
		"country listed twice": {
			countries: func(s string) string { return s + row("AD", "Andorra") },
			task:      "timezone_quality", says: "failed  no country code twice: 1 offend: AD",
		},
		"truncated": {
			zones: func(s string) string { return s[:len(s)/2] },
			task:  "timezone_tables", says: "rows, at least 300 expected",
		},
		"another file": {
			countries: func(string) string { return "<html>not found</html>\n" },
			task:      "timezone_tables", says: `iso3166.tab: line 1 should begin with "# ISO 3166`,
		},
		"spaces for tabs": {
			zones: func(s string) string { return strings.Replace(s, "AD\t+4230+00131\t", "AD +4230+00131 ", 1) },
			task:  "timezone_tables", says: "zone1970.tab: line",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRun(t, spoiled(t, tc.zones, tc.countries))
			r.start(t)
			r.mustFail(t, tc.task, tc.says)
		})
	}
}

func TestChecksumsAreCompared(t *testing.T) {
	t.Parallel()
	data := spoiled(t, func(s string) string { return s + "# a comment, harmless in itself\n" }, nil)
	sums, err := os.ReadFile(filepath.Join("data", "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "SHA256SUMS"), sums, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRun(t, data)
	r.start(t)
	r.mustFail(t, "timezone_tables", "zone1970.tab: FAILED")
}

func TestMissingTablesSayWhatToSet(t *testing.T) {
	t.Parallel()
	r := newRun(t, t.TempDir())
	r.start(t)
	r.mustFail(t, "timezone_tables", "hint: set TIMEZONES_DATA to the folder that holds the tables")
}

// The DAG form lists exactly the tasks that the outcome needs.
func TestDAGListsTheTasks(t *testing.T) {
	t.Parallel()
	var dag struct {
		ID, Name, Description, Context string
		Tags                           []string
		Tasks                          []struct{ ID string }
	}
	load(t, filepath.Join("dags", "timezones.yaml"), &dag)
	tasks := loadTasks(t)
	var listed, defined []string
	for _, entry := range dag.Tasks {
		listed = append(listed, entry.ID)
	}
	for id := range tasks {
		defined = append(defined, id)
	}
	slices.Sort(listed)
	slices.Sort(defined)
	if diff := cmp.Diff(defined, listed); diff != "" || dag.ID != "timezones" {
		t.Errorf("dag %q lists other tasks than there are (-defined +listed):\n%s", dag.ID, diff)
	}
}

func newRun(t *testing.T, data string) *run {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a run") // a space, as in a Mac's folder for application data
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &run{tasks: loadTasks(t), dir: dir, data: data}
}

// start runs the outcome and what it depends on, each task when its dependencies have succeeded, those that can at once.
func (r *run) start(t *testing.T) {
	t.Helper()
	r.results = make(map[string]result)
	ended := make(map[string]chan struct{})
	order := plan(t, r.tasks)
	for _, id := range order {
		ended[id] = make(chan struct{})
	}
	var lock sync.Mutex
	var group sync.WaitGroup
	for _, id := range order {
		group.Go(func() {
			defer close(ended[id])
			for _, dependency := range r.tasks[id].Dependencies {
				<-ended[dependency]
			}
			lock.Lock()
			ready := !slices.ContainsFunc(r.tasks[id].Dependencies, func(dependency string) bool {
				ran, ok := r.results[dependency]
				return !ok || ran.err != nil
			})
			lock.Unlock()
			if !ready {
				return
			}
			ran := r.execute(t, r.tasks[id])
			lock.Lock()
			r.results[id] = ran
			lock.Unlock()
		})
	}
	group.Wait()
}

// execute runs a command as an agent does: sh -c, a new working directory, and no environment but the documented one.
func (r *run) execute(t *testing.T, task task) result {
	cmd := exec.Command("sh", "-c", task.Command)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "TMPDIR=" + os.TempDir(), "LANG=C.UTF-8",
		"CYCLO_RUN_ID=test", "CYCLO_TASK_ID=" + task.ID, "CYCLO_ATTEMPT=1", "CYCLO_RUN_DIR=" + r.dir,
		"TIMEZONES_DATA=" + r.data,
	}
	for name, parameter := range task.Parameters {
		value := fmt.Sprint(parameter.Default)
		cmd.Env = append(cmd.Env, name+"="+value, strings.ToUpper(name)+"="+value)
	}
	cmd.Env = append(cmd.Env, r.env...)
	output, err := cmd.CombinedOutput()
	return result{err: err, output: string(output)}
}

func (r *run) mustSucceed(t *testing.T) {
	t.Helper()
	for _, id := range plan(t, r.tasks) {
		if ran, ok := r.results[id]; !ok || ran.err != nil {
			t.Fatalf("%s: started %t, %v\n%s", id, ok, ran.err, ran.output)
		}
	}
}

// mustFail asserts that the task ended with a non-zero status saying so, that nothing after it ran, and that no report was made.
func (r *run) mustFail(t *testing.T, id, says string) {
	t.Helper()
	ran, ok := r.results[id]
	if exit := (*exec.ExitError)(nil); !ok || !errors.As(ran.err, &exit) || exit.ExitCode() <= 0 {
		t.Fatalf("%s: started %t, %v, want it to fail\n%s", id, ok, ran.err, ran.output)
	}
	if !strings.Contains(ran.output, says) {
		t.Errorf("%s does not say %q:\n%s", id, says, ran.output)
	}
	if _, ok := r.results[outcome]; ok {
		t.Errorf("%s ran after %s failed", outcome, id)
	}
	if reports, err := filepath.Glob(filepath.Join(r.dir, "timezone_report.*")); err != nil || len(reports) > 0 {
		t.Errorf("there is a report from bad data: %v, %v", reports, err)
	}
}

func (r *run) report(t *testing.T, format string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "timezone_report."+format))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// plan collects the outcome and, recursively, its dependencies, dependencies first.
func plan(t *testing.T, tasks map[string]task) []string {
	t.Helper()
	var order []string
	state := make(map[string]int) // 1 while its dependencies are visited, 2 when it is in the order
	var visit func(id string)
	visit = func(id string) {
		if _, ok := tasks[id]; !ok || state[id] == 1 {
			t.Fatalf("task %q is unknown or depends on itself", id)
		}
		if state[id] == 2 {
			return
		}
		state[id] = 1
		for _, dependency := range tasks[id].Dependencies {
			visit(dependency)
		}
		state[id] = 2
		order = append(order, id)
	}
	visit(outcome)
	return order
}

func loadTasks(t *testing.T) map[string]task {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("tasks", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("find the task files: %v, %v", files, err)
	}
	tasks := make(map[string]task)
	for _, file := range files {
		var definition task
		load(t, file, &definition)
		if want := strings.TrimSuffix(filepath.Base(file), ".yaml"); definition.ID != want {
			t.Errorf("%s defines %q", file, definition.ID)
		}
		tasks[definition.ID] = definition
	}
	return tasks
}

func load(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Load(bytes.TrimSpace(text), into, yaml.WithKnownFields()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// spoiled is a folder with copies of the tables, changed by the functions that are not nil.
func spoiled(t *testing.T, zones, countries func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	for table, change := range map[string]func(string) string{"zone1970.tab": zones, "iso3166.tab": countries} {
		text, err := os.ReadFile(filepath.Join("data", table))
		if err != nil {
			t.Fatal(err)
		}
		changed := string(text)
		if change != nil {
			if changed = change(changed); changed == string(text) {
				t.Fatalf("the change left %s as it was", table)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, table), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tables is the folder with the committed tables.
func tables(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("data")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
