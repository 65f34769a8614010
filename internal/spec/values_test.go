package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

type given map[string]workflow.Value

const valueTasks = `
- {id: a, command: x, parameters: {K: 1, EPOCHS: 2}}
- {id: a.b, command: x, parameters: {K: 1, c: 1}, dependencies: [a]}
- {id: last, command: x, dependencies: [a.b]}
`

func TestValuesOfParameters(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, valueTasks, "", "")
	plan, err := c.PlanTask("last")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		given given
		want  map[string]map[string]workflow.Value
		err   string
	}{
		"none":                {given: nil},
		"all that declare it": {given{"K": "5"}, map[string]map[string]workflow.Value{"a": {"K": "5"}, "a.b": {"K": "5"}}, ""},
		"one task":            {given{"a.EPOCHS": `"x"`}, map[string]map[string]workflow.Value{"a": {"EPOCHS": `"x"`}}, ""},
		"the longest id":      {given{"a.b.K": "7"}, map[string]map[string]workflow.Value{"a.b": {"K": "7"}}, ""},
		"one over all":        {given{"a.K": "2", "K": "1"}, map[string]map[string]workflow.Value{"a": {"K": "2"}, "a.b": {"K": "1"}}, ""},
		"canonical JSON":      {given{"c": `{"b" : [1e3, 9007199254740993], "a":"<$${X}>"}`}, map[string]map[string]workflow.Value{"a.b": {"c": `{"a":"\u003c$${X}\u003e","b":[1e3,9007199254740993]}`}}, ""},
		"unknown":             {given{"EPOCH": "1"}, nil, `unknown parameter "EPOCH": did you mean "EPOCHS"?`},
		"unknown of a task":   {given{"a.EPOCH": "1"}, nil, `unknown parameter "a.EPOCH": did you mean "a.EPOCHS"?`},
		"unknown task":        {given{"aa.EPOCHS": "1"}, nil, `unknown parameter "aa.EPOCHS": did you mean "a.EPOCHS"?`},
		"not declared":        {given{"last.zz": "1"}, nil, `unknown parameter "last.zz"`},
		"no JSON":             {given{"K": "x"}, nil, `parameter "K": the value is not JSON`},
		"two values":          {given{"K": "1 2"}, nil, `parameter "K": the value is not JSON`},
		"NUL":                 {given{"K": `{"a":["\u0000"]}`}, nil, `parameter "K": the value holds a NUL character`},
		"NUL in a key":        {given{"K": `{"\u0000":1}`}, nil, `parameter "K": the value holds a NUL character`},
		"no NUL":              {given{"c": `"\\u0000"`}, map[string]map[string]workflow.Value{"a.b": {"c": `"\\u0000"`}}, ""},
		"open reference":      {given{"K": `"${DATE"`}, nil, `parameter "K": "${" begins a reference that has no "}"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values, err := c.Values(Request{Plan: plan, Parameters: test.given})
			if diff := cmp.Diff(test.want, values.Parameters); diff != "" {
				t.Error(diff)
			}
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.err {
				t.Errorf("got %q, want %q", message, test.err)
			}
		})
	}
	var unknown *UnknownError
	if _, err := c.Values(Request{Plan: plan, Parameters: given{"EPOCH": "1"}}); !errors.As(err, &unknown) || unknown.Nearest[0] != "EPOCHS" {
		t.Errorf("got %v", err)
	}
}

func TestValuesOfContexts(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, valueTasks, `
- {id: with, context: prod, variables: {C: dag, D: dag}, tasks: [{id: a}]}
- {id: without, variables: {D: dag}, tasks: [{id: a}]}
`, `
- {id: base, variables: {A: base, B: base, C: base}}
- {id: middle, extends: base, variables: {B: middle, E: "$${x}"}}
- {id: prod, extends: middle, variables: {C: prod}}
- {id: test, variables: {A: test}}
- {id: usual, variables: {A: usual}}
`)
	for name, test := range map[string]struct {
		dag, context, usual string
		want                string
	}{
		"nothing":             {"", "", "", ""},
		"a chain":             {"", "prod", "usual", "A=base B=middle C=prod E=${x}"},
		"of the DAG":          {"with", "", "usual", "A=base B=middle C=dag D=dag E=${x}"},
		"given over the DAG":  {"with", "test", "usual", "A=test C=dag D=dag"},
		"the usual one":       {"without", "", "usual", "A=usual D=dag"},
		"variables of a DAG":  {"without", "", "", "D=dag"},
		"usual, by outcome":   {"", "", "usual", "A=usual"},
		"given, by outcome":   {"", "test", "", "A=test"},
		"given under the DAG": {"without", "prod", "", "A=base B=middle C=prod D=dag E=${x}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values, err := c.Values(Request{Plan: &workflow.Plan{}, DAGID: test.dag, Context: test.context, DefaultContext: test.usual})
			if err != nil {
				t.Fatal(err)
			}
			environment, _, err := Environment(&workflow.TaskSpec{}, &values, Lookups{})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(environment, " "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if again, _ := c.Values(Request{Plan: &workflow.Plan{}, Context: "prod"}); again.Variables["C"] != `"prod"` {
				t.Errorf("a context changed: %v", again)
			}
		})
	}
	for _, test := range []struct {
		request Request
		want    string
	}{
		{Request{Context: "prd"}, `unknown context "prd": did you mean "prod"?`},
		{Request{DefaultContext: "usua"}, `unknown context "usua": did you mean "usual"?`},
		{Request{DAGID: "wth"}, `unknown DAG "wth": did you mean "with"?`},
	} {
		test.request.Plan = &workflow.Plan{}
		if _, err := c.Values(test.request); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

func TestValuesOfEnv(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, valueTasks, "", "")
	values, err := c.Values(Request{Plan: &workflow.Plan{}, Env: map[string]string{"A": "$${x} = y", "_b1": ""}})
	if diff := cmp.Diff(workflow.RunValues{Env: map[string]string{"A": "$${x} = y", "_b1": ""}}, values); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for name, test := range map[string][2]string{
		"a-b":  {"x", `"a-b" is no valid name of an environment variable: it takes letters, digits and _, and begins with no digit`},
		"":     {"x", `"" is no valid name of an environment variable: it takes letters, digits and _, and begins with no digit`},
		"1a":   {"x", `"1a" is no valid name of an environment variable: it takes letters, digits and _, and begins with no digit`},
		"NUL":  {"x\x00", "environment variable NUL: the value holds a NUL character"},
		"OPEN": {"${X", `environment variable OPEN: "${" begins a reference that has no "}"`},
	} {
		if _, err := c.Values(Request{Plan: &workflow.Plan{}, Env: map[string]string{name: test[0]}}); err == nil || err.Error() != test[1] {
			t.Errorf("got %v, want %s", err, test[1])
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spec   workflow.TaskSpec
		values workflow.RunValues
		want   []string
	}{
		"precedence": {
			workflow.TaskSpec{
				TaskID:     "t",
				Parameters: given{"B": `"task"`, "C": `"task"`, "D": `"task"`, "E": `"task"`},
				Env:        map[string]string{"C": "env", "D": "env", "E": "env"},
			},
			workflow.RunValues{
				Variables:  given{"A": `"run"`, "B": `"run"`, "C": `"run"`, "D": `"run"`, "E": `"run"`},
				Parameters: map[string]map[string]workflow.Value{"t": {"E": `"given"`}, "other": {"A": `"no"`}},
				Env:        map[string]string{"D": "--env", "E": "--env"},
			},
			[]string{"A=run", "B=task", "C=env", "D=--env", "E=given"},
		},
		"not strings": {
			workflow.TaskSpec{Parameters: given{"N": "1e3", "T": "true", "L": `["a"]`, "M": `{"a":"b"}`, "S": `"a\nb"`, "BIG": "9007199254740993"}},
			workflow.RunValues{},
			[]string{"BIG=9007199254740993", "L=[\"a\"]", "M={\"a\":\"b\"}", "N=1e3", "S=a\nb", "T=true"},
		},
		"names in capitals": {
			workflow.TaskSpec{Parameters: given{"inputPath": `"/in"`, "already_snake": "1", "HTTPServer2Go": "2"}},
			workflow.RunValues{Variables: given{"outputPath": `"/out"`, "PLAIN": "3"}},
			[]string{"ALREADY_SNAKE=1", "HTTPServer2Go=2", "HTTP_SERVER2_GO=2", "INPUT_PATH=/in", "OUTPUT_PATH=/out", "PLAIN=3", "already_snake=1", "inputPath=/in", "outputPath=/out"},
		},
		"names that a shell cannot use": {
			workflow.TaskSpec{Parameters: given{"input-path": "1", "a.b": "2"}},
			workflow.RunValues{},
			[]string{"A_B=2", "INPUT_PATH=1"},
		},
		"another value has the name in capitals": {
			workflow.TaskSpec{Parameters: given{"inputPath": "1", "outPath": "2"}, Env: map[string]string{"INPUT_PATH": "env"}},
			workflow.RunValues{Variables: given{"OUT_PATH": "3"}},
			[]string{"INPUT_PATH=env", "OUT_PATH=3", "inputPath=1", "outPath=2"},
		},
		"two with the same name in capitals": {
			workflow.TaskSpec{Parameters: given{"inputPath": "1"}},
			workflow.RunValues{Variables: given{"input_path": "2"}},
			[]string{"INPUT_PATH=1", "inputPath=1", "input_path=2"},
		},
		"two of one layer": {
			workflow.TaskSpec{Parameters: given{"inputPath": "1", "input_path": "2"}},
			workflow.RunValues{},
			[]string{"INPUT_PATH=1", "inputPath=1", "input_path=2"},
		},
		"an env has no name in capitals": {
			workflow.TaskSpec{Env: map[string]string{"lower": "1"}},
			workflow.RunValues{Env: map[string]string{"camelCase": "2"}},
			[]string{"camelCase=2", "lower=1"},
		},
		"an env over a parameter": {
			workflow.TaskSpec{Parameters: given{"inputPath": "1"}},
			workflow.RunValues{Env: map[string]string{"inputPath": "2"}},
			[]string{"INPUT_PATH=2", "inputPath=2"},
		},
		"nulls": {
			workflow.TaskSpec{TaskID: "t", Parameters: given{"A": "null", "B": "1", "C": ""}},
			workflow.RunValues{
				Variables:  given{"A": `"run"`, "N": "null"},
				Parameters: map[string]map[string]workflow.Value{"t": {"B": "null"}},
			},
			[]string{"A=run"},
		},
		"escapes": {
			workflow.TaskSpec{Parameters: given{"A": `"$${x} $$ $${y}"`, "B": `["$${x}"]`}, Env: map[string]string{"C": "$${x}"}},
			workflow.RunValues{Variables: given{"D": `"$${x}"`}, Env: map[string]string{"E": "$${x}"}},
			[]string{"A=${x} $$ ${y}", `B=["${x}"]`, "C=${x}", "D=${x}", "E=${x}"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := Environment(&test.spec, &test.values, Lookups{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	_, _, err := Environment(&workflow.TaskSpec{Parameters: given{"A": `"\u0000"`}}, nil, Lookups{})
	if err == nil || err.Error() != `the value of "A" holds a NUL character` {
		t.Errorf("got %v", err)
	}
}
