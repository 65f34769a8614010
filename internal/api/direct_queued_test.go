package api_test

import (
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestWhatAQueuedTaskWaitsFor(t *testing.T) {
	t.Parallel()
	agents := []engine.AgentView{
		{ID: "gone", Status: "stopped", Resources: workflow.Resources{MemoryMB: 1 << 20}},
		{ID: "thick", Status: "live", Queues: []string{"default", "slow"}, Tags: []string{"eu", "ssd"}, Resources: workflow.Resources{CPU: 1500, MemoryMB: 24000}},
		{ID: "wide", Status: "live", Queues: []string{"default"}, Resources: workflow.Resources{CPU: 8000, MemoryMB: 100, GPU: 1}},
	}
	for name, test := range map[string]struct {
		class  engine.Class
		age    time.Duration
		agents []engine.AgentView
		want   string
	}{
		"nothing":      {engine.Class{Queue: "default"}, time.Minute, agents, ""},
		"a moment ago": {engine.Class{Queue: "nobody's"}, 0, agents, ""},
		"no agent":     {engine.Class{Queue: "default"}, time.Minute, agents[:1], "an agent, and none lives: `cyclonetix serve --agent` starts one"},
		"its queue":    {engine.Class{Queue: "other"}, time.Minute, agents, "an agent that serves the queue other, and no live one does"},
		"its tags":     {engine.Class{Queue: "slow", Requires: "eu,gpu"}, time.Minute, agents, "an agent with eu and gpu, and no live one of its queue has that"},
		"room":         {engine.Class{Queue: "default", Requires: "eu", Resources: workflow.Resources{CPU: 1500, MemoryMB: 24000}}, time.Minute, agents, ""},
		"memory": {
			engine.Class{Queue: "default", Resources: workflow.Resources{MemoryMB: 64000}}, time.Minute, agents,
			"an agent with 64000 MB of memory; the largest live one has 24000",
		},
		"cores with its tag": {
			engine.Class{Queue: "default", Requires: "ssd", Resources: workflow.Resources{CPU: 2000, GPU: 1}}, time.Minute, agents,
			"an agent with 2 cores and 1 GPU; the largest live one has 1.5 and 0",
		},
		"both together": {
			engine.Class{Queue: "default", Resources: workflow.Resources{CPU: 2000, MemoryMB: 200}}, time.Minute, agents,
			"an agent that has all of its resources together; no live one does",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.run.Status, b.agents = workflow.RunRunning, test.agents
			b.tasks = []engine.TaskRunView{{Name: "done", Status: workflow.TaskCompleted}, {Node: 1, Name: "train", Queue: test.class.Queue, Status: workflow.TaskQueued, QueuedTime: time.Now().Add(-test.age)}}
			b.needs = map[int32]engine.Class{1: test.class}
			run, err := newDirect(b).Run(t.Context(), "mine", api.Include{Tasks: true})
			if err != nil {
				t.Fatal(err)
			}
			if run.Tasks[0].WaitsFor != "" || run.Tasks[1].WaitsFor != test.want {
				t.Errorf("they wait for %q and %q, wanted %q", run.Tasks[0].WaitsFor, run.Tasks[1].WaitsFor, test.want)
			}
		})
	}
}
