package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// backend holds what a test put into it; what a test does not need panics.
type backend struct {
	engine.Backend

	mu          sync.Mutex
	revision    int64
	loads       int
	definitions []engine.Definition
	submitted   []engine.Submission
	answer      engine.Submitted
	run         engine.RunView
	tasks       []engine.TaskRunView
	nodes       []engine.PlanNode
	needs       map[int32]engine.Class
	chunks      []engine.LogChunk
	agents      []engine.AgentView
	declared    engine.Declared
	pending     engine.PendingView
	succeeded   bool
	others      []engine.RunView // when runs of a DAG are listed
	err         error            // of every method
	submitErr   error            // of Submit alone
	down        bool
	onCancel    func(*backend)
	commands    []engine.Command
	onCommand   func(*backend) error // called with the lock held
	given       workflow.RunValues
	updates     []workflow.PointUpdate
	since       time.Time // of what was asked for last
	latest      time.Time // the newest logical date that has a run; zero for any
	events      []engine.EventView
	onQuietLog  func(*backend) // when a log has no more to give
}

func (b *backend) Declared(context.Context) (engine.Declared, error) { return b.declared, b.err }

func (b *backend) Pending(context.Context, workflow.RunID) (engine.PendingView, error) {
	return b.pending, b.err
}

func (b *backend) Dates(_ context.Context, dates []engine.LogicalDate) ([]engine.DateState, error) {
	states := make([]engine.DateState, len(dates))
	for i, date := range dates {
		states[i] = engine.DateState{Succeeded: b.succeeded, Latest: date.Date}
		if !b.latest.IsZero() && date.Date.After(b.latest) {
			states[i] = engine.DateState{Latest: b.latest}
		}
	}
	return states, b.err
}

func (b *backend) Revision(context.Context) (int64, error) { return b.revision, b.err }

func (b *backend) LoadDefinitions(context.Context, int64) ([]engine.Definition, error) {
	b.loads++
	return b.definitions, b.err
}

func (b *backend) Submit(_ context.Context, submissions []engine.Submission) ([]engine.Submitted, error) {
	if b.submitErr != nil {
		return nil, b.submitErr
	}
	b.submitted = append(b.submitted, submissions...)
	return []engine.Submitted{b.answer}, nil
}

func (b *backend) Cancel(context.Context, workflow.RunID, string) error {
	if b.err != nil {
		return b.err
	}
	b.onCancel(b)
	return nil
}

func (b *backend) Command(_ context.Context, _ workflow.RunID, command engine.Command) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.commands = append(b.commands, command)
	if b.onCommand != nil {
		return b.onCommand(b)
	}
	return nil
}

func (b *backend) Given(context.Context, workflow.RunID) (*workflow.RunValues, error) {
	return &b.given, b.err
}

func (b *backend) Events(context.Context, workflow.RunID) ([]engine.EventView, error) {
	return b.events, b.err
}

func (b *backend) FindRun(_ context.Context, id string) (engine.RunView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return engine.RunView{}, b.err
	}
	if id != b.run.Name && id != b.run.ID.String() {
		return engine.RunView{}, &engine.UnknownRunError{ID: id}
	}
	return b.run, nil
}

func (b *backend) Runs(_ context.Context, filter engine.RunFilter) (engine.RunList, error) {
	if filter.DAG != "" && b.others != nil {
		return engine.RunList{Runs: b.others}, b.err
	}
	return engine.RunList{Runs: []engine.RunView{b.run}, Total: filter.Limit}, b.err
}

func (b *backend) Outcomes(_ context.Context, since time.Time, _ int) ([]engine.RunView, error) {
	b.since = since
	if !b.run.ByOutcome {
		return nil, b.err
	}
	return []engine.RunView{b.run}, b.err
}

func (b *backend) Updates(context.Context, workflow.RunID) ([]workflow.PointUpdate, error) {
	return b.updates, b.err
}

