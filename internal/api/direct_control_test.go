package api_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestControlRun(t *testing.T) {
	t.Parallel()
	becomes := func(status workflow.RunStatus) func(*backend) error {
		return func(b *backend) error { b.run.Status = status; return nil }
	}
	for _, test := range []struct {
		name    string
		action  api.RunAction
		before  workflow.RunStatus
		command func(*backend) error // nil when none may be sent
		status  workflow.RunStatus
		refused string
	}{
		{"pause", api.ActionPause, workflow.RunRunning, becomes(workflow.RunPaused), workflow.RunPaused, ""},
		{"pause soon", api.ActionPause, workflow.RunRunning, func(b *backend) error {
			time.AfterFunc(30*time.Millisecond, func() { b.mu.Lock(); defer b.mu.Unlock(); b.run.Status = workflow.RunPaused })
			return nil
		}, workflow.RunPaused, ""},
		{"pause of a deaf orchestrator", api.ActionPause, workflow.RunRunning, func(*backend) error { return nil }, workflow.RunRunning, ""},
		{"pause what is paused", api.ActionPause, workflow.RunPaused, nil, workflow.RunPaused, ""},
		{"pause what has ended", api.ActionPause, workflow.RunFailed, nil, 0, `run "mine" has ended already: it is failed`},
		{"pause what ends", api.ActionPause, workflow.RunRunning, becomes(workflow.RunCompleted), 0, `run "mine" has ended meanwhile: it is completed`},
		{"pause what ended in between", api.ActionPause, workflow.RunRunning, func(b *backend) error {
			b.run.Status = workflow.RunCompleted
			return fmt.Errorf("run mine %w", engine.ErrEnded)
		}, 0, "has ended meanwhile"},
		{"pause what never begins", api.ActionPause, workflow.RunPending, nil, 0, `run "mine" has not begun yet`},
		{"resume", api.ActionResume, workflow.RunPaused, becomes(workflow.RunRunning), workflow.RunRunning, ""},
		{"resume to the end", api.ActionResume, workflow.RunPaused, becomes(workflow.RunCompleted), workflow.RunCompleted, ""},
		{"resume what runs", api.ActionResume, workflow.RunRunning, nil, workflow.RunRunning, ""},
		{"resume what has ended", api.ActionResume, workflow.RunCancelled, nil, 0, `run "mine" has ended already: it is cancelled`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.run.Status, b.onCommand = test.before, test.command
			got, err := newDirect(b).ControlRun(t.Context(), "mine", test.action)
			var refused *api.Error
			switch {
			case test.refused != "":
				if !errors.As(err, &refused) || refused.Status != 409 || !strings.Contains(refused.Message, test.refused) || refused.Details.Status == "" {
					t.Errorf("answered %+v, %v", got, err)
				}
			case err != nil || got.Status != test.status || got.RunID != "mine" || !got.Success:
				t.Errorf("answered %+v, %v", got, err)
			}
			if (len(b.commands) > 0) != (test.command != nil) {
				t.Errorf("commanded %+v", b.commands)
			}
			for _, command := range b.commands {
				if command.Node != workflow.RunNode || command.Actor != "ann" {
					t.Errorf("commanded %+v", command)
				}
			}
		})
	}
	var got *api.Error
	if _, err := newDirect(newBackend(t)).ControlRun(t.Context(), "yours", api.ActionPause); !errors.As(err, &got) || got.Status != 404 {
		t.Errorf("an unknown run: %v", err)
	}
	if _, err := newDirect(newBackend(t)).ControlRun(t.Context(), "mine", "stop"); !errors.As(err, &got) || got.Status != 404 {
		t.Errorf("an unknown action: %v", err)
	}
	b := newBackend(t)
	b.run.CancelTime = time.Now()
	if _, err := newDirect(b).ControlRun(t.Context(), "mine", api.ActionPause); !errors.As(err, &got) || got.Status != 409 || !strings.Contains(got.Message, "is being cancelled") {
		t.Errorf("a run that is being cancelled: %v", err)
	}
}

