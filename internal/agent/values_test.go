package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

type values map[string]workflow.Value

// What other tasks gave is read anew for each task, and asked for again until it can be read.
func TestOutputsOfOthers(t *testing.T) {
	c := newCluster()
	failures := 2
	c.fault = func(call string) (error, bool) {
		if call == "outputs" && failures > 0 {
			failures--
			return errDown, false
		}
		return nil, false
	}
	startAgent(t, c, oneSlot)
	spec := shell(`echo "$ROWS $TEXT"`)
	spec.Parameters = values{"ROWS": `"${tasks.load.rows}"`, "TEXT": `"${tasks.load.rows} of ${tasks.a.b.c}"`}
	for _, rows := range []string{"1", "2"} {
		c.mu.Lock()
		c.outputs = values{"load": workflow.Value(`{"rows":` + rows + `}`), "a.b": `{"c":"x"}`}
		c.mu.Unlock()
		m := c.submit(spec)[0]
		if end := c.end(t, m); end.Status != workflow.TaskCompleted {
			t.Error(end.Reason)
		}
		if out := string(c.output(m, engine.StreamStdout)); out != rows+" "+rows+" of x\n" {
			t.Errorf("output %q", out)
		}
	}
	c.mu.Lock()
	if len(c.asked) != 2 || strings.Join(c.asked[0], " ") != "a a.b load" {
		t.Errorf("asked for %q", c.asked)
	}
	clear(c.outputs)
	c.mu.Unlock()
	end := c.end(t, c.submit(spec)[0])
	if want := `cannot be started: ${tasks.load.rows} in the value of "ROWS": task "load" has given no output`; end.Cause != workflow.CauseStart || !strings.HasPrefix(end.Reason, want) {
		t.Errorf("ended as %+v", end)
	}
	c.checkEmpty(t)
}

// A task whose values can't be looked up is killed, or handed back, like any other.
func TestStopWhileLookingUp(t *testing.T) {
	c := newCluster()
	asked := make(chan struct{}, 100)
	c.fault = func(call string) (error, bool) {
		if call == "outputs" {
			asked <- struct{}{}
			return errDown, false
		}
		return nil, false
	}
	a := startAgent(t, c)
	spec := shell("true")
	spec.Parameters = values{"K": `"${tasks.x.y}"`}
	first := c.submit(spec)[0]
	<-asked
	c.kill(first)
	if end := c.end(t, first); end.Status != workflow.TaskCancelled || end.Started {
		t.Errorf("ended as %+v", end)
	}
	second := c.submit(spec)[0]
	c.wait(t, "the claim", func() bool { _, ok := c.holds[second]; return ok })
	c.mu.Lock()
	c.graceful = true
	c.mu.Unlock()
	a.stop()
	a.wait(t)
	if back := c.returned(t, second); back.Started {
		t.Errorf("returned as %+v", back)
	}
	c.checkEmpty(t)
}

// Secrets, and the variables of the agent that a task names.
func TestSecrets(t *testing.T) {
	t.Setenv("CYCLO_SECRET_DB", "hunter2-marker")
	t.Setenv("SHARED_PLACE", "/data")
	c := newCluster()
	startAgent(t, c, func(o *Options) { o.InheritEnv = []string{"CYCLO_SECRET_DB"} })
	spec := shell(`env | grep -c ^CYCLO_SECRET; echo "url $URL at $PLACE"; exit 1`)
	spec.Parameters = values{"URL": `"db://u:${secret:DB}@h"`, "PLACE": `"${env:SHARED_PLACE}"`}
	m := c.submit(spec)[0]
	c.end(t, m)
	if out := string(c.output(m, engine.StreamStdout)); out != "0\nurl db://u:***@h at /data\n" {
		t.Errorf("output %q", out)
	}
	spec = shell("true")
	spec.Parameters = values{"URL": `"${secret:NONE}"`}
	end := c.end(t, c.submit(spec)[0])
	if want := `cannot be started: ${secret:NONE} in the value of "URL": this agent has no secret NONE: set CYCLO_SECRET_NONE in its environment`; end.Reason != want {
		t.Errorf("reason %q", end.Reason)
	}
	c.checkEmpty(t)
}

