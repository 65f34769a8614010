package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var errOpenReference = errors.New(`"${" begins a reference that has no "}"`)

// references counts the references ("${…}") in a text or in the JSON of a value. "$${" begins none: it is a
// literal "${". The error tells that one has no end.
func references(text string) (count int, err error) {
	for hasReference(text) {
		_, _, after, found, err := cutReference(text)
		if err != nil || !found {
			return count, err
		}
		count++
		text = after
	}
	return count, nil
}

// reference is one ${name} in the value of a definition that was read from a file.
type reference struct {
	name   string
	what   string // what the value is called
	at     place
	hidden bool // it is in a sensitive value, so nothing of it is shown
}

// fault is what can be known to be wrong with a reference before any run: its form, and a task that there is nowhere.
// Which values a run has, it alone knows.
func (c *Catalog) fault(r *reference) error {
	kind, argument, hasArgument := strings.Cut(r.name, ":")
	s := scope{exists: c.existsAnywhere}
	var err error
	switch {
	case strings.HasPrefix(r.name, outputPrefix+".") || strings.HasPrefix(r.name, outputPrefix+"["):
		return c.outputFault(r.name)
	case kind == "env" && hasArgument:
		_, _, err = s.agentVariable(argument)
	case kind == "secret" && hasArgument:
		_, _, err = s.secret(argument)
	case kind == "RANDOM" && hasArgument:
		_, err = randomLength(argument)
	}
	return err
}

// outputFault tells a task that there is nowhere.
func (c *Catalog) outputFault(name string) error {
	places, err := outputPlaces(name)
	if err != nil {
		return err
	}
	for i := range places {
		if c.existsAnywhere(places[i].task) {
			return nil
		}
	}
	if c.unreadDAG() {
		return nil // it may be a task of that one
	}
	wanted := places[len(places)-1].task // the shortest: KEY has no dots, as a rule
	return c.unknown(KindTask, wanted, both(c.inlineTasks(), c.tasks.ids()))
}

// existsAnywhere tells whether any definition has a task of this name, or one that such a name may stand for: a variant,
// an item, a task of a DAG in a DAG.
func (c *Catalog) existsAnywhere(name string) bool {
	name, _, _ = strings.Cut(name[strings.LastIndexByte(name, '/')+1:], "[")
	name, _, _ = strings.Cut(name, "#")
	id, _ := splitVariant(name)
	if _, ok := c.tasks.index[id]; ok {
		return true
	}
	_, ok := c.inlineTasks()[id]
	return ok
}

// inlineTasks are those that DAGs define.
func (c *Catalog) inlineTasks() map[string]int {
	if c.inlines == nil {
		c.inlines = make(map[string]int)
		for i := range c.dags.definitions {
			if dag := c.dags.definitions[i].DAG; dag != nil {
				for k := range dag.Tasks {
					if inline(&dag.Tasks[k]) {
						c.inlines[dag.Tasks[k].ID] = k
					}
				}
			}
		}
	}
	return c.inlines
}

// unreadDAG tells whether there is a DAG of whose tasks nothing is known, because its text can't be read.
func (c *Catalog) unreadDAG() bool {
	return slices.ContainsFunc(c.dags.definitions, func(d Definition) bool { return d.DAG == nil })
}

// checkReferences tells what is wrong with the references in a definition.
func (c *Catalog) checkReferences(s *shelf, number int32) {
	d := &s.definitions[number]
	for i := range d.places().references {
		r := &d.places().references[i]
		fault := c.fault(r)
		if fault == nil {
			continue
		}
		message := fmt.Sprintf("%s in the value of %s: %v", cut(opening+r.name+"}"), r.what, fault)
		if r.hidden {
			message = fmt.Sprintf("a reference in the sensitive value of %s is not known, or not in the form of one", r.what)
		}
		unknown, _ := errors.AsType[*UnknownError](fault)
		if r.hidden || unknown == nil {
			s.withhold(number, c.problem(d, r.at, nil, "%s", message))
		} else {
			s.withhold(number, c.problem(d, r.at, unknown, "%s", message))
		}
		c.hint("write $${ for a literal ${")
	}
}

// warnNames tells references to values that no definition has: a run must be given them.
func (c *Catalog) warnNames(warn func(d *Definition, at place, hint, format string, arguments ...any)) {
	var known map[string]bool
	near := map[string]string{} // what may be meant, of so many names as there are suggestions: each costs a look at all
	for _, kind := range Kinds {
		s := c.shelf(kind) // of those that have a problem, too: all is told at once
		for n := range s.definitions {
			d := &s.definitions[n]
			for i := range d.places().references {
				r := &d.places().references[i]
				if r.hidden || strings.ContainsAny(r.name, ":[") || strings.HasPrefix(r.name, outputPrefix+".") {
					continue
				}
				if known == nil {
					known = c.valueNames()
				}
				if known[r.name] {
					continue
				}
				if _, looked := near[r.name]; !looked && len(near) < maxSuggestions {
					near[r.name] = didYouMean(nearest.Names(r.name, maps.Keys(known)))
				}
				warn(d, r.at, nameHint(r.name), "no definition has a value for %s, to which the value of %s refers%s",
					cut(opening+r.name+"}"), r.what, near[r.name])
			}
		}
	}
}

