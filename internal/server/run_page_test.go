package server_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// shownRun is a service with one run.
type shownRun struct {
	api.Service

	run  *api.Run
	logs []api.Logs
	read atomic.Int32 // how often with its tasks
}

func (s *shownRun) Run(_ context.Context, id string, include api.Include) (*api.Run, error) {
	if include.Tasks {
		s.read.Add(1)
	}
	if id != s.run.RunID {
		return nil, &api.Error{Status: http.StatusNotFound, Code: api.CodeNotFound, Message: "there is no run " + id}
	}
	return s.run, nil
}

func (s *shownRun) Logs(context.Context, string, *api.LogQuery) (*api.Logs, error) {
	next := s.logs[0]
	s.logs = s.logs[1:]
	return &next, nil
}

const browser = "text/html,application/xhtml+xml,*/*;q=0.8"

func TestRunPage(t *testing.T) {
	t.Parallel()
	code := int32(3)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	took := 2.5
	run := &api.Run{
		RunID: "a&b", DAGID: "<dag>", Status: workflow.RunFailed, Reason: "<b>why</b>", CreatedTime: at, StartTime: at, LogicalDate: at.AddDate(0, 0, -1),
		Tasks: []api.Task{
			{ID: "<one>", TaskRunID: "run.0", Status: workflow.TaskFailed, Attempt: 2, ExitCode: &code, StartTime: at, DurationSeconds: &took},
			{ID: "two", TaskRunID: "run.1", Status: workflow.TaskUpstreamFailed},
			{ID: "three", TaskRunID: "run.2", Status: workflow.TaskSkipped, Cause: workflow.CauseTriggerRule.String()},
		},
	}
	s := start(t, &shownRun{run: run})
	answer := do(s, request("GET", "/runs/a&b", "", "Accept", browser))
	text := answer.Body.String()
	if answer.Code != http.StatusOK || !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("status %d, %v", answer.Code, answer.Header())
	}
	for _, part := range []string{
		"&lt;dag&gt;", "a&amp;b", "&lt;b&gt;why", "2026-01-01 03:04:05 UTC", "&lt;one&gt;", "exit code 3", "attempt 2", "2.5 s",
		`href="/task-runs/run.0/log"`, "upstream failed", "all that it waits for was skipped",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %q:\n%s", part, text)
		}
	}
	for _, part := range []string{"<dag>", "<one>", "<b>why", "/task-runs/run.1", "refresh.js"} {
		if strings.Contains(text, part) {
			t.Errorf("the page has %q:\n%s", part, text)
		}
	}
}

// A run of many task runs shows those that failed, wherever they stand.
func TestPageOfALargeRun(t *testing.T) {
	t.Parallel()
	run := &api.Run{RunID: "r", Status: workflow.RunRunning}
	for i := range 1500 {
		run.Tasks = append(run.Tasks, api.Task{ID: fmt.Sprintf("task-%d-", i), Status: workflow.TaskCompleted})
	}
	run.Tasks[1400].Status = workflow.TaskFailed
	text := do(start(t, &shownRun{run: run}), request("GET", "/runs/r", "", "Accept", browser)).Body.String()
	for part, there := range map[string]bool{"task-1400-": true, "task-998-": true, "task-999-": false, "500 more are not shown": true, "refresh.js": true} {
		if strings.Contains(text, part) != there {
			t.Errorf("%q on the page: %v", part, !there)
		}
	}
}

// Browsers that show a large run share one page, so that they do not slow down the server.
func TestPageOfALargeRunIsShared(t *testing.T) {
	t.Parallel()
	for tasks, shared := range map[int]bool{1000: false, 1001: true} {
		service := &shownRun{run: &api.Run{RunID: "r", DAGID: "wide", Status: workflow.RunRunning, TaskCount: tasks}}
		s := start(t, service)
		var all sync.WaitGroup
		for range 9 {
			all.Go(func() {
				if answer := do(s, request("GET", "/runs/r", "", "Accept", browser)); answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), "wide") {
					t.Errorf("answered %d", answer.Code)
				}
			})
		}
		all.Wait()
		if read := service.read.Load(); shared != (read == 1) {
			t.Errorf("with %d tasks it was read %d times", tasks, read)
		}
	}
}

func TestLogPage(t *testing.T) {
	t.Parallel()
	s := start(t, &shownRun{run: &api.Run{}, logs: []api.Logs{
		{Logs: []api.LogEntry{{Text: "<script>one\n"}}, HasMore: true, Next: "1.1"}, {Logs: []api.LogEntry{{Text: "two\xff\n"}}}, {},
	}})
	for _, want := range []string{"<script>one\ntwo\uFFFD\n", "nothing was printed\n"} {
		answer := do(s, request("GET", "/task-runs/r.0/log", "", "Accept", browser))
		kind, sniff := answer.Header().Get("Content-Type"), answer.Header().Get("X-Content-Type-Options")
		if answer.Body.String() != want || !strings.HasPrefix(kind, "text/plain") || sniff != "nosniff" {
			t.Errorf("answered %q as %s, %s", answer.Body, kind, sniff)
		}
	}
}

// A browser is told of an error on a page, a program in JSON.
func TestErrorsForBrowsers(t *testing.T) {
	t.Parallel()
	s := start(t, &shownRun{run: &api.Run{}})
	for _, target := range []string{"/no<where>", "/runs/none", "/api/runs/none", "/api/nowhere"} {
		page := do(s, request("GET", target, "", "Accept", browser))
		text := page.Body.String()
		if page.Code != http.StatusNotFound || !strings.HasPrefix(page.Header().Get("Content-Type"), "text/html") ||
			!strings.Contains(text, "Not found") || strings.Contains(text, "<where>") {
			t.Errorf("%s: %d\n%s", target, page.Code, text)
		}
		for _, accept := range []string{"", "*/*", "application/json"} {
			answer := do(s, request("GET", target, "", "Accept", accept))
			if answer.Code != http.StatusNotFound || errorIn(t, answer).Code != api.CodeNotFound {
				t.Errorf("%s for %q: %d %s", target, accept, answer.Code, answer.Body)
			}
		}
	}
}
