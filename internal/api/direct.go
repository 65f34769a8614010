package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// DirectOptions say how a Direct works.
type DirectOptions struct {
	// Actor is who starts and cancels runs, Cause by what means ("cli", "api").
	Actor, Cause string
	// Version of the program.
	Version string
	// Language knows the definitions; nil for one that knows those of the backend.
	Language *language.Language
	// Secrets find what webhooks name by ${env:NAME} and ${secret:NAME}.
	Secrets spec.Lookups
	// Logger is told what nobody else would hear of; nil for none.
	Logger *slog.Logger
}

func (o *DirectOptions) warn(message string, attributes ...any) {
	if o.Logger != nil {
		o.Logger.Warn(message, attributes...)
	}
}

// Direct is a Service on a backend, and its Triggers.
type Direct struct {
	backend  engine.Backend
	options  DirectOptions
	language *language.Language
	// told are the problems with secrets of webhooks that were logged, by DAG.
	told sync.Map
}

var _ Service = (*Direct)(nil)

// NewDirect makes a Service on a backend, which stays the caller's to close.
func NewDirect(backend engine.Backend, options DirectOptions) *Direct {
	if options.Language == nil {
		options.Language = language.New(backend)
	}
	return &Direct{backend: backend, options: options, language: options.Language}
}

const (
	// pingTimeout bounds a look at whether the backend answers.
	pingTimeout = 2 * time.Second
	// answerWait is how long what was asked of a run is waited for, so that the answer tells how it went.
	answerWait = 900 * time.Millisecond
)

// Runs implements Service.
func (d *Direct) Runs(ctx context.Context, query *RunQuery) (*RunList, error) {
	limit, err := pageLimit(query.Limit, query.Offset)
	if err != nil {
		return nil, err
	}
	found, err := d.backend.Runs(ctx, engine.RunFilter{
		Status: query.Status, DAG: query.DAGID, Since: query.Since, Until: query.Until, Limit: limit, Offset: query.Offset,
	})
	if err != nil {
		return nil, d.explain(ctx, "list runs", err)
	}
	list := &RunList{
		Runs: make([]Run, len(found.Runs)), Total: found.Total, TotalExact: found.TotalExact, Limit: limit, Offset: query.Offset,
	}
	for i := range found.Runs {
		list.Runs[i] = runOf(&found.Runs[i])
	}
	return list, nil
}

// pageLimit checks the bounds of a page, and gives the limit that applies.
func pageLimit(limit, offset int) (int, error) {
	switch {
	case limit < 0 || limit > MaxLimit:
		return 0, badField("limit", fmt.Sprintf("%d is not from 1 to %d", limit, MaxLimit))
	case offset < 0:
		return 0, badField("offset", fmt.Sprintf("%d is below 0", offset))
	case limit == 0:
		return DefaultLimit, nil
	}
	return limit, nil
}

// Run implements Service.
func (d *Direct) Run(ctx context.Context, id string, include Include) (*Run, error) {
	view, err := d.backend.FindRun(ctx, id)
	if err != nil {
		return nil, d.explain(ctx, "find run "+id, err)
	}
	run := runOf(&view)
	if run.WaitsFor, err = d.waitsFor(ctx, &view); err != nil {
		return nil, d.explain(ctx, "read what run "+id+" waits for", err)
	}
	if !include.Tasks && !include.Logs {
		return &run, nil
	}
	tasks, err := d.backend.TaskRuns(ctx, view.ID)
	if err != nil {
		return nil, d.explain(ctx, "read the task runs of run "+id, err)
	}
	run.Tasks = make([]Task, len(tasks))
	for i := range tasks {
		run.Tasks[i] = taskOf(view.ID, &tasks[i])
		if tasks[i].Status == workflow.TaskWaiting && tasks[i].Cause == workflow.CauseApproval {
			run.Tasks[i].Message = d.approvalMessage(ctx, &view, tasks[i].TaskID)
		}
	}
	if err := d.addWaits(ctx, view.ID, tasks, run.Tasks); err != nil {
		return nil, d.explain(ctx, "read what the task runs of run "+id+" wait for", err)
	}
	if include.Logs {
		if err := d.addLogs(ctx, view.ID, tasks, run.Tasks); err != nil {
			return nil, d.explain(ctx, "read the logs of run "+id, err)
		}
	}
	return &run, nil
}

// Graph implements Service.
func (d *Direct) Graph(ctx context.Context, id string) (*Graph, error) {
	view, err := d.backend.FindRun(ctx, id)
	if err != nil {
		return nil, d.explain(ctx, "find run "+id, err)
	}
	nodes, err := d.backend.Plan(ctx, view.ID)
	if err != nil {
		return nil, d.explain(ctx, "read the graph of run "+id, err)
	}
	tasks, err := d.backend.TaskRuns(ctx, view.ID)
	if err != nil {
		return nil, d.explain(ctx, "read the task runs of run "+id, err)
	}
	names := make(map[int32]string, len(nodes))
	for i := range nodes {
		names[nodes[i].Node] = nodes[i].Name
	}
	graph := &Graph{Nodes: make([]GraphNode, len(tasks)), Edges: []GraphEdge{}}
	for i := range tasks {
		graph.Nodes[i] = GraphNode{ID: tasks[i].Name, TaskID: tasks[i].TaskID, Status: tasks[i].Status}
	}
	for i := range nodes {
		for _, parent := range nodes[i].Dependencies {
			graph.Edges = append(graph.Edges, GraphEdge{From: names[parent], To: nodes[i].Name})
		}
	}
	return graph, nil
}