func (b *backend) TaskRun(_ context.Context, _ workflow.RunID, node int32) (engine.TaskRunView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil && (node < 0 || int(node) >= len(b.tasks)) {
		return engine.TaskRunView{}, engine.ErrNotFound
	}
	if b.err != nil {
		return engine.TaskRunView{}, b.err
	}
	return b.tasks[node], nil
}

func (b *backend) TaskRuns(context.Context, workflow.RunID) ([]engine.TaskRunView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.tasks), b.err
}

func (b *backend) Plan(context.Context, workflow.RunID) ([]engine.PlanNode, error) {
	return b.nodes, b.err
}

func (b *backend) Logs(_ context.Context, _ workflow.RunID, node int32, after engine.LogPlace, limit int) ([]engine.LogChunk, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []engine.LogChunk
	for _, chunk := range b.chunks {
		later := chunk.Attempt > after.Attempt || chunk.Attempt == after.Attempt && chunk.Seq > after.Seq
		if chunk.Node == node && later && len(found) < limit {
			found = append(found, chunk)
		}
	}
	if len(found) == 0 && b.onQuietLog != nil {
		b.onQuietLog(b)
	}
	return found, b.err
}

func (b *backend) Needs(context.Context, workflow.RunID) (map[int32]engine.Class, error) {
	return b.needs, b.err
}

func (b *backend) Agents(context.Context) ([]engine.AgentView, error) { return b.agents, b.err }

func (b *backend) Now() time.Time { return time.Now().UTC() }

func (b *backend) Ping(context.Context) error {
	if b.down {
		return errors.New("connection refused")
	}
	return nil
}

var runID = workflow.NewRunID(time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC), 7)

const tasksYAML = `
- {id: fetch, command: "true", parameters: {DATE: "2026-01-01"}}
- {id: left, command: "true", dependencies: [fetch], queue: slow}
- {id: right, command: "true", dependencies: [fetch], parameters: {DATE: null}}
- {id: report, command: "true", dependencies: [left, right], description: "The report"}
- {id: other, command: "true"}
`

const dagsYAML = `{id: nightly, context: prod, tasks: [{id: fetch}, {id: right}]}`

const contextsYAML = `{id: prod, variables: {REGION: eu}}`

// newBackend has some definitions, and a run of two tasks.
func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{
		revision: 1, answer: engine.Submitted{ID: runID, Name: runID.String(), CreatedAt: runID.Time()},
		run: engine.RunView{ID: runID, Name: "mine", DAG: "report", ByOutcome: true, Status: workflow.RunRunning, StartTime: runID.Time()},
		tasks: []engine.TaskRunView{
			{Node: 0, Name: "fetch", TaskID: "fetch", Status: workflow.TaskRunning, Attempt: 1},
			{Node: 1, Name: "report", TaskID: "report", Status: workflow.TaskPending},
		},
		nodes:    []engine.PlanNode{{Node: 0, Name: "fetch", TaskID: "fetch"}, {Node: 1, Name: "report", TaskID: "report", Dependencies: []int32{0}}},
		declared: engine.Declared{Queues: []string{"default", "slow"}},
	}
	for kind, text := range map[spec.Kind]string{spec.KindTask: tasksYAML, spec.KindDAG: dagsYAML, spec.KindContext: contextsYAML} {
		b.define(t, kind, text)
	}
	return b
}

