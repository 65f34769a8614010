package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/server"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// fake is a service that answers what a test wants, and keeps what it was asked.
type fake struct {
	api.Service // for the methods that a test does not need: they panic

	scheduled *api.ScheduleTask
	runQuery  *api.RunQuery
	include   api.Include
	logQuery  *api.LogQuery
	list      api.RunList
	err       error
	health    api.Health
	follow    func(ctx context.Context, emit func(api.LogEntry) error) error
	asked     []string // of the methods that take little, each call in words
	rerun     *api.Rerun
	backfill  *api.Backfill
}

func (f *fake) ScheduleTask(_ context.Context, request *api.ScheduleTask) (*api.Scheduled, error) {
	f.scheduled = request
	return &api.Scheduled{Success: true, RunID: "r", DAGRunID: "r", Tasks: []api.ScheduledTask{}}, f.err
}

func (f *fake) Runs(_ context.Context, query *api.RunQuery) (*api.RunList, error) {
	f.runQuery = query
	return &f.list, f.err
}

func (f *fake) Run(_ context.Context, run string, include api.Include) (*api.Run, error) {
	f.include = include
	return &api.Run{RunID: run, Status: workflow.RunRunning}, f.err
}

func (f *fake) Logs(_ context.Context, taskRun string, query *api.LogQuery) (*api.Logs, error) {
	f.logQuery = query
	return &api.Logs{TaskRunID: taskRun, Logs: []api.LogEntry{}}, f.err
}

func (f *fake) FollowLogs(ctx context.Context, _ string, query *api.LogQuery, emit func(api.LogEntry) error) error {
	f.logQuery = query
	return f.follow(ctx, emit)
}

func (f *fake) note(words ...any) {
	f.asked = append(f.asked, strings.TrimSuffix(fmt.Sprintln(words...), "\n"))
}

func (f *fake) ControlRun(_ context.Context, run string, action api.RunAction) (*api.ControlledRun, error) {
	f.note(action, run)
	return &api.ControlledRun{Success: true, RunID: run, Status: workflow.RunPaused}, f.err
}

func (f *fake) ControlTask(_ context.Context, taskRun string, action api.TaskAction) (*api.ControlledTask, error) {
	f.note(action, taskRun)
	return &api.ControlledTask{Success: true, TaskRunID: taskRun, Status: workflow.TaskQueued}, f.err
}

func (f *fake) Events(_ context.Context, run string, query *api.EventQuery) (*api.EventList, error) {
	f.note("events", run, *query)
	return &api.EventList{Events: []api.Event{}}, f.err
}

func (f *fake) Rerun(_ context.Context, run string, request *api.Rerun) (*api.Scheduled, error) {
	f.note("rerun", run)
	f.rerun = request
	return &api.Scheduled{Success: true}, f.err
}

func (f *fake) Backfill(_ context.Context, request *api.Backfill) (*api.Backfilled, error) {
	f.backfill = request
	return &api.Backfilled{Success: true}, f.err
}

func (f *fake) Contexts(_ context.Context, query *api.DefinitionQuery) (*api.ContextList, error) {
	f.note("contexts", *query)
	return &api.ContextList{}, f.err
}

func (f *fake) ParameterSets(_ context.Context, query *api.DefinitionQuery) (*api.ParameterSetList, error) {
	f.note("parameter sets", *query)
	return &api.ParameterSetList{}, f.err
}

func (f *fake) Health(context.Context) (*api.Health, error) { return &f.health, nil }

