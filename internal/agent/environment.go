package agent

import (
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
	agent     string   // CYCLO_AGENT_ID=…
	runs      string   // the folder of the folders of runs

	mu       sync.Mutex
	resolved map[resolvedKey][]string
}

// resolvedKey says what the values of a task come from. Both are never changed, and shared by many tasks.
type resolvedKey struct {
	spec   *workflow.TaskSpec
	values *workflow.RunValues
}

// maxResolved bounds what is remembered.
const maxResolved = 256

func newEnvironment(agent, runs string, inherit []string) *environment {
	env := &environment{agent: "CYCLO_AGENT_ID=" + agent, runs: runs, resolved: map[resolvedKey][]string{}}
	for _, name := range slices.Concat(alwaysInherited, inherit) {
		if value, ok := os.LookupEnv(name); ok && !slices.ContainsFunc(env.inherited, named(name)) {
			env.inherited = append(env.inherited, name+"="+value)
		}
	}
	return env
}

// of gives the environment of a task, without a name twice. The error names a value that cannot be exported.
func (e *environment) of(t *task) ([]string, error) {
	values, err := e.resolve(t)
	if err != nil {
		return nil, err
	}
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
	var ends [7]int
	size := len("CYCLO_RUN_ID=CYCLO_DAG_ID=CYCLO_TASK_ID=CYCLO_TASK_RUN_ID=CYCLO_ATTEMPT=CYCLO_QUEUE=CYCLO_RUN_DIR=") +
		len(name) + len(t.Run.DAG) + len(t.Spec.TaskID) + 2*len(run) + 2 + len(node) + len(attempt) + len(t.Spec.Queue) + len(e.runs)
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

	env := make([]string, 0, len(values)+len(ends)+1)
	env = append(append(env, values...), e.agent)
	begin := 0
	for _, end := range ends {
		env = append(env, text.String()[begin:end])
		begin = end
	}
	return env, nil
}

// resolve gives what is inherited, under the values of the task and its run.
func (e *environment) resolve(t *task) ([]string, error) {
	key := resolvedKey{t.Spec, t.Run.Values}
	if key.values != nil && key.values.IsZero() {
		key.values = nil
	}
	e.mu.Lock()
	known, ok := e.resolved[key]
	e.mu.Unlock()
	if ok {
		return known, nil
	}
	values := key.values
	if values == nil {
		values = &workflow.RunValues{}
	}
	exported, err := spec.Environment(t.Spec, values)
	if err != nil {
		return nil, err
	}
	exported = slices.DeleteFunc(exported, func(entry string) bool { return strings.HasPrefix(entry, reserved) })
	resolved := make([]string, 0, len(e.inherited)+len(exported))
	for _, entry := range e.inherited {
		name, _, _ := strings.Cut(entry, "=")
		if !slices.ContainsFunc(exported, named(name)) && !strings.HasPrefix(name, reserved) {
			resolved = append(resolved, entry)
		}
	}
	resolved = append(resolved, exported...)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.resolved) >= maxResolved {
		clear(e.resolved)
	}
	e.resolved[key] = resolved
	return resolved, nil
}

func named(name string) func(string) bool {
	return func(entry string) bool {
		return len(entry) > len(name) && entry[len(name)] == '=' && entry[:len(name)] == name
	}
}
