package main

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// patchy is a service that answers now and then.
type patchy struct {
	api.Service
	answers []workflow.RunStatus // 0: none
}

func (p *patchy) Run(context.Context, string, api.Include) (*api.Run, error) {
	status := p.answers[0]
	p.answers = p.answers[1:]
	if status == 0 {
		return nil, &api.Error{Status: http.StatusServiceUnavailable, Message: "no answer"}
	}
	return &api.Run{RunID: "one", Status: status}, nil
}

// A watcher is told that there is no answer, once each time.
func TestWatchTellsOfSilence(t *testing.T) {
	t.Parallel()
	var told bytes.Buffer
	p := &program{err: &told}
	running := workflow.RunRunning
	run, err := p.watch(t.Context(), &patchy{answers: []workflow.RunStatus{running, 0, 0, running, 0, running, workflow.RunCompleted}}, "one")
	if err != nil || run.Status != workflow.RunCompleted {
		t.Fatalf("it ends with %+v, %v", run, err)
	}
	if got := strings.Count(told.String(), noAnswer); got != 2 {
		t.Errorf("told %d times:\n%s", got, &told)
	}
}

func TestFrameTellsOfSilence(t *testing.T) {
	t.Parallel()
	var seen any = frame("picture\n")
	for range 2 {
		seen, _ = seen.(frame).Update(missed("no answer")) //nolint:forcetypeassert // its only type
	}
	if seen != frame("picture\nno answer\n") {
		t.Errorf("seen is %q", seen)
	}
	if seen, _ = seen.(frame).Update(frame("next\n")); seen != frame("next\n") { //nolint:forcetypeassert // its only type
		t.Errorf("then %q", seen)
	}
}

// Lines come in the order of their times, whatever the order in which things were heard of.
func TestTransitionsAreInTheOrderOfTime(t *testing.T) {
	t.Parallel()
	var told bytes.Buffer
	view := &transitions{program: &program{err: &told}, states: map[string]shown{}}
	at := func(second int) time.Time { return time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC) }
	run := &api.Run{RunID: "r", DAGID: "d", Status: workflow.RunRunning, StartTime: at(2), Tasks: []api.Task{
		{ID: "b", TaskRunID: "b", Status: workflow.TaskRunning, StartTime: at(5)},
		{ID: "a", TaskRunID: "a", Status: workflow.TaskRunning, StartTime: at(3)},
	}}
	view.show(run, at(9))
	run.Tasks[1].Status, run.Tasks[1].EndTime = workflow.TaskCompleted, at(4) // heard of late
	view.show(run, at(10))
	want := []string{"02 run r of d running", "03 a running", "05 b running", "05 a completed"}
	for i, line := range strings.Split(strings.TrimSpace(told.String()), "\n") {
		if i >= len(want) || !strings.HasSuffix(line, want[i]) {
			t.Errorf("line %d is %q", i, line)
		}
	}
}

// cutLogs is a service with a log that is not to be had now and then.
type cutLogs struct {
	patchy
	cuts  []bool // for each look at the log
	after []string
}

func (c *cutLogs) Run(ctx context.Context, id string, include api.Include) (*api.Run, error) {
	run, err := c.patchy.Run(ctx, id, include)
	if err != nil {
		return nil, err
	}
	task := api.Task{ID: "t", TaskRunID: "one.0", Attempt: 1, Status: workflow.TaskRunning}
	if run.Status.Ended() {
		task.Status = workflow.TaskCompleted
	}
	run.Tasks = []api.Task{task}
	return run, nil
}

func (c *cutLogs) Logs(_ context.Context, _ string, query *api.LogQuery) (*api.Logs, error) {
	cut := c.cuts[0]
	if c.cuts = c.cuts[1:]; cut {
		return nil, &api.Error{Status: http.StatusServiceUnavailable, Message: "no answer"}
	}
	c.after = append(c.after, query.After)
	line := strconv.Itoa(len(c.after))
	return &api.Logs{Logs: []api.LogEntry{{Attempt: 1, Stream: "stdout", Text: "line " + line + "\n"}}, Next: line, HasMore: len(c.after) == 1}, nil
}

// Who follows a log gets each line once, whether the server is away in between or not.
func TestLogsGoOnAfterSilence(t *testing.T) {
	t.Parallel()
	var printed, told bytes.Buffer
	running := workflow.RunRunning
	service := &cutLogs{
		patchy: patchy{answers: []workflow.RunStatus{running, running, 0, 0, running, workflow.RunCompleted}},
		cuts:   []bool{false, false, true, false, false},
	}
	p := &program{out: &printed, err: &told}
	reader := &logReader{program: p, service: service, run: "one", follow: true, from: api.LogQuery{Tail: 5}, places: map[string]*logState{}}
	if err := reader.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	const want = "t | line 1\nt | line 2\nt | line 3\nt | line 4\n"
	if printed.String() != want || strings.Join(service.after, ",") != ",1,2,3" {
		t.Errorf("printed %q, from %q", &printed, service.after)
	}
	if got := strings.Count(told.String(), noAnswer); got != 1 {
		t.Errorf("told %d times:\n%s", got, &told)
	}
	reader.follow = false
	service.answers = []workflow.RunStatus{0}
	if err := reader.read(t.Context()); err == nil {
		t.Error("who does not follow is not told that there is no answer")
	}
}
