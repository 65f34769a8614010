package spec

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// badField is one way to get a field wrong, from testdata/fields.yaml.
type badField struct {
	Field, Wrong, Text string
	Want               []string
	Allowed            bool
}

func badFields(t *testing.T) (all []badField) {
	t.Helper()
	data, err := os.ReadFile("testdata/fields.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	times := regexp.MustCompile(`<<(\d+)\*(.*?)>>`)
	for i := range all {
		all[i].Text = times.ReplaceAllStringFunc(all[i].Text, func(repeat string) string {
			parts := times.FindStringSubmatch(repeat)
			count, _ := strconv.Atoi(parts[1])
			return strings.Repeat(parts[2], count)
		})
	}
	return all
}

// TestBadFields holds that each field with a wrong type, a wrong value or a huge value is told with its place, and that
// the definition is then a broken one.
func TestBadFields(t *testing.T) {
	t.Parallel()
	for _, bad := range badFields(t) {
		kind, _, _ := strings.Cut(bad.Field, ".")
		t.Run(bad.Field+", "+bad.Wrong, func(t *testing.T) {
			t.Parallel()
			definitions, problems := Parse(Kind(kind), "f.yaml", []byte(bad.Text), Defaults{})
			if diff := cmp.Diff(bad.Want, problemTexts(problems)); diff != "" || len(problems) == 0 {
				t.Error(diff, len(problems))
			}
			for _, definition := range definitions {
				if !definition.Broken {
					t.Error("the definition is not broken")
				}
			}
		})
	}
}

// TestBadFieldsHaveAll holds that no field is without its three ways to be wrong, but for maps, whose fields have them.
func TestBadFieldsHaveAll(t *testing.T) {
	t.Parallel()
	there := map[string][]string{}
	for _, bad := range badFields(t) {
		there[bad.Field] = append(there[bad.Field], bad.Wrong)
	}
	check := func(name string, wrongs ...string) {
		for _, wrong := range wrongs {
			if !slices.Contains(there[name], wrong) {
				t.Errorf("%s has no wrong %s", name, wrong)
			}
		}
	}
	fields := func(under string, form Form) {
		properties := form["properties"].(map[string]any)
		for name := range properties {
			if name == "approval" || name == "schedule" || name == "git" || name == "resources" || name == "triggers" {
				check(under+name, "type", "value")
			} else {
				check(under+name, "type", "value", "huge")
			}
		}
	}
	for _, kind := range Kinds {
		fields(string(kind)+".", FormOf(kind))
	}
	fields("task.parameters.", mapForm(parameterFields))
	fields("task.approval.", mapForm(approvalFields))
	fields("task.retries.", mapForm(retriesFields))
	fields("task.git.", mapForm(gitFields))
	fields("task.resources.", mapForm(resourceFields))
	fields("dag.schedule.", mapForm(scheduleFields))
	check("dag.triggers.file_arrival", "type", "value")
	check("dag.triggers.webhook", "type", "value")
	check("dag.triggers.dag_completed", "type", "value", "huge")
	fields("dag.triggers.file_arrival.", mapForm(fileArrivalFields))
	fields("dag.triggers.webhook.", mapForm(webhookFields))
	check("dag.dags.dependencies", "type", "value", "huge")
}

// TestFieldsAreExplained holds that each field that is read has what editors show.
func TestFieldsAreExplained(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds {
		for name, property := range FormOf(kind)["properties"].(map[string]any) {
			if about := property.(Form)["description"].(string); len(about) < 10 {
				t.Errorf("%s of a %s: %q", name, kind, about)
			}
		}
	}
}
