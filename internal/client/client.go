package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

const (
	// requestTime bounds one request, but for a log that is followed.
	requestTime = 60 * time.Second
	// maxAnswer is the size of the largest answer that is read.
	maxAnswer = 1 << 30
)

// Client is an api.Service that asks a server.
type Client struct {
	base *url.URL
	http *http.Client
}

var _ api.Service = (*Client)(nil)

// New makes a client of the server at a URL such as http://127.0.0.1:3000.
func New(server string) (*Client, error) {
	base, err := url.Parse(server)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%q is not the URL of a server, such as http://127.0.0.1:3000", server)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &Client{base: base.JoinPath("api"), http: &http.Client{
		Transport: transport,
		// The API never redirects: whoever does is no server of ours.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ScheduleTask implements api.Service.
func (c *Client) ScheduleTask(ctx context.Context, request *api.ScheduleTask) (*api.Scheduled, error) {
	return schedule(ctx, c, "schedule-task", request, request.IdempotencyKey)
}

// ScheduleDAG implements api.Service.
func (c *Client) ScheduleDAG(ctx context.Context, request *api.ScheduleDAG) (*api.Scheduled, error) {
	return schedule(ctx, c, "schedule-dag", request, request.IdempotencyKey)
}

func schedule(ctx context.Context, c *Client, path string, body any, key string) (*api.Scheduled, error) {
	answer := new(api.Scheduled)
	return answer, c.do(ctx, call{method: http.MethodPost, path: []string{path}, body: body, idempotencyKey: key}, answer)
}

// Plan implements api.Service.
func (c *Client) Plan(ctx context.Context, request *api.PlanRequest) (*api.Plan, error) {
	answer := new(api.Plan)
	return answer, c.do(ctx, call{method: http.MethodPost, path: []string{"plan"}, body: request}, answer)
}

// Runs implements api.Service.
func (c *Client) Runs(ctx context.Context, query *api.RunQuery) (*api.RunList, error) {
	values := page(query.Limit, query.Offset)
	for _, status := range query.Status {
		values.Add("status", status.String())
	}
	set(values, "dag_id", query.DAGID)
	setTime(values, "since", query.Since)
	setTime(values, "until", query.Until)
	return get[api.RunList](ctx, c, values, "runs")
}

// Run implements api.Service.
func (c *Client) Run(ctx context.Context, run string, include api.Include) (*api.Run, error) {
	values := url.Values{}
	if include.Tasks {
		values.Set("include_tasks", "true")
	}
	if include.Logs {
		values.Set("include_logs", "true")
	}
	return get[api.Run](ctx, c, values, "runs", run)
}

// Graph implements api.Service.
func (c *Client) Graph(ctx context.Context, run string) (*api.Graph, error) {
	return get[api.Graph](ctx, c, nil, "runs", run, "graph")
}

// Logs implements api.Service.
func (c *Client) Logs(ctx context.Context, taskRun string, query *api.LogQuery) (*api.Logs, error) {
	return get[api.Logs](ctx, c, logValues(query), "task-runs", taskRun, "logs")
}

// CancelRun implements api.Service.
func (c *Client) CancelRun(ctx context.Context, run string) (*api.Cancelled, error) {
	answer := new(api.Cancelled)
	return answer, c.do(ctx, call{method: http.MethodPost, path: []string{"cancel-run", run}}, answer)
}

// ControlRun implements api.Service.
func (c *Client) ControlRun(ctx context.Context, run string, action api.RunAction) (*api.ControlledRun, error) {
	answer := new(api.ControlledRun)
	return answer, c.do(ctx, call{method: http.MethodPost, path: []string{"runs", run, string(action)}}, answer)
}

// ControlTask implements api.Service.
func (c *Client) ControlTask(ctx context.Context, taskRun string, action api.TaskAction) (*api.ControlledTask, error) {
	answer := new(api.ControlledTask)
	return answer, c.do(ctx, call{method: http.MethodPost, path: []string{"task-runs", taskRun, string(action)}}, answer)
}

// Events implements api.Service.
func (c *Client) Events(ctx context.Context, run string, query *api.EventQuery) (*api.EventList, error) {
	return get[api.EventList](ctx, c, page(query.Limit, query.Offset), "runs", run, "events")
}

// Rerun implements api.Service.
func (c *Client) Rerun(ctx context.Context, run string, request *api.Rerun) (*api.Scheduled, error) {
	answer := new(api.Scheduled)
	return answer, c.do(ctx, call{
		method: http.MethodPost, path: []string{"rerun", run}, body: request, idempotencyKey: request.IdempotencyKey,
	}, answer)
}

// Backfill implements api.Service.
func (c *Client) Backfill(ctx context.Context, request *api.Backfill) (*api.Backfilled, error) {
	answer := new(api.Backfilled)
	return answer, c.do(ctx, call{method: http.MethodPost, path: []string{"backfill"}, body: request}, answer)
}

// Tasks implements api.Service.
func (c *Client) Tasks(ctx context.Context, query *api.DefinitionQuery) (*api.TaskList, error) {
	values := page(query.Limit, query.Offset)
	set(values, "filter", query.Filter)
	set(values, "queue", query.Queue)
	return get[api.TaskList](ctx, c, values, "tasks")
}

// DAGs implements api.Service.
func (c *Client) DAGs(ctx context.Context, query *api.DefinitionQuery) (*api.DAGList, error) {
	values := page(query.Limit, query.Offset)
	set(values, "filter", query.Filter)
	return get[api.DAGList](ctx, c, values, "dags")
}

// Contexts implements api.Service.
func (c *Client) Contexts(ctx context.Context, query *api.DefinitionQuery) (*api.ContextList, error) {
	values := page(query.Limit, query.Offset)
	set(values, "filter", query.Filter)
	return get[api.ContextList](ctx, c, values, "contexts")
}

// ParameterSets implements api.Service.
func (c *Client) ParameterSets(ctx context.Context, query *api.DefinitionQuery) (*api.ParameterSetList, error) {
	values := page(query.Limit, query.Offset)
	set(values, "filter", query.Filter)
	return get[api.ParameterSetList](ctx, c, values, "parameter-sets")
}

// Health implements api.Service.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	answer := new(api.Health)
	err := c.do(ctx, call{method: http.MethodGet, path: []string{"health"}, answers: http.StatusServiceUnavailable}, answer)
	return answer, err
}

