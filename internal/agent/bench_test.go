package agent

import (
	"context"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// source is a session that costs next to nothing: a queue of as many tasks as are wanted.
type source struct {
	spec *workflow.TaskSpec
	run  *engine.RunInfo
	size int // members of a delivery

	left     atomic.Int64
	node     int32
	delivery int64
	reported atomic.Int64
	wake     chan struct{}
	done     chan struct{} // receives when all were reported
	total    int64
}

func newSource(command string, size int) *source {
	return &source{
		spec: shell(command), run: &engine.RunInfo{ID: workflow.NewRunID(time.Now(), 1), DAG: "dag", Values: &workflow.RunValues{}},
		size: size, wake: make(chan struct{}, 1), done: make(chan struct{}, 1),
	}
}

// offer queues n tasks.
func (s *source) offer(n int64) {
	s.total += n
	s.left.Add(n)
	signal(s.wake)
}

func (s *source) open(context.Context, engine.AgentInfo) (engine.AgentSession, error) { return s, nil }
func (s *source) Incarnation() int64                                                  { return 1 }
func (s *source) Wake() <-chan struct{}                                               { return s.wake }
func (s *source) Poll() time.Duration                                                 { return time.Second }
func (s *source) Beat(context.Context) ([]engine.Order, error)                        { return nil, nil }
func (s *source) WriteLogs(context.Context, []engine.LogChunk) error                  { return nil }
func (s *source) Close(context.Context) error                                         { return nil }
func (s *source) LiveRuns(context.Context, []workflow.RunID) ([]workflow.RunID, error) {
	return nil, nil
}

func (s *source) First(context.Context) (engine.FirstWaiting, bool, error) {
	return engine.FirstWaiting{}, false, nil
}

func (s *source) Outputs(context.Context, workflow.RunID, []string) (map[string]workflow.Value, error) {
	return map[string]workflow.Value{}, nil
}

func (s *source) Claim(_ context.Context, want, _ int, _ workflow.Resources) (claim engine.Claim, err error) {
	n := min(int(s.left.Load()), want)
	s.left.Add(-int64(n))
	now := time.Now()
	for n > 0 {
		size := min(n, s.size)
		n -= size
		s.delivery++
		tasks := make([]engine.ClaimedTask, size)
		for i := range tasks {
			s.node++
			tasks[i] = engine.ClaimedTask{Member: workflow.Member{Run: s.run.ID, Node: s.node, Attempt: 1, Delivery: 1}, Spec: s.spec, Run: s.run}
		}
		claim.Deliveries = append(claim.Deliveries, engine.ClaimedDelivery{ID: s.delivery, ClaimedAt: now, Tasks: tasks})
	}
	return claim, nil
}

func (s *source) Report(_ context.Context, report *engine.Report, _ []engine.LogChunk, _ []int64) error {
	if n := len(report.Returns); n > 0 {
		s.left.Add(int64(n))
		signal(s.wake)
	}
	if s.reported.Add(int64(len(report.Ends))) == s.total {
		s.done <- struct{}{}
	}
	return nil
}

func (s *source) start(b *testing.B, executor Executor, slots int) {
	a, err := New(Options{
		Open: s.open, Info: engine.AgentInfo{ID: "bench", Slots: slots}, Executor: executor,
		WorkDir: b.TempDir(), CleanupTempFiles: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

// BenchmarkNoop is the rate of tasks that do nothing.
func BenchmarkNoop(b *testing.B) {
	for _, size := range []int{1, 50} {
		b.Run(map[int]string{1: "alone", 50: "by50"}[size], func(b *testing.B) {
			s := newSource("", size)
			s.start(b, Noop(), 16)
			b.ReportAllocs()
			b.ResetTimer()
			s.offer(int64(b.N))
			<-s.done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}

// BenchmarkNoopHop is the time of a single task from the wake of an idle agent to its report.
func BenchmarkNoopHop(b *testing.B) {
	s := newSource("", 1)
	s.start(b, Noop(), 16)
	b.ResetTimer()
	for range b.N {
		s.offer(1)
		<-s.done
	}
}

// BenchmarkProcesses is the rate of tasks that start a process, and its ratio to bare
// os/exec with output captured, in alternating rounds.
func BenchmarkProcesses(b *testing.B) {
	const slots, round = 16, 1000
	s := newSource("true", 10)
	s.start(b, Processes(), slots)
	s.offer(slots)
	<-s.done
	var raw, ours time.Duration
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		execAll(b, slots, round)
		raw += time.Since(began)
		began = time.Now()
		s.offer(round)
		<-s.done
		ours += time.Since(began)
	}
	b.ReportMetric(float64(b.N*round)/ours.Seconds(), "tasks/s")
	b.ReportMetric(float64(b.N*round)/raw.Seconds(), "raw/s")
	b.ReportMetric(raw.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

func execAll(b *testing.B, workers, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := exec.Command("sh", "-c", "true").Output(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