// CancelRun implements Service.
func (d *Direct) CancelRun(ctx context.Context, id string) (*Cancelled, error) {
	wait, stop := context.WithTimeout(ctx, answerWait)
	defer stop()
	view, err := d.backend.FindRun(ctx, id)
	if err != nil {
		return nil, d.explain(ctx, "find run "+id, err)
	}
	if !view.Status.Ended() {
		if err := d.backend.Cancel(ctx, view.ID, d.options.Actor); err != nil && !errors.Is(err, engine.ErrEnded) {
			return nil, d.explain(ctx, "cancel run "+id, err)
		}
		if view, err = d.untilEnded(wait, view); err != nil {
			return nil, d.explain(ctx, "see how run "+id+" ends", err)
		}
	}
	if view.Status.Ended() && view.CancelTime.IsZero() {
		return nil, &Error{
			Status: http.StatusConflict, Code: CodeConflict,
			Message: fmt.Sprintf("run %q has ended already: it is %s", id, view.Status),
			Details: &Details{Status: view.Status.String()},
		}
	}
	return &Cancelled{
		Success: true, RunID: view.Name, DAGRunID: view.Name, Status: view.Status,
		CancelTime: utc(view.CancelTime), EndTime: utc(view.EndTime),
	}, nil
}

// untilEnded looks at a run until it has ended or the context ends, and gives what it saw last.
func (d *Direct) untilEnded(ctx context.Context, view engine.RunView) (engine.RunView, error) {
	return d.until(ctx, view, func(view *engine.RunView) bool { return view.Status.Ended() })
}

// until looks at a run until it is as wanted or the context ends, and gives what it saw last.
func (d *Direct) until(ctx context.Context, view engine.RunView, wanted func(*engine.RunView) bool) (engine.RunView, error) {
	err := poll(ctx, func() (bool, error) {
		if wanted(&view) {
			return true, nil
		}
		seen, err := d.backend.FindRun(ctx, view.ID.String())
		if err == nil {
			view = seen
		}
		return wanted(&view), err
	})
	return view, err
}

// poll asks again and again, until there is an answer, an error, or the context ends, which is none.
func poll(ctx context.Context, ask func() (done bool, err error)) error {
	const shortest, longest = 10 * time.Millisecond, 100 * time.Millisecond
	for pause := shortest; ; pause = min(2*pause, longest) {
		done, err := ask()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // an error for its end is none
		case done || err != nil:
			return err
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

// sleep waits, and tells whether the context still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Health implements Service.
func (d *Direct) Health(ctx context.Context) (*Health, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	health := &Health{Status: HealthOK, Version: d.options.Version, Backend: HealthOK}
	if err := d.backend.Ping(ctx); err != nil {
		health.Status, health.Backend = HealthUnavailable, "the backend does not answer"
	}
	return health, nil
}

// explain turns an error of the backend into an *Error, where the caller can do something about it.
func (d *Direct) explain(ctx context.Context, doing string, err error) error {
	var known *Error
	message := fmt.Sprintf("%s: %s", doing, err)
	switch {
	case errors.As(err, &known), ctx.Err() != nil:
		return err
	case errors.Is(err, engine.ErrNotFound):
		return &Error{Status: http.StatusNotFound, Code: CodeNotFound, Message: err.Error()}
	case errors.Is(err, engine.ErrGone):
		return &Error{
			Status: http.StatusGone, Code: CodeGone, Message: message,
			Details: &Details{Hint: "postgresql.retention_days says how long history is kept"},
		}
	case errors.Is(err, engine.ErrNameTaken), errors.Is(err, engine.ErrEnded):
		return &Error{Status: http.StatusConflict, Code: CodeConflict, Message: message}
	case errors.Is(err, engine.ErrTooManyPending):
		return &Error{
			Status: http.StatusTooManyRequests, Code: CodeTooMany, Message: message,
			Details: &Details{Hint: "try again later, or raise orchestrator.max_pending_submits"},
		}
	case errors.Is(err, engine.ErrRefused):
		return &Error{Status: http.StatusUnprocessableEntity, Code: CodeInvalid, Message: message}
	case errors.Is(err, engine.ErrUncertain):
		return &Error{
			Status: http.StatusServiceUnavailable, Code: CodeUnavailable, Message: "the connection to the backend broke: it may be done or not",
			Details: &Details{Hint: "see whether it is done before you try again; with an idempotency key you can just try again"},
		}
	}
	ping, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if d.backend.Ping(ping) != nil {
		return &Error{
			Status: http.StatusServiceUnavailable, Code: CodeUnavailable, Message: "the backend does not answer",
			Details: &Details{Hint: "try again; `cyclonetix verify-config` looks at the backend"},
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
