package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func point(command string) *workflow.TaskSpec {
	spec := shell(command)
	spec.EvaluationPoint = true
	return spec
}

func TestResults(t *testing.T) {
	next := func(names ...string) *workflow.Evaluation {
		return &workflow.Evaluation{Chosen: true, NextTasks: names}
	}
	big := func(file string, bytes string) string {
		return `{ printf '{"a":"'; head -c ` + bytes + ` /dev/zero | tr '\0' x; printf '"}'; } > ` + file
	}
	tests := []struct {
		name       string
		spec       *workflow.TaskSpec
		status     workflow.TaskStatus
		cause      workflow.Cause
		code       int32
		reason     string
		output     workflow.Value
		evaluation *workflow.Evaluation
	}{
		{"no output", shell("true"), workflow.TaskCompleted, 0, 0, "", "", nil},
		{"JSON", shell(`echo '{"rows": 3}' > $CYCLO_OUTPUT`), workflow.TaskCompleted, 0, 0, "", `{"rows":3}`, nil},
		{"lines", shell(`echo ROWS=3 > $CYCLO_OUTPUT; echo B=x >> $CYCLO_OUTPUT`), workflow.TaskCompleted, 0, 0, "", `{"B":"x","ROWS":"3"}`, nil},
		{"from elsewhere", shell(`cd /; echo A=1 > $CYCLO_OUTPUT; sleep 0.05`), workflow.TaskCompleted, 0, 0, "", `{"A":"1"}`, nil},
		{"output of a failure", shell(`echo A=1 > $CYCLO_OUTPUT; exit 3`), workflow.TaskFailed, workflow.CauseExit, 3, "exit code 3", "", nil},
		{"broken output", shell(`echo '{"a":' > $CYCLO_OUTPUT`), workflow.TaskFailed, workflow.CauseEvaluation, 0, "its output ($CYCLO_OUTPUT) can't be used: it is not valid JSON", "", nil},
		{"as large as may be", shell(big("$CYCLO_OUTPUT", "262136")), workflow.TaskCompleted, 0, 0, "", workflow.Value(`{"a":"` + strings.Repeat("x", 262136) + `"}`), nil},
		{"too large an output", shell(big("$CYCLO_OUTPUT", "262137")), workflow.TaskFailed, workflow.CauseEvaluation, 0, "its output ($CYCLO_OUTPUT) can't be used: it has more than 256 KiB", "", nil},
		{"a folder", shell("mkdir $CYCLO_OUTPUT; touch $CYCLO_OUTPUT/x"), workflow.TaskFailed, workflow.CauseEvaluation, 0, "its output ($CYCLO_OUTPUT) can't be used: it is not a regular file", "", nil},
		{"a pipe", shell("mkfifo $CYCLO_OUTPUT"), workflow.TaskFailed, workflow.CauseEvaluation, 0, "its output ($CYCLO_OUTPUT) can't be used: it is not a regular file", "", nil},
		{"a link", shell("ln -s /etc/passwd $CYCLO_OUTPUT"), workflow.TaskFailed, workflow.CauseEvaluation, 0, "its output ($CYCLO_OUTPUT) can't be used: it cannot be read: ", "", nil},
		{"an evaluation of no evaluation point", shell("echo CYCLO_NEXT=a > $CYCLO_EVAL_RESULT"), workflow.TaskCompleted, 0, 0, "", "", nil},

		{"no result", point("true"), workflow.TaskCompleted, 0, 0, "", "", nil},
		{"no result, exit code", point("exit 3"), workflow.TaskFailed, workflow.CauseExit, 3, "exit code 3", "", nil},
		{"an empty result, exit code", point("> $CYCLO_EVAL_RESULT; exit 3"), workflow.TaskFailed, workflow.CauseExit, 3, "exit code 3", "", nil},
		{"a result", point(`echo '{"next_tasks":["a"]}' > $CYCLO_EVAL_RESULT`), workflow.TaskCompleted, 0, 0, "", "", next("a")},
		{"a result, exit code", point(`echo CYCLO_NEXT=a,b > $CYCLO_EVAL_RESULT; echo A=1 > $CYCLO_OUTPUT; echo why >&2; exit 3`), workflow.TaskCompleted, 0, 3, "", `{"A":"1"}`, next("a", "b")},
		{"a result, broken output", point(`echo CYCLO_NEXT=a > $CYCLO_EVAL_RESULT; echo x > $CYCLO_OUTPUT`), workflow.TaskFailed, workflow.CauseEvaluation, 0, "its output ($CYCLO_OUTPUT) can't be used", "", nil},
		{"a broken result", point(`echo '{"next_tasks":1}' > $CYCLO_EVAL_RESULT`), workflow.TaskFailed, workflow.CauseEvaluation, 0, "its result ($CYCLO_EVAL_RESULT) can't be used: next_tasks: it must be a list of task names, not a number", "", nil},
		{"a broken result, exit code", point(`echo '{"zz":1}' > $CYCLO_EVAL_RESULT; exit 2`), workflow.TaskFailed, workflow.CauseEvaluation, 2, `its result ($CYCLO_EVAL_RESULT) can't be used: unknown field "zz" (exit code 2)`, "", nil},
		{"too large a result", point(big("$CYCLO_EVAL_RESULT", "1048577")), workflow.TaskFailed, workflow.CauseEvaluation, 0, "its result ($CYCLO_EVAL_RESULT) can't be used: it has more than 1024 KiB", "", nil},
		{"a result and a signal", point("echo CYCLO_NEXT=a > $CYCLO_EVAL_RESULT; kill -SEGV $$"), workflow.TaskFailed, workflow.CauseSignal, 139, "killed by SIGSEGV", "", nil},
	}
	late := point("echo CYCLO_NEXT=a > $CYCLO_EVAL_RESULT; trap 'exit 0' TERM; sleep 1000 & wait")
	late.TimeoutSeconds = 0.2
	tests = append(tests, struct {
		name       string
		spec       *workflow.TaskSpec
		status     workflow.TaskStatus
		cause      workflow.Cause
		code       int32
		reason     string
		output     workflow.Value
		evaluation *workflow.Evaluation
	}{"a result and a time-out", late, workflow.TaskFailed, workflow.CauseTimeout, 0, "timed out after 0.2 s", "", nil})

	c := newCluster()
	a := startAgent(t, c, func(o *Options) { o.killGrace = 100 * time.Millisecond })
	members := make([]workflow.Member, len(tests))
	for i := range tests {
		members[i] = c.submit(tests[i].spec)[0]
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			end := c.end(t, members[i])
			if end.Status != test.status || end.Cause != test.cause || end.ExitCode == nil || *end.ExitCode != test.code || !strings.HasPrefix(end.Reason, test.reason) || test.reason == "" && end.Reason != "" {
				t.Errorf("ended %v, cause %q (%s)", end.Status, end.Cause, end.Reason)
			}
			if end.Output != test.output {
				t.Errorf("output %.200s", end.Output)
			}
			if diff := cmp.Diff(test.evaluation, end.Evaluation); diff != "" {
				t.Error(diff)
			}
		})
	}
	c.checkEmpty(t)
	a.Drain()
	a.wait(t)
}

