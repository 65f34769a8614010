package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func parse(t *testing.T, kind Kind, text string) []Definition {
	t.Helper()
	definitions, problems := Parse(kind, "f.yaml", []byte(text), Defaults{})
	for _, problem := range problems {
		t.Errorf("%v", problem)
	}
	return definitions
}

func problemTexts(problems []Problem) []string {
	var texts []string
	for _, problem := range problems {
		text := problem.Error()
		if problem.Hint != "" {
			text += " | " + problem.Hint
		}
		texts = append(texts, text)
	}
	return texts
}

// onlyTask parses the fields of task a.
func onlyTask(t *testing.T, fields string) *workflow.Task {
	t.Helper()
	definitions := parse(t, KindTask, "id: a\ncommand: run\n"+fields)
	if len(definitions) != 1 {
		t.Fatalf("got %d definitions", len(definitions))
	}
	return definitions[0].Task
}

func TestParseTask(t *testing.T) {
	t.Parallel()
	definitions := parse(t, KindTask, `
id: clean.tables-1
name: Clean the tables
description: |
  two
  lines
command: ./clean.sh
dependencies: [fetch, "007"]
parameters:
  COUNT: 3
  mode: {default: fast, description: how}
  list: [a, {b: null}]
  fixed: {value: yes}
  open: {description: no default}
  none:
queue: cpu
tags: [x, 2024-01-31]
requires: ["region:us-east"]
priority: 1
timeout_seconds: 2.5
retries: {count: 3, delay_seconds: 0, exponential_backoff: true, max_delay_seconds: 60}
env: {PORT: 080, DEBUG: true, EMPTY: "", ESC: "$${HOME}"}
`)
	want := &workflow.Task{
		ID: "clean.tables-1", Name: "Clean the tables", Description: "two\nlines\n", Command: "./clean.sh",
		Dependencies: []string{"fetch", "007"},
		Parameters: map[string]workflow.Parameter{
			"COUNT": {Default: "3"},
			"mode":  {Default: `"fast"`, Description: "how"},
			"list":  {Default: `["a",{"b":null}]`},
			"fixed": {Default: `"yes"`},
			"open":  {Description: "no default"},
			"none":  {},
		},
		Queue: "cpu", Tags: []string{"x", "2024-01-31"}, Requires: []string{"region:us-east"},
		Priority: 1, TimeoutSeconds: 2.5,
		Retries: workflow.Retries{Count: 3, ExponentialBackoff: true, MaxDelaySeconds: 60},
		Env:     map[string]string{"PORT": "080", "DEBUG": "true", "EMPTY": "", "ESC": "$${HOME}"},
	}
	if diff := cmp.Diff(want, definitions[0].Task); diff != "" {
		t.Error(diff)
	}
}

func TestParseFillsInDefaults(t *testing.T) {
	t.Parallel()
	task := onlyTask(t, "dependencies: []\nenv:\ntags: ~\nretries: 2\n")
	want := &workflow.Task{
		ID: "a", Command: "run", Queue: "default", Priority: 2,
		Retries: workflow.Retries{Count: 2, DelaySeconds: 1},
	}
	if diff := cmp.Diff(want, task); diff != "" {
		t.Error(diff)
	}
	definitions, _ := Parse(KindTask, "f", []byte("{id: a, command: x}"), Defaults{Queue: "cpu"})
	if got := definitions[0].Task.Queue; got != "cpu" {
		t.Errorf("queue %q", got)
	}
}

