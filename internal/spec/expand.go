package spec

import (
	"strconv"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// ExpandItems gives the specifications of a task that runs once for each item:
// that of the node that stands for them all and ends when they have ended, and
// one for each item, by index. Who waits for the task waits for the first; the
// rule, the approval and the evaluation are those of the others.
func ExpandItems(spec *workflow.TaskSpec, items []workflow.Value) (group *workflow.TaskSpec, each []*workflow.TaskSpec) {
	whole := *spec
	whole.ForEach, whole.TriggerRule, whole.Approval, whole.EvaluationPoint = &workflow.ForEach{}, "", nil, false
	copies := make([]workflow.TaskSpec, len(items))
	each = make([]*workflow.TaskSpec, len(items))
	for i, item := range items {
		copies[i] = *spec
		copies[i].ForEach, copies[i].Item = nil, &workflow.Item{Value: item, Index: i}
		each[i] = &copies[i]
	}
	return &whole, each
}

// ItemName is the name of the node of one item of the node called name.
func ItemName(name string, index int) string { return name + "[" + strconv.Itoa(index) + "]" }

// expand puts the nodes of items, of which there are so many in all, before those that stand for them.
func expand(plan *workflow.Plan, items int) *workflow.Plan {
	nodes := make([]workflow.Node, 0, len(plan.Nodes)+items)
	numbers := make([]int32, len(plan.Nodes))
	for number, node := range plan.Nodes {
		for i, parent := range node.Dependencies {
			node.Dependencies[i] = numbers[parent]
		}
		spec := plan.Specs[node.Spec]
		switch each := spec.ForEach; {
		case each == nil || each.Reference != "":
		case len(each.Items) == 0:
			plan.Specs[node.Spec], _ = ExpandItems(spec, nil)
		default:
			group, specs := ExpandItems(spec, each.Items)
			plan.Specs[node.Spec] = group
			own := make([]int32, len(specs))
			for i := range specs {
				own[i] = int32(len(nodes)) //nolint:gosec // bounded
				nodes = append(nodes, workflow.Node{
					Name: ItemName(node.Name, i), Spec: int32(len(plan.Specs) + i), Dependencies: node.Dependencies, //nolint:gosec // bounded
				})
			}
			plan.Specs = append(plan.Specs, specs...)
			node.Dependencies = own
		}
		numbers[number] = int32(len(nodes)) //nolint:gosec // bounded
		nodes = append(nodes, node)
	}
	return &workflow.Plan{Specs: plan.Specs, Nodes: nodes}
}
