package api

import (
	"fmt"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Why says in words why the task run is in its state, in one line, as far as there is something to tell.
func (t *Task) Why() string {
	approval := t.Status == workflow.TaskWaiting && t.Cause == workflow.CauseApproval.String()
	switch {
	case t.Error != "":
		return firstLine(t.Error)
	case t.ExitCode != nil && *t.ExitCode != 0:
		return fmt.Sprintf("exit code %d", *t.ExitCode)
	case approval && t.Message != "":
		return "waits for approval: " + firstLine(t.Message)
	case t.WaitsFor != "":
		return "waits for " + firstLine(t.WaitsFor)
	case t.Status == workflow.TaskWaiting:
		return waits[t.Cause]
	case t.Status == workflow.TaskUpstreamFailed || t.Status == workflow.TaskCancelled:
		return "" // the status says it
	}
	if words, ok := causes[t.Cause]; ok {
		return words
	}
	return t.Cause
}

// waits and causes say in words why a task run waits, and why it came to its state, where the cause alone does not.
var (
	waits = map[string]string{
		"": "waits to be tried again", workflow.CauseApproval.String(): "waits for approval", workflow.CausePaused.String(): "the run is paused",
		workflow.CauseTriggerRule.String(): "waits for its trigger rule again",
	}
	causes = map[string]string{
		workflow.CauseNotChosen.String():   "not chosen",
		workflow.CauseTriggerRule.String(): "all that it waits for was skipped, or its trigger rule cannot be met",
		workflow.CauseKept.String():        "kept from an earlier run", workflow.CauseGroup.String(): "all its items",
		workflow.CauseSkip.String(): "skipped by hand",
	}
)

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
