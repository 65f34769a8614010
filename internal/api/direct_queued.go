package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// addWaits says of task runs that are in the queue for more than a moment what they wait for, where that is an agent that
// there is not.
func (d *Direct) addWaits(ctx context.Context, run workflow.RunID, views []engine.TaskRunView, tasks []Task) error {
	now := d.backend.Now()
	waits := func(view *engine.TaskRunView) bool {
		return view.Status == workflow.TaskQueued && !view.QueuedTime.IsZero() && now.Sub(view.QueuedTime) >= soon
	}
	if !slices.ContainsFunc(views, func(view engine.TaskRunView) bool { return waits(&view) }) {
		return nil
	}
	agents, err := d.backend.Agents(ctx)
	if err != nil {
		return err
	}
	needs, err := d.backend.Needs(ctx, run)
	if err != nil {
		return err
	}
	known := map[engine.Class]string{}
	for i := range views {
		if !waits(&views[i]) {
			continue
		}
		class, ok := needs[views[i].Node]
		if !ok {
			class = engine.Class{Queue: views[i].Queue}
		}
		words, ok := known[class]
		if !ok {
			words = lacking(class, agents)
			known[class] = words
		}
		tasks[i].WaitsFor = words
	}
	return nil
}

// lacking says which agent tasks of a class wait for; empty when a live one could hold them.
func lacking(class engine.Class, agents []engine.AgentView) string {
	candidates := slices.DeleteFunc(slices.Clone(agents), func(agent engine.AgentView) bool { return agent.Status != "live" })
	if len(candidates) == 0 {
		return "an agent, and none lives: `cyclonetix serve --agent` starts one"
	}
	candidates = slices.DeleteFunc(candidates, func(agent engine.AgentView) bool {
		return len(agent.Queues) > 0 && !slices.Contains(agent.Queues, class.Queue)
	})
	if len(candidates) == 0 {
		return fmt.Sprintf("an agent that serves the queue %s, and no live one does", class.Queue)
	}
	if class.Requires != "" {
		tags := strings.Split(class.Requires, ",")
		candidates = slices.DeleteFunc(candidates, func(agent engine.AgentView) bool {
			return slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(agent.Tags, tag) })
		})
		if len(candidates) == 0 {
			return fmt.Sprintf("an agent with %s, and no live one of its queue has that", strings.Join(tags, " and "))
		}
	}
	if slices.ContainsFunc(candidates, func(agent engine.AgentView) bool { return class.Resources.Fit(agent.Resources) }) {
		return ""
	}
	var most workflow.Resources
	for i := range candidates {
		has := candidates[i].Resources
		most = workflow.Resources{
			CPU: max(most.CPU, has.CPU), MemoryMB: max(most.MemoryMB, has.MemoryMB), GPU: max(most.GPU, has.GPU), DiskMB: max(most.DiskMB, has.DiskMB),
		}
	}
	var wanted, there []string
	for _, one := range []struct {
		needs, has int
		words      string
		number     func(int) string
	}{
		{int(class.Resources.CPU), int(most.CPU), "cores", func(n int) string { return workflow.Cores(n).String() }},
		{class.Resources.MemoryMB, most.MemoryMB, "MB of memory", func(n int) string { return fmt.Sprint(n) }},
		{class.Resources.GPU, most.GPU, "GPU", func(n int) string { return fmt.Sprint(n) }},
		{class.Resources.DiskMB, most.DiskMB, "MB of disk", func(n int) string { return fmt.Sprint(n) }},
	} {
		if one.needs > one.has {
			wanted, there = append(wanted, one.number(one.needs)+" "+one.words), append(there, one.number(one.has))
		}
	}
	if len(wanted) == 0 {
		return "an agent that has all of its resources together; no live one does"
	}
	return fmt.Sprintf("an agent with %s; the largest live one has %s", strings.Join(wanted, " and "), strings.Join(there, " and "))
}
