package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/client"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/server"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// connect gives a client of a server with a backend in memory that holds two tasks and a DAG, and
// the service behind it.
func connect(t *testing.T) (*client.Client, *api.Direct) {
	t.Helper()
	backend := memory.New(memory.Options{})
	t.Cleanup(backend.Close)
	_, _, err := backend.Publish(t.Context(), []engine.Definition{
		{Kind: "task", ID: "fetch", Body: []byte(`{"id":"fetch","command":"true","queue":"default","priority":2,"parameters":{"N":{"default":1}}}`)},
		{Kind: "task", ID: "report", Body: []byte(`{"id":"report","command":"true","queue":"slow","priority":2,"dependencies":["fetch"]}`)},
		{Kind: "context", ID: "prod", Body: []byte(`{"id":"prod","variables":{"REGION":"eu"}}`)},
		{Kind: "parameter_set", ID: "small", Body: []byte(`{"id":"small","parameters":{"N":7}}`)},
		{Kind: "dag", ID: "all", Body: []byte(`{"id":"all","tasks":[{"id":"fetch","overrides":{"id":"","command":"","queue":"","priority":0}}]}`)},
	}, "test")
	if err != nil {
		t.Fatal(err)
	}
	direct := api.NewDirect(backend, api.DirectOptions{Actor: "test", Cause: "api", Version: "v1"})
	listener, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(listener, server.Options{
		Service: direct, Address: "127.0.0.1:0", Title: "test", Refresh: time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return at(t, s.URL()), direct
}

func at(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.New(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSameAsDirect asks the same of the client and of the service behind it.
func TestSameAsDirect(t *testing.T) {
	t.Parallel()
	remote, direct := connect(t)
	ctx := t.Context()
	first, err := remote.ScheduleTask(ctx, &api.ScheduleTask{TaskID: "report", Settings: api.Settings{
		RunID: "my run", // no valid id: the error must come through
	}})
	var bad *api.Error
	if !errors.As(err, &bad) || bad.Status != http.StatusBadRequest || bad.Details.Field != "run_id" {
		t.Fatalf("%+v, %v", first, err)
	}
	settings := api.Settings{
		RunID: "mine", IdempotencyKey: "key", Parameters: map[string]workflow.Value{"fetch.N": `2`}, EnvVars: map[string]string{"E": "a/b c?"},
	}
	if first, err = remote.ScheduleTask(ctx, &api.ScheduleTask{TaskID: "report", Settings: settings}); err != nil {
		t.Fatal(err)
	}
	again, err := remote.ScheduleTask(ctx, &api.ScheduleTask{TaskID: "report", Settings: settings})
	if err != nil || !again.Existing || again.RunID != first.RunID || again.Tasks[1].TaskRunID != first.Tasks[1].TaskRunID {
		t.Errorf("the same key gave %+v, %v", again, err)
	}
	if _, err := remote.ScheduleDAG(ctx, &api.ScheduleDAG{DAGID: "all"}); err != nil {
		t.Errorf("schedule the DAG: %v", err)
	}
	backfilled, err := remote.Backfill(ctx, &api.Backfill{DAGID: "all", StartDate: "2024-01-01", EndDate: "2024-01-03"})
	if err != nil || len(backfilled.Runs) != 3 { // below they are there already, so that both get the same answer
		t.Fatalf("%+v, %v", backfilled, err)
	}
	for name, ask := range map[string]func(api.Service) (any, error){
		"plan": func(s api.Service) (any, error) { return s.Plan(ctx, &api.PlanRequest{TaskID: "report"}) },
		"runs": func(s api.Service) (any, error) {
			return s.Runs(ctx, &api.RunQuery{
				Status: []workflow.RunStatus{workflow.RunPending, workflow.RunFailed}, DAGID: "report", Limit: 5, Since: time.Unix(1, 5), Until: time.Now().Add(time.Hour),
			})
		},
		"run":   func(s api.Service) (any, error) { return s.Run(ctx, "mine", api.Include{Tasks: true, Logs: true}) },
		"graph": func(s api.Service) (any, error) { return s.Graph(ctx, "mine") },
		"logs":  func(s api.Service) (any, error) { return s.Logs(ctx, first.Tasks[0].TaskRunID, &api.LogQuery{Tail: 4}) },
		"tasks": func(s api.Service) (any, error) {
			return s.Tasks(ctx, &api.DefinitionQuery{Filter: "r*", Queue: "slow", Limit: 3})
		},
		"dags": func(s api.Service) (any, error) { return s.DAGs(ctx, &api.DefinitionQuery{Offset: 0}) },
		"contexts": func(s api.Service) (any, error) {
			return s.Contexts(ctx, &api.DefinitionQuery{Filter: "p*", Limit: 2})
		},
		"parameter sets": func(s api.Service) (any, error) { return s.ParameterSets(ctx, &api.DefinitionQuery{Filter: "s*"}) },
		"events":         func(s api.Service) (any, error) { return s.Events(ctx, "mine", &api.EventQuery{Limit: 2}) },
		"no context":     func(s api.Service) (any, error) { return s.Contexts(ctx, &api.DefinitionQuery{Filter: "["}) },
		"settings": func(s api.Service) (any, error) {
			retries, seconds, queue := 3, 2.5, "q"
			return s.Plan(ctx, &api.PlanRequest{
				TaskID: "report", Settings: api.Settings{ParameterSets: []string{"small"}, TimeoutSeconds: &seconds},
				TaskSettings: api.TaskSettings{Queue: &queue, Retries: &retries, IgnoreDependencies: true},
			})
		},
		"bad settings": func(s api.Service) (any, error) {
			priority := 9
			return s.ScheduleDAG(ctx, &api.ScheduleDAG{DAGID: "all", Settings: api.Settings{Priority: &priority}})
		},
		"backfill": func(s api.Service) (any, error) {
			return s.Backfill(ctx, &api.Backfill{DAGID: "all", StartDate: "2024-01-01", EndDate: "2024-01-03", MaxParallel: 1, Offset: 1, Limit: 1})
		},
		"bad backfill":   func(s api.Service) (any, error) { return s.Backfill(ctx, &api.Backfill{DAGID: "all"}) },
		"rerun too soon": func(s api.Service) (any, error) { return s.Rerun(ctx, "mine", &api.Rerun{FailedOnly: true}) },
		"bad rerun": func(s api.Service) (any, error) {
			return s.Rerun(ctx, "mine", &api.Rerun{FailedOnly: true, FromTask: "x"})
		},
		"pause nothing": func(s api.Service) (any, error) { return s.ControlRun(ctx, "nobody", api.ActionPause) },
		"resume too soon": func(s api.Service) (any, error) {
			return s.ControlRun(ctx, "mine", api.ActionResume)
		},
		"approve what does not wait": func(s api.Service) (any, error) {
			return s.ControlTask(ctx, first.Tasks[0].TaskRunID, api.ActionApprove)
		},
		"health": func(s api.Service) (any, error) { return s.Health(ctx) },
		"no run": func(s api.Service) (any, error) { return s.Run(ctx, "../tasks?x=1", api.Include{}) },
		"no log": func(s api.Service) (any, error) { return s.Logs(ctx, "x", &api.LogQuery{}) },
	} {
		here, hereErr := ask(direct)
		there, thereErr := ask(remote)
		if describe(here, hereErr) != describe(there, thereErr) {
			t.Errorf("%s: directly\n%s\nover HTTP\n%s", name, describe(here, hereErr), describe(there, thereErr))
		}
	}
}

func describe(answer any, err error) string {
	if known, ok := errors.AsType[*api.Error](err); ok {
		return fmt.Sprintf("error %d %s %s %+v", known.Status, known.Code, known.Message, known.Details)
	}
	if err != nil {
		return "error " + err.Error()
	}
	return fmt.Sprintf("%+v", answer)
}

func TestCancelRun(t *testing.T) {
	t.Parallel()
	remote, _ := connect(t)
	if _, err := remote.ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "report", Settings: api.Settings{RunID: "mine"}}); err != nil {
		t.Fatal(err)
	}
	// Nobody orchestrates, so the run stays as it is.
	got, err := remote.CancelRun(t.Context(), "mine")
	if err != nil || !got.Success || got.RunID != "mine" || got.Status != workflow.RunPending {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestServerDown(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	_, err := at(t, gone.URL).Runs(t.Context(), &api.RunQuery{})
	var down *api.Error
	if !errors.As(err, &down) || down.Status != http.StatusServiceUnavailable || !strings.Contains(down.Message, gone.URL) || !strings.Contains(down.Hint(), "cyclonetix serve") {
		t.Errorf("error %v", err)
	}
}

func TestNotOurServer(t *testing.T) {
	t.Parallel()
	for _, handler := range []http.HandlerFunc{
		http.NotFound,
		func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"error": "x"}`)
		},
	} {
		other := httptest.NewServer(handler)
		defer other.Close()
		var got *api.Error
		if _, err := at(t, other.URL).Runs(t.Context(), &api.RunQuery{}); !errors.As(err, &got) || !strings.Contains(got.Message, "not as a server of Cyclonetix") {
			t.Errorf("error %v", err)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "localhost:3000", "ftp://x", "http://", "://"} {
		if _, err := client.New(url); err == nil {
			t.Errorf("%q passes for the URL of a server", url)
		}
	}
}

// TestFollowLogsGoesOn cuts the stream twice: what came before is not asked for again.
func TestFollowLogsGoesOn(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("tail")+" "+r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		switch calls.Add(1) {
		case 1:
			_, _ = io.WriteString(w, ": hello\n\nevent: log\nid: 1.0\ndata: {\"text\":\"one\\n\",\"place\":\"1.0\"}\n\nevent: log\nda")
		case 2:
			panic(http.ErrAbortHandler)
		default:
			_, _ = io.WriteString(w, "event: log\nid: 1.1\ndata: {\"text\":\"two\\n\",\"place\":\"1.1\"}\n\nevent: end\ndata: {}\n\n")
		}
	}))
	defer s.Close()
	var text strings.Builder
	err := at(t, s.URL).FollowLogs(t.Context(), "x.0", &api.LogQuery{Tail: 7}, func(entry api.LogEntry) error {
		text.WriteString(entry.Text)
		return nil
	})
	if err != nil || text.String() != "one\ntwo\n" || !slices.Equal(asked, []string{"7 ", "7 1.0", "7 1.0"}) {
		t.Errorf("%q, %v, asked %q", text.String(), err, asked)
	}
}

func TestFollowLogsStops(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "event: log\ndata: {\"text\":\"one\\n\",\"place\":\"1.0\"}\n\n")
		http.NewResponseController(w).Flush() //nolint:errcheck // the client notices
		<-r.Context().Done()
	}))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	err := at(t, s.URL).FollowLogs(ctx, "x.0", &api.LogQuery{}, func(api.LogEntry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	enough := errors.New("enough")
	if err := at(t, s.URL).FollowLogs(t.Context(), "x.0", &api.LogQuery{}, func(api.LogEntry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
}
