package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// TestScreenFits draws runs of several sizes on screens of several sizes.
func TestScreenFits(t *testing.T) {
	t.Parallel()
	statuses := []workflow.TaskStatus{
		workflow.TaskCompleted, workflow.TaskPending, workflow.TaskRunning, workflow.TaskFailed, workflow.TaskQueued, workflow.TaskUpstreamFailed,
	}
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, tasks := range []int{1, 5, 40, 1000} {
		run := &api.Run{Status: workflow.RunRunning, StartTime: now.Add(-time.Minute), TaskCount: tasks, CancelTime: now}
		for i := range tasks {
			run.Tasks = append(run.Tasks, api.Task{
				ID: fmt.Sprintf("wörd_%d_%s", i, strings.Repeat("x", i%60)), Status: statuses[i%len(statuses)], Attempt: 1 + i%2,
				Error: "a reason\twith\x1b[31m control characters, and a long one at that, longer than any line",
			})
		}
		for _, columns := range []int{20, 40, 80, 200} {
			for _, rows := range []int{4, 10, 50} {
				s := &screen{program: &program{err: &bytes.Buffer{}}}
				lines := s.lines(run, now, columns, rows)
				if len(lines) > rows {
					t.Errorf("%d tasks are %d lines on a screen of %d", tasks, len(lines), rows)
				}
				for _, line := range lines {
					if width(line) > columns || strings.ContainsAny(line, "\t\x1b\n") {
						t.Errorf("%d tasks on %d columns: %q has %d", tasks, columns, line, width(line))
					}
				}
				if tasks > 4 && !strings.Contains(strings.Join(lines, "\n"), "✗") {
					t.Errorf("the failed task is not among the %d lines of %d tasks", rows, tasks)
				}
			}
		}
	}
}

func TestTransitionsAreToldOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	view := &transitions{program: &program{err: &out}, states: map[string]shown{}}
	now := time.Now()
	seconds := 2.0
	task := api.Task{ID: "a", TaskRunID: "x.0", Status: workflow.TaskPending}
	run := &api.Run{RunID: "r", DAGID: "d", Status: workflow.RunRunning, Tasks: []api.Task{task}}
	step := func(change func(*api.Task)) {
		change(&run.Tasks[0])
		view.show(run, now)
		view.show(run, now)
	}
	step(func(*api.Task) {})
	step(func(a *api.Task) { a.Status, a.Attempt = workflow.TaskRunning, 1 })
	step(func(a *api.Task) { a.Attempt = 2 })
	step(func(a *api.Task) {
		a.Status, a.DurationSeconds, a.StartTime, a.EndTime, a.Error = workflow.TaskFailed, &seconds, now.Add(-2*time.Second), now, "exit code 3"
	})
	var got []string
	for line := range strings.Lines(out.String()) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), " ") // without the time
		got = append(got, text)
	}
	want := []string{"run r of d running", "a running", "a running, attempt 2", "a failed after 2.0s, attempt 2: exit code 3"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("told %q, wanted %q", got, want)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &program{out: &out}
	p.writeTable([]column{{title: "NAME"}, {"COUNT", true}, {title: "NOTE"}}, [][]cell{
		{text("ä"), text("7"), text("")},
		{text("longer"), text("1234567"), text("here")},
	})
	want := "NAME      COUNT  NOTE\nä             7\nlonger  1234567  here\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwanted\n%s", out.String(), want)
	}
}

func TestHarmless(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain\tü\n":              "plain\tü\n",
		"dos\r\n":                 "dos\r\n",
		"\x1b[1;31mred\x1b[0m":    "\x1b[1;31mred\x1b[0m",
		"\x1b[2Jclear\x1b[5;5H":   "␛[2Jclear␛[5;5H",
		"\x1b]0;title\x07":        "␛]0;title␇",
		"over\rwritten":           "over␍written",
		"nul \x00, del \x7f":      "nul ␀, del ␡",
		"no text \xff, C1 \u009b": "no text �, C1 �",
		"broken off \x1b[3":       "broken off ␛[3",
	} {
		if got := harmless(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestScreenSumsUp draws a run with more tasks than lines: what of it moves, how many are in each state, and what a
// person is to decide.
func TestScreenSumsUp(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	run := &api.Run{RunID: "r", Status: workflow.RunRunning, StartTime: now.Add(-time.Minute), TaskCount: 100}
	for i := range 120 { // twenty were added that are not counted yet
		run.Tasks = append(run.Tasks, api.Task{ID: fmt.Sprintf("t%d", i), Status: workflow.TaskCompleted})
	}
	for i, status := range []workflow.TaskStatus{workflow.TaskFailed, workflow.TaskRunning, workflow.TaskSkipped, workflow.TaskWaiting} {
		run.Tasks[100+i].Status = status
	}
	run.Tasks[102].Cause = "not_chosen"
	run.Tasks[103].Cause, run.Tasks[103].Message = "approval", "Is it good?"
	s := &screen{program: &program{err: &bytes.Buffer{}}}
	text := strings.Join(s.lines(run, now, 100, 8), "\n")
	for _, part := range []string{
		"116/120", "1 failed  1 running  1 waiting  116 completed  1 skipped", "t100", "t101", "t103", "waits for approval: Is it good?",
		"approve r t103, or reject",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %q in\n%s", part, text)
		}
	}
	if strings.Contains(text, "not chosen") {
		t.Errorf("a skipped task comes before one that moves:\n%s", text)
	}
	run.Tasks, run.TaskCount = run.Tasks[100:104], 4
	if text = strings.Join(s.lines(run, now, 100, 8), "\n"); !strings.Contains(text, "not chosen") || strings.Contains(text, "1 failed  1 running") {
		t.Errorf("a small run is not shown as it is:\n%s", text)
	}
}

func TestTransitionsOfWaitingTasks(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	view := &transitions{program: &program{err: &out}, states: map[string]shown{}}
	task := func(id string, status workflow.TaskStatus, cause string) api.Task {
		return api.Task{ID: id, TaskRunID: "x." + id, Status: status, Cause: cause, Attempt: 1}
	}
	run := &api.Run{RunID: "r", DAGID: "d", Status: workflow.RunRunning, Tasks: []api.Task{
		task("a", workflow.TaskWaiting, ""), task("b", workflow.TaskWaiting, "approval"), task("c", workflow.TaskSkipped, "not_chosen"), task("d", workflow.TaskCompleted, "kept"),
	}}
	view.show(run, time.Now())
	run.Status = workflow.RunPaused
	run.Tasks[0].Cause = "paused"
	run.Tasks = append(run.Tasks, task("b#2", workflow.TaskQueued, ""))
	view.show(run, time.Now())
	got := out.String()
	for _, part := range []string{
		"a waiting: waits to be tried again\n", "b waiting: waits for approval\n", "approve r b, or reject\n", "c skipped: not chosen\n",
		"d completed: kept from an earlier run\n", "run r of d paused\n", "a waiting: the run is paused\n", "b#2 queued\n",
	} {
		if strings.Count(got, part) != 1 {
			t.Errorf("there is not one %q in\n%s", part, got)
		}
	}
}