// What later tasks get without its sensitive parts is told in the log, and nothing else is.
func TestHiddenResultsAreTold(t *testing.T) {
	t.Setenv("CYCLO_SECRET_DB", "hunter2-marker")
	c := newCluster()
	startAgent(t, c, oneSlot)
	for command, told := range map[string]bool{
		`echo "{\"url\": \"db://$K\"}" > "$CYCLO_OUTPUT"`:                          true,
		`echo "{\"context_updates\": {\"A\": \"$K\"}}" > "$CYCLO_EVAL_RESULT"`:     true,
		`echo "{\"parameters\": {\"t\": {\"A\": \"$K\"}}}" > "$CYCLO_EVAL_RESULT"`: true,
		`echo "$K"; echo '{"url": "db://***"}' > "$CYCLO_OUTPUT"`:                  false,
		`echo "$K" >&2; exit 1`: false,
		`seq 100000; echo "{\"url\": \"db://$K\"}" > "$CYCLO_OUTPUT"; echo "not ended"`: true,
	} {
		spec := shell(command)
		spec.EvaluationPoint = strings.Contains(command, "EVAL")
		spec.Parameters = values{"K": `"${secret:DB}"`}
		m := c.submit(spec)[0]
		c.end(t, m)
		if said := string(c.output(m, engine.StreamAgent)); strings.Contains(said, "replaced by ***") != told || strings.Contains(said, "marker") {
			t.Errorf("%s: the agent says %q", command, said)
		}
	}
	c.checkEmpty(t)
}

// Secrets are looked up for each task: one that changed is not remembered.
func TestSecretsAreNotRemembered(t *testing.T) {
	c := newCluster()
	calls := 0 // with one slot, of one goroutine at a time
	startAgent(t, c, oneSlot, func(o *Options) {
		o.Secrets = func(name string) (string, error) {
			calls++
			if calls > 2 {
				return "", errors.New("the store is closed")
			}
			return fmt.Sprint(name, calls), nil
		}
	})
	spec := shell(`test "$K" = "$WANT"`)
	for _, want := range []string{"S1", "S2"} {
		task := *spec
		task.Parameters = values{"K": `"${secret:S}"`, "WANT": workflow.StringValue(want)}
		if end := c.end(t, c.submit(&task)[0]); end.Status != workflow.TaskCompleted {
			t.Error(end.Reason)
		}
	}
	spec.Parameters = values{"K": `"${secret:S}"`}
	if end := c.end(t, c.submit(spec)[0]); !strings.HasSuffix(end.Reason, "the store is closed") {
		t.Error(end.Reason)
	}
	c.checkEmpty(t)
}

const marker = "M4RK3R-in-\"quotes\""

// What is sensitive is in nothing that a task tells: logs, reasons, outputs, results.
func TestSensitiveIsShownNowhere(t *testing.T) {
	c := newCluster()
	startAgent(t, c)
	secret := map[string]workflow.Check{"PW": {Sensitive: true}}
	task := func(command string) *workflow.TaskSpec {
		return &workflow.TaskSpec{
			TaskID: "task", Queue: "default", Command: command, Checks: secret,
			Parameters: values{"PW": workflow.StringValue(marker + "\nsecond-line"), "LIST": `["${PW}"]`},
		}
	}
	slow := `for i in 1 2 3 4 5; do printf '%s' "$PW" | cut -c1-5 | tr -d '\n'; done; echo; printf %s "$PW" | head -1 | while IFS= read -r l; do printf '%.8s' "$l"; sleep 0.3; printf '%s\n' "${l#????????}"; done`
	specs := []*workflow.TaskSpec{
		task(`echo "out $PW"; echo "err $PW" >&2; exit 3`),
		task(`echo "$LIST"; printf '%s' "$PW" >&2; exit 4`),
		task(slow),
		task(`n=0; while [ $n -lt 3000 ]; do echo "$PW$PW $n"; n=$((n+1)); done`),
		task(`printf 'A=%s\n' "$PW" | head -1 > $CYCLO_OUTPUT`),
		task(`printf '{"zz %s":1}' second-line > $CYCLO_EVAL_RESULT; exit 1`),
		task(`printf '{"next_tasks":["%s"],"context_updates":{"V":"%s"},"parameters":{"t":{"P":["%s"]}},"metadata":{"%s":"%s"}}' second-line second-line second-line second-line second-line > $CYCLO_EVAL_RESULT`),
		task(`printf '%s' "$PW" > "$PW"; cat missing-"$PW"`),
	}
	specs[5].EvaluationPoint, specs[6].EvaluationPoint = true, true
	var ends []engine.End
	for _, m := range c.submit(specs...) {
		end := c.end(t, m)
		ends = append(ends, end)
		text := fmt.Sprintf("%+v %+v %s %s", end.Result, end.Evaluation, c.output(m, engine.StreamStdout), c.output(m, engine.StreamStderr))
		for _, part := range []string{"M4RK3R-in", "second-line"} {
			if strings.Contains(text, part) {
				t.Errorf("node %d shows it: %.300s", m.Node, text)
			}
		}
	}
	if end := ends[0]; end.Reason != "exit code 3: ***" {
		t.Errorf("reason %q", end.Reason)
	}
	if end := ends[4]; end.Output != `{"A":"***"}` {
		t.Errorf("output %s, %s", end.Output, end.Reason)
	}
	if end := ends[5]; end.Reason != `its result ($CYCLO_EVAL_RESULT) can't be used: unknown field "zz ***" (exit code 1)` {
		t.Errorf("reason %q", end.Reason)
	}
	want := &workflow.Evaluation{
		Chosen: true, NextTasks: []string{"***"}, Metadata: `{"***":"***"}`,
		ValueUpdate: workflow.ValueUpdate{Variables: values{"V": `"***"`}, Parameters: map[string]map[string]workflow.Value{"t": {"P": `["***"]`}}},
	}
	if got := fmt.Sprintf("%+v", ends[6].Evaluation); got != fmt.Sprintf("%+v", want) {
		t.Errorf("result %s (%s)", got, ends[6].Reason)
	}
	c.checkEmpty(t)
}