// Result files are removed after their attempt, also those that nobody reads.
func TestResultFilesAreRemoved(t *testing.T) {
	c := newCluster()
	a := startAgent(t, c)
	c.end(t, c.submit(shell("true"))[0])
	l := a.life.Load()
	for number, spec := range []*workflow.TaskSpec{
		shell("echo A=1 > $CYCLO_OUTPUT; echo x > $CYCLO_EVAL_RESULT"),
		shell("echo A=1 > $CYCLO_OUTPUT; mkdir $CYCLO_EVAL_RESULT; touch $CYCLO_EVAL_RESULT/x; exit 1"),
		shell("mkfifo $CYCLO_OUTPUT; kill -9 $$"),
		point("echo CYCLO_NEXT= > $CYCLO_EVAL_RESULT"),
	} {
		claimed := &task{
			ClaimedTask: engine.ClaimedTask{
				Member: workflow.Member{Run: c.run, Node: int32(number), Attempt: 1}, Spec: spec, Run: &engine.RunInfo{ID: c.run}, //nolint:gosec // small
			},
			held: &held{claimedAt: time.Now(), received: time.Now()}, kill: make(chan struct{}),
		}
		out := l.runner.run(claimed)
		if files := resultsIn(t, a); len(files) == 0 {
			t.Errorf("%s: no files (%s)", spec.Command, out.result.Reason)
		}
		out.cleanUp()
		if files := resultsIn(t, a); len(files) > 0 {
			t.Errorf("%s left %q", spec.Command, files)
		}
	}
}

func resultsIn(t *testing.T, a *running) (files []string) {
	for _, suffix := range []string{outputSuffix, evaluationSuffix} {
		found, err := filepath.Glob(filepath.Join(a.dirs.attempts, "*"+suffix))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return files
}

// Where folders are kept, so are the result files.
func TestResultFilesAreKept(t *testing.T) {
	c := newCluster()
	a := startAgent(t, c, func(o *Options) { o.CleanupTempFiles = false })
	c.end(t, c.submit(shell("echo A=1 > $CYCLO_OUTPUT"))[0])
	files, err := filepath.Glob(filepath.Join(a.dirs.attempts, "*"+outputSuffix))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if text, err := os.ReadFile(files[0]); string(text) != "A=1\n" || err != nil {
		t.Error(text, err)
	}
}
