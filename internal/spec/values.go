package spec

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/nearest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// null is the value that is none.
const null = workflow.Value("null")

const kindParameter Kind = "parameter"

// Request is what someone who starts a run gives beside its task or DAG.
type Request struct {
	Plan *workflow.Plan
	// DAGID is empty for a run by outcome.
	DAGID string
	// Context wins over that of the DAG, and that over DefaultContext. Empty is none.
	Context        string
	DefaultContext string
	// ParameterSets are ids; of each the values are given to all tasks of the plan that declare
	// their parameter. A later set wins, and Parameters win over all.
	ParameterSets []string
	// Parameters are values by K, for all tasks of the plan that declare K, or by
	// TASK.K, for one task; then TASK is the longest id, or name of a node, that the key begins with.
	Parameters map[string]workflow.Value
	// Sensitive are keys of Parameters whose values are shown nowhere, whether the parameter is sensitive or not.
	Sensitive map[string]bool
	Env       map[string]string
	// Now is the time of the run's macros; zero for that of this machine.
	Now time.Time
	// LogicalDate is the time that the run is for; zero for none.
	LogicalDate time.Time
}

// Values gives the values of a run, as they were written: references in them are resolved where a task starts,
// and checked here (see CheckValues). The error is an UnknownError (for a
// context, a DAG, a parameter set, a parameter that no task declares) or says what is wrong with
// a key or its value. It shows no value of a parameter.
func (c *Catalog) Values(request Request) (workflow.RunValues, error) {
	values, err := c.values(request)
	if err == nil {
		err = c.CheckValues(request.Plan, &values)
	}
	if err != nil {
		return workflow.RunValues{}, err
	}
	return values, nil
}

func (c *Catalog) values(request Request) (values workflow.RunValues, err error) {
	if values.Variables, err = c.variables(request); err != nil {
		return values, err
	}
	given := newAssignment(request.Plan)
	for _, id := range request.ParameterSets {
		if err := c.giveSet(given, id); err != nil {
			return values, err
		}
	}
	if err := given.give(request.Parameters, request.Sensitive); err != nil {
		return values, err
	}
	values.Parameters, values.Sensitive = orNil(given.open), orNil(given.sensitive)
	if values.Env, err = environment(request.Plan, request.Env); err != nil {
		return values, err
	}
	if !request.LogicalDate.IsZero() || anyUses(request.Plan, &values) {
		values.Macros = &workflow.Macros{Time: request.Now.UTC(), LogicalDate: request.LogicalDate, Seed: rand.Text()}
		if request.Now.IsZero() {
			values.Macros.Time = time.Now().UTC()
		}
	}
	return values, nil
}

// variables are those of the context under those of the DAG.
func (c *Catalog) variables(request Request) (map[string]workflow.Value, error) {
	context := request.Context
	var own map[string]workflow.Value
	if request.DAGID != "" {
		dag, err := c.Lookup(KindDAG, request.DAGID)
		if err != nil {
			return nil, err
		}
		own = dag.DAG.Variables
		if context == "" {
			context = dag.DAG.Context
		}
	}
	if context == "" {
		context = request.DefaultContext
	}
	variables, err := c.contextVariables(context)
	if err != nil {
		return nil, err
	}
	maps.Copy(variables, own)
	return orNil(variables), nil
}

// assignment sorts given values by task.
type assignment struct {
	plan *workflow.Plan
	// named are the specifications that a name stands for; nil until it is needed.
	named           map[string][]*workflow.TaskSpec
	open, sensitive map[string]map[string]workflow.Value
}

func newAssignment(plan *workflow.Plan) *assignment {
	return &assignment{plan: plan, open: map[string]map[string]workflow.Value{}, sensitive: map[string]map[string]workflow.Value{}}
}

// set notes a value for what the key names: a task, or one node of it. Specs are those that have that key.
func (a *assignment) set(key, name string, value workflow.Value, sensitive bool) {
	into, other := a.open, a.sensitive
	if sensitive {
		into, other = a.sensitive, a.open
	}
	delete(other[key], name)
	if len(other[key]) == 0 {
		delete(other, key)
	}
	if into[key] == nil {
		into[key] = make(map[string]workflow.Value)
	}
	into[key][name] = value
}

// setAll notes a value for all tasks that declare the name, and tells whether there is one.
func (a *assignment) setAll(name string, value workflow.Value, sensitive bool) (declared bool) {
	sensitive = sensitive || a.secret(a.plan.Specs, name)
	for _, spec := range a.plan.Specs {
		if _, ok := spec.Parameters[name]; ok {
			declared = true
			a.set(spec.TaskID, name, value, sensitive)
		}
	}
	return declared
}

// secret tells whether a parameter is sensitive for any of the specifications.
func (a *assignment) secret(specs []*workflow.TaskSpec, name string) bool {
	return slices.ContainsFunc(specs, func(spec *workflow.TaskSpec) bool { return spec.Checks[name].Sensitive })
}

