package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// patience bounds every wait, so that what never happens fails a test instead of hanging it.
const patience = 20 * time.Second

// staged is a backend in memory whose writers do what a test says.
type staged struct {
	engine.Backend
	open   func(number int) error // before a writer is opened, from 1
	commit func(ctx context.Context) error
	tick   func() error
	read   func() error
	opened atomic.Int32
}

func stage(t *testing.T) *staged {
	t.Helper()
	backend := memory.New(memory.Options{})
	t.Cleanup(backend.Close)
	return &staged{
		Backend: backend, open: func(int) error { return nil }, commit: func(context.Context) error { return nil },
		tick: func() error { return nil }, read: func() error { return nil },
	}
}

func (s *staged) OpenWriters(ctx context.Context, orchestrator string, most int) ([]engine.Writer, error) {
	if err := s.open(int(s.opened.Add(1))); err != nil {
		return nil, err
	}
	writers, err := s.Backend.OpenWriters(ctx, orchestrator, most)
	for i, writer := range writers {
		writers[i] = &stagedWriter{Writer: writer, stage: s}
	}
	return writers, err
}

type stagedWriter struct {
	engine.Writer
	stage *staged
}

func (w *stagedWriter) Tick(ctx context.Context) (engine.Tick, error) {
	if err := w.stage.tick(); err != nil {
		return engine.Tick{}, err
	}
	return w.Writer.Tick(ctx)
}

func (w *stagedWriter) ReadMail(ctx context.Context, sweep bool, limit int) ([]engine.Mail, error) {
	if err := w.stage.read(); err != nil && !sweep {
		return nil, err
	}
	return w.Writer.ReadMail(ctx, sweep, limit)
}

func (w *stagedWriter) Commit(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	if err := w.stage.commit(ctx); err != nil {
		return engine.CommitResult{}, err
	}
	return w.Writer.Commit(ctx, commit)
}

// run starts an orchestrator. Its context ends with cancel; stop waits for its end, too.
func (s *staged) run(t *testing.T) (cancel func(), stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		ended <- New(s, Options{ID: "test", TickInterval: 10 * time.Millisecond}).Run(ctx, func() { close(ready) })
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return await(t, ended, "the orchestrator ends")
	})
	t.Cleanup(func() { _ = stop() })
	await(t, ready, "the orchestrator has its buckets")
	return cancel, stop
}

// await waits for a message.
func await[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case message := <-from:
		return message
	case <-time.After(patience):
		t.Fatalf("it never happens that %s", what)
		panic("not reached")
	}
}

func (s *staged) submit(t *testing.T, plan *workflow.Plan) workflow.RunID {
	t.Helper()
	submitted, err := s.Submit(context.Background(), []engine.Submission{{DAG: "dag", Plan: plan, Actor: "ann", Cause: "test", Revision: 1}})
	if err != nil {
		t.Fatalf("submit: %v", err)
	}
	return submitted[0].ID
}

// work lets an agent complete what there is until a run ends.
func (s *staged) work(t *testing.T, id workflow.RunID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	session, err := s.OpenAgent(ctx, engine.AgentInfo{ID: t.Name(), Slots: 10, HeartbeatInterval: time.Hour})
	if err != nil {
		t.Fatalf("register an agent: %v", err)
	}
	defer session.Close(context.WithoutCancel(ctx))
	for {
		claim, err := session.Claim(ctx, 10, 0, workflow.Resources{})
		if err != nil {
			t.Fatalf("claim: %v", err)
		}
		for _, delivery := range claim.Deliveries {
			report := &engine.Report{ReplyTo: delivery.ReplyTo, Agent: session.Incarnation(), Done: []int64{delivery.ID}}
			for _, task := range delivery.Tasks {
				report.Ends = append(report.Ends, engine.End{Member: task.Member, Result: workflow.Result{
					Status: workflow.TaskCompleted, StartTime: delivery.ClaimedAt, EndTime: delivery.ClaimedAt, Agent: session.Incarnation(),
				}})
			}
			if err := session.Report(ctx, report, nil, nil); err != nil {
				t.Fatalf("report: %v", err)
			}
		}
		view, err := s.FindRun(ctx, id.String())
		if err != nil {
			t.Fatalf("find the run: %v", err)
		}
		if view.Status.Ended() {
			if view.Status != workflow.RunCompleted {
				t.Fatalf("the run is %s: %s", view.Status, view.Reason)
			}
			return
		}
		select {
		case <-session.Wake():
		case <-time.After(time.Millisecond): // its end is not rung
		}
	}
}

