package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// In each line of the list of precedence the value wins over those of all lines before it.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	steps := []string{
		"parent context", "context", "DAG variables", "default", "first set of the task", "last set of the task", "set of the variant",
		"DAG-level parameter", "env of the task", "context_updates", "later context_updates", "evaluation parameters", "later evaluation parameters",
		"--env", "--param-set", "--param", "--param of the task", "--param of the node",
	}
	for last := range steps {
		t.Run(steps[last], func(t *testing.T) {
			t.Parallel()
			got := environmentOfSteps(t, steps[:last+1])
			if want := "K=" + steps[last]; !slices.Contains(got, want) {
				t.Errorf("got %q, want %s", got, want)
			}
		})
	}
}

// environmentOfSteps gives the environment of a task in which each step gives K its own name.
func environmentOfSteps(t *testing.T, steps []string) []string {
	has := func(step string) bool { return slices.Contains(steps, step) }
	// K is a field "K: step" in a definition, if the step is there.
	k := func(step string) string {
		if has(step) {
			return "K: " + step
		}
		return ""
	}
	c := catalogWithSets(t,
		fmt.Sprintf("- {id: t, command: x, parameters: {%s}, parameter_sets: [one, two], env: {%s}}", cmpOr(k("default"), "K: "), k("env of the task")),
		fmt.Sprintf("- {id: d, context: child, variables: {%s}, tasks: [{id: 't:variant', parameters: {%s}}]}", k("DAG variables"), k("DAG-level parameter")),
		fmt.Sprintf("- {id: parent, variables: {%s}}\n- {id: child, extends: parent, variables: {%s}}", k("parent context"), k("context")),
		fmt.Sprintf("- {id: one, parameters: {%s}}\n- {id: two, parameters: {%s}}\n- {id: variant, parameters: {%s}}\n- {id: given, parameters: {%s}}",
			k("first set of the task"), k("last set of the task"), k("set of the variant"), k("--param-set")))
	plan, err := c.PlanDAG("d")
	if err != nil {
		t.Fatal(err)
	}
	request := Request{Plan: plan, DAGID: "d", ParameterSets: []string{"given"}, Parameters: given{}, Env: map[string]string{}}
	for key, step := range map[string]string{"K": "--param", "t.K": "--param of the task", "t:variant.K": "--param of the node"} {
		if has(step) {
			request.Parameters[key] = workflow.StringValue(step)
		}
	}
	if has("--env") {
		request.Env["K"] = "--env"
	}
	values, err := c.Values(request)
	if err != nil {
		t.Fatal(err)
	}
	update := func(variables, parameters string) {
		var update workflow.ValueUpdate
		if has(variables) {
			update.Variables = given{"K": workflow.StringValue(variables)}
		}
		if has(parameters) {
			update.Parameters = map[string]map[string]workflow.Value{"t": {"K": workflow.StringValue(parameters)}}
		}
		values.Updates = append(values.Updates, update)
	}
	update("context_updates", "evaluation parameters")
	update("later context_updates", "later evaluation parameters")
	got, _, err := Environment(plan.Specs[0], &values, Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func cmpOr(text, other string) string {
	if text != "" {
		return text
	}
	return other
}

// The variables of a nested DAG are over the run's, and under the parameters.
func TestPrecedenceOfNested(t *testing.T) {
	t.Parallel()
	spec := &workflow.TaskSpec{TaskID: "inner/t", Variables: given{"A": `"nested"`, "B": `"nested"`}, Parameters: given{"B": `"task"`}}
	got, _, err := Environment(spec, &workflow.RunValues{Variables: given{"A": `"run"`, "B": `"run"`, "C": `"run"`}}, Lookups{})
	if diff := cmp.Diff([]string{"A=nested", "B=task", "C=run"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// The more exact name wins, and a task in a group is also known without it.
func TestValuesByName(t *testing.T) {
	t.Parallel()
	spec := &workflow.TaskSpec{TaskID: "etl/load", Variant: "large", Parameters: given{"K": "null"}}
	names := []string{"load", "load:large", "etl/load", "etl/load:large"}
	for last := range names {
		values := &workflow.RunValues{Parameters: map[string]map[string]workflow.Value{"other": {"K": `"no"`}, "etl/load:small": {"K": `"no"`}}}
		for _, name := range names[:last+1] {
			values.Parameters[name] = given{"K": workflow.StringValue(name)}
		}
		if got, _, err := Environment(spec, values, Lookups{}); err != nil || strings.Join(got, " ") != "K="+names[last] {
			t.Error(got, err)
		}
		values = &workflow.RunValues{Updates: []workflow.ValueUpdate{{Parameters: values.Parameters}}}
		if got, _, err := Environment(spec, values, Lookups{}); err != nil || strings.Join(got, " ") != "K="+names[last] {
			t.Error(got, err)
		}
	}
}

// A null that somebody gives takes a value away.
func TestNullTakesAway(t *testing.T) {
	t.Parallel()
	spec := &workflow.TaskSpec{TaskID: "t", Parameters: given{"A": "1", "B": "1", "C": "1"}, Env: map[string]string{"A": "2"}}
	values := &workflow.RunValues{
		Updates:   []workflow.ValueUpdate{{Variables: given{"A": "null"}, Parameters: map[string]map[string]workflow.Value{"t": {"B": "null"}}}},
		Sensitive: map[string]map[string]workflow.Value{"t": {"C": "null"}},
	}
	if got, _, err := Environment(spec, values, Lookups{}); err != nil || len(got) > 0 {
		t.Error(got, err)
	}
}

// What an evaluation point gave is data: nothing in it is a reference.
func TestUpdatesAreData(t *testing.T) {
	t.Parallel()
	values := &workflow.RunValues{Updates: []workflow.ValueUpdate{{Variables: given{"A": `"${secret:X} $${Y}"`}}}}
	spec := &workflow.TaskSpec{Parameters: given{"B": `"<${A}>"`}}
	got, sensitive, err := Environment(spec, values, Lookups{Secret: func(string) (string, error) { panic("asked for a secret") }})
	if diff := cmp.Diff([]string{"A=${secret:X} $${Y}", "B=<${secret:X} $${Y}>"}, got); diff != "" || err != nil || sensitive != nil {
		t.Error(diff, err, sensitive)
	}
}

func TestItemValues(t *testing.T) {
	t.Parallel()
	spec := &workflow.TaskSpec{
		TaskID: "t", Item: &workflow.Item{Value: `{"path":"${BASE}/a","raw":"$${x}"}`, Index: 7},
		Parameters: given{"BASE": `"/in"`, "OUT": `"${ITEM_INDEX}.out"`, "ALL": `"${ITEM}"`, "N": `["${ITEM_INDEX}"]`},
	}
	got, _, err := Environment(spec, nil, Lookups{})
	want := []string{`ALL={"path":"/in/a","raw":"${x}"}`, "BASE=/in", `ITEM={"path":"/in/a","raw":"${x}"}`, "ITEM_INDEX=7", "N=[7]", "OUT=7.out"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// A name in capitals that a parameter has beside its own takes nothing that the command inherits.
func TestAliasesGiveWayToWhatIsInherited(t *testing.T) {
	t.Parallel()
	spec := &workflow.TaskSpec{TaskID: "t", Parameters: given{"path": `"/data"`, "Home": `"h"`, "TZ": `"UTC"`, "inputPath": `"in"`}}
	got, _, err := Environment(spec, &workflow.RunValues{Variables: given{"lang": `"de"`}}, Lookups{Inherited: []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}})
	if want := []string{"Home=h", "INPUT_PATH=in", "TZ=UTC", "inputPath=in", "lang=de", "path=/data"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// A chain of references is bounded before it takes the whole stack.
func TestLongChainOfReferences(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		steps int
		fails bool
	}{{maxReferences - 1, false}, {maxReferences + 1, true}, {100_000, true}} {
		variables := given{}
		for i := range test.steps {
			variables[fmt.Sprintf("v%07d", i)] = workflow.StringValue(fmt.Sprintf("${v%07d}", i+1))
		}
		variables[fmt.Sprintf("v%07d", test.steps)] = `"end"`
		_, _, err := Environment(&workflow.TaskSpec{TaskID: "t"}, &workflow.RunValues{Variables: variables}, Lookups{})
		if (err != nil) != test.fails || err != nil && (!strings.Contains(err.Error(), "v0000000") || !strings.Contains(err.Error(), "1000")) {
			t.Errorf("%d steps: %v", test.steps, err)
		}
	}
}