func TestParseDAG(t *testing.T) {
	t.Parallel()
	definitions := parse(t, KindDAG, `
id: nightly
tags: [x]
context: prod
include_dependencies: true
variables: {DATE: 2024-01-31, N: 1}
tasks:
  - id: a
  - {id: b, queue: cpu, dependencies: [], parameters: {K: 2}}
  - id: c
    command: echo
    dependencies: [a]
`)
	want := &DAG{DAG: workflow.DAG{
		ID: "nightly", Tags: []string{"x"}, Context: "prod",
		Variables: map[string]workflow.Value{"DATE": `"2024-01-31"`, "N": "1"},
		Tasks: []workflow.DAGTask{
			{ID: "a", Overrides: workflow.Task{ID: "a"}},
			{
				ID: "b", Given: []string{"dependencies", "parameters", "queue"},
				Overrides: workflow.Task{ID: "b", Queue: "cpu", Parameters: map[string]workflow.Parameter{"K": {Default: "2"}}},
			},
			{
				ID: "c", Given: []string{"command", "dependencies"},
				Overrides: workflow.Task{ID: "c", Command: "echo", Dependencies: []string{"a"}, Queue: "default", Priority: 2},
			},
		},
	}, IncludeDependencies: true}
	if diff := cmp.Diff(want, definitions[0].DAG); diff != "" {
		t.Error(diff)
	}
}

func TestParseContext(t *testing.T) {
	t.Parallel()
	definitions := parse(t, KindContext, "id: prod\nextends: base\ndescription: d\nvariables: {A: 1, inputPath: /x, none: }\n")
	want := &workflow.Context{
		ID: "prod", Extends: "base", Description: "d",
		Variables: map[string]workflow.Value{"A": "1", "inputPath": `"/x"`, "none": "null"},
	}
	if diff := cmp.Diff(want, definitions[0].Context); diff != "" {
		t.Error(diff)
	}
}

func TestParseForms(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"one document":       {"id: a\ncommand: x", []string{"a"}},
		"several documents":  {"id: a\ncommand: x\n---\nid: b\ncommand: x\n...\n---\n", []string{"a", "b"}},
		"a list":             {"- {id: a, command: x}\n- {id: b, command: x}", []string{"a", "b"}},
		"lists in documents": {"- {id: a, command: x}\n---\n- {id: b, command: x}", []string{"a", "b"}},
		"empty":              {"", nil},
		"comments":           {"# nothing\n---\n# here\n", nil},
		"JSON":               {`{"id": "a", "command": "x"}`, []string{"a"}},
		"byte order mark":    {"\ufeffid: a\ncommand: x", []string{"a"}},
		"CR LF":              {"id: a\r\ncommand: x\r\n", []string{"a"}},
		"merge":              {"- &a\n  id: a\n  command: x\n- <<: *a\n  id: b\n", []string{"a", "b"}},
		"list of merges":     {"- &a {id: a, command: x}\n- {<<: [{id: b}, *a]}\n", []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ids []string
			for _, definition := range parse(t, KindTask, test.text) {
				ids = append(ids, definition.ID)
				if definition.Task.Command != "x" {
					t.Errorf("command of %s is %q", definition.ID, definition.Task.Command)
				}
			}
			if diff := cmp.Diff(test.want, ids); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestValuesKeepExactness(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]workflow.Value{
		"9007199254740993":        "9007199254740993",
		"123456789012345678901":   "123456789012345678901",
		"-5":                      "-5",
		"+5":                      "5",
		"1e3":                     "1e3",
		"1.50":                    "1.50",
		".5":                      "0.5",
		"-.5e-2":                  "-0.5e-2",
		"5.":                      "5",
		"0o17":                    "15",
		"0xFF":                    "255",
		"0xFFFFFFFFFFFFFFFFFFFF":  "1208925819614629174706175",
		"0":                       "0",
		"007":                     `"007"`,
		"1_000":                   `"1_000"`,
		"0b11":                    `"0b11"`,
		"2024-01-31":              `"2024-01-31"`,
		"2024-01-31T01:02:03Z":    `"2024-01-31T01:02:03Z"`,
		"12:30:45":                `"12:30:45"`,
		"yes":                     `"yes"`,
		"off":                     `"off"`,
		"True":                    "true",
		"false":                   "false",
		"'true'":                  `"true"`,
		"\"1\"":                   `"1"`,
		"!!str 1":                 `"1"`,
		"! 1":                     `"1"`,
		"!!int \"1\"":             "1",
		"!!float 1":               "1",
		"{a: 1, 2: b, 'c': [~]}":  `{"a":1,"2":"b","c":[null]}`,
		"<b>&":                    `"\u003cb\u003e\u0026"`,
		"'ünï ☃'":                 `"ünï ☃"`,
		"$${DATE}":                `"$${DATE}"`,
		"$HOME $(x) {y}":          `"$HOME $(x) {y}"`,
		"|\n    two\n    lines\n": `"two\nlines\n"`,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			if got := onlyTask(t, "parameters: \n  K:\n   default: "+text+"\n").Parameters["K"].Default; got != want {
				t.Errorf("as the default: got %s, want %s", got, want)
			}
			if strings.HasPrefix(text, "{") {
				return // a map is a value in the long form only
			}
			if got := onlyTask(t, "parameters:\n  K: "+text+"\n").Parameters["K"].Default; got != want {
				t.Errorf("alone: got %s, want %s", got, want)
			}
		})
	}
}