func TestOrchestratorRunsAndStops(t *testing.T) {
	s := stage(t)
	_, stop := s.run(t)
	s.work(t, s.submit(t, planOf("a", "b: a")))
	if err := stop(); err != nil {
		t.Fatalf("the orchestrator ends with %v", err)
	}
	// The buckets are free for the next one.
	s.run(t)
	s.work(t, s.submit(t, planOf("a", "b: a")))
}

func TestSecondOrchestratorIsTold(t *testing.T) {
	s := stage(t)
	s.run(t)
	err := New(s, Options{ID: "other"}).Run(context.Background(), nil)
	if !errors.Is(err, engine.ErrWriterExists) {
		t.Fatalf("the second orchestrator ends with %v", err)
	}
}

func TestFencedOrchestratorBeginsAnew(t *testing.T) {
	s := stage(t)
	var ticks atomic.Int32
	again := make(chan struct{})
	s.tick = func() error {
		if ticks.Add(1) == 2 {
			return fmt.Errorf("tick: %w", engine.ErrFenced)
		}
		return nil
	}
	s.open = func(number int) error {
		if number == 2 {
			close(again)
		}
		return nil
	}
	s.run(t)
	id := s.submit(t, planOf("a", "b: a"))
	await(t, again, "it begins anew")
	s.work(t, id)
}

func TestFencedOrchestratorOutlivesABackendThatFails(t *testing.T) {
	s := stage(t)
	var ticks atomic.Int32
	again := make(chan struct{})
	s.tick = func() error {
		if ticks.Add(1) == 1 {
			return fmt.Errorf("tick: %w", engine.ErrFenced)
		}
		return nil
	}
	s.open = func(number int) error {
		switch number {
		case 2, 3:
			return errInjected
		case 4:
			close(again)
		}
		return nil
	}
	s.run(t)
	id := s.submit(t, planOf("a"))
	await(t, again, "it begins anew")
	s.work(t, id)
}

func TestFencedOrchestratorGivesWayToAnother(t *testing.T) {
	s := stage(t)
	s.tick = func() error { return fmt.Errorf("tick: %w", engine.ErrFenced) }
	s.open = func(number int) error {
		if number > 1 {
			return fmt.Errorf("open: %w", engine.ErrWriterExists)
		}
		return nil
	}
	err := New(s, Options{ID: "test"}).Run(context.Background(), nil)
	if !errors.Is(err, engine.ErrWriterExists) {
		t.Fatalf("the orchestrator ends with %v", err)
	}
}

func TestBackendThatFailsAtTheStartIsTold(t *testing.T) {
	s := stage(t)
	s.open = func(int) error { return errInjected }
	if err := New(s, Options{ID: "test"}).Run(context.Background(), nil); !errors.Is(err, errInjected) {
		t.Fatalf("the orchestrator ends with %v", err)
	}
}

func TestStopLetsACommitFinish(t *testing.T) {
	s := stage(t)
	entered, release := make(chan struct{}), make(chan struct{})
	broken := make(chan error, 1)
	var commits atomic.Int32
	s.commit = func(ctx context.Context) error {
		if commits.Add(1) == 1 {
			close(entered)
			<-release
			broken <- ctx.Err()
		}
		return nil
	}
	cancel, stop := s.run(t)
	id := s.submit(t, planOf("a"))
	await(t, entered, "a commit is under way")
	cancel()
	close(release)
	if err := await(t, broken, "the commit goes on"); err != nil {
		t.Errorf("the commit was broken off: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("the orchestrator ends with %v", err)
	}
	view, err := s.FindRun(context.Background(), id.String())
	if err != nil || view.Status != workflow.RunRunning {
		t.Errorf("the run is %s (%v), though the commit was stored", view.Status, err)
	}
	s.commit = func(context.Context) error { return nil }
	s.run(t)
	s.work(t, id)
}

func TestStopDoesNotWaitForACommitThatHangs(t *testing.T) {
	s := stage(t)
	entered := make(chan struct{})
	var commits atomic.Int32
	s.commit = func(ctx context.Context) error {
		if commits.Add(1) == 1 {
			close(entered)
		}
		<-ctx.Done()
		return ctx.Err()
	}
	_, stop := s.run(t)
	s.submit(t, planOf("a"))
	await(t, entered, "a commit is under way")
	if err := stop(); err != nil {
		t.Errorf("the orchestrator ends with %v", err)
	}
}

func TestOrchestratorBeatsWhileSomethingElseFails(t *testing.T) {
	t.Parallel()
	s := stage(t)
	s.read = func() error { return errInjected }
	ticks := make(chan struct{}, 1)
	s.tick = func() error {
		select {
		case ticks <- struct{}{}:
		default: // one is enough
		}
		return nil
	}
	s.run(t)
	for range 3 {
		await(t, ticks, "it ticks")
	}
}
