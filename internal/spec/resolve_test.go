package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestReferences(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		parameters given
		want       string // of K
		err        string
	}{
		"text":                 {given{"K": `"<${A}>"`, "A": `"a"`}, "<a>", ""},
		"a number in a text":   {given{"K": `"<${A}>"`, "A": "1e3"}, "<1e3>", ""},
		"a list in a text":     {given{"K": `"<${A}>"`, "A": `["x",1]`}, `<["x",1]>`, ""},
		"alone, a number":      {given{"K": `["${A}"]`, "A": "9007199254740993"}, "[9007199254740993]", ""},
		"alone, a map":         {given{"K": `{"a":"${A}"}`, "A": `{"b":[true]}`}, `{"a":{"b":[true]}}`, ""},
		"alone, text":          {given{"K": `["${A}"]`, "A": `"5"`}, `["5"]`, ""},
		"not quite alone":      {given{"K": `["${A} "]`, "A": "5"}, `["5 "]`, ""},
		"a key":                {given{"K": `{"${A}":1}`, "A": `"a"`}, `{"a":1}`, ""},
		"a chain":              {given{"K": `"${B}3"`, "B": `"${C}2"`, "C": `"1"`}, "123", ""},
		"a name with dots":     {given{"K": `"${a.b-c}"`, "a.b-c": `"x"`}, "x", ""},
		"a value like a macro": {given{"K": `"${DATE}"`, "DATE": `"mine"`}, "mine", ""},
		"its own macro":        {given{"K": `"${DATE}"`, "DATE": `"${DATE}!"`}, "2024-01-02!", ""},
		"an escape of a copy":  {given{"K": `"${A}"`, "A": `"$${A}"`}, "${A}", ""},
		"data is not resolved": {given{"K": `"${A}${B}"`, "A": `"$${"`, "B": `"X}"`}, "${X}", ""},
		"a null":               {given{"K": `"${A}"`, "A": "null"}, "", `unknown ${A} in the value of "K": no value has this name; ${env:NAME} is the agent's own environment, $${ a literal ${`},
		"unknown":              {given{"K": `"${inputPth}"`, "inputPath": "1"}, "", `unknown ${inputPth} in the value of "K": did you mean "inputPath"?`},
		"unknown, deep":        {given{"K": `{"a":[{"b":"${zz}"}]}`}, "", `unknown ${zz} in the value of "K": no value has this name; ${env:NAME} is the agent's own environment, $${ a literal ${`},
		"itself":               {given{"K": `"${K}"`}, "", "values refer to each other in a cycle: K -> K"},
		"a cycle":              {given{"A": `"${B}"`, "B": `"${C}"`, "C": `"${B}"`, "K": "1"}, "", "values refer to each other in a cycle: B -> C -> B"},
		"keys that meet":       {given{"K": `{"${A}":1,"a":2}`, "A": `"a"`}, "", `two keys in the value of "K" become the same`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values := &workflow.RunValues{Macros: &workflow.Macros{Time: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)}}
			got, _, err := Environment(&workflow.TaskSpec{Parameters: test.parameters}, values, Lookups{})
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.err || err == nil && !slices.Contains(got, "K="+test.want) {
				t.Errorf("got %q, %q, want K=%s, %q", got, message, test.want, test.err)
			}
		})
	}
}