func start(t *testing.T, service api.Service, change ...func(*server.Options)) *server.Server {
	t.Helper()
	options := server.Options{
		Service: service, Address: "127.0.0.1:0", Title: "Cyclonetix", Refresh: time.Second,
		Metrics: server.NewMetrics("v1.2.3"), MetricsPath: "/metrics", Logger: slog.New(slog.DiscardHandler),
	}
	for _, apply := range change {
		apply(&options)
	}
	listener, err := server.Listen(t.Context(), options.Address)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(listener, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// request asks the server's handler as a client of its own machine would.
func request(method, target, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "localhost:3000"
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func do(s *server.Server, r *http.Request) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	s.Handler().ServeHTTP(answer, r)
	return answer
}

// errorIn reads the error of an answer, and checks that it has the form that all errors have.
func errorIn(t *testing.T, answer *httptest.ResponseRecorder) *api.Error {
	t.Helper()
	if kind := answer.Header().Get("Content-Type"); kind != "application/json" {
		t.Errorf("the error is %q, not JSON", kind)
	}
	var body struct{ Error *api.Error }
	decoder := json.NewDecoder(answer.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil || body.Error == nil || body.Error.Code == "" || body.Error.Message == "" {
		t.Fatalf("the answer is no error: %v, %+v", err, body.Error)
	}
	if body.Error.Details == nil {
		body.Error.Details = &api.Details{}
	}
	return body.Error
}

func TestErrors(t *testing.T) {
	broken := errors.New("password=secret host=db")
	for _, test := range []struct {
		name    string
		request *http.Request
		err     error // of the service
		status  int
		code    string
		message string // a part of it
		field   string
	}{
		{"unknown path", request("GET", "/api/nothing", ""), nil, 404, api.CodeNotFound, "/api/nothing", ""},
		{"unknown page", request("GET", "/nothing", ""), nil, 404, api.CodeNotFound, "/nothing", ""},
		{"unknown static file", request("GET", "/static/nothing.js", ""), nil, 404, api.CodeNotFound, "", ""},
		{"unknown schema", request("GET", "/schemas/nothing.json", ""), nil, 404, api.CodeNotFound, "", ""},
		{"wrong method", request("DELETE", "/api/runs", ""), nil, 405, api.CodeMethodNotAllowed, "DELETE", ""},
		{"no body", request("POST", "/api/schedule-task", ""), nil, 400, api.CodeBadRequest, "empty", ""},
		{"not JSON", request("POST", "/api/schedule-task", "{task"), nil, 400, api.CodeBadRequest, "not JSON", ""},
		{"broken off", request("POST", "/api/schedule-task", `{"task_id": "a"`), nil, 400, api.CodeBadRequest, "breaks off", ""},
		{"not an object", request("POST", "/api/schedule-task", `["a"]`), nil, 400, api.CodeBadRequest, "must be a JSON object, not a list", ""},
		{"null", request("POST", "/api/schedule-task", `null`), nil, 400, api.CodeBadRequest, "not null", ""},
		{"two objects", request("POST", "/api/schedule-task", `{"task_id": "a"} {}`), nil, 400, api.CodeBadRequest, "after the JSON object", ""},
		{"unknown field", request("POST", "/api/schedule-task", `{"task_idd": "a"}`), nil, 400, api.CodeBadRequest, `did you mean "task_id"?`, "task_idd"},
		{"wrong type", request("POST", "/api/schedule-task", `{"task_id": 7}`), nil, 400, api.CodeBadRequest, "task_id must be a string, not a number", "task_id"},
		{"wrong type of a shared field", request("POST", "/api/schedule-task", `{"context": []}`), nil, 400, api.CodeBadRequest, "context must be a string, not a list", "context"},
		{"wrong type inside", request("POST", "/api/schedule-task", `{"env_vars": {"A": 1}}`), nil, 400, api.CodeBadRequest, "env_vars must be a string", "env_vars"},
		{"fraction for a whole number", request("POST", "/api/schedule-task", `{"retries": 1.5}`), nil, 400, api.CodeBadRequest, "retries must be a whole number, not 1.5", "retries"},
		{"huge number", request("POST", "/api/schedule-task", `{"timeout_seconds": 1e999}`), nil, 400, api.CodeBadRequest, "timeout_seconds must be a number, not 1e999", "timeout_seconds"},
		{"list for a number", request("POST", "/api/schedule-task", `{"priority": [1]}`), nil, 400, api.CodeBadRequest, "priority must be a whole number, not a list", "priority"},
		{"text for a list", request("POST", "/api/schedule-task", `{"parameter_sets": "small"}`), nil, 400, api.CodeBadRequest, "parameter_sets must be a list, not a string", "parameter_sets"},
		{"text for a flag", request("POST", "/api/schedule-task", `{"ignore_dependencies": "yes"}`), nil, 400, api.CodeBadRequest, "ignore_dependencies must be true or false, not a string", "ignore_dependencies"},
		{"field of a task for a DAG", request("POST", "/api/schedule-dag", `{"dag_id": "a", "queue": "q"}`), nil, 400, api.CodeBadRequest, `unknown field "queue"`, "queue"},
		{"unknown field of a rerun", request("POST", "/api/rerun/r", `{"from": "a"}`), nil, 400, api.CodeBadRequest, `unknown field "from"`, "from"},
		{"wrong type in a rerun", request("POST", "/api/rerun/r", `{"failed_only": "a"}`), nil, 400, api.CodeBadRequest, "failed_only must be true or false", "failed_only"},
		{"long key of a rerun", request("POST", "/api/rerun/r", ``, "Idempotency-Key", strings.Repeat("k", 201)), nil, 400, api.CodeBadRequest, "longer", "Idempotency-Key"},
		{"no body of a backfill", request("POST", "/api/backfill", ``), nil, 400, api.CodeBadRequest, "empty", ""},
		{"wrong type in a backfill", request("POST", "/api/backfill", `{"start_date": 2024}`), nil, 400, api.CodeBadRequest, "start_date must be a string", "start_date"},
		{"body of a pause", request("POST", "/api/runs/r/pause", `{"force": true}`), nil, 400, api.CodeBadRequest, `unknown field "force"`, "force"},
		{"no JSON for an approval", request("POST", "/api/task-runs/x.0/approve", `yes`), nil, 400, api.CodeBadRequest, "not JSON", ""},
		{"unknown action", request("POST", "/api/runs/r/stop", ``), nil, 404, api.CodeNotFound, "/api/runs/r/stop", ""},
		{"pausing by GET", request("GET", "/api/runs/r/pause", ``), nil, 405, api.CodeMethodNotAllowed, "GET", ""},
		{"bad limit of events", request("GET", "/api/runs/r/events?limit=0", ``), nil, 400, api.CodeBadRequest, "1 to 1000", "limit"},
		{"query of a cancellation", request("POST", "/api/cancel-run/r?force=true", ``), nil, 400, api.CodeBadRequest, `unknown field "force"`, "force"},
		{"body of a cancellation", request("POST", "/api/cancel-run/r", `{"force": true}`), nil, 400, api.CodeBadRequest, `unknown field "force"`, "force"},
		{"query of a schedule", request("POST", "/api/schedule-task?dry_run=1", `{"task_id": "a"}`), nil, 400, api.CodeBadRequest, `unknown field "dry_run"`, "dry_run"},
		{"query of a rerun", request("POST", "/api/rerun/r?failed_only=true", ``), nil, 400, api.CodeBadRequest, `unknown field "failed_only"`, "failed_only"},
		{"query of an approval", request("POST", "/api/task-runs/r.0/approve?actor=me", ``), nil, 400, api.CodeBadRequest, `unknown field "actor"`, "actor"},
		{"query of a graph", request("GET", "/api/runs/r/graph?depth=1", ``), nil, 400, api.CodeBadRequest, `unknown field "depth"`, "depth"},
		{"queue of contexts", request("GET", "/api/contexts?queue=q", ``), nil, 400, api.CodeBadRequest, `unknown field "queue"`, "queue"},
		{"gone", request("POST", "/api/rerun/r", ``), &api.Error{Status: 410, Code: api.CodeGone, Message: "retention"}, 410, api.CodeGone, "retention", ""},
		{"refused action", request("POST", "/api/task-runs/x.0/skip", ``), &api.Error{Status: 409, Code: api.CodeConflict, Message: "it is running"}, 409, api.CodeConflict, "running", ""},
		{"long key", request("POST", "/api/schedule-task", `{"task_id": "a"}`, "Idempotency-Key", strings.Repeat("k", 201)), nil, 400, api.CodeBadRequest, "longer", "Idempotency-Key"},
		{"large body", request("POST", "/api/schedule-task", `{"task_id": "`+strings.Repeat("a", 1<<20)+`"}`), nil, 413, api.CodeTooLarge, "1048576", ""},
		{"unknown query", request("GET", "/api/runs?statsu=failed", ""), nil, 400, api.CodeBadRequest, `did you mean "status"?`, "statsu"},
		{"unknown status", request("GET", "/api/runs?status=done", ""), nil, 400, api.CodeBadRequest, `"done"`, "status"},
		{"bad limit", request("GET", "/api/runs?limit=1001", ""), nil, 400, api.CodeBadRequest, "1 to 1000", "limit"},
		{"bad offset", request("GET", "/api/runs?offset=-1", ""), nil, 400, api.CodeBadRequest, "from 0", "offset"},
		{"bad time", request("GET", "/api/runs?since=yesterday", ""), nil, 400, api.CodeBadRequest, "RFC 3339", "since"},
		{"bad flag", request("GET", "/api/runs/r?include_tasks=maybe", ""), nil, 400, api.CodeBadRequest, "true or false", "include_tasks"},
		{"twice", request("GET", "/api/runs?limit=1&limit=2", ""), nil, 400, api.CodeBadRequest, "more than once", "limit"},
		{"conflict", request("GET", "/api/runs/r", ""), &api.Error{Status: 409, Code: api.CodeConflict, Message: "used"}, 409, api.CodeConflict, "used", ""},
		{"too many", request("GET", "/api/runs/r", ""), &api.Error{Status: 429, Code: api.CodeTooMany, Message: "many"}, 429, api.CodeTooMany, "many", ""},
		{"internal", request("GET", "/api/runs/r", ""), broken, 500, api.CodeInternal, "something went wrong", ""},
		{"too slow", request("GET", "/api/runs/r", ""), context.DeadlineExceeded, 503, api.CodeUnavailable, "too long", ""},
		{"panic", request("GET", "/api/tasks", ""), nil, 500, api.CodeInternal, "something went wrong", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			answer := do(start(t, &fake{err: test.err}), test.request)
			text := answer.Body.String()
			got := errorIn(t, answer)
			if answer.Code != test.status || got.Code != test.code || !strings.Contains(got.Message, test.message) || got.Details.Field != test.field {
				t.Errorf("%d %+v %+v, wanted %d %s %q for the field %q", answer.Code, got, got.Details, test.status, test.code, test.message, test.field)
			}
			if strings.Contains(text, "secret") {
				t.Errorf("the answer tells what only the log may: %s", text)
			}
		})
	}
}

func TestLargeBodyWithoutALength(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodPost, "/api/schedule-task", io.MultiReader(strings.NewReader(strings.Repeat(" ", 1<<20)), strings.NewReader("{}")))
	r.Host = "localhost"
	if answer := do(start(t, &fake{}), r); answer.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", answer.Code)
	}
}

