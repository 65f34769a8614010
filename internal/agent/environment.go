package agent

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// alwaysInherited are the variables of the agent's own environment that every task sees.
var alwaysInherited = []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}

// reserved begins the names of the variables that the agent sets; a value with such a name is not exported.
const reserved = "CYCLO_"

// environment makes the environments of tasks. It is safe for concurrent use.
type environment struct {
	inherited []string // NAME=value
	names     []string // that values take by their own name alone: all that are inherited where the agent has them
	agent     string   // CYCLO_AGENT_ID=…
	runs      string   // the folder of the folders of runs

	secrets func(name string) (string, error)

	mu       sync.Mutex
	resolved map[resolvedKey]*resolvedValues
}

// resolvedValues is what comes of the values of a task.
type resolvedValues struct {
	env       []string // NAME=value
	sensitive *secrets
	logical   string        // CYCLO_LOGICAL_DATE=…; empty for none
	git       *workflow.Git // nil for none
	trigger   []string      // CYCLO_TRIGGER…=…
}

// resolvedKey says what the values of a task come from. Both are never changed, and shared by many tasks.
type resolvedKey struct {
	spec   *workflow.TaskSpec
	values *workflow.RunValues
}

// maxResolved bounds what is remembered.
const maxResolved = 256

func newEnvironment(agent, runs string, inherit []string, secrets func(name string) (string, error)) *environment {
	env := &environment{
		names: slices.Concat(alwaysInherited, inherit),
		agent: "CYCLO_AGENT_ID=" + agent, runs: runs, secrets: secrets, resolved: map[resolvedKey]*resolvedValues{},
	}
	for _, name := range env.names {
		if value, ok := os.LookupEnv(name); ok && !slices.ContainsFunc(env.inherited, named(name)) {
			env.inherited = append(env.inherited, name+"="+value)
		}
	}
	return env
}

// of gives the environment of a task that has these values, without a name twice. Results is what the paths
// of its result files begin with; empty for a task that has none.
func (e *environment) of(t *task, values *resolvedValues, results string) []string {
	run := t.Run.ID.String()
	name := t.Run.Name
	if name == "" {
		name = run
	}
	var numbers [3][12]byte
	node := strconv.AppendInt(numbers[0][:0], int64(t.Node), 10)
	attempt := strconv.AppendUint(numbers[1][:0], uint64(t.Attempt), 10)

	// One string for all of them: most tasks are many and short.
	var text strings.Builder
	var ends [9]int
	size := len("CYCLO_RUN_ID=CYCLO_DAG_ID=CYCLO_TASK_ID=CYCLO_TASK_RUN_ID=CYCLO_ATTEMPT=CYCLO_QUEUE=CYCLO_RUN_DIR=") +
		len(name) + len(t.Run.DAG) + len(t.Spec.TaskID) + 2*len(run) + 2 + len(node) + len(attempt) + len(t.Spec.Queue) + len(e.runs)
	if results != "" {
		size += len("CYCLO_OUTPUT=CYCLO_EVAL_RESULT=") + 2*len(results) + len(outputSuffix) + len(evaluationSuffix)
	}
	text.Grow(size)
	text.WriteString("CYCLO_RUN_ID=")
	text.WriteString(name)
	ends[0] = text.Len()
	text.WriteString("CYCLO_DAG_ID=")
	text.WriteString(t.Run.DAG)
	ends[1] = text.Len()
	text.WriteString("CYCLO_TASK_ID=")
	text.WriteString(t.Spec.TaskID)
	ends[2] = text.Len()
	text.WriteString("CYCLO_TASK_RUN_ID=")
	text.WriteString(run)
	text.WriteByte('.')
	text.Write(node)
	ends[3] = text.Len()
	text.WriteString("CYCLO_ATTEMPT=")
	text.Write(attempt)
	ends[4] = text.Len()
	text.WriteString("CYCLO_QUEUE=")
	text.WriteString(t.Spec.Queue)
	ends[5] = text.Len()
	text.WriteString("CYCLO_RUN_DIR=")
	text.WriteString(e.runs)
	text.WriteByte(os.PathSeparator)
	text.WriteString(run)
	ends[6] = text.Len()
	count := 7
	if results != "" {
		text.WriteString("CYCLO_OUTPUT=")
		text.WriteString(results)
		text.WriteString(outputSuffix)
		ends[7] = text.Len()
		text.WriteString("CYCLO_EVAL_RESULT=")
		text.WriteString(results)
		text.WriteString(evaluationSuffix)
		ends[8] = text.Len()
		count = len(ends)
	}

	env := make([]string, 0, len(values.env)+len(ends)+2)
	env = append(append(env, values.env...), e.agent)
	if values.logical != "" {
		env = append(env, values.logical)
	}
	env = append(env, values.trigger...)
	if len(t.gpus) > 0 {
		env = slices.DeleteFunc(env, named(visibleDevices))
		env = append(env, visibleDevices+"="+strings.Join(t.gpus, ","))
	}
	begin := 0
	for _, end := range ends[:count] {
		env = append(env, text.String()[begin:end])
		begin = end
	}
	return env
}

