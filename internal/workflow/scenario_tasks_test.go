package workflow

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// scenarioTasks are the tasks of a scenario, in the run and beside it.
type scenarioTasks struct {
	names []string
	needs map[string][]string
	specs map[string]*TaskSpec
	inRun []string
	kept  []string
}

var taskWords = []string{"needs", "retries", "delay", "backoff", "max", "rule", "eval", "approval", "each"}

func (t *scenarioTasks) add(words []string, inRun bool) error {
	if len(words) == 0 {
		return errors.New("a task has a name")
	}
	name := words[0]
	spec := &TaskSpec{TaskID: name, Command: "true", Queue: DefaultQueue, Priority: DefaultPriority}
	args := arguments{words: words[1:]}
	if t.specs == nil {
		t.specs, t.needs = map[string]*TaskSpec{}, map[string][]string{}
	}
	for args.more() {
		switch word := args.next(); word {
		case "needs":
			for args.more() && slices.Contains(t.names, args.peek()) {
				t.needs[name] = append(t.needs[name], args.next())
			}
			if args.more() && !slices.Contains(taskWords, args.peek()) {
				return fmt.Errorf("there is no task %q above", args.peek())
			}
		case "retries":
			spec.Retries.Count = args.number()
		case "delay":
			spec.Retries.DelaySeconds = args.duration().Seconds()
		case "backoff":
			spec.Retries.ExponentialBackoff = true
		case "max":
			spec.Retries.MaxDelaySeconds = args.duration().Seconds()
		case "rule":
			spec.TriggerRule = TriggerRule(args.next())
			if !slices.Contains(TriggerRules, spec.TriggerRule) {
				return fmt.Errorf("there is no rule %q", spec.TriggerRule)
			}
		case "eval":
			spec.EvaluationPoint = true
		case "approval":
			spec.Approval = &Approval{}
			if args.more() && !slices.Contains(taskWords, args.peek()) {
				spec.Approval.TimeoutSeconds = args.duration().Seconds()
			}
		case "each":
			spec.ForEach = &ForEach{Reference: "${tasks.list.items}"}
			if args.peek() == "reference" {
				args.next()
				continue
			}
			spec.ForEach = &ForEach{Items: itemValues(args.number())}
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	t.names, t.specs[name] = append(t.names, name), spec
	if inRun {
		t.inRun = append(t.inRun, name)
	}
	return args.err
}

func itemValues(count int) []Value {
	values := make([]Value, count)
	for i := range values {
		values[i] = Value(strconv.Itoa(i))
	}
	return values
}

// expandSpec gives the specification of the node that stands for the items, and those of the items.
func expandSpec(spec *TaskSpec, items []Value) (group *NewSpec, each []*NewSpec) {
	whole := *spec
	whole.ForEach, whole.TriggerRule, whole.Approval, whole.EvaluationPoint = &ForEach{}, "", nil, false
	for i, value := range items {
		item := *spec
		item.ForEach, item.Item = nil, &Item{Value: value, Index: i}
		each = append(each, NewSpecOf(&item))
	}
	return NewSpecOf(&whole), each
}

// plan is the plan of the tasks with all that they need.
func (t *scenarioTasks) plan(names []string) *KnownPlan {
	plan := &KnownPlan{Plan: &Plan{}}
	numbers := map[string]int32{}
	put := func(name string, spec *NewSpec, needs []int32) int32 {
		plan.Plan.Specs, plan.Specs = append(plan.Plan.Specs, spec.Task), append(plan.Specs, spec)
		plan.Nodes = append(plan.Nodes, Node{Name: name, Spec: int32(len(plan.Specs) - 1), Dependencies: needs})
		return int32(len(plan.Nodes) - 1)
	}
	var add func(name string) int32
	add = func(name string) int32 {
		if number, ok := numbers[name]; ok {
			return number
		}
		var needs []int32
		for _, parent := range t.needs[name] {
			needs = append(needs, add(parent))
		}
		spec := t.specs[name]
		if spec.ForEach == nil || spec.ForEach.Reference != "" {
			numbers[name] = put(name, NewSpecOf(spec), needs)
			return numbers[name]
		}
		group, each := expandSpec(spec, spec.ForEach.Items)
		var items []int32
		for i := range each {
			items = append(items, put(fmt.Sprintf("%s[%d]", name, i), each[i], needs))
		}
		if len(items) == 0 {
			items = needs
		}
		numbers[name] = put(name, group, items)
		return numbers[name]
	}
	for _, name := range names {
		add(name)
	}
	return plan
}
