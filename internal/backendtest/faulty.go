package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Fault is what goes wrong with a call.
type Fault int

// The faults. Where a call has no such fault, it gets the one before.
const (
	// None lets the call be.
	None Fault = iota
	// Before errs, and nothing is done.
	Before
	// Unknown errs, and nothing is done, but the caller can't know: a commit gives engine.ErrUncertain.
	Unknown
	// After does the call, and then errs: a commit gives engine.ErrUncertain though it is stored. What a
	// claim took comes with the next claim of the session, as the seam promises.
	After
)

// ErrInjected is the error of a call that was made to fail.
var ErrInjected = errors.New("injected fault")

// Plan chooses the fault of a call by its name ("Commit", "Claim", "Submit"…). It is
// called by many goroutines.
type Plan func(call string) Fault

// Faulty wraps a backend so that calls of its submitter, writers and sessions fail
// as planned. Reads for people do not fail. A writer that commits after an uncertain commit without
// Recover panics: its memory is not what is stored.
func Faulty(backend engine.Backend, plan Plan) engine.Backend {
	return &faultyBackend{Backend: backend, plan: plan}
}

// fail gives the error of a fault, or nil.
func (p Plan) fail(call string) (Fault, error) {
	fault := p(call)
	if fault == None {
		return None, nil
	}
	return fault, fmt.Errorf("%s: %w", call, ErrInjected)
}

// before fails a call that has no other fault.
func (p Plan) before(call string) error {
	_, err := p.fail(call)
	return err
}

type faultyBackend struct {
	engine.Backend
	plan Plan
}

// Submit implements engine.Submitter.
func (b *faultyBackend) Submit(ctx context.Context, submissions []engine.Submission) ([]engine.Submitted, error) {
	fault, err := b.plan.fail("Submit")
	if fault == Before || fault == Unknown {
		return nil, err
	}
	submitted, realErr := b.Backend.Submit(ctx, submissions)
	if realErr != nil || err == nil {
		return submitted, realErr
	}
	return nil, err
}

// Cancel implements engine.Submitter.
func (b *faultyBackend) Cancel(ctx context.Context, run workflow.RunID, actor string) error {
	return b.plan.around("Cancel", func() error { return b.Backend.Cancel(ctx, run, actor) })
}

// Command implements engine.Submitter.
func (b *faultyBackend) Command(ctx context.Context, run workflow.RunID, command engine.Command) error {
	return b.plan.around("Command", func() error { return b.Backend.Command(ctx, run, command) })
}

// ScheduleStates implements engine.Schedules.
func (b *faultyBackend) ScheduleStates(ctx context.Context) ([]engine.ScheduleState, error) {
	if err := b.plan.before("ScheduleStates"); err != nil {
		return nil, err
	}
	return b.Backend.ScheduleStates(ctx) //nolint:wrapcheck // a wrapper is not seen
}

// SetScheduleStates implements engine.Schedules.
func (b *faultyBackend) SetScheduleStates(ctx context.Context, states []engine.ScheduleState) error {
	return b.plan.around("SetScheduleStates", func() error { return b.Backend.SetScheduleStates(ctx, states) })
}

// Dates implements engine.Schedules.
func (b *faultyBackend) Dates(ctx context.Context, dates []engine.LogicalDate) ([]engine.DateState, error) {
	if err := b.plan.before("Dates"); err != nil {
		return nil, err
	}
	return b.Backend.Dates(ctx, dates) //nolint:wrapcheck // a wrapper is not seen
}

// Arrivals implements engine.Arrivals.
func (b *faultyBackend) Arrivals(ctx context.Context, dag string) ([]engine.Arrival, error) {
	if err := b.plan.before("Arrivals"); err != nil {
		return nil, err
	}
	return b.Backend.Arrivals(ctx, dag) //nolint:wrapcheck // a wrapper is not seen
}

// NoteArrivals implements engine.Arrivals.
func (b *faultyBackend) NoteArrivals(ctx context.Context, dag string, arrived []engine.Arrival, gone []workflow.Hash) error {
	return b.plan.around("NoteArrivals", func() error { return b.Backend.NoteArrivals(ctx, dag, arrived, gone) })
}