func TestControlTask(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		action  api.TaskAction
		status  workflow.TaskStatus
		cause   workflow.Cause
		becomes workflow.TaskStatus // 0 when no command may be sent
		refused string
	}{
		{api.ActionApprove, workflow.TaskWaiting, workflow.CauseApproval, workflow.TaskQueued, ""},
		{api.ActionReject, workflow.TaskWaiting, workflow.CauseApproval, workflow.TaskFailed, ""},
		{api.ActionApprove, workflow.TaskWaiting, workflow.CauseNone, 0, "does not wait for an approval: it is waiting"},
		{api.ActionApprove, workflow.TaskWaiting, workflow.CausePaused, 0, "does not wait for an approval"},
		{api.ActionReject, workflow.TaskRunning, workflow.CauseNone, 0, "does not wait for an approval: it is running"},
		{api.ActionApprove, workflow.TaskUpstreamFailed, workflow.CauseUpstream, 0, "it is upstream failed"},
		{api.ActionRetry, workflow.TaskFailed, workflow.CauseExit, workflow.TaskQueued, ""},
		{api.ActionRetry, workflow.TaskCompleted, workflow.CauseNone, workflow.TaskQueued, ""},
		{api.ActionRetry, workflow.TaskCancelled, workflow.CauseCancel, workflow.TaskQueued, ""},
		{api.ActionRetry, workflow.TaskUpstreamFailed, workflow.CauseUpstream, workflow.TaskWaiting, ""},
		{api.ActionRetry, workflow.TaskSkipped, workflow.CauseNotChosen, 0, "was skipped"},
		{api.ActionRetry, workflow.TaskRunning, workflow.CauseNone, 0, "has not ended: it is running"},
		{api.ActionRetry, workflow.TaskPending, workflow.CauseNone, 0, "has not ended"},
		{api.ActionRetry, workflow.TaskFailed, workflow.CauseGroup, 0, "only stands for its items"},
		{api.ActionSkip, workflow.TaskPending, workflow.CauseNone, workflow.TaskSkipped, ""},
		{api.ActionSkip, workflow.TaskWaiting, workflow.CauseApproval, workflow.TaskSkipped, ""},
		{api.ActionSkip, workflow.TaskFailed, workflow.CauseExit, workflow.TaskSkipped, ""},
		{api.ActionSkip, workflow.TaskRunning, workflow.CauseNone, 0, "cannot be skipped any more: it is running"},
		{api.ActionSkip, workflow.TaskQueued, workflow.CauseNone, 0, "cannot be skipped any more: it is queued"},
		{api.ActionSkip, workflow.TaskCompleted, workflow.CauseNone, 0, "is completed"},
		{api.ActionSkip, workflow.TaskSkipped, workflow.CauseSkip, 0, ""},
	} {
		t.Run(fmt.Sprintf("%s what is %s %s", test.action, test.status, test.cause), func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.tasks[0].Status, b.tasks[0].Cause = test.status, test.cause
			b.onCommand = func(b *backend) error {
				b.tasks[0].Status, b.tasks[0].Cause = test.becomes, workflow.CauseNone
				return nil
			}
			id := workflow.TaskRunID(runID, 0)
			got, err := newDirect(b).ControlTask(t.Context(), id, test.action)
			var refused *api.Error
			switch {
			case test.refused != "":
				if !errors.As(err, &refused) || refused.Status != 409 || !strings.Contains(refused.Message, test.refused) || !strings.Contains(refused.Message, `"fetch"`) {
					t.Errorf("answered %+v, %v", got, err)
				}
			case err != nil || got.TaskRunID != id || got.ID != "fetch" || got.RunID != "mine" || got.RunStatus != workflow.RunRunning:
				t.Errorf("answered %+v, %v", got, err)
			case test.becomes != 0 && got.Status != test.becomes:
				t.Errorf("answered %+v", got)
			}
			if (len(b.commands) > 0) != (test.becomes != 0) {
				t.Errorf("commanded %+v", b.commands)
			}
		})
	}
}

