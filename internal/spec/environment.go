package spec

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Lookups find what references stand for that is neither in a specification nor among the values of a run.
// A function that is nil makes a reference which needs it an error.
type Lookups struct {
	// Run gives the run's id, and its id to the outside.
	Run func() (id workflow.RunID, name string)
	// Env finds a variable of the agent's own environment.
	Env func(name string) (text string, ok bool)
	// Secret finds a secret. The error is for people, and must not show one.
	Secret func(name string) (string, error)
	// Inherited are names that the command has without any value. A parameter or variable takes none of them because its
	// own name in capitals is the same; only a value that has the very name does.
	Inherited []string
	// Outputs gives the outputs of those of the tasks that have one, by name; see engine.AgentSession.
	// Tasks may hold names that no task has.
	Outputs func(tasks []string) (map[string]workflow.Value, error)
}

// Environment gives what a task's command sees of its values, as NAME=value sorted by name, and those texts
// in it that must be shown nowhere: the values of sensitive parameters, and secrets.
//
// A later layer wins: the variables of the run, those of a nested DAG, the parameters and the env of the task,
// context_updates and parameters of evaluation points, the env and the parameters given when scheduling, the item.
//
// A reference ${…} is resolved in all of them but for what an evaluation point gave, which is data. A text that
// is nothing but a reference keeps the type of what it refers to. A name that a value and a macro have means the
// value, but in that value itself the macro.
//
// A parameter or variable inputPath is also there as INPUT_PATH, unless some
// value has that name itself, or it is inherited. One whose name no shell could use (input-path,
// input.path) is there as INPUT_PATH only. Where two would be the same, the
// later layer wins, and in one layer the first by name. A null is not exported;
// given when scheduling or by an evaluation point, it takes the value away.
//
// The error names the value that cannot be resolved, breaks the rules of its parameter, or holds a NUL
// character, which no environment can. It shows nothing sensitive.
func Environment(spec *workflow.TaskSpec, values *workflow.RunValues, lookups Lookups) (env, sensitive []string, err error) {
	resolved, err := Resolve(spec, values, lookups)
	return resolved.Env, resolved.Sensitive, err
}

// Resolved is what comes of the values of a task.
type Resolved struct {
	// Env and Sensitive are as Environment gives them.
	Env, Sensitive []string
	// Git is the specification's with its references resolved; nil for a task without a repository.
	Git *workflow.Git
}

// Resolve is Environment, with all that values have a part in. Its error is Environment's.
func Resolve(spec *workflow.TaskSpec, values *workflow.RunValues, lookups Lookups) (resolved Resolved, err error) {
	s := newScope(spec, values, lookups)
	if err := s.checkGiven(); err != nil {
		return Resolved{}, err
	}
	if err := s.resolveAll(); err != nil {
		return Resolved{}, err
	}
	if err := s.checkAll(breach); err != nil {
		return Resolved{}, err
	}
	resolved.Git = s.git()
	resolved.Env, err = s.list()
	resolved.Sensitive = s.reveal()
	return resolved, err
}

// layer says where a value comes from. A later one wins.
type layer uint8

const (
	runVariables layer = iota
	groupVariables
	taskParameters
	taskEnv
	updatedVariables
	updatedParameters
	givenEnv
	givenParameters
	itemValues
	gitTexts
)

// The names that an item has.
const (
	nameItem  = "ITEM"
	nameIndex = "ITEM_INDEX"
)

// binding is the value that a name has for a task.
type binding struct {
	name  string
	layer layer
	value workflow.Value // as it was written until state is resolved
	// alias tells that it is a parameter or a variable, so it is also there in capitals.
	alias bool
	// sensitive tells that the value is a secret as a whole, tainted that one may be part of it.
	sensitive, tainted bool

	state   bindingState
	later   bool // it can't be told before the task runs
	randoms int  // number of ${RANDOM:…} in it so far
	grown   int  // bytes that references put into it
}

type bindingState uint8

const (
	asWritten bindingState = iota
	underWay
	resolved
)

// bind lays all values of the task over each other.
func (s *scope) bind() {
	spec, values := s.spec, s.values
	s.bindValues(runVariables, values.Variables)
	s.bindValues(groupVariables, spec.Variables)
	s.bindValues(taskParameters, spec.Parameters)
	s.bindTexts(taskEnv, spec.Env)
	for update := range updatesOf(values) {
		s.bindValues(updatedVariables, update.Variables)
	}
	var keys []string
	if len(values.Parameters)+len(values.Sensitive)+len(values.Former)+len(values.Updates) > 0 {
		keys = keysOf(spec)
	}
	for update := range updatesOf(values) {
		for _, key := range keys {
			s.bindValues(updatedParameters, update.Parameters[key])
		}
	}
	s.bindTexts(givenEnv, values.Env)
	if spec.Git != nil {
		s.bindGit()
	}
	for _, key := range keys {
		s.bindValues(givenParameters, values.Parameters[key])
		s.bindValues(givenParameters, values.Sensitive[key])
		for name := range values.Sensitive[key] {
			if b := s.bindings[name]; b != nil {
				b.sensitive, b.tainted = true, true
			}
		}
	}
	switch {
	case spec.Item != nil:
		s.bindings[nameItem] = &binding{name: nameItem, layer: itemValues, value: spec.Item.Value}
		s.bindings[nameIndex] = &binding{name: nameIndex, layer: itemValues, value: workflow.Value(strconv.Itoa(spec.Item.Index))}
	case spec.ForEach != nil: // its items will have them
		s.bindings[nameItem] = &binding{name: nameItem, layer: itemValues, state: resolved, later: true}
		s.bindings[nameIndex] = &binding{name: nameIndex, layer: itemValues, state: resolved, later: true}
	}
	for name := range spec.Checks {
		if b := s.bindings[name]; b != nil && spec.Checks[name].Sensitive {
			b.sensitive, b.tainted = true, true
		}
	}
}

