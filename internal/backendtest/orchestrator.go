package backendtest

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var orchestratorTests = []test{
	{name: "whichever commit fails, nothing is lost and nothing is done twice", run: func(w *world) {
		w.failEachCommit(func() *script {
			s := &script{limits: workflow.Limits{Rows: 2, MaxRescues: 3}, agents: []engine.AgentInfo{{ID: "one", Slots: 4}}}
			plan := planOf("a", "b", "c", "d", "e", "f: a b c", "g: d e")
			plan.Specs[1].Retries = workflow.Retries{Count: 1}
			plan.Specs[3].Retries = workflow.Retries{Count: 1, DelaySeconds: 0.001}
			s.runs = []scriptedRun{{plan: plan, cancel: -1, nodes: []behaviour{
				{slow: 2}, {failures: 1}, {slow: 1}, {failures: 1, slow: 3}, {returns: 2}, {}, {slow: 1, failures: always},
			}}}
			return s
		})
	}},
	{name: "whichever commit fails, a cancelled run ends, though no agent lives", run: func(w *world) {
		w.failEachCommit(func() *script {
			return &script{
				limits: workflow.Limits{Rows: 2, MaxRescues: 3},
				runs: []scriptedRun{{
					plan: planOf("a", "b", "c: a", "d", "e"), nodes: make([]behaviour, 5), cancel: 0,
				}},
			}
		})
	}},
	{name: "a crash between the reports of one delivery starts nothing twice", run: func(w *world) {
		// The first run's ends don't fit into one change, so one of them is still unanswered when the
		// second report says that the delivery is done.
		first, second := planOf("d", "e", "f", "a"), planOf("y")
		first.Specs[3].Priority = 1
		s := &script{
			limits: workflow.Limits{Rows: 3, MaxRescues: 3}, agents: []engine.AgentInfo{{ID: "one", Slots: 9}},
			runs: []scriptedRun{
				{plan: first, nodes: make([]behaviour, 4), cancel: -1}, {plan: second, nodes: []behaviour{{slow: 1}}, cancel: -1},
			},
		}
		p := newPlay(w, 1, s, w.backend)
		var reports atomic.Int32
		p.plan = func(call string) Fault {
			switch {
			case call == "Report":
				reports.Add(1)
			case call == "Claim" && p.ledger.written() < 5:
				return Before // until all is queued
			case call == "ReadMail" && !p.submitted():
				return Before // so that both runs start at once, and share a delivery
			case call == "ReadMail" && p.ledger.written() >= 5 && reports.Load() < 2:
				return Before // until both reports are there
			}
			return None
		}
		p.wrap(func(backend engine.Backend) engine.Backend {
			return &crashing{Backend: backend, when: func(commit *engine.Commit) bool { return len(commit.Remove) > 0 }}
		})
		p.run()
	}},
	{name: "a restart with many runs and a cancel forgets no task", run: func(w *world) {
		s := &script{limits: workflow.DefaultLimits, agents: []engine.AgentInfo{{ID: "one", Slots: 20}}}
		for range 150 {
			s.runs = append(s.runs, scriptedRun{plan: planOf("a"), nodes: make([]behaviour, 1), cancel: -1})
		}
		p := newPlay(w, 1, s, w.backend)
		var stopped, asked, cancelled atomic.Bool
		p.plan = func(call string) Fault {
			switch {
			case call == "Claim" && !cancelled.Load():
				return Before
			case call == "ReadMail" && !p.submitted():
				return Before // so that all runs start at once, and share deliveries
			case call == "Recover" && p.ledger.written() == len(s.runs) && !asked.Load():
				stopped.Store(true)
				return Before // so that the successor finds the cancel in its mail
			}
			return None
		}
		p.started = func() {
			p.await("all is queued", func() bool { return p.ledger.written() == len(s.runs) })
			p.restart <- struct{}{}
			p.await("the orchestrator restarts", stopped.Load)
			w.must(w.backend.Cancel(w.ctx, p.ids[0], "ann"), "cancel")
			asked.Store(true)
			p.await("the run is cancelled", func() bool { return w.view(p.ids[0]).Status == workflow.RunCancelled })
			cancelled.Store(true)
		}
		p.run()
	}},
	{name: "a run that can't be committed is failed, and stops no other", run: func(w *world) {
		s := &script{limits: workflow.DefaultLimits, agents: []engine.AgentInfo{{ID: "one", Slots: 4}}}
		for range 5 {
			s.runs = append(s.runs, scriptedRun{plan: planOf("a", "b: a"), nodes: make([]behaviour, 2), cancel: -1})
		}
		p := newPlay(w, 1, s, &refusing{Backend: w.backend, node: 1, number: 3})
		p.refused = 3
		p.run()
		view := w.view(p.ids[3])
		if view.Status != workflow.RunFailed || view.Reason == "" {
			w.Fatalf("the run that can't be committed is seen as %+v", view)
		}
	}},
	{name: "a cancel reaches what runs, and answers soon", run: func(w *world) {
		s := &script{
			limits: workflow.DefaultLimits, agents: []engine.AgentInfo{{ID: "one", Slots: 2}},
			runs: []scriptedRun{{plan: planOf("a", "b", "c: a", "d"), nodes: []behaviour{{slow: always}, {slow: always}, {}, {slow: always}}, cancel: 2}},
		}
		end := newPlay(w, 1, s, w.backend).run()[0]
		if end.status != workflow.RunCancelled || end.completed+end.failed > 0 {
			w.Fatalf("the run ends as %+v", end)
		}
	}},
}

