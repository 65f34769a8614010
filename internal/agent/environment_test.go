package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("CYCLO_TEST_INHERITED", "never: the names are the agent's")
	t.Setenv("SOME_SECRET", "not for tasks")
	t.Setenv("WANTED", "yes")
	t.Setenv("TZ", "Europe/Zurich")
	t.Setenv("LANG", "C")
	c := newCluster()
	var work string
	startAgent(t, c, func(o *Options) {
		work = o.WorkDir
		o.InheritEnv = []string{"WANTED", "UNSET", "CYCLO_TEST_INHERITED"}
	})
	spec := &workflow.TaskSpec{
		TaskID: "the.task", Queue: "fast", Command: "env; pwd; test -d $CYCLO_RUN_DIR",
		Parameters: map[string]workflow.Value{"inputPath": `"a b"`, "list": `[1,2]`, "path": `"/nowhere"`, "wanted": `"no"`},
		Env:        map[string]string{"LANG": "de_CH", "CYCLO_ATTEMPT": "99"},
	}
	run := &engine.RunInfo{ID: c.run, Name: "nightly", DAG: "dag", Values: &workflow.RunValues{
		Variables: map[string]workflow.Value{"VAR": `"v"`}, Env: map[string]string{"list": "given"},
	}}
	members := c.submitRun(run, spec, spec)
	member := members[1]
	if end := c.end(t, member); end.Status != workflow.TaskCompleted {
		t.Fatal(end)
	}
	lines := strings.Split(strings.TrimSpace(string(c.output(member, engine.StreamStdout))), "\n")
	dir := lines[len(lines)-1]
	got := slices.DeleteFunc(lines[:len(lines)-1], func(line string) bool {
		return strings.HasPrefix(line, "PWD=") || strings.HasPrefix(line, "OLDPWD=") || strings.HasPrefix(line, "SHLVL=") || strings.HasPrefix(line, "_=") ||
			strings.HasPrefix(line, "CYCLO_OUTPUT="+filepath.Join(work, "attempts")) || strings.HasPrefix(line, "CYCLO_EVAL_RESULT="+filepath.Join(work, "attempts"))
	})
	id := c.run.String()
	want := []string{
		"CYCLO_RUN_ID=nightly", "CYCLO_DAG_ID=dag", "CYCLO_TASK_ID=the.task", "CYCLO_TASK_RUN_ID=" + id + ".2", "CYCLO_ATTEMPT=1",
		"CYCLO_QUEUE=fast", "CYCLO_AGENT_ID=agent-1", "CYCLO_RUN_DIR=" + filepath.Join(work, "runs", id),
		"WANTED=yes", "TZ=Europe/Zurich", "LANG=de_CH", "VAR=v", "path=/nowhere", "wanted=no", "inputPath=a b", "INPUT_PATH=a b", "list=given", "LIST=given",
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			want = append(want, name+"="+value)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	// Whether LIST follows from list is decided by spec; here only what the agent adds matters.
	got = slices.DeleteFunc(got, func(line string) bool { return strings.HasPrefix(line, "LIST=") })
	want = slices.DeleteFunc(want, func(line string) bool { return strings.HasPrefix(line, "LIST=") })
	if !slices.Equal(got, want) {
		t.Errorf("environment:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if resolved, err := filepath.EvalSymlinks(work); err != nil || !strings.HasPrefix(dir, filepath.Join(resolved, "attempts")) {
		t.Errorf("working directory %s is not in %s (%v)", dir, work, err)
	}
}

func TestEnvironmentWithoutName(t *testing.T) {
	env := newEnvironment("a", "/runs", nil, secretOfEnvironment)
	id := workflow.NewRunID(workflow.RunID{}.Time(), 1)
	task := &task{ClaimedTask: engine.ClaimedTask{
		Member: workflow.Member{Run: id, Node: 12, Attempt: 3}, Spec: shell("true"), Run: &engine.RunInfo{ID: id},
	}}
	values, err := env.resolve(task, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := env.of(task, values, "/attempts/1.1")
	for _, want := range []string{"CYCLO_RUN_ID=" + id.String(), "CYCLO_ATTEMPT=3", "CYCLO_TASK_RUN_ID=" + id.String() + ".12", "CYCLO_DAG_ID=", "CYCLO_OUTPUT=/attempts/1.1.output", "CYCLO_EVAL_RESULT=/attempts/1.1.evaluation"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	if slices.ContainsFunc(got, named("CYCLO_LOGICAL_DATE")) {
		t.Error("a logical date, although there is none")
	}
}

// What a trigger knows of the run is passed on as it is, and nobody else can say it.
func TestEnvironmentOfATriggeredRun(t *testing.T) {
	env := newEnvironment("a", "/runs", nil, secretOfEnvironment)
	body := "${secret:X} $${Y}\n" + strings.Repeat("x", 60<<10)
	for kind, trigger := range map[string]*workflow.Trigger{
		"CYCLO_TRIGGER=webhook CYCLO_TRIGGER_BODY=" + body:                                   {Kind: workflow.TriggerWebhook, Body: body},
		"CYCLO_TRIGGER=webhook CYCLO_TRIGGER_BODY=":                                          {Kind: workflow.TriggerWebhook},
		"CYCLO_TRIGGER=dag_completed CYCLO_TRIGGER_DAG_ID=sales CYCLO_TRIGGER_RUN_ID=monday": {Kind: workflow.TriggerDAGCompleted, DAG: "sales", Run: "monday"},
		"CYCLO_TRIGGER=file_arrival CYCLO_TRIGGER_FILE=/in/${a}":                             {Kind: workflow.TriggerFileArrival, File: "/in/${a}"},
		"": nil,
	} {
		task := &task{ClaimedTask: engine.ClaimedTask{Spec: shell("true"), Run: &engine.RunInfo{
			Values: &workflow.RunValues{Env: map[string]string{"CYCLO_TRIGGER": "forged", "CYCLO_TRIGGER_BODY": "forged"}, Trigger: trigger},
		}}}
		values, err := env.resolve(task, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, entry := range env.of(task, values, "") {
			if strings.HasPrefix(entry, "CYCLO_TRIGGER") {
				got = append(got, entry)
			}
		}
		if strings.Join(got, " ") != kind {
			t.Errorf("%.200q, should be %.200q", got, kind)
		}
	}
}