// Values of all layers see each other.
func TestReferencesOfLayers(t *testing.T) {
	t.Parallel()
	spec := &workflow.TaskSpec{
		TaskID: "t", Variables: given{"C": `"${D}c"`}, Parameters: given{"D": `"${E}d"`}, Env: map[string]string{"E": "${F}e"},
	}
	values := &workflow.RunValues{
		Variables: given{"B": `"${C}b"`}, Env: map[string]string{"F": "${G}f"},
		Parameters: map[string]map[string]workflow.Value{"t": {"G": `"g"`, "A": `"${B}a"`}},
	}
	got, _, err := Environment(spec, values, Lookups{})
	if diff := cmp.Diff([]string{"A=gfedcba", "B=gfedcb", "C=gfedc", "D=gfed", "E=gfe", "F=gf", "G=g"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// No value of a few bytes may become one of gigabytes.
func TestReferencesAreBounded(t *testing.T) {
	t.Parallel()
	for _, form := range []string{`"%s"`, `["%s","x"]`} {
		parameters := given{"V0": `"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`}
		for i := range 40 {
			reference := fmt.Sprintf("${V%d}", i)
			parameters[fmt.Sprintf("V%d", i+1)] = workflow.Value(fmt.Sprintf(form, reference+" "+reference))
		}
		_, _, err := Environment(&workflow.TaskSpec{Parameters: parameters}, nil, Lookups{})
		if err == nil || !strings.Contains(err.Error(), "becomes longer than 1 MiB") {
			t.Errorf("got %v", err)
		}
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	outputs := map[string]workflow.Value{
		"load":       `{"rows":42,"a":{"b":[1]},"x.y":"dots"}`,
		"a":          `{"b":{"c":"of a"}}`,
		"a.b":        `{"c":"of a.b"}`,
		"etl/load":   `{"rows":43}`,
		"train:big":  `{"acc":0.5}`,
		"scan[3]":    `{"n":3}`,
		"empty":      `{}`,
		"etl/nested": `{"k":"inner"}`,
	}
	for reference, want := range map[string]string{
		"tasks.load.rows":      "42",
		"tasks.load.a.b":       "[1]",
		"tasks.load.x.y":       "dots",
		`tasks.load["x.y"]`:    "dots",
		`tasks["load"]["a"].b`: "[1]",
		"tasks.a.b.c":          "of a.b",
		`tasks["a"].b.c`:       "of a",
		`tasks["a.b"].c`:       "of a.b",
		"tasks.etl/load.rows":  "43",
		"tasks.train:big.acc":  "0.5",
		`tasks["scan[3]"].n`:   "3",
		"tasks.load.none":      `!the output of task "load" has no "none": it has a, rows, x.y`,
		"tasks.load.rows.x":    `!the output of task "load" has no "rows.x": it has a, rows, x.y`,
		"tasks.empty.none":     `!the output of task "empty" has no "none": it is empty`,
		"tasks.never.x":        `!task "never" has given no output: it has not completed in this run, or wrote nothing to $CYCLO_OUTPUT`,
		"tasks.load":           `!the output of a task is named as ${tasks.TASK.KEY}, or ${tasks["TASK"].KEY} where a name has dots`,
		"tasks..load":          `!the output of a task is named as ${tasks.TASK.KEY}, or ${tasks["TASK"].KEY} where a name has dots`,
		`tasks["load]`:         `!the output of a task is named as ${tasks.TASK.KEY}, or ${tasks["TASK"].KEY} where a name has dots`,
		`tasks["load"]`:        `!the output of a task is named as ${tasks.TASK.KEY}, or ${tasks["TASK"].KEY} where a name has dots`,
		`tasks["load"]x`:       `!the output of a task is named as ${tasks.TASK.KEY}, or ${tasks["TASK"].KEY} where a name has dots`,
	} {
		t.Run(reference, func(t *testing.T) {
			t.Parallel()
			asked := 0
			spec := &workflow.TaskSpec{TaskID: "t", Parameters: given{"K": workflow.StringValue(opening + reference + "}")}}
			got, _, err := Environment(spec, nil, Lookups{Outputs: func([]string) (map[string]workflow.Value, error) {
				asked++
				return outputs, nil
			}})
			if text, bad := strings.CutPrefix(want, "!"); bad {
				if err == nil || !strings.HasSuffix(err.Error(), ` in the value of "K": `+text) {
					t.Errorf("got %v, want %s", err, text)
				}
			} else if err != nil || strings.Join(got, " ") != "K="+want || asked != 1 {
				t.Errorf("got %q, %v, asked %d times", got, err, asked)
			}
		})
	}
	// The longest task that there is is meant, though it gave nothing and another has such a key.
	silent := map[string]workflow.Value{"a": `{"b":{"c":1}}`, "a.b": ""}
	meant := &workflow.TaskSpec{TaskID: "t", Parameters: given{"K": `"${tasks.a.b.c}"`}}
	if _, _, err := Environment(meant, nil, Lookups{Outputs: func([]string) (map[string]workflow.Value, error) { return silent, nil }}); err == nil ||
		!strings.Contains(err.Error(), `task "a.b" has given no output`) {
		t.Errorf("the shorter name is taken: %v", err)
	}
	inner := &workflow.TaskSpec{TaskID: "etl/t", Parameters: given{"K": `"${tasks.load.rows} ${tasks.nested.k} ${tasks.a.b.c}"`, "L": "1"}}
	var asked [][]string
	got, _, err := Environment(inner, nil, Lookups{Outputs: func(tasks []string) (map[string]workflow.Value, error) {
		asked = append(asked, tasks)
		return outputs, nil
	}})
	if err != nil || got[0] != "K=43 inner of a.b" {
		t.Error(got, err)
	}
	if diff := cmp.Diff([][]string{{"a", "a.b", "etl/a", "etl/a.b", "etl/load", "etl/nested", "load", "nested"}}, asked); diff != "" {
		t.Error(diff)
	}
	failure := errors.New("down")
	if _, _, err := Environment(inner, nil, Lookups{Outputs: func([]string) (map[string]workflow.Value, error) { return nil, failure }}); !errors.Is(err, failure) {
		t.Error(err)
	}
	// An output is data.
	got, _, err = Environment(&workflow.TaskSpec{Parameters: given{"K": `"${tasks.x.y}!"`}}, nil, Lookups{
		Outputs: func([]string) (map[string]workflow.Value, error) {
			return map[string]workflow.Value{"x": `{"y":"${secret:S} $${Z}"}`}, nil
		},
	})
	if err != nil || got[0] != "K=${secret:S} $${Z}!" {
		t.Error(got, err)
	}
}

func TestSensitive(t *testing.T) {
	t.Parallel()
	lookups := Lookups{Secret: func(name string) (string, error) {
		if name == "none" {
			return "", errors.New("there is none")
		}
		return `s<"` + name, nil
	}}
	spec := &workflow.TaskSpec{
		TaskID: "t",
		Parameters: given{
			"DECLARED": `"one"`, "GIVEN": "null", "LIST": `["two",3,true,{"k":"four"}]`, "OPEN": `"shown"`,
			"URL": `"x://${secret:pw}@h"`, "COPY": `"${DECLARED}+"`, "EMPTY": `""`, "JSON": `["${secret:pw}"]`,
		},
		Checks: map[string]workflow.Check{"DECLARED": {Sensitive: true}, "LIST": {Sensitive: true}, "EMPTY": {Sensitive: true}, "ABSENT": {Sensitive: true}},
	}
	values := &workflow.RunValues{Sensitive: map[string]map[string]workflow.Value{"t": {"GIVEN": `"five"`}}}
	env, sensitive, err := Environment(spec, values, lookups)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"one", "two", "3", "four", `["two",3,true,{"k":"four"}]`, "five", `s<"pw`, `s\u003c\"pw`, `s<\"pw`, `[\"two\",3,true,{\"k\":\"four\"}]`}
	slices.Sort(want)
	if diff := cmp.Diff(want, sensitive); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(env, `URL=x://s<"pw@h`) || !slices.Contains(env, "COPY=one+") || !slices.Contains(env, "GIVEN=five") {
		t.Error(env)
	}
	spec.Parameters["URL"] = `"${secret:none}"`
	if _, _, err := Environment(spec, values, lookups); err == nil || err.Error() != `${secret:none} in the value of "URL": there is none` {
		t.Error(err)
	}
}

const marker = "M4RK3R"

// No error shows what is in a sensitive value, or what came of one.
func TestErrorsHideSensitiveValues(t *testing.T) {
	t.Parallel()
	secret := workflow.Check{Sensitive: true}
	for name, test := range map[string]struct {
		value  workflow.Value
		check  workflow.Check
		others given
	}{
		"unknown":          {value: `"a${` + marker + `}b"`, check: secret},
		"open":             {value: `"${` + marker + `"`, check: secret},
		"env":              {value: `"${env:` + marker + `}"`, check: secret},
		"secret":           {value: `"${secret:` + marker + `}"`, check: secret},
		"output":           {value: `"${tasks.` + marker + `}"`, check: secret},
		"option":           {value: `"` + marker + `"`, check: workflow.Check{Sensitive: true, Options: []workflow.Value{`"x"`}}},
		"validation":       {value: `"` + marker + `"`, check: workflow.Check{Sensitive: true, Validation: "x"}},
		"NUL":              {value: `"` + marker + `\u0000"`, check: secret},
		"copied":           {value: `"${S}"`, check: workflow.Check{Options: []workflow.Value{`"x"`}}, others: given{"S": `"` + marker + `"`}},
		"copied in a text": {value: `"a${S}"`, check: workflow.Check{Validation: "x"}, others: given{"S": `"` + marker + `"`}},
		"a key":            {value: `{"${` + marker + `}":1}`, check: secret},
		"RANDOM":           {value: `"${RANDOM:` + marker + `}"`, check: secret},
	} {
		parameters := given{"K": test.value}
		maps.Copy(parameters, test.others)
		spec := &workflow.TaskSpec{TaskID: "t", Parameters: parameters, Checks: map[string]workflow.Check{"K": test.check, "S": secret}}
		plan := &workflow.Plan{Specs: []*workflow.TaskSpec{spec}, Nodes: []workflow.Node{{Name: "t"}}}
		_, _, err := Environment(spec, nil, Lookups{})
		if err == nil || strings.Contains(err.Error(), marker) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := checkAlone(plan, nil); err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		value workflow.Value
		check workflow.Check
		want  string
	}{
		"missing":       {"null", workflow.Check{Required: true}, "no value for the required parameter K: give it with --param t.K=VALUE"},
		"empty text":    {`""`, workflow.Check{Required: true}, ""},
		"an option":     {`"${A}"`, workflow.Check{Options: []workflow.Value{"1", `"$${x}"`}}, ""},
		"literal":       {`"$${x}"`, workflow.Check{Options: []workflow.Value{"1", `"$${x}"`}}, ""},
		"no option":     {`"${A}2"`, workflow.Check{Options: []workflow.Value{"1", "2"}}, `the value of parameter "K", "12", is none of its options (1, 2)`},
		"matches":       {`"a${A}"`, workflow.Check{Validation: "[a-z][0-9]"}, ""},
		"does not":      {`"${A}${A}"`, workflow.Check{Validation: "[0-9]"}, `the value of parameter "K", "11", does not match its validation "[0-9]"`},
		"null, options": {"null", workflow.Check{Options: []workflow.Value{"1"}}, ""},
	} {
		spec := &workflow.TaskSpec{TaskID: "t", Parameters: given{"K": test.value, "A": "1"}, Checks: map[string]workflow.Check{"K": test.check}}
		_, _, err := Environment(spec, nil, Lookups{})
		message := ""
		if err != nil {
			message = err.Error()
		}
		if !strings.HasPrefix(message, test.want) || test.want == "" && message != "" {
			t.Errorf("%s: got %q, want %q", name, message, test.want)
		}
	}
}