// giveSet gives the values of a parameter set to the tasks that declare them.
func (c *Catalog) giveSet(a *assignment, id string) error {
	definition, err := c.Lookup(KindParameterSet, id)
	if err != nil {
		return err
	}
	parameters := definition.ParameterSet.Parameters
	used := len(parameters) == 0
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		used = a.setAll(name, parameters[name], false) || used
	}
	if !used {
		return fmt.Errorf("parameter set %q has no parameter that a task of this run declares", id)
	}
	return nil
}

// give gives values by K and TASK.K. The latter win. Those of hidden keys are sensitive.
func (a *assignment) give(given map[string]workflow.Value, hidden map[string]bool) error {
	type single struct {
		key, name string
		value     workflow.Value
		specs     []*workflow.TaskSpec
		sensitive bool
	}
	var singles []single // set last, since they win
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value, err := canonical(given[key])
		if err != nil {
			return fmt.Errorf("parameter %q: %w", key, err)
		}
		if task, name := a.splitKey(key); task != "" {
			specs := a.named[task]
			if !slices.ContainsFunc(specs, func(spec *workflow.TaskSpec) bool { _, ok := spec.Parameters[name]; return ok }) {
				return &UnknownError{kindParameter, key, nearest.Names(key, taskKeys(task, specs))}
			}
			singles = append(singles, single{task, name, value, specs, hidden[key]})
			continue
		}
		if !a.setAll(key, value, hidden[key]) {
			return &UnknownError{kindParameter, key, nearest.Names(key, allKeys(a.plan, strings.Contains(key, ".")))}
		}
	}
	// The more exact a name is, the later it comes: a task, its variant.
	slices.SortStableFunc(singles, func(one, other single) int { return len(one.key) - len(other.key) })
	for _, one := range singles {
		sensitive := one.sensitive || a.secret(one.specs, one.name)
		for _, spec := range one.specs {
			key := one.key
			if group := groupPrefix(spec); !strings.HasPrefix(key, group) {
				key = group + key
			}
			a.set(key, one.name, one.value, sensitive)
		}
	}
	return nil
}

// splitKey finds the longest name of a task or node that a key TASK.K begins with, or none.
func (a *assignment) splitKey(key string) (task, name string) {
	if a.named == nil {
		a.named = make(map[string][]*workflow.TaskSpec, len(a.plan.Specs))
		for _, spec := range a.plan.Specs {
			for _, name := range keysOf(spec) {
				a.named[name] = append(a.named[name], spec)
			}
		}
	}
	for end := len(key); ; {
		end = strings.LastIndexByte(key[:end], '.')
		if end < 0 {
			return "", key
		}
		if a.named[key[:end]] != nil {
			return key[:end], key[end+1:]
		}
	}
}

func taskKeys(task string, specs []*workflow.TaskSpec) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, spec := range specs {
			for name := range spec.Parameters {
				if !yield(task + "." + name) {
					return
				}
			}
		}
	}
}

// allKeys are the keys that a plan's parameters have: those for one task if the
// wanted key has a dot, else those for all.
func allKeys(plan *workflow.Plan, dotted bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := make(map[string]bool)
		for _, spec := range plan.Specs {
			for name := range spec.Parameters {
				if dotted {
					name = spec.TaskID + "." + name
				}
				if !seen[name] && !yield(name) {
					return
				}
				seen[name] = true
			}
		}
	}
}

var errNotJSON = errors.New("the value is not JSON") // and not shown: it may be a secret

// canonical checks a value that someone gave and brings its JSON into the form
// that definitions have.
func canonical(value workflow.Value) (workflow.Value, error) {
	content, err := decodeValue(value)
	if err != nil {
		return "", errNotJSON
	}
	text, err := json.Marshal(content)
	if err != nil {
		return "", errNotJSON
	}
	if bytes.Contains(text, []byte(`\u0000`)) && hasNUL(content) {
		return "", errNUL
	}
	if _, err := references(string(text)); err != nil {
		return "", err
	}
	return workflow.Value(text), nil
}

var errNUL = errors.New("the value holds a NUL character")

func hasNUL(content any) (found bool) {
	eachText(content, func(text string) { found = found || strings.IndexByte(text, 0) >= 0 })
	return found
}

// environment checks the environment that someone gave.
func environment(plan *workflow.Plan, given map[string]string) (map[string]string, error) {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		text := given[name]
		if !envName.MatchString(name) {
			return nil, fmt.Errorf("%s is no valid name of an environment variable: it takes letters, digits and _, and begins with no digit", quote(name))
		}
		if strings.IndexByte(text, 0) >= 0 {
			return nil, fmt.Errorf("environment variable %s: %w", name, errNUL)
		}
		if _, err := references(text); err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", name, err)
		}
		for _, spec := range plan.Specs {
			if spec.Checks[name].Sensitive {
				return nil, fmt.Errorf("environment variable %s: task %q has a sensitive parameter of this name: give it as a parameter, which is shown nowhere", name, spec.TaskID)
			}
		}
	}
	return orNil(maps.Clone(given)), nil
}