// nameHint says what to do about a reference to a value that no definition has.
func nameHint(name string) string {
	switch {
	case name == "RANDOM":
		return "write ${RANDOM:16} for so many letters and digits"
	case strings.HasPrefix(name, "CYCLO_"):
		return "no value can have this name: the command finds it in its environment, as $" + name
	case envName.MatchString(name):
		return "define it in a context, or give it to each run: --env " + name + "=VALUE; $${ is a literal ${, ${env:NAME} the agent's own environment"
	default:
		return "define it in a context; $${ is a literal ${, ${env:NAME} the agent's own environment"
	}
}

// warnSchedules tells DAGs that cannot run by their schedule as they are. By hand they can, with the values that they
// lack, so this is no problem.
func (c *Catalog) warnSchedules(warn func(d *Definition, at place, hint, format string, arguments ...any)) {
	now := time.Now().UTC().Truncate(24 * time.Hour) // rules of parameters may ask for a date of these days
	for d := range c.Definitions(KindDAG) {
		if d.DAG.Schedule == nil || d.at == nil {
			continue
		}
		plan, err := c.PlanDAG(d.ID)
		if err == nil {
			_, err = c.Values(Request{Plan: plan, DAGID: d.ID, DefaultContext: c.options.DefaultContext, LogicalDate: now})
		}
		if err != nil {
			warn(d, d.at.id, "a run by its schedule has the values of the definitions alone", "DAG %q cannot run by its schedule: %v", d.ID, err)
		}
	}
}

// warnCycles tells values of one definition, and of the contexts under it, that refer to each other in a circle. Whoever
// starts a run may give one of them another value, so this is no problem.
func (c *Catalog) warnCycles(warn func(d *Definition, at place, hint, format string, arguments ...any)) {
	for _, kind := range Kinds {
		s := c.shelf(kind)
		for n := range s.definitions {
			if d := &s.definitions[n]; len(d.places().references) > 0 {
				if cycle := c.valueCycle(d); cycle != nil {
					warn(d, d.places().references[0].at, "a run must be given another value for one of them", "%s %q: %v", kind.noun(), d.ID, cycle)
				}
			}
		}
	}
}

// valueCycle finds a circle in the values of a definition, or nil.
func (c *Catalog) valueCycle(d *Definition) error {
	var spec workflow.TaskSpec
	var values workflow.RunValues
	switch {
	case d.Task != nil:
		c.fillSpec(&spec, d.Task, "", nil)
	case d.Context != nil:
		values.Variables, _ = c.contextVariables(d.ID) // what is wrong with the context was told
	case d.ParameterSet != nil:
		values.Variables = d.ParameterSet.Parameters
	case d.DAG != nil:
		under, _ := c.contextVariables(d.DAG.Context) // likewise
		values.Variables = mergeMaps(under, d.DAG.Variables)
	}
	fresh := func() *scope {
		s := newScope(&spec, &values, Lookups{})
		s.exists = func(string) bool { return true } // others are told elsewhere
		return s
	}
	s, failed := fresh(), 0
	for _, name := range slices.Sorted(maps.Keys(s.bindings)) {
		err := s.resolve(s.bindings[name])
		switch {
		case errors.Is(err, errValueCycle):
			return err
		case err != nil && failed == maxFaults:
			return nil // there is enough to mend first
		case err != nil:
			s, failed = fresh(), failed+1 // what failed is half done
		}
	}
	return nil
}

// valueNames are the names of all values that definitions have, and of macros.
func (c *Catalog) valueNames() map[string]bool {
	known := make(map[string]bool)
	for _, name := range macroNames {
		known[name] = true
	}
	addNames := func(task *workflow.Task) {
		for name := range task.Parameters {
			known[name] = true
		}
		for name := range task.Env {
			known[name] = true
		}
	}
	addValues := func(values map[string]workflow.Value) {
		for name := range values {
			known[name] = true
		}
	}
	for _, kind := range Kinds {
		for i := range c.shelf(kind).definitions {
			switch d := &c.shelf(kind).definitions[i]; {
			case d.Task != nil:
				addNames(d.Task)
			case d.Context != nil:
				addValues(d.Context.Variables)
			case d.ParameterSet != nil:
				addValues(d.ParameterSet.Parameters)
			case d.DAG != nil:
				addValues(d.DAG.Variables)
				for k := range d.DAG.Tasks {
					addNames(&d.DAG.Tasks[k].Overrides)
				}
			}
		}
	}
	return known
}