// TestBadDefinitions has every kind of bad input, with the place that is told.
func TestBadDefinitions(t *testing.T) {
	t.Parallel()
	const ok = "id: a\ncommand: x\n"
	for name, test := range map[string]struct {
		kind Kind
		text string
		want []string
	}{
		"broken flow":     {KindTask, "id: [a\ncommand: x", []string{"f.yaml:2:8: broken YAML: did not find expected ',' or ']' while parsing a flow sequence that begins on line 1, column 5"}},
		"unclosed quote":  {KindTask, "id: a\ncommand: \"x\n", []string{"f.yaml:3:1: broken YAML: found unexpected end of stream while scanning a quoted scalar that begins on line 2, column 10"}},
		"colon in a text": {KindTask, "id: a\ncommand: b: c", []string{"f.yaml:2:11: broken YAML: mapping values are not allowed in this context"}},
		"tab":             {KindTask, "id: a\nenv:\n\tA: b", []string{"f.yaml:3:1: broken YAML: found character that cannot start any token | indent with spaces: YAML takes no tabs there"}},
		"unknown alias":   {KindTask, "id: *x", []string{"f.yaml:1:5: broken YAML: unknown anchor 'x' referenced"}},
		"later document":  {KindTask, ok + "---\nid: [", []string{"f.yaml:4:6: broken YAML: did not find expected node content"}},
		"each document": {KindTask, "id: [\n--- # two\nid: b\n\tcommand: x\n---\nid: c\ncomand: x\n---\nname: \x00\n---\nid: \"e\n", []string{
			"f.yaml:2:1: broken YAML: did not find expected node content", "f.yaml:4:1: broken YAML: found a tab character that violates indentation while scanning a plain scalar that begins on line 3, column 5 | indent with spaces: YAML takes no tabs there",
			`f.yaml:6:1: task "c" has no command | give it the shell command to run`, `f.yaml:7:1: unknown field "comand" of a task: did you mean "command"?`,
			"f.yaml:9:7: the file holds a NUL byte", "f.yaml:12:1: broken YAML: found unexpected end of stream while scanning a quoted scalar that begins on line 11, column 5",
		}},
		"NUL byte":            {KindTask, "id: a\ncommand: é\x00", []string{"f.yaml:2:11: the file holds a NUL byte"}},
		"NUL escape":          {KindTask, "id: a\ncommand: \"a\\0b\"", []string{"f.yaml:2:10: command holds a NUL character"}},
		"NUL in a value":      {KindTask, ok + "parameters: {K: [\"\\0\"]}", []string{"f.yaml:3:18: K holds a NUL character"}},
		"control character":   {KindTask, "id: a\r\ncommand: \x07", []string{"f.yaml:2:10: the file holds the control character U+0007"}},
		"Latin-1":             {KindTask, "id: a\nname: caf\xe9", []string{"f.yaml:2:10: the byte 0xE9 is not UTF-8 | save the file as UTF-8"}},
		"UTF-16":              {KindTask, "\xff\xfei\x00", []string{"f.yaml:1:1: the byte 0xFF is not UTF-8 | save the file as UTF-8"}},
		"no definition":       {KindTask, "hello", []string{`f.yaml:1:1: a task must be a map, or a list of maps, not the text "hello"`}},
		"no definition there": {KindTask, "- hello\n- [a]", []string{`f.yaml:1:3: a task must be a map, not the text "hello"`, "f.yaml:2:3: a task must be a map, not a list"}},

		"unknown field":       {KindTask, ok + "comand: y", []string{`f.yaml:3:1: unknown field "comand" of a task: did you mean "command"?`}},
		"unknown, unlike any": {KindTask, ok + "zebra: y", []string{`f.yaml:3:1: unknown field "zebra" of a task`}},
		"unknown in DAG":      {KindDAG, "id: d\ncontex: x\ntasks: [{id: a, quue: x}]", []string{`f.yaml:2:1: unknown field "contex" of a DAG: did you mean "context"?`, `f.yaml:3:17: unknown field "quue" of a task: did you mean "queue"?`}},
		"unknown in context":  {KindContext, "id: c\nextend: x", []string{`f.yaml:2:1: unknown field "extend" of a context: did you mean "extends"?`}},
		"unknown in retries":  {KindTask, ok + "retries: {delay: 3}", []string{`f.yaml:3:11: unknown field "delay" of a retry policy`}},
		"a map as parameter":  {KindTask, ok + "parameters: {K: {x: 1}}", []string{`f.yaml:3:18: unknown field "x" of a parameter | to give a map as the value, write K: {default: {…}}`}},
		"missing id":          {KindTask, "command: x", []string{"f.yaml:1:1: this task has no id"}},
		"empty id":            {KindTask, "id:\ncommand: x", []string{"f.yaml:1:1: this task has no id"}},
		"missing ids":         {KindTask, "- command: x\n- command: y", []string{"f.yaml:1:3: this task has no id", "f.yaml:2:3: this task has no id"}},
		"DAG without id":      {KindDAG, "tasks: [{id: a}, {queue: x}]", []string{"f.yaml:1:1: this DAG has no id", "f.yaml:1:18: this task has no id"}},
		"context without id":  {KindContext, "variables: {}", []string{"f.yaml:1:1: this context has no id"}},
		"missing command":     {KindTask, "- id: a\n- id: b", []string{`f.yaml:1:3: task "a" has no command | give it the shell command to run`, `f.yaml:2:3: task "b" has no command | give it the shell command to run`}},
		"invalid id":          {KindTask, "id: a b\ncommand: x", []string{`f.yaml:1:5: id "a b" is not valid: it takes 1 to 200 of the characters A-Z a-z 0-9 _ . -`}},
		"long id":             {KindTask, "id: " + strings.Repeat("a", 201) + "\ncommand: x", []string{`f.yaml:1:5: id "` + strings.Repeat("a", 60) + `…" is not valid: it takes 1 to 200 of the characters A-Z a-z 0-9 _ . -`}},
		"duplicate key":       {KindTask, ok + "env: {A: 1, A: 2}\nid: b", []string{`f.yaml:3:13: "A" is given twice: first on line 3, column 7`, `f.yaml:4:1: "id" is given twice: first on line 1, column 1`}},
		"duplicate in value":  {KindTask, ok + "parameters: {K: {default: {x: 1, x: 2}}}", []string{`f.yaml:3:34: a key is given twice: first on line 3, column 28`}},
		"key that is a list":  {KindTask, ok + "[a]: b", []string{"f.yaml:3:1: a key must be text, not a list"}},
		"empty key":           {KindTask, ok + "~: b", []string{"f.yaml:3:1: a key must be text, not empty"}},

		"empty command":         {KindTask, "id: a\ncommand: \"  \"", []string{"f.yaml:2:10: the command is empty"}},
		"command of a list":     {KindTask, "id: a\ncommand: [x]", []string{"f.yaml:2:10: command must be text, not a list"}},
		"name of a map":         {KindTask, ok + "name: {a: b}", []string{"f.yaml:3:7: name must be text, not a map"}},
		"dependencies, text":    {KindTask, ok + "dependencies: b", []string{`f.yaml:3:15: dependencies must be a list, not the text "b"`}},
		"dependency, bad":       {KindTask, ok + "dependencies:\n- b\n- {a: b}\n- c d\n-", []string{"f.yaml:5:3: dependency must be text, not a map", `f.yaml:6:3: dependency "c d" is not valid: it takes 1 to 200 of the characters A-Z a-z 0-9 _ . -`, "f.yaml:7:2: dependency must be text, not empty"}},
		"tags, empty":           {KindTask, ok + "tags: ['']", []string{"f.yaml:3:8: an item of tags is empty"}},
		"parameters, list":      {KindTask, ok + "parameters: [a]", []string{"f.yaml:3:13: parameters must be a map, not a list"}},
		"parameter, name":       {KindTask, ok + "parameters: {\"a b\": 1}", []string{`f.yaml:3:14: "a b" is no valid name: it takes letters, digits, _ . and -, and begins with a letter or _`}},
		"parameter, both":       {KindTask, ok + "parameters: {K: {default: 1, value: 2}}", []string{"f.yaml:3:17: parameter K has both a default and a value: give one"}},
		"priority, 9":           {KindTask, ok + "priority: 9", []string{"f.yaml:3:11: priority must be from 1 to 4, not 9"}},
		"priority, 0":           {KindTask, ok + "priority: 0", []string{"f.yaml:3:11: priority must be from 1 to 4, not 0"}},
		"priority, negative":    {KindTask, ok + "priority: -1", []string{"f.yaml:3:11: priority must be from 1 to 4, not -1"}},
		"priority, huge":        {KindTask, ok + "priority: 99999999999999999999", []string{"f.yaml:3:11: priority must be from 1 to 4, not 99999999999999999999"}},
		"priority, text":        {KindTask, ok + "priority: \"1\"", []string{`f.yaml:3:11: priority must be a whole number, not the text "1"`}},
		"priority, fraction":    {KindTask, ok + "priority: 1.5", []string{"f.yaml:3:11: priority must be a whole number, not 1.5"}},
		"priority, list":        {KindTask, ok + "priority: [1]", []string{"f.yaml:3:11: priority must be a whole number, not a list"}},
		"timeout, negative":     {KindTask, ok + "timeout_seconds: -1", []string{"f.yaml:3:18: timeout_seconds must be from 0 to 315360000 seconds, not -1"}},
		"timeout, NaN":          {KindTask, ok + "timeout_seconds: .nan", []string{"f.yaml:3:18: timeout_seconds must be a number of seconds, not .nan"}},
		"timeout, infinite":     {KindTask, ok + "timeout_seconds: .inf", []string{"f.yaml:3:18: timeout_seconds must be a number of seconds, not .inf"}},
		"timeout, huge":         {KindTask, ok + "timeout_seconds: 1e300", []string{"f.yaml:3:18: timeout_seconds must be from 0 to 315360000 seconds, not 1e300"}},
		"timeout, duration":     {KindTask, ok + "timeout_seconds: 5m", []string{`f.yaml:3:18: timeout_seconds must be a number of seconds, not the text "5m"`}},
		"retries, negative":     {KindTask, ok + "retries: -1", []string{"f.yaml:3:10: retries must be from 0 to 10000, not -1"}},
		"retries, in a map":     {KindTask, ok + "retries: {count: many, exponential_backoff: yes}", []string{`f.yaml:3:18: count must be a whole number, not the text "many"`, `f.yaml:3:45: exponential_backoff must be true or false, not the text "yes"`}},
		"env, list":             {KindTask, ok + "env: [A=b]", []string{"f.yaml:3:6: env must be a map, not a list"}},
		"env, name":             {KindTask, ok + "env: {a-b: 1}", []string{`f.yaml:3:7: "a-b" is no valid name of an environment variable: it takes letters, digits and _, and begins with no digit`}},
		"env, empty":            {KindTask, ok + "env: {A: }", []string{"f.yaml:3:10: A must be text, not empty"}},
		"env, value":            {KindTask, ok + "env: {A: [1]}", []string{"f.yaml:3:10: A must be text, not a list"}},
		"number, no JSON":       {KindTask, ok + "parameters: {A: .inf, B: 1e999}", []string{"f.yaml:3:17: the number cannot be kept exactly | put it in quotes to have it as text", "f.yaml:3:26: the number cannot be kept exactly | put it in quotes to have it as text"}},
		"tag":                   {KindTask, ok + "name: !!set x\nparameters: {A: !!int x, B: !mine 1}", []string{`f.yaml:3:7: name must be text, not "x" with the tag !!set`, `f.yaml:4:17: A must be text, not a value with another tag`, `f.yaml:4:29: B must be text, not a value with another tag`}},
		"include_dependencies":  {KindDAG, "id: d\ntasks: [{id: a}]\ninclude_dependencies: yes", []string{`f.yaml:3:23: include_dependencies must be true or false, not the text "yes"`}},
		"DAG, no tasks":         {KindDAG, "- id: d\n- {id: e, tasks: []}", []string{`f.yaml:1:3: DAG "d" has no tasks | list them under tasks, each as - id: TASK`, `f.yaml:2:3: DAG "e" has no tasks | list them under tasks, each as - id: TASK`}},
		"DAG, task as text":     {KindDAG, "id: d\ntasks: [a]", []string{`f.yaml:2:9: a task of a DAG must be a map, not the text "a" | write - id: a`}},
		"context, variables":    {KindContext, "id: c\nvariables: [a]", []string{"f.yaml:2:12: variables must be a map, not a list"}},
		"merge of a text":       {KindTask, ok + "<<: x", []string{`f.yaml:3:5: "<<" must be a map or a list of maps, not the text "x"`}},
		"anchor in itself":      {KindTask, ok + "parameters: {K: &k [*k]}", []string{"f.yaml:3:21: more than 100 levels of values in values"}},
		"reference, open":       {KindTask, ok + "parameters: {K: \"a ${DATE b\", L: ['${X'], M: '${Y}'}", []string{`f.yaml:3:17: K: "${" begins a reference that has no "}" | write $${ for a literal ${`, `f.yaml:3:35: L: "${" begins a reference that has no "}" | write $${ for a literal ${`}},
		"open in a map":         {KindContext, "id: c\nvariables: {K: {\"x${A\": 1, y: \"$${A} ${B\"}}", []string{`f.yaml:2:17: a key: "${" begins a reference that has no "}" | write $${ for a literal ${`, `f.yaml:2:31: y: "${" begins a reference that has no "}" | write $${ for a literal ${`}},
		"open in env":           {KindTask, ok + "env: {A: \"${secret:x\"}", []string{`f.yaml:3:10: A: "${" begins a reference that has no "}" | write $${ for a literal ${`}},
		"several in one":        {KindTask, "id: a\npriority: 7\nqueu: b\ntimeout_seconds: -2\n", []string{"f.yaml:1:1: task \"a\" has no command | give it the shell command to run", "f.yaml:2:11: priority must be from 1 to 4, not 7", `f.yaml:3:1: unknown field "queu" of a task: did you mean "queue"?`, "f.yaml:4:18: timeout_seconds must be from 0 to 315360000 seconds, not -2"}},
		"columns in characters": {KindTask, "{id: a, name: äöü, command: x, priority: 5}", []string{"f.yaml:1:42: priority must be from 1 to 4, not 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			definitions, problems := Parse(test.kind, "f.yaml", []byte(test.text), Defaults{})
			if diff := cmp.Diff(test.want, problemTexts(problems)); diff != "" {
				t.Error(diff)
			}
			for _, definition := range definitions {
				if !definition.Broken && name != "later document" {
					t.Errorf("%s %s is not broken", definition.Kind, definition.ID)
				}
			}
		})
	}
}

