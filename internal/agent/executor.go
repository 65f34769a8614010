package agent

import (
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Executor runs the commands of tasks.
type Executor interface {
	// open makes it ready for a life.
	open(l *life) (runner, error)
}

// runner runs the tasks of one life.
type runner interface {
	// run runs a task until it ended. It watches l.stopping, l.lost and t.kill.
	run(t *task) outcome
	// inline tells that run returns at once, so that it needs neither a slot nor a goroutine.
	inline() bool
	// close frees what it holds; no task runs any more.
	close()
}

// Noop runs nothing: every task completes at once, after its environment was
// made. It is there to measure everything else.
func Noop() Executor { return noop{} }

type noop struct{ life *life }

func (noop) open(l *life) (runner, error) { return noop{l}, nil }
func (noop) inline() bool                 { return true }
func (noop) close()                       {}

// noExit is the exit code of all tasks that do nothing; nobody writes to it.
var noExit int32

func (n noop) run(t *task) outcome {
	env := n.life.agent.env
	values, cannot := n.life.valuesOf(t)
	if cannot != nil {
		return *cannot
	}
	env.of(t, values, "")
	now := t.held.at(time.Now())
	return outcome{result: workflow.Result{
		Status: workflow.TaskCompleted, Started: true, ExitCode: &noExit, StartTime: now, EndTime: now,
	}}
}
