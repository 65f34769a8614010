package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestEndings(t *testing.T) {
	tests := []struct {
		name    string
		spec    workflow.TaskSpec
		status  workflow.TaskStatus
		cause   workflow.Cause
		code    int32 // -1 for none
		reason  string
		started bool
	}{
		{"success", workflow.TaskSpec{Command: "true"}, workflow.TaskCompleted, workflow.CauseNone, 0, "", true},
		{"exit code", workflow.TaskSpec{Command: "echo one >&2; echo 'it  broke\t' >&2; echo out; exit 3"}, workflow.TaskFailed, workflow.CauseExit, 3, "exit code 3: it  broke", true},
		{"exit code alone", workflow.TaskSpec{Command: "exit 3"}, workflow.TaskFailed, workflow.CauseExit, 3, "exit code 3", true},
		{"binary on stderr", workflow.TaskSpec{Command: `printf 'a\377b\0c\n' >&2; exit 1`}, workflow.TaskFailed, workflow.CauseExit, 1, "exit code 1: a\ufffdb\ufffdc", true},
		{"unknown command", workflow.TaskSpec{Command: "no-such-command-anywhere"}, workflow.TaskFailed, workflow.CauseExit, 127, "exit code 127 (a command was not found): ", true},
		{"not executable", workflow.TaskSpec{Command: "/etc/passwd"}, workflow.TaskFailed, workflow.CauseExit, 126, "exit code 126 (a command cannot be executed): ", true},
		{"signal", workflow.TaskSpec{Command: "kill -KILL $$"}, workflow.TaskFailed, workflow.CauseSignal, 137, "killed by SIGKILL (the system does that when memory is short)", true},
		{"signal to a child", workflow.TaskSpec{Command: "sh -c 'kill -SEGV $$'; exit $?"}, workflow.TaskFailed, workflow.CauseExit, 139, "exit code 139 (a command was killed by SIGSEGV)", true},
		{"time-out", workflow.TaskSpec{Command: "sleep 1000", TimeoutSeconds: 0.05}, workflow.TaskFailed, workflow.CauseTimeout, 143, "timed out after 0.05 s", true},
		{"time-out that is survived", workflow.TaskSpec{Command: "trap 'exit 0' TERM; sleep 1000 & wait", TimeoutSeconds: 0.2}, workflow.TaskFailed, workflow.CauseTimeout, 0, "timed out after 0.2 s", true},
		{"time-out that is ignored", workflow.TaskSpec{Command: "trap '' TERM; while :; do sleep 1; done", TimeoutSeconds: 0.05}, workflow.TaskFailed, workflow.CauseTimeout, 137, "timed out after 0.05 s", true},
		{"NUL in a value", workflow.TaskSpec{Command: "true", Parameters: map[string]workflow.Value{"p": `"a\u0000"`}}, workflow.TaskFailed, workflow.CauseStart, -1, "cannot be started: ", false},
		{"too large a value", workflow.TaskSpec{Command: "true", Env: map[string]string{"BIG": strings.Repeat("x", 4<<20)}}, workflow.TaskFailed, workflow.CauseStart, -1, "cannot be started: environment variable \"BIG\" has 4194308 bytes", false},
		{"NUL in the command", workflow.TaskSpec{Command: "true\x00"}, workflow.TaskFailed, workflow.CauseStart, -1, "cannot be started: the script has a NUL", false},
		{"a child holds the pipe", workflow.TaskSpec{Command: "sleep 1000 & echo done"}, workflow.TaskCompleted, workflow.CauseNone, 0, "", true},
		{"a daemon holds the pipe", workflow.TaskSpec{Command: "setsid sleep 4 & echo done"}, workflow.TaskCompleted, workflow.CauseNone, 0, "", true},
		{"a long command", workflow.TaskSpec{Command: ": " + strings.Repeat("x", 1<<20) + "\nexit 5"}, workflow.TaskFailed, workflow.CauseExit, 5, "exit code 5", true},
	}
	c := newCluster()
	startAgent(t, c, func(o *Options) { o.killGrace = 100 * time.Millisecond })
	members := make([]workflow.Member, len(tests))
	for i := range tests {
		tests[i].spec.TaskID, tests[i].spec.Queue = "task", "default"
		members[i] = c.submit(&tests[i].spec)[0]
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			end := c.end(t, members[i])
			code := int32(-1)
			if end.ExitCode != nil {
				code = *end.ExitCode
			}
			if end.Status != test.status || end.Cause != test.cause || code != test.code || end.Started != test.started {
				t.Errorf("ended %v, cause %q, exit code %d, started %v (%s)", end.Status, end.Cause, code, end.Started, end.Reason)
			}
			if !strings.HasPrefix(end.Reason, test.reason) || test.reason == "" && end.Reason != "" {
				t.Errorf("reason %q, want %q", end.Reason, test.reason)
			}
			if end.Started != !end.StartTime.IsZero() || end.Agent != 1 {
				t.Errorf("started at %v by agent %d", end.StartTime, end.Agent)
			}
		})
	}
	c.checkEmpty(t)
}