// outputError is the failure of a look-up of outputs, which says nothing about the task.
type outputError struct{ error }

func (e outputError) Unwrap() error { return e.error }

// keyOf is what the values of a task come from.
func keyOf(t *task) resolvedKey {
	key := resolvedKey{t.Spec, t.Run.Values}
	if key.values != nil && key.values.IsZero() {
		key.values = nil
	}
	return key
}

// known gives what is remembered, or nil.
func (e *environment) known(t *task) *resolvedValues {
	key := keyOf(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.resolved[key]
}

// resolve gives what is inherited, under the values of the task and its run. Outputs looks up what other tasks
// of the run gave; where it fails the error is an outputError. Any other names a value that cannot be exported.
func (e *environment) resolve(t *task, outputs func(tasks []string) (map[string]workflow.Value, error)) (*resolvedValues, error) {
	key := keyOf(t)
	// What only this run, or only this moment, says is not remembered.
	shared := true
	found, err := spec.Resolve(t.Spec, key.values, spec.Lookups{
		Run: func() (workflow.RunID, string) {
			shared = false
			return t.Run.ID, runName(t)
		},
		Env:       os.LookupEnv,
		Inherited: e.names,
		Secret: func(name string) (string, error) {
			shared = false
			return e.secrets(name)
		},
		Outputs: func(tasks []string) (map[string]workflow.Value, error) {
			shared = false
			found, err := outputs(tasks)
			if err != nil {
				return nil, outputError{err}
			}
			return found, nil
		},
	})
	if err != nil {
		return nil, err
	}
	exported := slices.DeleteFunc(found.Env, func(entry string) bool { return strings.HasPrefix(entry, reserved) })
	values := &resolvedValues{env: make([]string, 0, len(e.inherited)+len(exported)), git: found.Git}
	for _, entry := range e.inherited {
		name, _, _ := strings.Cut(entry, "=")
		if !slices.ContainsFunc(exported, named(name)) && !strings.HasPrefix(name, reserved) {
			values.env = append(values.env, entry)
		}
	}
	values.env = append(values.env, exported...)
	if len(found.Sensitive) > 0 {
		values.sensitive = newSecrets(found.Sensitive)
	}
	if date := spec.LogicalDate(key.values); date != "" {
		values.logical = "CYCLO_LOGICAL_DATE=" + date
	}
	if key.values != nil && key.values.Trigger != nil {
		values.trigger = key.values.Trigger.Env()
	}
	if !shared {
		return values, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.resolved) >= maxResolved {
		clear(e.resolved)
	}
	e.resolved[key] = values
	return values, nil
}

// runName is the run's id to the outside.
func runName(t *task) string {
	if t.Run.Name != "" {
		return t.Run.Name
	}
	return t.Run.ID.String()
}

// secretOfEnvironment is where secrets are looked up that nobody else keeps: NAME is $CYCLO_SECRET_NAME.
func secretOfEnvironment(name string) (string, error) {
	if text, ok := os.LookupEnv(spec.SecretVariables + name); ok {
		return text, nil
	}
	return "", fmt.Errorf("this agent has no secret %s: set %s%s in its environment", name, spec.SecretVariables, name)
}

func named(name string) func(string) bool {
	return func(entry string) bool {
		return len(entry) > len(name) && entry[len(name)] == '=' && entry[:len(name)] == name
	}
}
