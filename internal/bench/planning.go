package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const plannedTasks = 100_000

// planning checks and plans an outcome over 100,000 tasks, each with up to three dependencies; reading YAML is not in it.
func planning(_ context.Context, b *bencher) error {
	count := b.scaled(plannedTasks)
	definitions := make([]spec.Definition, count)
	for i := range definitions {
		task := &workflow.Task{ID: fmt.Sprintf("task%06d", i), Command: "true", Queue: workflow.DefaultQueue, Priority: workflow.DefaultPriority}
		for _, back := range []int{1, 7, 301} {
			if i >= back {
				task.Dependencies = append(task.Dependencies, fmt.Sprintf("task%06d", i-back))
			}
		}
		definitions[i] = spec.Definition{Kind: spec.KindTask, ID: task.ID, Task: task}
	}
	var times []float64
	for range b.options.Rounds {
		begun := time.Now()
		catalog := spec.NewCatalog(definitions, spec.CatalogOptions{})
		plan, err := catalog.PlanTask(definitions[count-1].ID)
		if err != nil {
			return fmt.Errorf("plan: %w", err)
		}
		if len(plan.Nodes) != count {
			return fmt.Errorf("the plan has %d of %d tasks", len(plan.Nodes), count)
		}
		times = append(times, time.Since(begun).Seconds())
	}
	b.add(Row{Name: "planning an outcome over 100,000 tasks", Value: median(times), Unit: "s", Rounds: times}.atMost(1))
	return nil
}