// failEachCommit plays a script again and again; each time another commit fails, in another way.
func (w *world) failEachCommit(build func() *script) {
	for number := range int32(8) {
		for _, fault := range []Fault{Unknown, After} {
			p := newPlay(w, 1, build(), w.backend)
			var commits atomic.Int32
			p.plan = func(call string) Fault {
				if call == "Commit" && commits.Add(1) == number+1 {
					return fault
				}
				return None
			}
			p.run()
			if w.Failed() {
				w.Fatalf("that was with the fault %d of commit %d", fault, number+1)
			}
		}
	}
}

// refusing is a backend that can't store the end of a node of the run that was submitted as a certain one.
type refusing struct {
	engine.Backend
	number int
	node   int32

	submitted int
	bad       atomic.Pointer[workflow.RunID]
}

// Submit implements engine.Submitter.
func (b *refusing) Submit(ctx context.Context, submissions []engine.Submission) ([]engine.Submitted, error) {
	submitted, err := b.Backend.Submit(ctx, submissions)
	if err == nil && !submitted[0].Existing {
		if b.submitted == b.number {
			b.bad.Store(&submitted[0].ID)
		}
		b.submitted++
	}
	return submitted, err //nolint:wrapcheck // a wrapper is not seen
}

// OpenWriters implements engine.Backend.
func (b *refusing) OpenWriters(ctx context.Context, orchestrator string, most int) ([]engine.Writer, error) {
	writers, err := b.Backend.OpenWriters(ctx, orchestrator, most)
	for i, writer := range writers {
		writers[i] = &refusingWriter{Writer: writer, backend: b}
	}
	return writers, err //nolint:wrapcheck // a wrapper is not seen
}

type refusingWriter struct {
	engine.Writer
	backend *refusing
}

// Commit implements engine.Writer.
func (w *refusingWriter) Commit(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	bad := w.backend.bad.Load()
	for _, change := range commit.Changes {
		for _, row := range change.Tasks {
			if bad != nil && change.ID == *bad && row.Node == w.backend.node && row.Status.Ended() {
				return engine.CommitResult{}, fmt.Errorf("%w: the end of %s", engine.ErrRefused, workflow.TaskRunID(change.ID, row.Node))
			}
		}
	}
	return w.Writer.Commit(ctx, commit) //nolint:wrapcheck // a wrapper is not seen
}

// crashing is a backend that answers with doubt to the first commit of a kind, though it is stored.
type crashing struct {
	engine.Backend
	when func(*engine.Commit) bool
	done atomic.Bool
}

// OpenWriters implements engine.Backend.
func (b *crashing) OpenWriters(ctx context.Context, orchestrator string, most int) ([]engine.Writer, error) {
	writers, err := b.Backend.OpenWriters(ctx, orchestrator, most)
	for i, writer := range writers {
		writers[i] = &crashingWriter{Writer: writer, backend: b}
	}
	return writers, err //nolint:wrapcheck // a wrapper is not seen
}

type crashingWriter struct {
	engine.Writer
	backend *crashing
}

// Commit implements engine.Writer.
func (w *crashingWriter) Commit(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	result, err := w.Writer.Commit(ctx, commit)
	if err == nil && w.backend.when(commit) && w.backend.done.CompareAndSwap(false, true) {
		return engine.CommitResult{}, fmt.Errorf("%w: %w", engine.ErrUncertain, ErrInjected)
	}
	return result, err //nolint:wrapcheck // a wrapper is not seen
}