// call is one request to the API.
type call struct {
	method         string
	path           []string // under /api, unescaped
	query          url.Values
	body           any
	idempotencyKey string
	accept         string
	header         http.Header
	// answers is a status beside 200 that comes with an answer, not an error.
	answers int
}

func get[T any](ctx context.Context, c *Client, query url.Values, path ...string) (*T, error) {
	answer := new(T)
	if err := c.do(ctx, call{method: http.MethodGet, path: path, query: query}, answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// do sends a request and reads the answer.
func (c *Client) do(ctx context.Context, call call, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	response, err := c.send(ctx, call)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read the answer of %s: %w", response.Request.URL, err)
	}
	return nil
}

// send sends a request. An answer that is an error becomes one.
func (c *Client) send(ctx context.Context, call call) (*http.Response, error) {
	var body io.Reader
	if call.body != nil {
		encoded, err := json.Marshal(call.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	target := *c.base
	for _, part := range call.path {
		target.RawPath = target.EscapedPath() + "/" + url.PathEscape(part)
		target.Path += "/" + part
	}
	target.RawQuery = call.query.Encode()
	request, err := http.NewRequestWithContext(ctx, call.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	maps.Copy(request.Header, call.header)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if call.accept != "" {
		request.Header.Set("Accept", call.accept)
	}
	if call.idempotencyKey != "" {
		request.Header.Set("Idempotency-Key", call.idempotencyKey)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode == http.StatusOK || response.StatusCode == call.answers {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	return nil, errorOf(response)
}

// unreachable is the error when there was no answer at all.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Canceled
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	return &api.Error{
		Status: http.StatusServiceUnavailable, Code: api.CodeUnavailable,
		Message: fmt.Sprintf("no answer from the server at %s: %s", strings.TrimSuffix(c.base.String(), "/api"), err),
		Details: &api.Details{Hint: "start it with `cyclonetix serve`, or give --server the URL of one that runs"},
	}
}

// errorOf reads the error in an answer.
func errorOf(response *http.Response) error {
	var body struct {
		Error *api.Error `json:"error"`
	}
	const most = 1 << 20
	if err := json.NewDecoder(io.LimitReader(response.Body, most)).Decode(&body); err != nil || body.Error == nil {
		return &api.Error{
			Status: response.StatusCode, Code: api.CodeInternal,
			Message: fmt.Sprintf("%s answered %s, and not as a server of Cyclonetix does", response.Request.URL.Host, response.Status),
			Details: &api.Details{Hint: "see whether --server gives the right URL"},
		}
	}
	body.Error.Status = response.StatusCode
	return body.Error
}

func page(limit, offset int) url.Values {
	values := url.Values{}
	if limit != 0 {
		values.Set("limit", strconv.Itoa(limit))
	}
	if offset != 0 {
		values.Set("offset", strconv.Itoa(offset))
	}
	return values
}

func set(values url.Values, name, value string) {
	if value != "" {
		values.Set(name, value)
	}
}

func setTime(values url.Values, name string, value time.Time) {
	if !value.IsZero() {
		values.Set(name, value.UTC().Format(time.RFC3339Nano))
	}
}