func TestHostAndOrigin(t *testing.T) {
	t.Parallel()
	local := start(t, &fake{})
	named := start(t, &fake{}, func(o *server.Options) { o.AdvertiseURL = "https://flows.example.org" })
	for _, test := range []struct {
		name   string
		server *server.Server
		header []string
		status int
	}{
		{"localhost", local, []string{"Host", "localhost:3000"}, 200},
		{"localhost, forwarded port", local, []string{"Host", "LocalHost:8080"}, 200},
		{"no port", local, []string{"Host", "localhost"}, 200},
		{"IPv4", local, []string{"Host", "127.0.0.1:3000"}, 200},
		{"IPv6", local, []string{"Host", "[::1]:3000"}, 200},
		{"foreign name", local, []string{"Host", "evil.example"}, 403},
		{"foreign name that ends like ours", local, []string{"Host", "localhost.evil.example"}, 403},
		{"foreign address", local, []string{"Host", "192.0.2.1"}, 403},
		{"no host", local, []string{"Host", ""}, 403},
		{"advertised name elsewhere", local, []string{"Host", "flows.example.org"}, 403},
		{"advertised name", named, []string{"Host", "flows.example.org"}, 200},
		{"own origin", local, []string{"Origin", "http://localhost:3000"}, 200},
		{"another port", local, []string{"Origin", "http://localhost:8080"}, 403},
		{"another site", local, []string{"Origin", "https://evil.example"}, 403},
		{"no origin to speak of", local, []string{"Origin", "null"}, 403},
		{"a file", local, []string{"Origin", "file://localhost:3000"}, 403},
		{"advertised origin behind a proxy", named, []string{"Origin", "https://flows.example.org"}, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, r := range []*http.Request{
				request("GET", "/", "", test.header...),
				request("POST", "/api/schedule-task", `{"task_id": "a"}`, test.header...),
			} {
				answer := do(test.server, r)
				if answer.Code != test.status {
					t.Errorf("%s %s: status %d, wanted %d", r.Method, r.URL, answer.Code, test.status)
				}
				if test.status == http.StatusForbidden {
					if got := errorIn(t, answer); !slices.Contains(got.Details.Allowed, "localhost") || got.Details.Hint == "" {
						t.Errorf("the refusal does not say what is allowed: %+v", got.Details)
					}
				}
			}
		})
	}
}