// around fails a call before or after it was done.
func (p Plan) around(call string, do func() error) error {
	fault, err := p.fail(call)
	if fault == Before || fault == Unknown {
		return err
	}
	if realErr := do(); realErr != nil {
		return realErr
	}
	return err
}

// OpenWriters implements engine.Backend.
func (b *faultyBackend) OpenWriters(ctx context.Context, orchestrator string, most int) ([]engine.Writer, error) {
	writers, err := b.Backend.OpenWriters(ctx, orchestrator, most)
	for i, writer := range writers {
		writers[i] = &faultyWriter{Writer: writer, plan: b.plan}
	}
	return writers, err //nolint:wrapcheck // a wrapper is not seen
}

// OpenAgent implements engine.Backend.
func (b *faultyBackend) OpenAgent(ctx context.Context, agent engine.AgentInfo) (engine.AgentSession, error) {
	if err := b.plan.before("OpenAgent"); err != nil {
		return nil, err
	}
	session, err := b.Backend.OpenAgent(ctx, agent)
	if err != nil {
		return nil, err //nolint:wrapcheck // a wrapper is not seen
	}
	return &faultySession{AgentSession: session, plan: b.plan}, nil
}

type faultyWriter struct {
	engine.Writer
	plan      Plan
	uncertain bool
}

// Recover implements engine.Writer.
func (w *faultyWriter) Recover(ctx context.Context) error {
	if err := w.plan.before("Recover"); err != nil {
		return err
	}
	err := w.Writer.Recover(ctx)
	w.uncertain = w.uncertain && err != nil
	return err //nolint:wrapcheck // a wrapper is not seen
}

// Dispatched implements engine.Writer.
func (w *faultyWriter) Dispatched(ctx context.Context) ([]engine.Delivery, error) {
	if err := w.plan.before("Dispatched"); err != nil {
		return nil, err
	}
	return w.Writer.Dispatched(ctx) //nolint:wrapcheck // a wrapper is not seen
}

// LiveRuns implements engine.Writer.
func (w *faultyWriter) LiveRuns(ctx context.Context, after workflow.RunID, limit int) ([]workflow.RunID, error) {
	if err := w.plan.before("LiveRuns"); err != nil {
		return nil, err
	}
	return w.Writer.LiveRuns(ctx, after, limit) //nolint:wrapcheck // a wrapper is not seen
}

// LoadRuns implements engine.Writer.
func (w *faultyWriter) LoadRuns(ctx context.Context, ids []workflow.RunID) ([]*workflow.Run, error) {
	if err := w.plan.before("LoadRuns"); err != nil {
		return nil, err
	}
	return w.Writer.LoadRuns(ctx, ids) //nolint:wrapcheck // a wrapper is not seen
}

// LoadEnded implements engine.Writer.
func (w *faultyWriter) LoadEnded(ctx context.Context, id workflow.RunID) (*workflow.Run, error) {
	if err := w.plan.before("LoadEnded"); err != nil {
		return nil, err
	}
	return w.Writer.LoadEnded(ctx, id) //nolint:wrapcheck // a wrapper is not seen
}

// Details implements engine.Writer.
func (w *faultyWriter) Details(ctx context.Context, id workflow.RunID) (*engine.RunDetails, error) {
	if err := w.plan.before("Details"); err != nil {
		return nil, err
	}
	return w.Writer.Details(ctx, id) //nolint:wrapcheck // a wrapper is not seen
}

// Spec implements engine.Writer.
func (w *faultyWriter) Spec(ctx context.Context, hash workflow.Hash) (*workflow.TaskSpec, error) {
	if err := w.plan.before("Spec"); err != nil {
		return nil, err
	}
	return w.Writer.Spec(ctx, hash) //nolint:wrapcheck // a wrapper is not seen
}

// Listeners implements engine.Writer.
func (w *faultyWriter) Listeners(ctx context.Context) (engine.Listeners, error) {
	if err := w.plan.before("Listeners"); err != nil {
		return engine.Listeners{}, err
	}
	return w.Writer.Listeners(ctx) //nolint:wrapcheck // a wrapper is not seen
}

// Outputs implements engine.Writer.
func (w *faultyWriter) Outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error) {
	if err := w.plan.before("Outputs"); err != nil {
		return nil, err
	}
	return w.Writer.Outputs(ctx, run, tasks) //nolint:wrapcheck // a wrapper is not seen
}

