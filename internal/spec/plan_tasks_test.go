package spec

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// partOf is what a node of a plan needs of it, as a plan of its own.
func partOf(plan *workflow.Plan, name string) *workflow.Plan {
	top := slices.IndexFunc(plan.Nodes, func(node workflow.Node) bool { return node.Name == name })
	wanted := map[int32]bool{int32(top): true}
	for number := int32(top); number >= 0; number-- { // parents come first
		for _, parent := range plan.Nodes[number].Dependencies {
			wanted[parent] = wanted[parent] || wanted[number]
		}
	}
	part, numbers := &workflow.Plan{}, map[int32]int32{}
	for number, node := range plan.Nodes {
		if !wanted[int32(number)] {
			continue
		}
		numbers[int32(number)] = int32(len(part.Nodes))
		made := workflow.Node{Name: node.Name, Spec: int32(len(part.Specs))}
		for _, parent := range node.Dependencies {
			made.Dependencies = append(made.Dependencies, numbers[parent])
		}
		part.Nodes, part.Specs = append(part.Nodes, made), append(part.Specs, plan.Specs[node.Spec])
	}
	return part
}

// normal is a plan whose specifications are in the order of its nodes.
func normal(plan *workflow.Plan) *workflow.Plan {
	same := &workflow.Plan{Nodes: slices.Clone(plan.Nodes)}
	for i := range same.Nodes {
		same.Specs = append(same.Specs, plan.Specs[same.Nodes[i].Spec])
		same.Nodes[i].Spec = int32(i)
	}
	return same
}

// TestPlanTasks holds for random catalogs: of tasks that are planned together, each needs what it needs when planned alone.
func TestPlanTasks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		definitions, tasks, _ := drawCatalog(t)
		c := NewCatalog(definitions, CatalogOptions{})
		names := []string{"nobody", "nobody:s1", tasks[0] + ":nothing", tasks[0] + ":"}
		for _, id := range tasks {
			names = append(names, id, id+":s1")
		}
		asked := rapid.SliceOfN(rapid.SampledFrom(names), 0, 8).Draw(t, "asked")
		plan, found := c.PlanTasks(asked)
		if (plan == nil) != (len(found) == 0) {
			t.Fatalf("of %v the plan is %v", found, plan)
		}
		if plan != nil {
			checkShape(t, plan)
		}
		for _, name := range asked {
			alone, err := c.PlanTask(name)
			if name == tasks[0]+":" {
				alone = nil // it is found, by another name
			}
			if found[name] != (alone != nil && err == nil) {
				t.Fatalf("that %s is found is %v: %v", name, found[name], err)
			}
			if found[name] && hashOf(normal(partOf(plan, name))) != hashOf(normal(alone)) {
				t.Fatalf("together, %s needs %+v, alone %+v", name, partOf(plan, name).Nodes, alone.Nodes)
			}
		}
		second, _ := c.PlanTasks(asked)
		if plan != nil && hashOf(second) != hashOf(plan) {
			t.Fatal("planned again it is another")
		}
	})
}