func TestAddressOfTheMachineOnAllAddresses(t *testing.T) {
	t.Parallel()
	s := start(t, &fake{}, func(o *server.Options) { o.Address = "0.0.0.0:0" })
	for host, status := range map[string]int{"192.0.2.7:3000": 200, "192.0.2.8:3000": 403, "evil.example": 403} {
		r := request("GET", "/", "", "Host", host)
		local := &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 3000}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
		if answer := do(s, r); answer.Code != status {
			t.Errorf("Host %s: status %d, wanted %d", host, answer.Code, status)
		}
	}
}

func TestRequestsReachTheService(t *testing.T) {
	t.Parallel()
	service := &fake{health: api.Health{Status: api.HealthOK}}
	s := start(t, service)
	for _, r := range []*http.Request{
		request("POST", "/api/schedule-task", `{"task_id": "a", "parameters": {"N": 12345678901234567890}, "env_vars": {"E": "x"}}`, "Idempotency-Key", "k"),
		request("GET", "/api/runs?status=failed,cancelled&status=running&dag_id=d&limit=7&offset=9&since=2026-01-31T08:00:00%2B01:00", ""),
		request("GET", "/api/runs/r?include_tasks=true&include_logs", ""),
		request("GET", "/api/tasks/x.1/logs?tail=5&since=2026-01-31T08:00:00Z&after=1.3", ""),
		request("GET", "/api/health", ""),
	} {
		if answer := do(s, r); answer.Code != http.StatusOK || !json.Valid(answer.Body.Bytes()) {
			t.Errorf("%s %s: %d %s", r.Method, r.URL, answer.Code, answer.Body)
		}
	}
	if got := service.scheduled; got.TaskID != "a" || got.Parameters["N"] != "12345678901234567890" || got.EnvVars["E"] != "x" || got.IdempotencyKey != "k" {
		t.Errorf("scheduled %+v", got)
	}
	query := service.runQuery
	if !slices.Equal(query.Status, []workflow.RunStatus{workflow.RunFailed, workflow.RunCancelled, workflow.RunRunning}) ||
		query.DAGID != "d" || query.Limit != 7 || query.Offset != 9 || !query.Since.Equal(time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)) {
		t.Errorf("listed %+v", query)
	}
	if !service.include.Tasks || !service.include.Logs {
		t.Errorf("included %+v", service.include)
	}
	if got := service.logQuery; got.Tail != 5 || got.After != "1.3" || got.Since.IsZero() {
		t.Errorf("logs %+v", got)
	}
}