// Graph implements engine.Writer.
func (w *faultyWriter) Graph(ctx context.Context, plan workflow.Hash) (*workflow.Graph, error) {
	if err := w.plan.before("Graph"); err != nil {
		return nil, err
	}
	return w.Writer.Graph(ctx, plan) //nolint:wrapcheck // a wrapper is not seen
}

// ReadMail implements engine.Writer.
func (w *faultyWriter) ReadMail(ctx context.Context, sweep bool, limit int) ([]engine.Mail, error) {
	if err := w.plan.before("ReadMail"); err != nil {
		return nil, err
	}
	return w.Writer.ReadMail(ctx, sweep, limit) //nolint:wrapcheck // a wrapper is not seen
}

// Tick implements engine.Writer.
func (w *faultyWriter) Tick(ctx context.Context) (engine.Tick, error) {
	if err := w.plan.before("Tick"); err != nil {
		return engine.Tick{}, err
	}
	return w.Writer.Tick(ctx) //nolint:wrapcheck // a wrapper is not seen
}

// Commit implements engine.Writer.
func (w *faultyWriter) Commit(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	if w.uncertain {
		panic("backendtest: a commit after an uncertain one, without Recover")
	}
	fault, err := w.plan.fail("Commit")
	if fault == Before {
		return engine.CommitResult{}, err
	}
	if fault == Unknown {
		w.uncertain = true
		return engine.CommitResult{}, fmt.Errorf("%w: %w", engine.ErrUncertain, err)
	}
	result, realErr := w.Writer.Commit(ctx, commit)
	switch {
	case realErr != nil:
		w.uncertain = errors.Is(realErr, engine.ErrUncertain)
		return result, realErr //nolint:wrapcheck // a wrapper is not seen
	case fault == After:
		w.uncertain = true
		return engine.CommitResult{}, fmt.Errorf("%w: %w", engine.ErrUncertain, err)
	}
	return result, nil
}

type faultySession struct {
	engine.AgentSession
	plan Plan

	mutex sync.Mutex
	kept  []engine.ClaimedDelivery // claimed by a call that failed
}

// Claim implements engine.AgentSession.
func (s *faultySession) Claim(ctx context.Context, want, slack int, free workflow.Resources) (engine.Claim, error) {
	fault, err := s.plan.fail("Claim")
	if fault == Before || fault == Unknown {
		return engine.Claim{}, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.kept) > 0 {
		want = 0
	}
	claim, realErr := s.AgentSession.Claim(ctx, want, slack, free)
	if realErr != nil {
		return claim, realErr //nolint:wrapcheck // a wrapper is not seen
	}
	s.kept = append(s.kept, claim.Deliveries...)
	if fault == After {
		return engine.Claim{}, err
	}
	claim.Deliveries, s.kept = s.kept, nil
	return claim, nil
}

// Outputs implements engine.AgentSession.
func (s *faultySession) Outputs(ctx context.Context, run workflow.RunID, tasks []string) (map[string]workflow.Value, error) {
	if err := s.plan.before("Outputs"); err != nil {
		return nil, err
	}
	return s.AgentSession.Outputs(ctx, run, tasks) //nolint:wrapcheck // a wrapper is not seen
}

// Beat implements engine.AgentSession.
func (s *faultySession) Beat(ctx context.Context) (orders []engine.Order, err error) {
	err = s.plan.around("Beat", func() (err error) {
		orders, err = s.AgentSession.Beat(ctx)
		return err //nolint:wrapcheck // a wrapper is not seen
	})
	if err != nil {
		return nil, err
	}
	return orders, nil
}

// Report implements engine.AgentSession.
func (s *faultySession) Report(ctx context.Context, report *engine.Report, logs []engine.LogChunk, orders []int64) error {
	return s.plan.around("Report", func() error { return s.AgentSession.Report(ctx, report, logs, orders) })
}

// WriteLogs implements engine.AgentSession.
func (s *faultySession) WriteLogs(ctx context.Context, logs []engine.LogChunk) error {
	return s.plan.around("WriteLogs", func() error { return s.AgentSession.WriteLogs(ctx, logs) })
}