func TestControlTaskErrors(t *testing.T) {
	t.Parallel()
	gone := newBackend(t)
	gone.tasks[0].Status = workflow.TaskFailed
	gone.onCommand = func(*backend) error { return fmt.Errorf("run mine %w", engine.ErrGone) }
	ended := newBackend(t)
	ended.tasks[0].Status, ended.tasks[0].Cause = workflow.TaskWaiting, workflow.CauseApproval
	ended.onCommand = func(*backend) error { return fmt.Errorf("run mine %w", engine.ErrEnded) }
	cancelled := newBackend(t)
	cancelled.run.CancelTime = time.Now()
	deaf := newBackend(t)
	deaf.tasks[0].Status = workflow.TaskPending
	deaf.onCommand = func(*backend) error { return nil }
	for _, test := range []struct {
		name    string
		backend *backend
		id      string
		action  api.TaskAction
		status  int
	}{
		{"no id of a task run", newBackend(t), "fetch", api.ActionSkip, 404},
		{"unknown run", newBackend(t), workflow.TaskRunID(workflow.NewRunID(time.Now(), 1), 0), api.ActionSkip, 404},
		{"unknown task run", newBackend(t), workflow.TaskRunID(runID, 9), api.ActionSkip, 404},
		{"unknown action", newBackend(t), workflow.TaskRunID(runID, 0), "stop", 404},
		{"retention", gone, workflow.TaskRunID(runID, 0), api.ActionRetry, 410},
		{"skip of a group whose items run", deaf, workflow.TaskRunID(runID, 0), api.ActionSkip, 409},
		{"run that has ended", ended, workflow.TaskRunID(runID, 0), api.ActionApprove, 409},
		{"run that is being cancelled", cancelled, workflow.TaskRunID(runID, 1), api.ActionSkip, 409},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got *api.Error
			if _, err := newDirect(test.backend).ControlTask(t.Context(), test.id, test.action); !errors.As(err, &got) || got.Status != test.status {
				t.Errorf("error %v, wanted %d", err, test.status)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.events = []engine.EventView{
		{At: runID.Time(), Kind: "pending", Node: workflow.RunNode, Actor: "ann"},
		{At: runID.Time().Add(time.Second), Kind: "failed", Node: 0, Name: "fetch", Attempt: 2, Cause: workflow.CauseExit, Reason: "exit code 3"},
		{At: runID.Time().Add(time.Minute), Kind: "evaluate", Node: 1, Name: "report", Detail: `{"a":1}`},
	}
	direct := newDirect(b)
	got, err := direct.Events(t.Context(), "mine", &api.EventQuery{})
	if err != nil || got.Total != 3 || len(got.Events) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	if first := got.Events[0]; first.Event != "pending" || first.ID != "" || first.TaskRunID != "" || first.Actor != "ann" || first.Detail != nil {
		t.Errorf("first %+v", first)
	}
	if second := got.Events[1]; second.TaskRunID != runID.String()+".0" || second.ID != "fetch" || second.Attempt != 2 || second.Cause != "exit" || second.Reason != "exit code 3" {
		t.Errorf("second %+v", second)
	}
	if third := got.Events[2]; *third.Detail != `{"a":1}` {
		t.Errorf("third %+v", third)
	}
	if page, err := direct.Events(t.Context(), "mine", &api.EventQuery{Offset: 1, Limit: 1}); err != nil || len(page.Events) != 1 || page.Events[0].Event != "failed" || page.Total != 3 {
		t.Errorf("%+v, %v", page, err)
	}
	if page, err := direct.Events(t.Context(), "mine", &api.EventQuery{Offset: 9}); err != nil || len(page.Events) != 0 {
		t.Errorf("%+v, %v", page, err)
	}
	var bad *api.Error
	if _, err := direct.Events(t.Context(), "yours", &api.EventQuery{}); !errors.As(err, &bad) || bad.Status != 404 {
		t.Errorf("error %v", err)
	}
}

func TestApprovalMessage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		dag       string
		byOutcome bool
		task      string
		message   string
	}{
		{"ask", true, "ask", "Is it good?"},
		{"plain", false, "ask", "By the DAG"},
		{"outer", false, "plain/ask", "By the DAG"},
		{"nothing", false, "nothing", ""},
	} {
		b := newLanguageBackend(t)
		b.run.DAG, b.run.ByOutcome, b.run.Revision = test.dag, test.byOutcome, 1
		b.run.LogicalDate, b.run.RerunOf, b.run.RerunOfName = runID.Time(), runID, "former"
		b.tasks[1] = engine.TaskRunView{Node: 1, Name: test.task, TaskID: test.task, Status: workflow.TaskWaiting, Cause: workflow.CauseApproval}
		run, err := newDirect(b).Run(t.Context(), "mine", api.Include{Tasks: true})
		if err != nil || run.Tasks[1].Message != test.message || run.Tasks[1].Cause != "approval" || run.Tasks[0].Message != "" {
			t.Errorf("%s: %+v, %v", test.task, run, err)
		}
		if !run.LogicalDate.Equal(runID.Time()) || run.RerunOf != "former" {
			t.Errorf("run %+v", run)
		}
	}
}