func TestControlReachesTheService(t *testing.T) {
	t.Parallel()
	service := &fake{}
	s := start(t, service)
	for _, r := range []*http.Request{
		request("POST", "/api/runs/r/pause", ""),
		request("POST", "/api/runs/r/resume", " {} "),
		request("POST", "/api/task-runs/x.0/approve", ""),
		request("POST", "/api/task-runs/x.0/reject", ""),
		request("POST", "/api/task-runs/x.0/retry", ""),
		request("POST", "/api/task-runs/x.0/skip", ""),
		request("GET", "/api/runs/r/events?limit=5&offset=7", ""),
		request("GET", "/api/contexts?filter=a*&limit=3", ""),
		request("GET", "/api/parameter-sets?offset=2", ""),
		request("POST", "/api/rerun/r", `{"from_task": "a", "reset_params": true}`, "Idempotency-Key", "k"),
		request("POST", "/api/backfill", `{"dag_id": "d", "start_date": "2024-01-01", "end_date": "2024-01-02", "max_parallel": 3}`),
		request("POST", "/api/schedule-task", `{"task_id": "a", "parameter_sets": ["s"], "queue": "q", "timeout_seconds": 1.5, "retries": 0, "retry_delay_seconds": 2, "priority": 1, "ignore_dependencies": true, "max_parallel": 4}`),
	} {
		if answer := do(s, r); answer.Code != http.StatusOK || !json.Valid(answer.Body.Bytes()) {
			t.Errorf("%s %s: %d %s", r.Method, r.URL, answer.Code, answer.Body)
		}
	}
	if wanted := []string{
		"pause r", "resume r", "approve x.0", "reject x.0", "retry x.0", "skip x.0", "events r {5 7}", "contexts {a*  3 0}", "parameter sets {  0 2}", "rerun r",
	}; !slices.Equal(service.asked, wanted) {
		t.Errorf("asked %q, wanted %q", service.asked, wanted)
	}
	if got := service.rerun; *got != (api.Rerun{FromTask: "a", ResetParams: true, IdempotencyKey: "k"}) {
		t.Errorf("reruns %+v", got)
	}
	if got := service.backfill; *got != (api.Backfill{DAGID: "d", StartDate: "2024-01-01", EndDate: "2024-01-02", MaxParallel: 3}) {
		t.Errorf("backfills %+v", got)
	}
	got := service.scheduled
	if !slices.Equal(got.ParameterSets, []string{"s"}) || *got.Queue != "q" || *got.TimeoutSeconds != 1.5 || *got.Retries != 0 || *got.RetryDelaySeconds != 2 ||
		*got.Priority != 1 || !got.IgnoreDependencies || *got.MaxParallel != 4 {
		t.Errorf("scheduled %+v", got)
	}
}

