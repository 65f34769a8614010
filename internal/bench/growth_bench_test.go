package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/agent"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	inprocess "github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/orchestrator"
	"github.com/cyclonetix/cyclonetix/internal/pgtest"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// grownTasks is what the evaluation adds.
const grownTasks = 5000

// growth is a cluster in which a chain of tasks goes on beside a run that grows. The grown tasks are in a queue of their
// own, which nobody serves, so the chain never waits for a slot.
type growth struct {
	*testing.B
	backend engine.Backend

	mutex  sync.Mutex
	chains []workflow.RunID
	commit time.Duration // the longest in which a run grew
	grown  chan workflow.RunID
	ended  chan workflow.RunID
}

// Committed implements orchestrator.Observer.
func (g *growth) Committed(duration time.Duration, changes []*workflow.Change) {
	for _, change := range changes {
		if len(change.Nodes) > 0 {
			g.mutex.Lock()
			g.commit = max(g.commit, duration)
			g.mutex.Unlock()
			g.grown <- change.ID
		}
		if change.Ends() {
			g.ended <- change.ID
		}
	}
}

func (g *growth) must(err error, doing string) {
	g.Helper()
	if err != nil {
		g.Fatalf("%s: %v", doing, err)
	}
}

// define publishes tasks that are added: all for themselves, or each waiting for the one before.
func (g *growth) define(inRow bool) []string {
	g.Helper()
	names := make([]string, grownTasks)
	definitions := make([]engine.Definition, grownTasks)
	for i := range names {
		names[i] = fmt.Sprintf("grown%04d", i)
		task := workflow.Task{ID: names[i], Command: "true", Queue: "grown", Priority: workflow.DefaultPriority}
		if inRow && i > 0 {
			task.Dependencies = []string{names[i-1]}
		}
		body, err := json.Marshal(&task)
		g.must(err, "encode a task")
		definitions[i] = engine.Definition{Kind: "task", ID: names[i], Body: body}
	}
	_, _, err := g.backend.Publish(g.Context(), definitions, "test")
	g.must(err, "publish")
	return names
}

// submit starts a run by the newest definitions.
func (g *growth) submit(ctx context.Context, name string, plan *workflow.Plan) (workflow.RunID, error) {
	made := submission(name, plan)
	var err error
	if made.Revision, err = g.backend.Revision(ctx); err != nil {
		return workflow.RunID{}, err
	}
	answers, err := g.backend.Submit(ctx, []engine.Submission{made})
	if err != nil {
		return workflow.RunID{}, err
	}
	return answers[0].ID, nil
}

// evaluate lets an evaluation point end whose result names tasks, and waits until they are added. It tells from when on.
func (g *growth) evaluate(next []string) time.Time {
	g.Helper()
	point := noopSpec("point", "true")
	point.EvaluationPoint, point.Queue = true, "points"
	id, err := g.submit(g.Context(), "growing", &workflow.Plan{Specs: []*workflow.TaskSpec{point}, Nodes: []workflow.Node{{Name: "point"}}})
	g.must(err, "start a run")
	session, err := g.backend.OpenAgent(g.Context(), engine.AgentInfo{ID: "points", Slots: 1, Queues: []string{"points"}, HeartbeatInterval: time.Hour})
	g.must(err, "register an agent")
	defer session.Close(context.WithoutCancel(g.Context())) //nolint:errcheck // it holds nothing
	var claim engine.Claim
	for len(claim.Deliveries) == 0 {
		claim, err = session.Claim(g.Context(), 1, 0, workflow.Resources{})
		g.must(err, "claim")
		time.Sleep(time.Millisecond)
	}
	delivery := claim.Deliveries[0]
	begun := g.backend.Now()
	g.must(session.Report(g.Context(), &engine.Report{
		ReplyTo: delivery.ReplyTo, Agent: session.Incarnation(), Done: []int64{delivery.ID},
		Ends: []engine.End{{Member: delivery.Tasks[0].Member, Result: workflow.Result{
			Status: workflow.TaskCompleted, Started: true, StartTime: begun, EndTime: begun, Agent: session.Incarnation(),
			Evaluation: &workflow.Evaluation{NextTasks: next, Chosen: true},
		}}},
	}, nil, nil), "report")
	await(g.grown, id)
	return begun
}

// keepGoing runs chains, one after the other, until the context ends.
func (g *growth) keepGoing(ctx context.Context) {
	plan := chain(200, "")
	for ctx.Err() == nil {
		id, err := g.submit(context.WithoutCancel(ctx), "chain", plan)
		if err != nil {
			g.Errorf("submit: %v", err)
			return
		}
		g.mutex.Lock()
		g.chains = append(g.chains, id)
		g.mutex.Unlock()
		await(g.ended, id)
	}
}