func TestGoodDefinitionsBesideBrokenOnes(t *testing.T) {
	t.Parallel()
	definitions, problems := Parse(KindTask, "f.yaml", []byte("- {id: a, command: x}\n- {id: b, priority: 9, command: x}\n- {id: c, command: x}\n"), Defaults{})
	var got []string
	for _, definition := range definitions {
		got = append(got, fmt.Sprint(definition.ID, definition.Broken))
	}
	if diff := cmp.Diff([]string{"afalse", "btrue", "cfalse"}, got); diff != "" {
		t.Error(diff)
	}
	if len(problems) != 1 || problems[0].ID != "b" || problems[0].Kind != KindTask {
		t.Errorf("got %+v", problems)
	}
}

// TestBrokenDocuments: a document that cannot be read hides no other, and is known by its id.
func TestBrokenDocuments(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"id: one\ncommand: [\n---\nid: two\ncommand: x\n":                  {"one broken 1:5", "two"},
		"id: one\ncommand: x\n---\nid: 'two' # 2\ncommand: [\n":            {"one", "two broken 4:6"},
		"id: one\ncommand: x\n--- {id: two, command: [}\n":                 {"one", "two broken 3:10"},
		"- id: one\n  command: x\n- {id: two, dependencies: [}\n":          {"one broken 1:7", "two broken 3:8"},
		"id: dag\ntasks:\n- id: task\n  name: [\n---\nid: two\ncommand: x": {"dag broken 1:5", "two"},
		"id: [x\ntasks:\n- id: task\n---\nid: two\ncommand: x":             {"two"},
		"# a list\n---\n- id: one\n  name: [\n- id: two\n":                 {"one broken 3:7", "two broken 5:7"},
		"tasks: [\n---\n{id: two, command: x}\n":                           {"two"},
		"%YAML 1.2\n---\nid: one\ncommand: [\n":                            nil,
	} {
		definitions, problems := Parse(KindTask, "f.yaml", []byte(text), Defaults{})
		var got []string
		for i := range definitions {
			name := definitions[i].ID
			if definitions[i].Broken {
				name += fmt.Sprintf(" broken %d:%d", definitions[i].at.id.line, definitions[i].at.id.column)
			}
			got = append(got, name)
		}
		if diff := cmp.Diff(want, got); diff != "" || len(problems) != 1 {
			t.Errorf("%q: %s, problems %v", text, diff, problems)
		}
	}
}

