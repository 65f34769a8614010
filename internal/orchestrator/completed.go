package orchestrator

import (
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// completion is a change with which a run completes.
type completion struct {
	change *workflow.Change
	dag    string // of the run, or the task of one by outcome: the two look alike here
	jobs   int    // that the rules put into the change
}

// tell puts the jobs into a commit that start the runs of DAGs which wait for runs that complete with it. Who these are
// hangs on the definitions, so the commit stands on their revision: one that was published before the commit counts,
// and to know that nobody has to ask before each end.
func (l *loop) tell(commit *engine.Commit, completed []completion) {
	if len(completed) == 0 {
		return
	}
	revision := l.listeners.Revision
	commit.Revision = &revision
	for _, one := range completed {
		one.change.Jobs = one.change.Jobs[:one.jobs:one.jobs]
		for _, dag := range l.listeners.Of[one.dag] {
			one.change.Jobs = append(one.change.Jobs, engine.DAGCompleted{DAG: dag, Of: one.dag, Run: one.change.ID}.Job())
		}
	}
}
