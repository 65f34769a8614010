package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

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
	// Parameters are values by K, for all tasks of the plan that declare K, or by
	// TASK.K, for one task; then TASK is the longest id that the key begins with.
	Parameters map[string]workflow.Value
	Env        map[string]string
}

// Values resolves the values of a run. The error is an UnknownError (for a
// context, a DAG, a parameter that no task declares) or says what is wrong with
// a key or its value.
func (c *Catalog) Values(request Request) (workflow.RunValues, error) {
	var values workflow.RunValues
	var err error
	if values.Variables, err = c.variables(request); err != nil {
		return workflow.RunValues{}, err
	}
	if values.Parameters, err = parameters(request.Plan, request.Parameters); err != nil {
		return workflow.RunValues{}, err
	}
	if values.Env, err = environment(request.Env); err != nil {
		return workflow.RunValues{}, err
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
	for name, value := range variables {
		variables[name] = workflow.Value(unescape(string(value)))
	}
	return orNil(variables), nil
}

// parameters sorts the given values by task.
func parameters(plan *workflow.Plan, given map[string]workflow.Value) (map[string]map[string]workflow.Value, error) {
	if len(given) == 0 {
		return nil, nil //nolint:nilnil // no values are no error
	}
	specs := make(map[string]*workflow.TaskSpec, len(plan.Specs))
	for _, spec := range plan.Specs {
		specs[spec.TaskID] = spec
	}
	sorted := make(map[string]map[string]workflow.Value)
	set := func(task, name string, value workflow.Value) {
		if sorted[task] == nil {
			sorted[task] = make(map[string]workflow.Value)
		}
		sorted[task][name] = value
	}
	type single struct {
		spec  *workflow.TaskSpec
		name  string
		value workflow.Value
	}
	var singles []single // set last, since they win
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value, err := resolveValue(given[key])
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", key, err)
		}
		if spec, name := splitKey(specs, key); spec != nil {
			if _, declared := spec.Parameters[name]; !declared {
				return nil, &UnknownError{kindParameter, key, nearest.Names(key, taskKeys(spec))}
			}
			singles = append(singles, single{spec, name, value})
			continue
		}
		declared := false
		for _, spec := range plan.Specs {
			if _, ok := spec.Parameters[key]; ok {
				declared = true
				set(spec.TaskID, key, value)
			}
		}
		if !declared {
			return nil, &UnknownError{kindParameter, key, nearest.Names(key, allKeys(plan, strings.Contains(key, ".")))}
		}
	}
	for _, one := range singles {
		set(one.spec.TaskID, one.name, one.value)
	}
	return sorted, nil
}

// splitKey finds the longest task id that a key TASK.K begins with, or none.
func splitKey(specs map[string]*workflow.TaskSpec, key string) (spec *workflow.TaskSpec, name string) {
	for end := len(key); ; {
		end = strings.LastIndexByte(key[:end], '.')
		if end < 0 {
			return nil, key
		}
		if spec := specs[key[:end]]; spec != nil {
			return spec, key[end+1:]
		}
	}
}

func taskKeys(spec *workflow.TaskSpec) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range spec.Parameters {
			if !yield(spec.TaskID + "." + name) {
				return
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

// resolveValue checks a value that someone gave and brings its JSON into the form
// that definitions have.
func resolveValue(value workflow.Value) (workflow.Value, error) {
	decoder := json.NewDecoder(strings.NewReader(string(value)))
	decoder.UseNumber()
	var content any
	if err := decoder.Decode(&content); err != nil || decoder.More() {
		return "", fmt.Errorf("the value %s is not JSON", quote(string(value)))
	}
	text, err := json.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("the value %s is not JSON: %w", quote(string(value)), err)
	}
	if bytes.Contains(text, []byte(`\u0000`)) && hasNUL(content) {
		return "", errNUL
	}
	if err := refuseMacro(string(text)); err != nil {
		return "", err
	}
	return workflow.Value(unescape(string(text))), nil
}

var errNUL = fmt.Errorf("the value holds a NUL character")

func hasNUL(content any) bool {
	switch content := content.(type) {
	case string:
		return strings.IndexByte(content, 0) >= 0
	case []any:
		return slices.ContainsFunc(content, hasNUL)
	case map[string]any:
		for key, item := range content {
			if hasNUL(key) || hasNUL(item) {
				return true
			}
		}
	}
	return false
}

func refuseMacro(text string) error {
	if macro := findMacro(text); macro != "" {
		return fmt.Errorf("the macro %s is not supported by this version yet: write $${ for a literal ${", quote(macro))
	}
	return nil
}

// environment checks the environment that someone gave.
func environment(given map[string]string) (map[string]string, error) {
	resolved := make(map[string]string, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		text := given[name]
		if !envName.MatchString(name) {
			return nil, fmt.Errorf("%s is no valid name of an environment variable: it takes letters, digits and _, and begins with no digit", quote(name))
		}
		if strings.IndexByte(text, 0) >= 0 {
			return nil, fmt.Errorf("environment variable %s: %w", name, errNUL)
		}
		if err := refuseMacro(text); err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", name, err)
		}
		resolved[name] = unescape(text)
	}
	return orNil(resolved), nil
}
