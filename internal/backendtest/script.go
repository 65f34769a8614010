package backendtest

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// script is all that is random about a run of the model, but for the order in which things happen.
type script struct {
	runs   []scriptedRun
	agents []engine.AgentInfo
	limits workflow.Limits
	chaos  []chaos
	// percent of the calls of agents, submitters and writers that fail.
	faults int
}

type scriptedRun struct {
	plan  *workflow.Plan
	nodes []behaviour
	// cancel is the number of claims after which someone cancels the run; -1 for nobody.
	cancel int
	// pause is the number of claims after which someone pauses the run for a while; 0 for nobody.
	pause   int
	options workflow.RunOptions
	// acts are what makes nodes more than tasks; nil when nothing does.
	acts []act
}

// chaos happens when a number of members were claimed.
type chaos struct {
	claims int
	kind   string // "kill", "restart", "cancel" or "pause"
	agent  int    // to kill; the number of the run to cancel or to pause
}

// drawScript draws a script in which the end of every run that is not cancelled is certain: attempts that
// agents lose or hand back never change it.
func drawScript(t *rapid.T) script {
	s := script{
		limits: workflow.Limits{Rows: rapid.SampledFrom([]int{2, 5, 2000}).Draw(t, "rows"), MaxRescues: 1000, MaxDynamicTasks: 1000},
		faults: rapid.SampledFrom([]int{0, 0, 3, 8}).Draw(t, "faults"),
	}
	for range rapid.IntRange(1, 5).Draw(t, "runs") {
		s.runs = append(s.runs, drawRun(t, s.limits.Rows))
	}
	for number := range rapid.IntRange(1, 3).Draw(t, "agents") {
		agent := engine.AgentInfo{ID: fmt.Sprintf("agent-%d", number), Slots: rapid.IntRange(1, 6).Draw(t, "slots")}
		if number == 0 {
			agent.Tags = []string{"ssd"} // somebody must be able to run everything
		} else {
			agent.Queues = rapid.SampledFrom([][]string{nil, {"default"}, {"other"}, {"nobody's"}}).Draw(t, "queues")
		}
		s.agents = append(s.agents, agent)
	}
	for range rapid.IntRange(0, 3).Draw(t, "chaos") {
		s.chaos = append(s.chaos, chaos{
			claims: rapid.IntRange(1, 25).Draw(t, "after"), kind: rapid.SampledFrom([]string{"kill", "restart"}).Draw(t, "kind"),
			agent: rapid.IntRange(0, len(s.agents)-1).Draw(t, "agent"),
		})
	}
	return s
}

func drawRun(t *rapid.T, rows int) scriptedRun {
	run := scriptedRun{plan: drawPlan(t), cancel: -1}
	if rapid.IntRange(0, 3).Draw(t, "cancelled") == 0 {
		run.cancel = rapid.IntRange(0, 20).Draw(t, "cancelled after")
	}
	for _, spec := range run.plan.Specs {
		if rapid.IntRange(0, 5).Draw(t, "tag") == 0 {
			spec.Requires = []string{"ssd"}
		}
		how := behaviour{slow: rapid.IntRange(0, 3).Draw(t, "slow")}
		if rapid.IntRange(0, 3).Draw(t, "handed back") == 0 {
			how.returns = rapid.IntRange(1, 3).Draw(t, "returns")
		}
		switch rapid.IntRange(0, 5).Draw(t, "outcome") {
		case 0:
			how.failures = always
		case 1:
			how.failures = spec.Retries.Count
		}
		run.nodes = append(run.nodes, how)
	}
	if rapid.Bool().Draw(t, "language") {
		drawActs(t, &run, rows)
	}
	if rapid.IntRange(0, 3).Draw(t, "paused") == 0 {
		run.pause = rapid.IntRange(1, 10).Draw(t, "paused after")
	}
	return run
}

// ending is how a run ended, or should.
type ending struct {
	status            workflow.RunStatus
	completed, failed int
	tasks             []taskEnding
}

type taskEnding struct {
	name   string
	status workflow.TaskStatus
	cause  workflow.Cause
	exit   int32 // -1 for none
}

// expected is the end of a run that nobody cancels, by the rules alone.
func (r *scriptedRun) expected() ending {
	if r.acts != nil {
		return r.expectedOfLanguage()
	}
	end := ending{status: workflow.RunCompleted}
	for number, node := range r.plan.Nodes {
		task := taskEnding{name: node.Name, status: workflow.TaskCompleted}
		if r.nodes[number].failures == always {
			task = taskEnding{name: node.Name, status: workflow.TaskFailed, cause: workflow.CauseExit, exit: 3}
		}
		for _, parent := range node.Dependencies { // which has a smaller number
			if end.tasks[parent].status != workflow.TaskCompleted {
				task = taskEnding{name: node.Name, status: workflow.TaskUpstreamFailed, cause: workflow.CauseUpstream, exit: -1}
			}
		}
		switch task.status {
		case workflow.TaskCompleted:
			end.completed++
		case workflow.TaskFailed:
			end.failed++
			end.status = workflow.RunFailed
		default: // upstream_failed counts as neither
		}
		end.tasks = append(end.tasks, task)
	}
	return end
}

// check says what is impossible about the end of a run that somebody cancelled.
func (r *scriptedRun) check(end ending) error {
	if r.acts != nil {
		return r.checkLanguage(end)
	}
	counts := map[workflow.TaskStatus]int{}
	for number, task := range end.tasks {
		counts[task.status]++
		if !task.status.Ended() {
			return fmt.Errorf("%s is %s after the end", task.name, task.status)
		}
		for _, parent := range r.plan.Nodes[number].Dependencies {
			if task.status == workflow.TaskCompleted && end.tasks[parent].status != workflow.TaskCompleted {
				return fmt.Errorf("%s completed, though %s is %s", task.name, end.tasks[parent].name, end.tasks[parent].status)
			}
		}
		if task.status == workflow.TaskFailed && r.nodes[number].failures == 0 {
			return fmt.Errorf("%s failed, and never does", task.name)
		}
	}
	want := workflow.RunCompleted
	switch {
	case counts[workflow.TaskCancelled] > 0:
		want = workflow.RunCancelled
	case counts[workflow.TaskFailed] > 0:
		want = workflow.RunFailed
	}
	if end.status != want || end.completed != counts[workflow.TaskCompleted] || end.failed != counts[workflow.TaskFailed] {
		return fmt.Errorf("it is %s with %d completed and %d failed, should be %s with %v", end.status, end.completed, end.failed, want, counts)
	}
	return nil
}