func await(from <-chan workflow.RunID, id workflow.RunID) {
	for one := range from {
		if one == id {
			return
		}
	}
}

// hops are the times in milliseconds between tasks of the chains, of those that began to wait in a span of time.
func (g *growth) hops(from, to time.Time) (hops []float64) {
	g.Helper()
	g.mutex.Lock()
	chains := slices.Clone(g.chains)
	g.mutex.Unlock()
	for _, id := range chains {
		views, err := g.backend.TaskRuns(g.Context(), id)
		g.must(err, "list the task runs")
		for i := range views[1:] {
			// A wait counts where it touches the span.
			if ended, started := views[i].EndTime, views[i+1].StartTime; started.After(from) && ended.Before(to) {
				hops = append(hops, started.Sub(ended).Seconds()*1000)
			}
		}
	}
	if len(hops) == 0 {
		g.Fatal("nothing was measured")
	}
	return hops
}

func benchmarkGrowth(b *testing.B, backend engine.Backend, inRow, all bool) {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	var running sync.WaitGroup
	g := &growth{B: b, backend: backend, grown: make(chan workflow.RunID, 1000), ended: make(chan workflow.RunID, 1000)}
	ready := make(chan struct{})
	running.Go(func() {
		known := language.New(backend)
		if err := orchestrator.New(backend, orchestrator.Options{ID: "bench", Observer: g, Language: known}).Run(ctx, func() { close(ready) }); err != nil {
			b.Error(err)
		}
	})
	<-ready
	worker, err := agent.New(agent.Options{
		Open: backend.OpenAgent, Executor: agent.Noop(), CleanupTempFiles: true,
		Info: engine.AgentInfo{ID: "worker", Slots: 4, Version: "bench", Queues: []string{workflow.DefaultQueue}},
	})
	g.must(err, "make an agent")
	running.Go(func() {
		if err := worker.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	names := g.define(inRow)
	if inRow && !all {
		names = names[grownTasks-1:] // the last brings all others along
	}
	const span = 2 * time.Second
	going, halt := context.WithCancel(ctx)
	var chains sync.WaitGroup
	chains.Go(func() { g.keepGoing(going) })
	time.Sleep(span)
	var before, during, after []float64
	var took float64
	for b.Loop() {
		start := backend.Now()
		time.Sleep(span)
		quiet := backend.Now()
		begun := g.evaluate(names)
		grown := backend.Now()
		took = max(took, grown.Sub(begun).Seconds()*1000)
		time.Sleep(span / 4) // what is left to commit
		settled := backend.Now()
		time.Sleep(span)
		end := backend.Now()
		before, during, after = append(before, g.hops(start, quiet)...), append(during, g.hops(begun, settled)...), append(after, g.hops(settled, end)...)
	}
	halt()
	chains.Wait()
	stop()
	running.Wait()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(slices.Max(before), "ms-before")
	b.ReportMetric(slices.Max(during), "ms-during")
	b.ReportMetric(slices.Max(after), "ms-after")
	b.ReportMetric(median(before), "ms-median")
	b.ReportMetric(slices.Max(during)/slices.Max(before), "during/before")
	b.ReportMetric(took, "ms-growing")
	b.ReportMetric(g.commit.Seconds()*1000, "ms-commit")
}

// BenchmarkGrowth shows the longest hop of a chain before, during and after an evaluation of another run adds 5,000 tasks:
// tasks for themselves, one that brings all others along, and a row of which each is named.
func BenchmarkGrowth(b *testing.B) {
	backends := map[string]func(b *testing.B) engine.Backend{
		"memory": func(*testing.B) engine.Backend { return inprocess.New(inprocess.Options{}) },
		"postgresql": func(b *testing.B) engine.Backend {
			b.Helper()
			backend, err := postgres.Open(b.Context(), postgres.Options{
				URL:                pgtest.NewDatabase(b, func(url string) error { return postgres.MigrateUp(context.Background(), postgres.Options{URL: url}) }),
				PreparedStatements: true,
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(backend.Close)
			return backend
		},
	}
	for _, name := range []string{"memory", "postgresql"} {
		b.Run(name, func(b *testing.B) {
			for _, shape := range []struct {
				name       string
				inRow, all bool
			}{{"wide", false, true}, {"long", true, false}, {"long, all named", true, true}} {
				b.Run(shape.name, func(b *testing.B) { benchmarkGrowth(b, backends[name](b), shape.inRow, shape.all) })
			}
		})
	}
}
