package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestParseOutput(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]string{
		"":                              "",
		" \n":                           "",
		"# nothing":                     "",
		`{}`:                            `{}`,
		` {"b" : 1e3, "a":["<"] } `:     `{"a":["\u003c"],"b":1e3}`,
		"A=1\r\n\n# x\nb.c = y=z \nA=2": `{"A":"2","b.c":" y=z "}`,
		"A=":                            `{"A":""}`,
		"A=${DATE}":                     `{"A":"${DATE}"}`,
		`{"a":1} x`:                     "!it is not valid JSON: it ends too soon, or something follows",
		`{"a":1`:                        "!it is not valid JSON: it ends too soon, or something follows",
		`{"a":x}`:                       "!it is not valid JSON, at byte 6",
		`[1]`:                           "!it is no JSON object, and line 1 is not KEY=VALUE",
		"A=1\nsecret":                   "!it is no JSON object, and line 2 is not KEY=VALUE",
		"A=1\n1x=secret":                "!line 2 has no valid key",
		`{"a":"\u0000"}`:                "!it holds a NUL character",
		`{"\u0000":1}`:                  "!it holds a NUL character",
		"A=\x00":                        "!it holds a NUL character",
		"A=\xff":                        "!it is not UTF-8",
		"{\"a\":\"\xff\"}":              "!it is not UTF-8",
		`{"a":1e400}`:                   "!it holds a number that is out of range: write it as text",
		`{"a":1e-400}`:                  "!it holds a number that is out of range: write it as text",
		`{"a":0e-400}`:                  `{"a":0e-400}`,
		`{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}":         "!it has more than 100 levels of values in values",
		`{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}": "!it is not valid JSON",
	} {
		got, err := ParseOutput([]byte(written))
		if text, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.HasPrefix(err.Error(), text) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%.50q: got %v, want %s", written, err, text)
			}
		} else if err != nil || string(got) != want {
			t.Errorf("%.50q: got %s, %v, want %s", written, got, err, want)
		}
	}
}

func TestParseEvaluation(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]*workflow.Evaluation{
		"":                                     nil,
		"# nothing\n":                          nil,
		"{}":                                   {},
		`{"next_tasks":[]}`:                    {Chosen: true, NextTasks: []string{}},
		"CYCLO_NEXT=":                          {Chosen: true, NextTasks: []string{}},
		"CYCLO_NEXT=a, b,a\n":                  {Chosen: true, NextTasks: []string{"a", "b"}},
		"CYCLO_NEXT=a, ,b,\nCYCLO_NEXT=,":      {Chosen: true, NextTasks: []string{"a", "b"}},
		"CYCLO_NEXT=a\nCYCLO_NEXT=train:large": {Chosen: true, NextTasks: []string{"a", "train:large"}},
		`{"next_tasks":["a","a"],"parameters":{"t":{"K":[1, 2]},"u":{}},"context_updates":{"V":null,"W":"${x}"},"metadata":{"b":1,"a":{}}}`: {
			Chosen: true, NextTasks: []string{"a"},
			ValueUpdate: workflow.ValueUpdate{
				Variables:  given{"V": "null", "W": `"${x}"`},
				Parameters: map[string]map[string]workflow.Value{"t": {"K": "[1,2]"}, "u": nil},
			},
			Metadata: `{"a":{},"b":1}`,
		},
	} {
		got, err := ParseEvaluation([]byte(written))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", written, err, diff)
		}
	}
	for written, want := range map[string]string{
		`{"next_task":[]}`:           `unknown field "next_task": did you mean "next_tasks"?`,
		`{"zz":[]}`:                  `unknown field "zz"`,
		`{"next_tasks":"a"}`:         `next_tasks: it must be a list of task names, not text`,
		`{"next_tasks":null}`:        `next_tasks: it must be a list of task names, not null`,
		`{"next_tasks":["a",1]}`:     `next_tasks: item 1 must be the name of a task, not a number`,
		`{"next_tasks":[""]}`:        `next_tasks: item 0 is empty`,
		`{"next_tasks":["a\u0000"]}`: `next_tasks: item 0 is no name of a task`,
		`{"next_tasks":["` + strings.Repeat("x", 2000) + `"]}`: `next_tasks: item 0 has more than 1000 bytes`,
		`{"parameters":[]}`:                  `parameters: it must be an object of tasks, not a list`,
		`{"parameters":{"t":1}}`:             `parameters: task "t": it must be an object of values, not a number`,
		`{"parameters":{"t":{"a b":1}}}`:     `parameters: task "t": "a b" is no valid name`,
		`{"parameters":{"":{}}}`:             `parameters: the name of a task is empty`,
		`{"parameters":{"t":{"K":1e999}}}`:   `parameters: task "t": the value of K: it holds a number that is out of range`,
		`{"context_updates":true}`:           `context_updates: it must be an object of values, not true or false`,
		`{"context_updates":{"K":"\u0000"}}`: `context_updates: the value of K: it holds a NUL character`,
		`{"metadata":[]}`:                    `metadata must be an object, not a list`,
		`{"metadata":{"a":"\u0000"}}`:        `metadata: it holds a NUL character`,
		`{"next_tasks":[`:                    `it is not valid JSON`,
		`["a"]`:                              `it is no JSON object, and line 1 is not KEY=VALUE`,
		"CYCLO_NEXT=a\nX=1":                  `line 2: unknown field "X": a result is a JSON object, or lines CYCLO_NEXT=a,b`,
	} {
		got, err := ParseEvaluation([]byte(written))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.50s: got %v, %v, want %s", written, got, err, want)
		}
	}
}

// Whatever a task writes, the answer is an error or something that can be written again.
func TestParseAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		written := rapid.OneOf(
			rapid.String(), rapid.StringMatching(`\{("(next_tasks|parameters|metadata|x)":(1|"a"|\[\]|\["a"\]|\{\}|\{"t":\{"K":1\}\}|null),?){0,3}\}`),
			rapid.StringMatching(`((CYCLO_NEXT|A)=[a,]{0,4}\n){0,3}`),
		).Draw(t, "written")
		if output, err := ParseOutput([]byte(written)); err == nil && output != "" {
			if again, err := ParseOutput([]byte(output)); again != output || err != nil {
				t.Fatalf("%s became %s, %v", output, again, err)
			}
		}
		evaluation, err := ParseEvaluation([]byte(written))
		if err != nil || evaluation == nil {
			return
		}
		text, err := evaluation.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseEvaluation(text)
		if err != nil || cmp.Diff(evaluation.NextTasks, again.NextTasks) != "" || evaluation.Chosen != again.Chosen {
			t.Fatalf("%s became %v, %v", text, again, err)
		}
	})
}