// An environment is remembered unless it depends on what only this run or this moment says.
func TestRemembered(t *testing.T) {
	for name, test := range map[string]struct {
		spec   workflow.TaskSpec
		values *workflow.RunValues
		want   int
	}{
		"plain":    {workflow.TaskSpec{Parameters: values{"K": "1"}}, nil, 1},
		"macros":   {workflow.TaskSpec{Parameters: values{"K": `"${DATE} ${RANDOM:3} ${A}"`, "A": "1"}}, &workflow.RunValues{Macros: &workflow.Macros{Seed: "x"}}, 1},
		"an item":  {workflow.TaskSpec{Parameters: values{"K": `"${ITEM}"`}, Item: &workflow.Item{Value: "1"}}, nil, 1},
		"env":      {workflow.TaskSpec{Parameters: values{"K": `"${env:PATH}"`}}, nil, 1},
		"the run":  {workflow.TaskSpec{Parameters: values{"K": `"${RUN_ID}"`}}, nil, 0},
		"its time": {workflow.TaskSpec{Parameters: values{"K": `"${DATE}"`}}, nil, 0},
		"a secret": {workflow.TaskSpec{Parameters: values{"K": `"${secret:x}"`}}, nil, 0},
		"outputs":  {workflow.TaskSpec{Parameters: values{"K": `"${tasks.x.y}"`}}, nil, 0},
	} {
		env := newEnvironment("a", "/runs", nil, func(string) (string, error) { return "s", nil })
		run := &engine.RunInfo{ID: workflow.NewRunID(time.Now(), 1), Values: test.values}
		claimed := &task{ClaimedTask: engine.ClaimedTask{Spec: &test.spec, Run: run}}
		_, err := env.resolve(claimed, func([]string) (map[string]workflow.Value, error) {
			return values{"x": `{"y":1}`}, nil
		})
		if err != nil || len(env.resolved) != test.want {
			t.Errorf("%s: %d are remembered (%v)", name, len(env.resolved), err)
		}
	}
}

func TestLogicalDate(t *testing.T) {
	c := newCluster()
	startAgent(t, c)
	date := time.Date(2024, 3, 1, 6, 0, 0, 0, time.FixedZone("", 3600))
	run := &engine.RunInfo{ID: c.run, Values: &workflow.RunValues{Macros: &workflow.Macros{LogicalDate: date}}}
	m := c.submitRun(run, shell("echo $CYCLO_LOGICAL_DATE"))[0]
	c.end(t, m)
	if out := string(c.output(m, engine.StreamStdout)); out != "2024-03-01T06:00:00+01:00\n" {
		t.Errorf("output %q", out)
	}
}

// An agent that was lost forgets a task whose values it looked up.
func TestLostWhileLookingUp(t *testing.T) {
	c := newCluster()
	lost := false
	startAgent(t, c, func(o *Options) {
		o.Open = func(ctx context.Context, info engine.AgentInfo) (engine.AgentSession, error) {
			c.setFault(func(call string) (error, bool) {
				if call == "outputs" && !lost {
					lost = true
					return engine.ErrAgentLost, false
				}
				return nil, false
			})
			return c.openSession(ctx, info)
		}
	})
	spec := shell("true")
	spec.Parameters = values{"K": `"${tasks.x.y}"`}
	m := c.submit(spec)[0]
	c.wait(t, "a new registration", func() bool { return c.sessions == 2 })
	c.end(t, c.submit(shell("true"))[0])
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.ends[m]; ok {
		t.Error("a task of the lost registration was reported")
	}
}