func TestAliasesAreBounded(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("id: a\ncommand: x\nparameters:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		former := fmt.Sprintf("*a%d", i-1)
		fmt.Fprintf(&text, "  a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(former+", ", 9), ", "))
	}
	fmt.Fprintf(&text, "env: &e {A: \"%s\"}\n", strings.Repeat("x", 1<<20))
	for name, laughs := range map[string]string{
		"billion laughs":   text.String(),
		"a long text":      "id: a\ncommand: x\nparameters:\n  a: &a \"" + strings.Repeat("x", 1<<20) + "\"\n  b: [" + strings.Repeat("*a, ", 100) + "]\n",
		"anchors in merge": "id: a\ncommand: x\nenv: &a {<<: [" + strings.TrimSuffix(strings.Repeat("*a, ", 50), ", ") + "]}\n",
		"two of itself":    "id: a\ncommand: x\nparameters: {a: &a [*a, *a]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := Parse(KindTask, "f.yaml", []byte(laughs), Defaults{})
			if len(problems) != 1 || !strings.Contains(problems[0].Message, "aliases in this file stand for more than 32 MiB") &&
				!strings.Contains(problems[0].Message, "more than 100 levels") {
				t.Errorf("got %v", problems)
			}
		})
	}
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	_, problems := Parse(KindTask, "f.yaml", make([]byte, MaxFileBytes+1), Defaults{})
	if diff := cmp.Diff([]string{"f.yaml:1:1: the file has more than 32 MiB"}, problemTexts(problems)); diff != "" {
		t.Error(diff)
	}
	_, problems = Parse(KindTask, "f.yaml", []byte(strings.Repeat("- {id: a, command: x, priority: 5}\n", 3000)), Defaults{})
	if len(problems) != maxProblems+1 || problems[maxProblems].Message != "more than 1000 problems: the rest of the file was not checked" {
		t.Errorf("%d problems, the last one %v", len(problems), problems[len(problems)-1])
	}
	_, problems = Parse(KindTask, "f.yaml", []byte("id: "+strings.Repeat("[", 100_000)), Defaults{})
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "broken YAML: exceeded max depth") {
		t.Errorf("got %v", problems)
	}
}
