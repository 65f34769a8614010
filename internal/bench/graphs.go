package bench

import (
	"fmt"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// noopSpec is a task whose command agents of the benchmark do not run, or that does nothing.
func noopSpec(name, command string) *workflow.TaskSpec {
	return &workflow.TaskSpec{TaskID: name, Command: command, Queue: workflow.DefaultQueue, Priority: workflow.DefaultPriority}
}

// fan is 1 → width → 1.
func fan(width int, command string) *workflow.Plan {
	plan := &workflow.Plan{Specs: []*workflow.TaskSpec{noopSpec("first", command), noopSpec("middle", command), noopSpec("last", command)}}
	plan.Nodes = append(plan.Nodes, workflow.Node{Name: "first"})
	last := workflow.Node{Name: "last", Spec: 2}
	for i := range width {
		plan.Nodes = append(plan.Nodes, workflow.Node{Name: fmt.Sprintf("middle%d", i), Spec: 1, Dependencies: []int32{0}})
		last.Dependencies = append(last.Dependencies, int32(i+1)) //nolint:gosec // small
	}
	plan.Nodes = append(plan.Nodes, last)
	return plan
}

// chain is length tasks one after the other.
func chain(length int, command string) *workflow.Plan {
	plan := &workflow.Plan{Specs: []*workflow.TaskSpec{noopSpec("link", command)}}
	for i := range length {
		node := workflow.Node{Name: fmt.Sprintf("link%d", i)}
		if i > 0 {
			node.Dependencies = []int32{int32(i - 1)} //nolint:gosec // small
		}
		plan.Nodes = append(plan.Nodes, node)
	}
	return plan
}

func submission(name string, plan *workflow.Plan) engineSubmission {
	return engineSubmission{DAG: name, Plan: plan, Actor: "bench", Cause: "bench"}
}
