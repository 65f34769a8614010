package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// maxFaults bounds how many errors a check of values tells.
const maxFaults = 10

// CheckValues checks the values of all tasks of a run that is to be made: that each reference is known, that no
// values refer to each other in a cycle, and that those of parameters obey their rules, as far as it can be told before
// the tasks run. The error holds up to ten that were found, each with its task; it shows nothing sensitive.
// An output may be of any task of the plan, or of the catalog: one that an evaluation point may add.
func (c *Catalog) CheckValues(plan *workflow.Plan, values *workflow.RunValues) error {
	return checkValues(plan, values, &c.tasks)
}

func checkValues(plan *workflow.Plan, values *workflow.RunValues, defined *shelf) error {
	if values == nil {
		values = &noValues
	}
	c := checker{plan: plan, values: values, defined: defined, seen: map[judged]string{}}
	c.careful = c.checkRun() != nil
	var faults []error
	for _, spec := range plan.Specs {
		err := c.check(spec)
		if err == nil {
			continue
		}
		faults = append(faults, err)
		if len(faults) == maxFaults {
			break
		}
	}
	return errors.Join(faults...)
}

// checker checks the values of a plan.
type checker struct {
	plan    *workflow.Plan
	values  *workflow.RunValues
	defined *shelf // tasks that the plan may not have
	// careful tells that what all tasks share can't be resolved on its own.
	careful bool
	names   map[string]bool // of the plan's nodes; nil until somebody asks
	seen    map[judged]string
}

// judged is a value that was held against a rule, which takes time for a regular expression.
type judged struct {
	validation string
	sensitive  bool
	value      workflow.Value
}

// checkRun checks the values that all tasks share.
func (c *checker) checkRun() error {
	if !anyValue(c.values.Variables, hasReference) && !anyValue(c.values.Env, hasReference) {
		return nil
	}
	return c.scope(&workflow.TaskSpec{}).resolveAll()
}

func (c *checker) scope(spec *workflow.TaskSpec) *scope {
	s := newScope(spec, c.values, Lookups{})
	s.exists, s.near = c.exists, c.near
	return s
}

// check checks the values of one task. What it shares with others was checked before.
func (c *checker) check(spec *workflow.TaskSpec) error {
	shared := !c.careful && !c.given(spec) && !specAny(spec, hasReference, hasReference)
	if shared && len(spec.Checks) == 0 {
		return nil
	}
	s := c.scope(spec)
	err := s.checkGiven()
	if err == nil {
		err = s.resolveChecked()
	}
	if err == nil && !shared {
		err = s.resolveAll()
	}
	if err == nil {
		err = s.checkAll(c.breach)
	}
	if err == nil && spec.ForEach != nil {
		err = c.checkItems(spec)
	}
	if err != nil {
		return fmt.Errorf("task %q: %w", spec.TaskID, err)
	}
	return nil
}

// given tells whether values of the run are for this task alone.
func (c *checker) given(spec *workflow.TaskSpec) bool {
	if len(c.values.Former)+len(c.values.Updates) > 0 {
		return true
	}
	return slices.ContainsFunc(keysOf(spec), func(key string) bool {
		return len(c.values.Parameters[key])+len(c.values.Sensitive[key]) > 0
	})
}

// checkItems checks the references in for_each.
func (c *checker) checkItems(spec *workflow.TaskSpec) error {
	s := c.scope(spec)
	if spec.ForEach.Reference == "" {
		for _, item := range spec.ForEach.Items {
			b := &binding{name: nameItem, layer: itemValues, value: item}
			if !hasReference(item) {
				continue
			}
			s.bindings[nameItem] = b
			if err := s.resolve(b); err != nil {
				return err
			}
		}
		return nil
	}
	b := s.bindItems()
	if err := s.resolve(b); err != nil {
		return err
	}
	if b.tainted {
		return errors.New("for_each takes a sensitive value: items are stored and shown")
	}
	if b.later {
		return nil
	}
	_, err := s.items(b)
	return err
}

// exists tells whether the plan or the definitions have a task of this name.
func (c *checker) exists(name string) bool {
	if c.names == nil {
		c.names = make(map[string]bool, 2*len(c.plan.Nodes))
		for i := range c.plan.Nodes {
			c.names[workflow.BaseName(c.plan.Nodes[i].Name)] = true
		}
		for _, spec := range c.plan.Specs {
			c.names[spec.TaskID] = true
		}
	}
	if c.names[name] {
		return true
	}
	name, _, _ = strings.Cut(name, "[") // an item
	task, _ := splitVariant(name)
	_, defined := c.defined.index[task]
	return c.names[name] || c.names[task] || defined
}

// near gives the names of tasks that are like one that does not exist.
func (c *checker) near(name string) []string {
	return nearest.Names(name, func(yield func(string) bool) {
		for known := range maps.Keys(c.names) {
			if _, too := c.defined.index[known]; !too && !yield(known) {
				return
			}
		}
		for known := range c.defined.ids() {
			if !yield(known) {
				return
			}
		}
	})
}

// breach is the function of this name, which is asked once for a rule with an expression and a value.
func (c *checker) breach(check *workflow.Check, value workflow.Value) string {
	if check.Validation == "" || len(check.Options) > 0 {
		return breach(check, value)
	}
	key := judged{check.Validation, check.Sensitive, value}
	found, ok := c.seen[key]
	if !ok {
		found = breach(check, value)
		c.seen[key] = found
	}
	return found
}

// resolveChecked resolves those values that have rules.
func (s *scope) resolveChecked() error {
	for _, name := range slices.Sorted(maps.Keys(s.spec.Checks)) {
		if b := s.bindings[name]; b != nil {
			if err := s.resolve(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkGiven finds required parameters that nothing gives a value. It comes before values are resolved, which may refer
// to them.
func (s *scope) checkGiven() error {
	var missing []string
	for name := range s.spec.Checks {
		if s.spec.Checks[name].Required && s.bindings[name] == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return s.missing(missing)
}

// checkAll holds the resolved values of parameters against their rules.
func (s *scope) checkAll(breach func(*workflow.Check, workflow.Value) string) error {
	if len(s.spec.Checks) == 0 {
		return nil
	}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(s.spec.Checks)) {
		check, b := s.spec.Checks[name], s.bindings[name]
		switch {
		case b == nil || !b.later && b.value == null:
			if check.Required {
				missing = append(missing, name)
			}
		case !b.later:
			check.Sensitive = check.Sensitive || b.tainted
			if found := breach(&check, escape(b.value)); found != "" {
				shown := ", "
				if check.Sensitive {
					shown = " "
				}
				return fmt.Errorf("the value of parameter %s%s%s", quote(name), shown, strings.TrimLeft(found, ", "))
			}
		}
	}
	if len(missing) > 0 {
		return s.missing(missing)
	}
	return nil
}

// missing is the error of required parameters without a value.
func (s *scope) missing(names []string) error {
	keys := keysOf(s.spec)
	key := keys[len(keys)-1]
	what, how := "parameter", make([]string, len(names))
	if len(names) > 1 {
		what = "parameters"
	}
	for i, name := range names {
		how[i] = fmt.Sprintf("--param %s.%s=VALUE", key, name)
	}
	return fmt.Errorf("no value for the required %s %s: give it with %s", what, strings.Join(names, ", "), strings.Join(how, " "))
}