func TestHealthOfABackendThatIsDown(t *testing.T) {
	t.Parallel()
	answer := do(start(t, &fake{health: api.Health{Status: api.HealthUnavailable}}), request("GET", "/api/health", ""))
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), `"unavailable"`) {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := start(t, &fake{})
	for _, target := range []string{"/", "/api/runs", "/static/style.css", "/nothing", "/metrics"} {
		header := do(s, request("GET", target, "")).Header()
		for name, wanted := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		} {
			if !strings.Contains(header.Get(name), wanted) {
				t.Errorf("%s: %s is %q", target, name, header.Get(name))
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	metrics := server.NewMetrics("v1.2.3")
	metrics.Committed(3*time.Millisecond, []*workflow.Change{
		{Tasks: []workflow.TaskChange{{Status: workflow.TaskQueued}, {Status: workflow.TaskCompleted}}},
		{Tasks: []workflow.TaskChange{{Status: workflow.TaskFailed}}, Run: &workflow.RunChange{Status: workflow.RunFailed}},
		{Run: &workflow.RunChange{Status: workflow.RunRunning}},
	})
	s := start(t, &fake{}, func(o *server.Options) { o.Metrics = metrics })
	do(s, request("GET", "/api/runs/some-id", ""))
	do(s, request("GET", "/made/up/path", ""))
	text := do(s, request("GET", "/metrics", "")).Body.String()
	for _, wanted := range []string{
		`cyclonetix_runs_ended_total{status="failed"} 1`,
		`cyclonetix_runs_ended_total{status="completed"} 0`,
		`cyclonetix_task_runs_ended_total{status="completed"} 1`,
		`cyclonetix_task_runs_ended_total{status="failed"} 1`,
		`cyclonetix_commit_duration_seconds_count 1`,
		`cyclonetix_commit_task_runs_sum 3`,
		`cyclonetix_http_request_duration_seconds_count{code="200",method="GET",route="/api/runs/:id"} 1`,
		`cyclonetix_http_request_duration_seconds_count{code="404",method="GET",route="none"} 1`,
		`cyclonetix_build_info{version="v1.2.3"} 1`,
	} {
		if !strings.Contains(text, wanted) {
			t.Errorf("there is no %s in\n%s", wanted, text)
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	made := time.Now().Add(-3 * time.Minute)
	took := 12.5
	list := api.RunList{
		Runs: []api.Run{
			{RunID: "<script>alert(1)</script>", DAGID: "report", Status: workflow.RunFailed, Reason: "a & b", TaskCount: 3, CompletedTasks: 1, FailedTasks: 2, CreatedTime: made, DurationSeconds: &took},
			{RunID: "b", DAGID: "train", Status: workflow.RunRunning, TaskCount: 3, CreatedTime: made, StartTime: made, CancelTime: made},
		},
		Total: 300, TotalExact: true, Limit: 2, Offset: 2,
	}
	page := func(service *fake, target string) (int, string) {
		answer := do(start(t, service), request("GET", target, ""))
		return answer.Code, answer.Body.String()
	}
	for _, test := range []struct {
		name    string
		service *fake
		target  string
		status  int
		has     []string
		hasNot  []string
	}{
		{
			"runs", &fake{list: list}, "/?status=failed&offset=2", 200,
			[]string{"failed", "✗", "&lt;script&gt;", "3 min ago", "12.5 s", "a &amp; b", "2 failed", "running, cancelling", "3 to 4 of 300", `href="/runs/b"`, `offset=4`, `href="/?status=failed" rel="prev"`},
			[]string{"<script>alert"},
		},
		{"no runs", &fake{}, "/", 200, []string{"No run yet", "cyclonetix schedule-task TASK --wait"}, nil},
		{"no run fits", &fake{}, "/?status=failed", 200, []string{"No run fits"}, []string{"No run yet"}},
		{
			"backend down", &fake{err: &api.Error{Status: 503, Code: api.CodeUnavailable, Message: "the backend does not answer"}}, "/", 503,
			[]string{"the backend does not answer", `role="alert"`}, []string{"No run yet"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			status, text := page(test.service, test.target)
			if status != test.status {
				t.Errorf("status %d, wanted %d", status, test.status)
			}
			for _, part := range test.has {
				if !strings.Contains(text, part) {
					t.Errorf("the page lacks %q:\n%s", part, text)
				}
			}
			for _, part := range append(test.hasNot, "http://", "https://") {
				if strings.Contains(text, part) {
					t.Errorf("the page has %q:\n%s", part, text)
				}
			}
		})
	}
}

// serve runs a server until the test ends, and gives what Serve returned.
func serve(t *testing.T, s *server.Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(cancel)
	return func() error { cancel(); return <-done }
}

func get(t *testing.T, url string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func TestFollowLogs(t *testing.T) {
	t.Parallel()
	printed := make(chan struct{})
	service := &fake{follow: func(ctx context.Context, emit func(api.LogEntry) error) error {
		if err := emit(api.LogEntry{Stream: "stdout", Text: "one\ntwo\n", Place: "1.4"}); err != nil {
			return err
		}
		select { // the first entry must arrive before the second is printed
		case <-printed:
		case <-ctx.Done():
			return ctx.Err()
		}
		return emit(api.LogEntry{Stream: "stderr", Text: "three", Place: "1.5"})
	}}
	s := start(t, service)
	serve(t, s)
	answer := get(t, s.URL()+"/api/task-runs/x.0/logs?follow=true&tail=3", "Last-Event-ID", "1.3")
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("the answer is %q", kind)
	}
	lines := bufio.NewScanner(answer.Body)
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
		if strings.Contains(lines.Text(), "two") {
			close(printed)
		}
	}
	text := strings.Join(got, "\n")
	for _, part := range []string{"event: log\nid: 1.4\ndata: {", `"text":"one\ntwo\n"`, "id: 1.5", "event: end"} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %q in\n%s", part, text)
		}
	}
	if service.logQuery.After != "1.3" || service.logQuery.Tail != 0 {
		t.Errorf("a stream that was taken up again began at %+v", service.logQuery)
	}
}

func TestFollowLogsOfNothing(t *testing.T) {
	t.Parallel()
	service := &fake{follow: func(context.Context, func(api.LogEntry) error) error {
		return &api.Error{Status: 404, Code: api.CodeNotFound, Message: "there is no task run"}
	}}
	answer := do(start(t, service), request("GET", "/api/task-runs/x/logs?follow=1", ""))
	if got := errorIn(t, answer); answer.Code != http.StatusNotFound || got.Code != api.CodeNotFound {
		t.Errorf("%d %+v", answer.Code, got)
	}
}

func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	service := &fake{follow: func(ctx context.Context, emit func(api.LogEntry) error) error {
		defer close(ended)
		if err := emit(api.LogEntry{Text: "hello", Place: "1.0"}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	s := start(t, service)
	stop := serve(t, s)
	answer := get(t, s.URL()+"/api/task-runs/x.0/logs?follow=true")
	body := bufio.NewReader(answer.Body)
	if _, err := body.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	<-ended
	rest, _ := io.ReadAll(body)
	if bytes.Contains(rest, []byte("event: end")) {
		t.Error("a stream that was cut off said that it had ended")
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	s := start(t, &fake{})
	address := strings.TrimPrefix(s.URL(), "http://")
	_, err := server.Listen(t.Context(), address)
	if !errors.Is(err, server.ErrAddressInUse) || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v", err)
	}
}

func TestSchemasAreServed(t *testing.T) {
	t.Parallel()
	s := start(t, &fake{})
	for _, kind := range []string{"task", "dag", "context", "parameter_set"} {
		answer := do(s, request("GET", "/schemas/"+kind+".schema.json", ""))
		var schema map[string]any
		if err := json.Unmarshal(answer.Body.Bytes(), &schema); err != nil || answer.Code != http.StatusOK || schema["$schema"] == nil {
			t.Errorf("%s: %d, %v", kind, answer.Code, err)
		}
	}
}
