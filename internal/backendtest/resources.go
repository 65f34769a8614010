package backendtest

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var (
	largeHost = workflow.Resources{CPU: 4 * workflow.Core, MemoryMB: 1000, GPU: 2, DiskMB: 50}
	smallHost = workflow.Resources{CPU: workflow.Core, MemoryMB: 100}
)

// needing is a plan of tasks with resources, each named by its number.
func needing(needs ...workflow.Resources) *workflow.Plan {
	names := make([]string, len(needs))
	for i := range names {
		names[i] = fmt.Sprintf("t%d", i)
	}
	plan := planOf(names...)
	for i := range needs {
		plan.Specs[i].Resources = needs[i]
	}
	return plan
}

var resourceTests = []test{
	{name: "a claim takes what fits together, and passes over what does not", run: func(w *world) {
		w.start(needing(
			workflow.Resources{CPU: 3 * workflow.Core}, workflow.Resources{CPU: 2 * workflow.Core}, workflow.Resources{CPU: workflow.Core / 2},
			workflow.Resources{}, workflow.Resources{MemoryMB: 1001}, workflow.Resources{MemoryMB: 1000}, workflow.Resources{GPU: 3}, workflow.Resources{DiskMB: 51},
		))
		session := w.agentOf(engine.AgentInfo{ID: "large", Resources: largeHost})
		free, seen := largeHost, map[string]bool{}
		for { // one claim need not find all that fits
			claimed := w.claimWith(session, free)
			if len(claimed) == 0 {
				break
			}
			for _, delivery := range claimed {
				for _, task := range delivery.Tasks {
					seen[task.Spec.TaskID] = true
					if !task.Spec.Resources.Fit(free) {
						w.Fatalf("%s was claimed with %+v free", task.Spec.TaskID, free)
					}
					free = free.Minus(task.Spec.Resources)
				}
			}
		}
		if len(seen) != 4 || !seen["t0"] || !seen["t2"] || !seen["t3"] || !seen["t5"] {
			w.Errorf("claimed is %v", seen)
		}
		w.wantNames(w.claimWith(session, workflow.Resources{CPU: 2 * workflow.Core}), "t1")
	}},
	{name: "without room only tasks without resources are claimed", run: func(w *world) {
		w.start(needing(workflow.Resources{CPU: 1}, workflow.Resources{}, workflow.Resources{MemoryMB: 1}, workflow.Resources{GPU: 1}, workflow.Resources{DiskMB: 1}))
		session := w.agentOf(engine.AgentInfo{ID: "large", Resources: largeHost})
		w.wantNames(w.claimWith(session, workflow.Resources{}), "t1")
		w.wantNames(w.claimWith(session, workflow.Resources{CPU: 1}), "t0")
		w.wantNames(w.claimWith(session, workflow.Resources{MemoryMB: 1}), "t2")
		w.wantNames(w.claimWith(session, workflow.Resources{GPU: 1}), "t3")
		w.wantNames(w.claimWith(session, workflow.Resources{DiskMB: 1}), "t4")
	}},
	{name: "what one agent has no room for waits for a larger one, and nobody waits behind it", run: func(w *world) {
		w.start(needing(workflow.Resources{CPU: 2 * workflow.Core, MemoryMB: 500}, workflow.Resources{CPU: workflow.Core, MemoryMB: 100}, workflow.Resources{}))
		small := w.agentOf(engine.AgentInfo{ID: "small", Resources: smallHost})
		w.wantNames(w.claimWith(small, smallHost), "t1 t2")
		w.wantNames(w.claimWith(w.agentOf(engine.AgentInfo{ID: "large", Resources: largeHost}), largeHost), "t0")
	}},
	{name: "an agent sees who is first in line of those that it could hold", run: func(w *world) {
		plan := needing(workflow.Resources{CPU: workflow.Core}, workflow.Resources{CPU: 4 * workflow.Core}, workflow.Resources{}, workflow.Resources{CPU: 3}, workflow.Resources{CPU: 2})
		for node, priority := range []int{3, 2, 1, 2, 1} {
			plan.Specs[node].Priority = priority
		}
		plan.Specs[4].Queue = "another"
		w.start(plan)
		first := func(session engine.AgentSession) workflow.Resources {
			w.Helper()
			waiting, found, err := session.First(w.ctx)
			w.must(err, "look who is first")
			if found == waiting.Resources.IsZero() || waiting.Waited < -patience || waiting.Waited > patience {
				w.Errorf("the first, %v, is %+v", found, waiting)
			}
			return waiting.Resources
		}
		large := w.agentOf(engine.AgentInfo{ID: "large", Resources: largeHost, Queues: []string{"default"}})
		small := w.agentOf(engine.AgentInfo{ID: "small", Resources: smallHost, Queues: []string{"default"}})
		if got := first(large); got.CPU != 4*workflow.Core {
			w.Errorf("for the large one the first is %+v", got)
		}
		if got := first(small); got.CPU != 3 {
			w.Errorf("for the small one the first is %+v", got)
		}
		w.claimWith(small, smallHost)
		w.claimWith(large, largeHost)
		w.claimWith(large, largeHost)
		if got := first(large); !got.IsZero() {
			w.Errorf("when all are claimed the first is %+v", got)
		}
	}},
	{name: "deliveries keep their resources, and the cluster knows what agents have", run: func(w *world) {
		needs := workflow.Resources{CPU: workflow.Core / 2, MemoryMB: 7, GPU: 1, DiskMB: 3}
		w.start(needing(needs))
		w.agentOf(engine.AgentInfo{ID: "large", Resources: largeHost})
		if deliveries := w.dispatched(); len(deliveries) != 1 || deliveries[0].Class.Resources != needs {
			w.Errorf("the queue holds %+v", deliveries)
		}
		if agents := w.tick().Agents; len(agents) != 1 || agents[0].Resources != largeHost {
			w.Errorf("the writer knows of %+v", agents)
		}
		agents, err := w.backend.Agents(w.ctx)
		w.must(err, "list the agents")
		if len(agents) != 1 || agents[0].Resources != largeHost {
			w.Errorf("the agents are %+v", agents)
		}
	}},
	{name: "readers see what queued task runs need of an agent", run: func(w *world) {
		plan := needing(largeHost, workflow.Resources{}, workflow.Resources{}, smallHost)
		plan.Specs[1].Requires = []string{"eu", "ssd"}
		run := w.start(plan)
		needs, err := w.backend.Needs(w.ctx, run.ID)
		w.must(err, "read what is needed")
		want := map[int32]engine.Class{
			0: {Queue: "default", Resources: largeHost}, 1: {Queue: "default", Requires: "eu,ssd"}, 3: {Queue: "default", Resources: smallHost},
		}
		if !maps.Equal(needs, want) {
			w.Errorf("needed is %+v", needs)
		}
	}},
	{name: "a delivery of tasks with resources holds one member", run: func(w *world) {
		w.start(needing(largeHost, largeHost))
		queued := w.dispatched()
		both := engine.Dispatch{Class: queued[0].Class, Priority: 1, Members: append(queued[0].Members, queued[1].Members...)}
		if _, err := w.writer.Commit(w.ctx, &engine.Commit{At: w.now(), Dispatches: []engine.Dispatch{both}}); !errors.Is(err, engine.ErrRefused) {
			w.Errorf("a delivery of two: %v", err)
		}
	}},
	{name: "many agents that claim at once never hold more than they have", run: func(w *world) {
		const tasks = 40
		needs := make([]workflow.Resources, tasks)
		for i := range needs {
			needs[i] = []workflow.Resources{{CPU: 700}, {CPU: 1300, MemoryMB: 40}, {MemoryMB: 90}, {}}[i%4]
		}
		w.start(needing(needs...))
		var group sync.WaitGroup
		var mutex sync.Mutex
		claimed := 0
		for number := range 3 {
			session := w.agentOf(engine.AgentInfo{ID: fmt.Sprintf("agent-%d", number), Resources: largeHost})
			group.Go(func() {
				for range tasks {
					claim, err := session.Claim(w.ctx, 9, number, largeHost)
					if err != nil {
						w.Errorf("claim: %v", err)
						return
					}
					var used workflow.Resources
					for _, delivery := range claim.Deliveries {
						for _, task := range delivery.Tasks {
							used = used.Plus(task.Spec.Resources)
							mutex.Lock()
							claimed++
							mutex.Unlock()
						}
					}
					if !used.Fit(largeHost) {
						w.Errorf("a claim brought %+v", used)
					}
				}
			})
		}
		group.Wait()
		if claimed != tasks {
			w.Errorf("%d of %d were claimed", claimed, tasks)
		}
	}},
}
