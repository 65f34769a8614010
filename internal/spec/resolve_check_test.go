package spec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func planOf(specs ...*workflow.TaskSpec) *workflow.Plan {
	plan := &workflow.Plan{Specs: specs}
	for i, spec := range specs {
		name := spec.TaskID
		if spec.Variant != "" {
			name += ":" + spec.Variant
		}
		plan.Nodes = append(plan.Nodes, workflow.Node{Name: name, Spec: int32(i)})
	}
	return plan
}

// checkAlone checks values where there are no tasks but those of the plan.
func checkAlone(plan *workflow.Plan, values *workflow.RunValues) error {
	return NewCatalog(nil, CatalogOptions{}).CheckValues(plan, values)
}

func TestCheckValues(t *testing.T) {
	t.Parallel()
	c := catalogOf(t, "- {id: defined, command: x}", "", "")
	one := func(value workflow.Value) *workflow.TaskSpec {
		return &workflow.TaskSpec{TaskID: "t", Parameters: given{"K": value}}
	}
	checked := func(value workflow.Value, check workflow.Check) *workflow.TaskSpec {
		spec := one(value)
		spec.Checks = map[string]workflow.Check{"K": check}
		return spec
	}
	each := func(spec *workflow.TaskSpec, items workflow.ForEach) *workflow.TaskSpec {
		spec.ForEach = &items
		return spec
	}
	digits := workflow.Check{Validation: "[0-9]+"}
	for name, test := range map[string]struct {
		spec   *workflow.TaskSpec
		values workflow.RunValues
		want   string
	}{
		"plain":                  {spec: one("1")},
		"an output of the plan":  {spec: one(`"${tasks.t.x}"`)},
		"of a definition":        {spec: one(`"${tasks.defined.x.y}"`)},
		"of a variant":           {spec: one(`"${tasks.defined:large.x}"`)},
		"of an item":             {spec: one(`"${tasks[\"defined[0]\"].x}"`)},
		"of nobody":              {spec: one(`"${tasks.defned.x}"`), want: `task "t": ${tasks.defned.x} in the value of "K": there is no task "defned", neither in this run nor among the definitions`},
		"later":                  {spec: checked(`"${tasks.defined.x}${RUN_ID}${env:A}${secret:B}${RANDOM:4}${DATE}"`, digits)},
		"later, copied":          {spec: &workflow.TaskSpec{TaskID: "t", Parameters: given{"A": `"${env:A}"`, "K": `["${A}"]`}, Checks: map[string]workflow.Check{"K": digits}}},
		"unknown":                {spec: one(`"${zzzz}"`), want: `task "t": unknown ${zzzz} in the value of "K"`},
		"unknown of all":         {spec: one("1"), values: workflow.RunValues{Variables: given{"V": `"${zzzz}"`}}, want: `task "t": unknown ${zzzz} in the value of "V"`},
		"known by the task":      {spec: one("1"), values: workflow.RunValues{Variables: given{"V": `"${K}"`}}},
		"unknown in env":         {spec: one("1"), values: workflow.RunValues{Env: map[string]string{"V": "${zzzz}"}}, want: `task "t": unknown ${zzzz} in the value of "V"`},
		"unknown in a given one": {spec: one("1"), values: workflow.RunValues{Parameters: map[string]map[string]workflow.Value{"t": {"K": `"${zzzz}"`}}}, want: `task "t": unknown ${zzzz} in the value of "K"`},
		"a cycle":                {spec: one(`"${V}"`), values: workflow.RunValues{Variables: given{"V": `"${K}"`}}, want: `task "t": values refer to each other in a cycle: K -> V -> K`},
		"a cycle that is not":    {spec: one(`1`), values: workflow.RunValues{Variables: given{"V": `"${K}"`, "K": `"${V}"`}}},
		"a cycle with an env":    {spec: one(`1`), values: workflow.RunValues{Variables: given{"V": `"${E}"`}, Env: map[string]string{"E": "${V}"}}, want: `task "t": values refer to each other in a cycle: E -> V -> E`},
		"no logical date":        {spec: one(`"${LOGICAL_DATE}"`), want: `task "t": ${LOGICAL_DATE} in the value of "K": the run has no logical date`},
		"a logical date":         {spec: one(`"${LOGICAL_DATE}"`), values: workflow.RunValues{Macros: &workflow.Macros{LogicalDate: time.Unix(1, 0)}}},
		"required":               {spec: checked("null", workflow.Check{Required: true}), want: `task "t": no value for the required parameter K: give it with --param t.K=VALUE`},
		"required and given":     {spec: checked("null", workflow.Check{Required: true}), values: workflow.RunValues{Sensitive: map[string]map[string]workflow.Value{"t": {"K": "1"}}}},
		"required, by env":       {spec: checked("null", workflow.Check{Required: true}), values: workflow.RunValues{Env: map[string]string{"K": "1"}}},
		"required, later":        {spec: checked(`"${tasks.defined.x}"`, workflow.Check{Required: true})},
		"validation":             {spec: checked(`"${V}"`, digits), values: workflow.RunValues{Variables: given{"V": `"x"`}}, want: `task "t": the value of parameter "K", "x", does not match its validation "[0-9]+"`},
		"options":                {spec: checked("3", workflow.Check{Options: []workflow.Value{"1"}}), want: `task "t": the value of parameter "K", "3", is none of its options`},
		"ITEM without items":     {spec: one(`"${ITEM}"`), want: `task "t": unknown ${ITEM} in the value of "K"`},
		"ITEM":                   {spec: each(checked(`"${ITEM}${ITEM_INDEX}"`, digits), workflow.ForEach{Reference: "${tasks.defined.list}"})},
		"items":                  {spec: each(one(`["a"]`), workflow.ForEach{Reference: "${K}"})},
		"items that are no list": {spec: each(one(`1`), workflow.ForEach{Reference: "${K}"}), want: `task "t": for_each: ${K} is not a list: it is 1`},
		"unknown items":          {spec: each(one(`1`), workflow.ForEach{Reference: "${zzzz}"}), want: `task "t": unknown ${zzzz} in the value of "for_each"`},
		"unknown in an item":     {spec: each(one(`1`), workflow.ForEach{Items: []workflow.Value{"1", `"${zzzz}"`}}), want: `task "t": unknown ${zzzz} in the value of "ITEM"`},
		"unknown in one item":    {spec: &workflow.TaskSpec{TaskID: "t", Item: &workflow.Item{Value: `"${zzzz}"`}}, want: `task "t": unknown ${zzzz} in the value of "ITEM"`},
		"secret items": {
			spec: each(checked(`["a"]`, workflow.Check{Sensitive: true}), workflow.ForEach{Reference: "${K}"}),
			want: `task "t": for_each takes a sensitive value: items are stored and shown`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.CheckValues(planOf(test.spec), &test.values)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	if err := checkAlone(planOf(one(`"${tasks.defined.x}"`)), nil); err == nil {
		t.Error("a task that is not in the plan is none without a catalog")
	}
	variant := checked("null", workflow.Check{Required: true})
	variant.Variant = "large"
	if err := checkAlone(planOf(variant), nil); err == nil || !strings.HasSuffix(err.Error(), "--param t:large.K=VALUE") {
		t.Error(err)
	}
	many := make([]*workflow.TaskSpec, 50)
	for i := range many {
		many[i] = checked("null", workflow.Check{Required: true})
	}
	if err := checkAlone(planOf(many...), nil); strings.Count(err.Error(), "\n") != maxFaults-1 {
		t.Error(err)
	}
}

// What Values gives, and when a run has macros.
func TestValues(t *testing.T) {
	t.Parallel()
	c := catalogWithSets(t, `
- {id: plain, command: x, parameters: {K: 1}}
- {id: dated, command: x, parameters: {DAY: "${DATE}"}}
- {id: secret, command: x, parameters: {PW: {sensitive: true, required: true}, K: 2}}
- {id: top, command: x, dependencies: [plain, secret]}
- {id: pair, command: x, dependencies: ["secret:large", "secret:small"]}
`, "", "", `
- {id: set, parameters: {PW: from-set, K: 5, OTHER: 1}}
- {id: later, parameters: {K: 6}}
- {id: none, parameters: {OTHER: 1}}
- {id: large, parameters: {PW: x}}
- {id: small, parameters: {PW: x}}
`)
	at := time.Date(2024, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	plan := func(id string) *workflow.Plan {
		plan, err := c.PlanTask(id)
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	values := func(request Request) workflow.RunValues {
		values, err := c.Values(request)
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	if got := values(Request{Plan: plan("plain"), Now: at}); !got.IsZero() {
		t.Errorf("values without values: %+v", got)
	}
	got := values(Request{Plan: plan("dated"), Now: at})
	if got.Macros == nil || !got.Macros.Time.Equal(at) || got.Macros.Time.Location() != time.UTC || len(got.Macros.Seed) < 20 || !got.Macros.LogicalDate.IsZero() {
		t.Errorf("%+v", got.Macros)
	}
	if again := values(Request{Plan: plan("dated")}); again.Macros.Seed == got.Macros.Seed || time.Since(again.Macros.Time).Abs() > time.Hour {
		t.Errorf("%+v", again.Macros)
	}
	if got := values(Request{Plan: plan("plain"), LogicalDate: at}); !got.Macros.LogicalDate.Equal(at) {
		t.Errorf("%+v", got.Macros)
	}
	if got := values(Request{Plan: plan("plain"), Parameters: given{"K": `"${RANDOM:4}"`}}); got.Macros == nil {
		t.Error("no macros, although a given value has one")
	}

	got = values(Request{Plan: plan("top"), ParameterSets: []string{"set", "later"}, Parameters: given{"plain.K": "7"}})
	if diff := cmp.Diff(workflow.RunValues{
		Parameters: map[string]map[string]workflow.Value{"plain": {"K": "7"}, "secret": {"K": "6"}},
		Sensitive:  map[string]map[string]workflow.Value{"secret": {"PW": `"from-set"`}},
	}, got); diff != "" {
		t.Error(diff)
	}
	got = values(Request{Plan: plan("pair"), Parameters: given{"PW": `"all"`, "secret.PW": `"task"`, "secret:large.PW": `"one"`}})
	if diff := cmp.Diff(workflow.RunValues{
		Sensitive: map[string]map[string]workflow.Value{"secret": {"PW": `"task"`}, "secret:large": {"PW": `"one"`}},
	}, got); diff != "" {
		t.Error(diff)
	}
	for _, test := range []struct {
		request Request
		want    string
	}{
		{Request{Plan: plan("top")}, `task "secret": no value for the required parameter PW: give it with --param secret.PW=VALUE`},
		{Request{Plan: plan("plain"), ParameterSets: []string{"st"}}, `unknown parameter set "st": did you mean "set"?`},
		{Request{Plan: plan("plain"), ParameterSets: []string{"none"}}, `parameter set "none" has no parameter that a task of this run declares`},
		{Request{Plan: plan("top"), Env: map[string]string{"PW": marker}}, `environment variable PW: task "secret" has a sensitive parameter of this name: give it as a parameter, which is shown nowhere`},
		{Request{Plan: plan("top"), Parameters: given{"PW": marker}}, `parameter "PW": the value is not JSON`},
		{Request{Plan: plan("pair"), Parameters: given{"secret:lrge.PW": "1"}}, `unknown parameter "secret:lrge.PW"`},
	} {
		if _, err := c.Values(test.request); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

// A task of a group can be named with it, or without.
func TestValuesOfGroups(t *testing.T) {
	t.Parallel()
	task := func(id string) *workflow.TaskSpec {
		return &workflow.TaskSpec{TaskID: id, Parameters: given{"K": "0"}}
	}
	plan := planOf(task("one/load"), task("two/load"), task("load"))
	c := catalogOf(t, "", "", "")
	for _, test := range []struct {
		given given
		want  string
	}{
		{given{"K": "1"}, "111"},
		{given{"one/load.K": "1"}, "100"},
		{given{"load.K": "1"}, "111"},
		{given{"K": "2", "load.K": "1"}, "111"},
		{given{"K": "3", "load.K": "2", "two/load.K": "1"}, "212"},
	} {
		values, err := c.Values(Request{Plan: plan, Parameters: test.given})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, spec := range plan.Specs {
			env, _, err := Environment(spec, &values, Lookups{})
			if err != nil {
				t.Fatal(err)
			}
			got += strings.TrimPrefix(env[0], "K=")
		}
		if got != test.want {
			t.Errorf("%v: got %s, want %s", test.given, got, test.want)
		}
	}
}

func TestItems(t *testing.T) {
	t.Parallel()
	outputs := Lookups{Outputs: func([]string) (map[string]workflow.Value, error) {
		return map[string]workflow.Value{"scan": `{"list":["a\u003c",{"b":1},"${secret:X}"],"text":"[1, 2]","none":"x","map":{},"empty":[]}`}, nil
	}}
	spec := func(reference string) *workflow.TaskSpec {
		return &workflow.TaskSpec{TaskID: "t", ForEach: &workflow.ForEach{Reference: reference}, Parameters: given{
			"LIST": `["${SUFFIX}",2]`, "SUFFIX": `"x"`, "PW": `["p"]`, "COPY": `"${PW}"`,
		}, Checks: map[string]workflow.Check{"PW": {Sensitive: true}}}
	}
	for reference, want := range map[string]string{
		"${tasks.scan.list}":  `"a\u003c" {"b":1} "$${secret:X}"`,
		"${tasks.scan.text}":  "1 2",
		"${tasks.scan.empty}": "",
		"${LIST}":             `"x" 2`,
		"[1,${SUFFIX}]":       "!for_each: [1,${SUFFIX}] is not a list: it is \"[1,x]\"",
		"${tasks.scan.none}":  "!for_each: ${tasks.scan.none} is not a list: it is \"x\"",
		"${tasks.scan.map}":   "!for_each: ${tasks.scan.map} is not a list: it is {}",
		"${tasks.scan.x}":     `!${tasks.scan.x} in the value of "for_each": the output of task "scan" has no "x"`,
		"${PW}":               "!for_each takes a sensitive value",
		"${COPY}":             "!for_each takes a sensitive value",
		"${secret:X}":         `!${secret:X} in the value of "for_each": only the agent that runs the task can tell it`,
		"${env:X}":            `!${env:X} in the value of "for_each": only the agent that runs the task can tell it`,
		"${ITEM}":             `!unknown ${ITEM} in the value of "for_each"`,
	} {
		got, err := Items(spec(reference), nil, outputs)
		if text, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.HasPrefix(err.Error(), text) {
				t.Errorf("%s: got %v, want %s", reference, err, text)
			}
			continue
		}
		texts := make([]string, len(got))
		for i := range got {
			texts[i] = string(got[i])
		}
		if err != nil || strings.Join(texts, " ") != want {
			t.Errorf("%s: got %s, %v", reference, texts, err)
		}
	}
	long := func(count int) error {
		task := spec("${LIST}")
		task.Parameters["LIST"] = workflow.Value("[" + strings.Repeat("1,", count-1) + "1]")
		_, err := Items(task, nil, outputs)
		return err
	}
	if err := long(10_000); err != nil {
		t.Error(err)
	}
	if err := long(10_001); err == nil || err.Error() != "for_each: the list has 10001 items, more than 10000" {
		t.Error(err)
	}
	written := &workflow.TaskSpec{ForEach: &workflow.ForEach{Items: []workflow.Value{`"$${x}"`, "1"}}}
	if got, err := Items(written, nil, Lookups{}); err != nil || len(got) != 2 || got[0] != `"$${x}"` {
		t.Error(got, err)
	}
	if _, err := Items(&workflow.TaskSpec{TaskID: "t"}, nil, Lookups{}); err == nil {
		t.Error("items of a task without for_each")
	}
}

// BenchmarkCheckValues checks 100,000 tasks.
func BenchmarkCheckValues(b *testing.B) {
	for name, values := range map[string]*workflow.RunValues{
		"none":      {},
		"variables": {Variables: given{"DAY": `"${DATE}"`, "PATH": `"x/${DAY}"`}, Macros: &workflow.Macros{}},
	} {
		for _, kind := range []string{"plain", "checked", "referring"} {
			specs := make([]*workflow.TaskSpec, 100_000)
			for i := range specs {
				specs[i] = &workflow.TaskSpec{TaskID: fmt.Sprint("task", i), Parameters: given{"A": "1", "B": `"x"`}, Env: map[string]string{"C": "d"}}
				switch kind {
				case "checked":
					specs[i].Checks = map[string]workflow.Check{"A": {Required: true, Validation: "[0-9]+"}}
				case "referring":
					specs[i].Parameters["D"] = `"${A}/${B}"`
				}
			}
			plan := planOf(specs...)
			b.Run(name+"/"+kind, func(b *testing.B) {
				for b.Loop() {
					if err := checkAlone(plan, values); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// A required parameter without a value is told as that, also where another value refers to it.
func TestMissingParameterThatIsReferredTo(t *testing.T) {
	t.Parallel()
	want := "no value for the required parameter DAY: give it with --param t.DAY=VALUE"
	for _, other := range []workflow.Check{{}, {Required: true}} {
		spec := &workflow.TaskSpec{
			TaskID: "t", Parameters: given{"DAY": null, "FILE": `"in/${DAY}"`}, Checks: map[string]workflow.Check{"DAY": {Required: true}},
		}
		if !other.IsZero() {
			spec.Checks["FILE"] = other
		}
		plan := &workflow.Plan{Specs: []*workflow.TaskSpec{spec}, Nodes: []workflow.Node{{Name: "t"}}}
		if err := checkAlone(plan, nil); err == nil || err.Error() != `task "t": `+want {
			t.Errorf("got %v", err)
		}
		if _, _, err := Environment(spec, nil, Lookups{}); err == nil || err.Error() != want {
			t.Errorf("the agent says %v", err)
		}
	}
}
