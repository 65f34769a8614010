package spec

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Environment gives what a task's command sees of its values, as NAME=value
// sorted by name. A later layer wins: the variables of the run, the parameters
// and the env of the task, the parameters and the env given when scheduling.
//
// A parameter or variable inputPath is also there as INPUT_PATH, unless some
// value has that name itself. One whose name no shell could use (input-path,
// input.path) is there as INPUT_PATH only. Where two would be the same, the
// later layer wins, and in one layer the first by name. A null is not exported;
// given when scheduling, it takes the value away.
//
// The error names a value that holds a NUL character, which no environment can.
func Environment(spec *workflow.TaskSpec, values *workflow.RunValues) ([]string, error) {
	exported := make(map[string]export)
	set := func(layer int, name, text string) {
		former := exported[name]
		exported[name] = export{name: name, text: text, layer: layer, alias: former.alias}
	}
	setValues := func(layer int, from map[string]workflow.Value, resolve func(string) string) {
		for name, value := range from {
			if value != null && value != "" {
				exported[name] = export{name, resolve(value.Env()), layer, true}
			} else if layer == givenParameters {
				delete(exported, name)
			}
		}
	}
	asIs := func(text string) string { return text }
	setValues(runVariables, values.Variables, asIs)
	setValues(taskParameters, spec.Parameters, unescape)
	for name, text := range spec.Env {
		set(taskEnv, name, unescape(text))
	}
	setValues(givenParameters, values.Parameters[spec.TaskID], asIs)
	for name, text := range values.Env {
		set(givenEnv, name, text)
	}
	addAliases(exported)
	return list(exported)
}

// The layers of values, the lowest first.
const (
	runVariables = iota
	taskParameters
	taskEnv
	givenParameters
	givenEnv
)

type export struct {
	name, text string
	layer      int
	alias      bool // it is a parameter or a variable, so it is also there in capitals
}

// addAliases adds the names in capitals.
func addAliases(exported map[string]export) {
	aliases := make(map[string]export)
	for name, value := range exported {
		alias := shellName(name)
		if _, taken := exported[alias]; taken || !value.alias {
			continue
		}
		other, taken := aliases[alias]
		if !taken || cmp.Or(cmp.Compare(value.layer, other.layer), cmp.Compare(other.name, value.name)) > 0 {
			aliases[alias] = value
		}
	}
	maps.Copy(exported, aliases)
}

func list(exported map[string]export) ([]string, error) {
	environment := make([]string, 0, len(exported))
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		value := exported[name]
		if strings.IndexByte(value.text, 0) >= 0 {
			return nil, fmt.Errorf("the value of %s holds a NUL character", quote(value.name))
		}
		if envName.MatchString(name) {
			environment = append(environment, name+"="+value.text)
		}
	}
	return environment, nil
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