// updatesOf are what evaluation points changed, those of an earlier run first.
func updatesOf(values *workflow.RunValues) iter.Seq[*workflow.ValueUpdate] {
	return func(yield func(*workflow.ValueUpdate) bool) {
		for i := range values.Former {
			if !yield(&values.Former[i].ValueUpdate) {
				return
			}
		}
		for i := range values.Updates {
			if !yield(&values.Updates[i]) {
				return
			}
		}
	}
}

// bindValues adds the values of a layer of parameters or variables.
func (s *scope) bindValues(from layer, values map[string]workflow.Value) {
	for name, value := range values {
		switch {
		case value != null && value != "":
			b := &binding{name: name, layer: from, value: value, alias: true}
			if from == updatedVariables || from == updatedParameters {
				b.state = resolved // it is data
			}
			s.bindings[name] = b
		case from > taskEnv:
			delete(s.bindings, name)
		}
	}
}

// bindTexts adds the values of a layer of environment variables. One that is a parameter or a variable too
// keeps its name in capitals.
func (s *scope) bindTexts(from layer, texts map[string]string) {
	for name, text := range texts {
		former := s.bindings[name]
		s.bindings[name] = &binding{name: name, layer: from, value: workflow.StringValue(text), alias: former != nil && former.alias}
	}
}

// keysOf are the names by which values are given for a task, the least exact first. The id of a task in a group
// (group/task) is also known without the group.
func keysOf(spec *workflow.TaskSpec) []string {
	keys := make([]string, 0, 4)
	names := []string{spec.TaskID}
	if group := groupPrefix(spec); group != "" {
		names = []string{spec.TaskID[len(group):], spec.TaskID}
	}
	for _, name := range names {
		keys = append(keys, name)
		if spec.Variant != "" {
			keys = append(keys, name+":"+spec.Variant)
		}
	}
	return keys
}

// groupPrefix is what the names of nodes in the task's group begin with: "etl/", or nothing.
func groupPrefix(spec *workflow.TaskSpec) string {
	return spec.TaskID[:strings.LastIndexByte(spec.TaskID, '/')+1]
}

// list is the environment that comes of the bindings.
func (s *scope) list() ([]string, error) {
	exported := make(map[string]*binding, len(s.bindings))
	for name, b := range s.bindings {
		if b.value != null {
			exported[name] = b
		}
	}
	addAliases(exported, s.lookups.Inherited)
	environment := make([]string, 0, len(exported))
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		b := exported[name]
		text := b.value.Env()
		if strings.IndexByte(text, 0) >= 0 {
			return nil, fmt.Errorf("the value of %s holds a NUL character", quote(b.name))
		}
		if envName.MatchString(name) {
			environment = append(environment, name+"="+text)
		}
	}
	return environment, nil
}

// addAliases adds the names in capitals, but for those that are inherited.
func addAliases(exported map[string]*binding, inherited []string) {
	aliases := make(map[string]*binding)
	for name, value := range exported {
		alias := shellName(name)
		if _, taken := exported[alias]; taken || !value.alias || slices.Contains(inherited, alias) {
			continue
		}
		other, taken := aliases[alias]
		if !taken || cmp.Or(cmp.Compare(value.layer, other.layer), cmp.Compare(other.name, value.name)) > 0 {
			aliases[alias] = value
		}
	}
	maps.Copy(exported, aliases)
}

// shellName is a name in capitals with underscores: inputPath and input-path
// become INPUT_PATH, HTTPServer becomes HTTP_SERVER.
func shellName(name string) string {
	var shell strings.Builder
	at := func(i int) byte {
		if i < 0 || i >= len(name) {
			return 0
		}
		return name[i]
	}
	for i := range len(name) {
		char := name[i]
		switch {
		case upper(char):
			if lower(at(i-1)) || digit(at(i-1)) || upper(at(i-1)) && lower(at(i+1)) {
				shell.WriteByte('_')
			}
			shell.WriteByte(char)
		case lower(char):
			shell.WriteByte(char - 'a' + 'A')
		case digit(char):
			shell.WriteByte(char)
		default:
			shell.WriteByte('_')
		}
	}
	return shell.String()
}

func upper(char byte) bool { return 'A' <= char && char <= 'Z' }
func lower(char byte) bool { return 'a' <= char && char <= 'z' }
func digit(char byte) bool { return '0' <= char && char <= '9' }