// define adds definitions.
func (b *backend) define(t *testing.T, kind spec.Kind, text string) {
	t.Helper()
	definitions, problems := spec.Parse(kind, "test.yaml", []byte(text), spec.Defaults{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i := range definitions {
		b.definitions = append(b.definitions, engine.Definition{Kind: string(kind), ID: definitions[i].ID, Body: definitions[i].Encode()})
	}
}

func newDirect(b *backend) *api.Direct {
	return api.NewDirect(b, api.DirectOptions{Actor: "ann", Cause: "cli", Version: "v1"})
}

func TestScheduleTask(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	got, err := newDirect(b).ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "report", Settings: api.Settings{
		Context: "prod", RunID: "mine", IdempotencyKey: "k",
		Parameters: map[string]workflow.Value{"DATE": `"2026-02-02"`}, EnvVars: map[string]string{"E": "x"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Success || got.RunID != runID.String() || got.DAGRunID != got.RunID || got.Status != workflow.RunPending || !got.StartTime.Equal(runID.Time()) {
		t.Errorf("answered %+v", got)
	}
	var names []string
	for _, task := range got.Tasks {
		names = append(names, task.ID+" "+task.TaskRunID+" "+task.Status.String())
	}
	prefix := runID.String()
	wanted := []string{
		"fetch " + prefix + ".0 pending", "left " + prefix + ".1 pending", "right " + prefix + ".2 pending", "report " + prefix + ".3 pending",
	}
	if !slices.Equal(names, wanted) {
		t.Errorf("tasks %q, wanted %q", names, wanted)
	}
	s := b.submitted[0]
	if s.Name != "mine" || s.IdempotencyKey != "k" || s.Task != "report" || s.DAG != "" || s.Context != "prod" || s.Revision != 1 || s.Actor != "ann" || s.Cause != "cli" {
		t.Errorf("submitted %+v", s)
	}
	if s.Values.Variables["REGION"] != `"eu"` || s.Values.Env["E"] != "x" || s.Values.Parameters["right"]["DATE"] != `"2026-02-02"` {
		t.Errorf("values %+v", s.Values)
	}
}

func TestScheduleDAGTakesItsContext(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	if _, err := newDirect(b).ScheduleDAG(t.Context(), &api.ScheduleDAG{DAGID: "nightly"}); err != nil {
		t.Fatal(err)
	}
	if s := b.submitted[0]; s.DAG != "nightly" || s.Task != "" || s.Context != "prod" || len(s.Plan.Nodes) != 2 {
		t.Errorf("submitted %+v", s)
	}
}

func TestScheduleTwiceWithOneKey(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.answer.Existing = true
	got, err := newDirect(b).ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "report", Settings: api.Settings{IdempotencyKey: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Existing || got.RunID != "mine" || got.Status != workflow.RunRunning || len(got.Tasks) != 2 || got.Tasks[0].Status != workflow.TaskRunning {
		t.Errorf("answered %+v", got)
	}
}

func TestScheduleErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		request   api.ScheduleTask
		submitErr error
		status    int
		message   string
		nearest   string
	}{
		{"no task", api.ScheduleTask{}, nil, 400, "task_id is missing", ""},
		{"unknown task", api.ScheduleTask{TaskID: "reprot"}, nil, 404, `"reprot"`, "report"},
		{"run id of a bad form", api.ScheduleTask{TaskID: "fetch", Settings: api.Settings{RunID: "a b"}}, nil, 400, "run_id", ""},
		{"run id like a UUID", api.ScheduleTask{TaskID: "fetch", Settings: api.Settings{RunID: runID.String()}}, nil, 400, "run_id", ""},
		{"used run id", api.ScheduleTask{TaskID: "fetch", Settings: api.Settings{RunID: "mine"}}, fmt.Errorf("submit: %w", engine.ErrNameTaken), 409, `"mine" is used`, ""},
		{"unknown context", api.ScheduleTask{TaskID: "fetch", Settings: api.Settings{Context: "prd"}}, nil, 422, `"prd"`, "prod"},
		{"unknown parameter", api.ScheduleTask{TaskID: "fetch", Settings: api.Settings{Parameters: map[string]workflow.Value{"DATA": `1`}}}, nil, 422, `"DATA"`, "DATE"},
		{"bad variable", api.ScheduleTask{TaskID: "fetch", Settings: api.Settings{EnvVars: map[string]string{"A-B": ""}}}, nil, 422, "A-B", ""},
		{"too many", api.ScheduleTask{TaskID: "fetch"}, engine.ErrTooManyPending, 429, "too many", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.submitErr = test.submitErr
			_, err := newDirect(b).ScheduleTask(t.Context(), &test.request)
			var got *api.Error
			if !errors.As(err, &got) || got.Status != test.status || !strings.Contains(got.Message, test.message) {
				t.Fatalf("error %#v, wanted %d %q", err, test.status, test.message)
			}
			if test.nearest != "" && (got.Details == nil || !slices.Contains(got.Details.Nearest, test.nearest)) {
				t.Errorf("nearest %+v, wanted %s", got.Details, test.nearest)
			}
			if len(b.submitted) > 0 {
				t.Errorf("submitted %+v", b.submitted)
			}
		})
	}
}

func TestOneKeyForTwoRequests(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.answer.Existing = true
	direct := newDirect(b)
	for name, request := range map[string]api.ScheduleTask{
		"another task":   {TaskID: "fetch", Settings: api.Settings{IdempotencyKey: "k"}},
		"another run id": {TaskID: "report", Settings: api.Settings{IdempotencyKey: "k", RunID: "yours"}},
	} {
		var got *api.Error
		if _, err := direct.ScheduleTask(t.Context(), &request); !errors.As(err, &got) || got.Status != 422 || !strings.Contains(got.Message, `was used for run "mine"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A caller's key is never that of a logical date; all others are stored as they are given.
func TestKeysOfCallers(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	for given, stored := range map[string]string{
		"k": "k", "date/daily/2026-03-01T01:30:00Z": "key/date/daily/2026-03-01T01:30:00Z", "key/x": "key/key/x", "": "",
	} {
		b.submitted = nil
		if _, err := newDirect(b).ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "report", Settings: api.Settings{IdempotencyKey: given}}); err != nil {
			t.Fatal(err)
		}
		if got := b.submitted[0].IdempotencyKey; got != stored {
			t.Errorf("%q is stored as %q", given, got)
		}
	}
}

func TestUndeclaredQueue(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.declared.Queues = []string{"default"}
	direct := newDirect(b)
	_, err := direct.ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "left"})
	var got *api.Error
	if !errors.As(err, &got) || got.Status != 422 || !strings.Contains(got.Message, `task "left" names queue "slow"`) || !slices.Equal(got.Details.Allowed, []string{"default"}) {
		t.Fatalf("error %#v", err)
	}
	b.agents = []engine.AgentView{{ID: "a", Status: "live", Queues: []string{"slow"}}}
	if _, err := direct.ScheduleTask(t.Context(), &api.ScheduleTask{TaskID: "left"}); err != nil {
		t.Errorf("a queue that an agent serves is refused: %v", err)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	got, err := newDirect(b).Plan(t.Context(), &api.PlanRequest{TaskID: "report"})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, task := range got.Tasks {
		lines = append(lines, fmt.Sprint(task.Level, " ", task.ID, " ", task.Queue, " ", task.Dependencies))
	}
	if wanted := []string{"0 fetch default []", "1 left slow [fetch]", "1 right default [fetch]", "2 report default [left right]"}; !slices.Equal(lines, wanted) {
		t.Errorf("plan %q, wanted %q", lines, wanted)
	}
	if len(b.submitted) > 0 {
		t.Error("a plan started something")
	}
	if _, err := newDirect(b).Plan(t.Context(), &api.PlanRequest{TaskID: "report", DAGID: "nightly"}); err == nil {
		t.Error("a plan of two things was made")
	}
}

func TestDefinitionsFollowTheRevision(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	direct := newDirect(b)
	list := func() (ids []string) {
		got, err := direct.Tasks(t.Context(), &api.DefinitionQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range got.Tasks {
			ids = append(ids, task.ID)
		}
		return ids
	}
	all := []string{"fetch", "left", "other", "report", "right"}
	if first, second := list(), list(); !slices.Equal(first, all) || !slices.Equal(second, all) || b.loads != 1 {
		t.Errorf("%q, %q after %d loads", first, second, b.loads)
	}
	b.revision = 2
	b.definitions = slices.DeleteFunc(b.definitions, func(d engine.Definition) bool { return d.ID == "other" })
	if got := list(); slices.Contains(got, "other") || b.loads != 2 {
		t.Errorf("%q after %d loads", got, b.loads)
	}
}

func TestListDefinitions(t *testing.T) {
	t.Parallel()
	direct := newDirect(newBackend(t))
	for _, test := range []struct {
		query api.DefinitionQuery
		ids   string
		total int
	}{
		{api.DefinitionQuery{Filter: "r*"}, "report right", 2},
		{api.DefinitionQuery{Queue: "slow"}, "left", 1},
		{api.DefinitionQuery{Limit: 2, Offset: 3}, "report right", 5},
		{api.DefinitionQuery{Offset: 9}, "", 5},
	} {
		got, err := direct.Tasks(t.Context(), &test.query)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, task := range got.Tasks {
			ids = append(ids, task.ID)
		}
		if strings.Join(ids, " ") != test.ids || got.Total != test.total {
			t.Errorf("%+v: %q of %d, wanted %q of %d", test.query, ids, got.Total, test.ids, test.total)
		}
	}
	var bad *api.Error
	if _, err := direct.Tasks(t.Context(), &api.DefinitionQuery{Filter: "[a"}); !errors.As(err, &bad) || bad.Status != 400 || bad.Details.Field != "filter" {
		t.Errorf("a bad pattern: %v", err)
	}
	dags, err := direct.DAGs(t.Context(), &api.DefinitionQuery{})
	if err != nil || len(dags.DAGs) != 1 || !slices.Equal(dags.DAGs[0].Tasks, []string{"fetch", "right"}) {
		t.Errorf("DAGs %+v, %v", dags, err)
	}
}

func TestRunAndGraph(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.run.EndTime = b.run.StartTime.Add(1500 * time.Millisecond)
	b.chunks = []engine.LogChunk{{Node: 0, Attempt: 1, Stream: engine.StreamStderr, Body: []byte("hello\n")}}
	direct := newDirect(b)
	run, err := direct.Run(t.Context(), "mine", api.Include{Logs: true})
	if err != nil {
		t.Fatal(err)
	}
	if run.RunID != "mine" || *run.DurationSeconds != 1.5 || len(run.Tasks) != 2 || run.Tasks[0].TaskRunID != runID.String()+".0" ||
		len(run.Tasks[0].Logs) != 1 || run.Tasks[0].Logs[0].Stream != "stderr" || len(run.Tasks[1].Logs) != 0 {
		t.Errorf("run %+v", run)
	}
	graph, err := direct.Graph(t.Context(), runID.String())
	if err != nil || len(graph.Nodes) != 2 || len(graph.Edges) != 1 || graph.Edges[0] != (api.GraphEdge{From: "fetch", To: "report"}) {
		t.Errorf("graph %+v, %v", graph, err)
	}
	var unknown *api.Error
	if _, err := direct.Run(t.Context(), "yours", api.Include{}); !errors.As(err, &unknown) || unknown.Status != 404 || !strings.Contains(unknown.Message, `"yours"`) {
		t.Errorf("an unknown run: %v", err)
	}
}

func TestRunsChecksThePage(t *testing.T) {
	t.Parallel()
	direct := newDirect(newBackend(t))
	if list, err := direct.Runs(t.Context(), &api.RunQuery{}); err != nil || list.Limit != api.DefaultLimit || list.Total != api.DefaultLimit {
		t.Errorf("%+v, %v", list, err)
	}
	for _, query := range []api.RunQuery{{Limit: -1}, {Limit: api.MaxLimit + 1}, {Offset: -1}} {
		var bad *api.Error
		if _, err := direct.Runs(t.Context(), &query); !errors.As(err, &bad) || bad.Status != 400 {
			t.Errorf("%+v: %v", query, err)
		}
	}
}

func TestCancelRun(t *testing.T) {
	t.Parallel()
	ask := func(b *backend) { b.run.CancelTime = time.Now() }
	end := func(b *backend) { b.run.Status, b.run.EndTime = workflow.RunCancelled, time.Now() }
	for _, test := range []struct {
		name   string
		before func(*backend)
		cancel func(*backend)
		status workflow.RunStatus
		fails  int
	}{
		{"ends at once", nil, func(b *backend) { ask(b); end(b) }, workflow.RunCancelled, 0},
		{"ends soon", nil, func(b *backend) {
			ask(b)
			time.AfterFunc(30*time.Millisecond, func() { b.mu.Lock(); defer b.mu.Unlock(); end(b) })
		}, workflow.RunCancelled, 0},
		{"does not end", nil, ask, workflow.RunRunning, 0},
		{"is cancelled already", func(b *backend) { ask(b); end(b) }, nil, workflow.RunCancelled, 0},
		{"has completed", func(b *backend) { b.run.Status = workflow.RunCompleted }, nil, 0, 409},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			if test.before != nil {
				test.before(b)
			}
			b.onCancel = func(b *backend) { b.mu.Lock(); defer b.mu.Unlock(); test.cancel(b) }
			got, err := newDirect(b).CancelRun(t.Context(), "mine")
			var refused *api.Error
			switch {
			case test.fails != 0:
				if !errors.As(err, &refused) || refused.Status != test.fails || refused.Details.Status != "completed" {
					t.Errorf("error %#v", err)
				}
			case err != nil:
				t.Error(err)
			case got.Status != test.status || got.RunID != "mine" || got.CancelTime.IsZero():
				t.Errorf("answered %+v", got)
			}
		})
	}
}

func chunk(seq int32, body string) engine.LogChunk {
	return engine.LogChunk{Run: runID, Node: 0, Attempt: 1, Seq: seq, Time: time.Unix(int64(seq), 0), Stream: engine.StreamStdout, Body: []byte(body)}
}

func texts(entries []api.LogEntry) string {
	var all strings.Builder
	for _, entry := range entries {
		all.WriteString(entry.Text)
	}
	return all.String()
}

func TestLogs(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.chunks = []engine.LogChunk{chunk(0, "one\ntw"), chunk(1, "o\nthree\n"), chunk(2, "four")}
	direct, id := newDirect(b), workflow.TaskRunID(runID, 0)
	for _, test := range []struct {
		query api.LogQuery
		text  string
	}{
		{api.LogQuery{}, "one\ntwo\nthree\nfour"},
		{api.LogQuery{After: "1.0"}, "o\nthree\nfour"},
		{api.LogQuery{After: "1.2"}, ""},
		{api.LogQuery{Since: time.Unix(1, 0)}, "o\nthree\nfour"},
		{api.LogQuery{Tail: 1}, "four"},
		{api.LogQuery{Tail: 2}, "three\nfour"},
		{api.LogQuery{Tail: 3}, "two\nthree\nfour"},
		{api.LogQuery{Tail: 99}, "one\ntwo\nthree\nfour"},
	} {
		got, err := direct.Logs(t.Context(), id, &test.query)
		if err != nil || texts(got.Logs) != test.text || got.Next != "1.2" || got.HasMore || got.Status != workflow.TaskRunning {
			t.Errorf("%+v: %+v, %v; wanted %q", test.query, got, err, test.text)
		}
	}
	b.chunks[2] = chunk(2, "four\n")
	if got, err := direct.Logs(t.Context(), id, &api.LogQuery{Tail: 1}); err != nil || texts(got.Logs) != "four\n" {
		t.Errorf("a last line with an end: %+v, %v", got, err)
	}
}

func TestLogsInPages(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	var all strings.Builder
	for seq := range int32(200) {
		line := fmt.Sprintf("line %d\n", seq)
		all.WriteString(line)
		b.chunks = append(b.chunks, chunk(seq, line))
	}
	direct, id := newDirect(b), workflow.TaskRunID(runID, 0)
	var got strings.Builder
	for query := (api.LogQuery{}); ; {
		page, err := direct.Logs(t.Context(), id, &query)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(texts(page.Logs))
		if query.After = page.Next; !page.HasMore {
			break
		}
	}
	if got.String() != all.String() {
		t.Errorf("the pages hold %d bytes of %d", got.Len(), all.Len())
	}
	last, err := direct.Logs(t.Context(), id, &api.LogQuery{Tail: 100})
	if err != nil || !strings.HasPrefix(texts(last.Logs), "line 100\n") || !strings.HasSuffix(texts(last.Logs), "line 199\n") {
		t.Errorf("the last lines: %v, %q", err, texts(last.Logs))
	}
}

func TestLogErrors(t *testing.T) {
	t.Parallel()
	direct := newDirect(newBackend(t))
	for _, test := range []struct {
		id     string
		query  api.LogQuery
		status int
	}{
		{"mine", api.LogQuery{}, 404},
		{workflow.TaskRunID(runID, 9), api.LogQuery{}, 404},
		{workflow.TaskRunID(runID, 0), api.LogQuery{After: "x"}, 400},
		{workflow.TaskRunID(runID, 0), api.LogQuery{Tail: -1}, 400},
	} {
		var got *api.Error
		if _, err := direct.Logs(t.Context(), test.id, &test.query); !errors.As(err, &got) || got.Status != test.status {
			t.Errorf("%s %+v: %v, wanted %d", test.id, test.query, err, test.status)
		}
	}
}

// TestFollowLogs grows the log each time when it was read to its end, and ends the task after the
// last piece was written but before it was read.
func TestFollowLogs(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.chunks = []engine.LogChunk{chunk(0, "zero\n"), chunk(1, "one\n")}
	pieces := []string{"two\n", "three\n"}
	b.onQuietLog = func(b *backend) { // called with the lock held
		if len(pieces) == 0 {
			return
		}
		b.chunks = append(b.chunks, chunk(int32(len(b.chunks)), pieces[0])) //nolint:gosec // a few
		if pieces = pieces[1:]; len(pieces) == 0 {
			b.tasks[0].Status = workflow.TaskCompleted
		}
	}
	var got strings.Builder
	err := newDirect(b).FollowLogs(t.Context(), workflow.TaskRunID(runID, 0), &api.LogQuery{Tail: 1}, func(entry api.LogEntry) error {
		got.WriteString(entry.Text)
		return nil
	})
	if err != nil || got.String() != "one\ntwo\nthree\n" {
		t.Errorf("followed %q, %v", got.String(), err)
	}
}

func TestFollowLogsStops(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.chunks = []engine.LogChunk{chunk(0, "zero\n")}
	stop := errors.New("enough")
	if err := newDirect(b).FollowLogs(t.Context(), workflow.TaskRunID(runID, 0), &api.LogQuery{}, func(api.LogEntry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := newDirect(b).FollowLogs(ctx, workflow.TaskRunID(runID, 0), &api.LogQuery{}, func(api.LogEntry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestBackendDown(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.err, b.down = errors.New("dial tcp: password=secret"), true
	direct := newDirect(b)
	var got *api.Error
	if _, err := direct.Run(t.Context(), "mine", api.Include{}); !errors.As(err, &got) || got.Status != 503 || strings.Contains(got.Message, "secret") {
		t.Errorf("error %v", err)
	}
	if health, err := direct.Health(t.Context()); err != nil || health.Status != api.HealthUnavailable || health.Version != "v1" {
		t.Errorf("health %+v, %v", health, err)
	}
	b.down = false // it answers, so the error is not that
	if _, err := direct.Run(t.Context(), "mine", api.Include{}); err == nil || errors.As(err, new(*api.Error)) {
		t.Errorf("an error that nobody can mend: %v", err)
	}
	if health, err := direct.Health(t.Context()); err != nil || health.Status != api.HealthOK {
		t.Errorf("health %+v, %v", health, err)
	}
}
