package workflow

import "fmt"

// RunStatus is the state of a run. The numbers are stored; never change them.
type RunStatus int16

// The states of a run.
const (
	RunPending   RunStatus = 0
	RunRunning   RunStatus = 1
	RunPaused    RunStatus = 2
	RunCompleted RunStatus = 10
	RunFailed    RunStatus = 11
	RunCancelled RunStatus = 12
)

// TaskStatus is the state of a task run. The numbers are stored; never change them.
type TaskStatus int16

// The states of a task run. TaskRunning is never stored: a queued task run that
// an agent has claimed is running, and views and readers say so.
const (
	TaskPending        TaskStatus = 0
	TaskQueued         TaskStatus = 1
	TaskRunning        TaskStatus = 2
	TaskWaiting        TaskStatus = 3
	TaskCompleted      TaskStatus = 10
	TaskFailed         TaskStatus = 11
	TaskSkipped        TaskStatus = 12
	TaskUpstreamFailed TaskStatus = 13
	TaskCancelled      TaskStatus = 14
)

const firstTerminal = 10

var runStatusNames = map[RunStatus]string{
	RunPending: "pending", RunRunning: "running", RunPaused: "paused",
	RunCompleted: "completed", RunFailed: "failed", RunCancelled: "cancelled",
}

var taskStatusNames = map[TaskStatus]string{
	TaskPending: "pending", TaskQueued: "queued", TaskRunning: "running", TaskWaiting: "waiting",
	TaskCompleted: "completed", TaskFailed: "failed", TaskSkipped: "skipped",
	TaskUpstreamFailed: "upstream_failed", TaskCancelled: "cancelled",
}

// Ended tells whether nothing follows this state by itself.
func (s RunStatus) Ended() bool { return s >= firstTerminal }

// Ended tells whether nothing follows this state by itself.
func (s TaskStatus) Ended() bool { return s >= firstTerminal }

// Failure tells whether a dependent that wants success can no longer start.
func (s TaskStatus) Failure() bool {
	return s == TaskFailed || s == TaskUpstreamFailed || s == TaskCancelled
}

func (s RunStatus) String() string {
	if name, ok := runStatusNames[s]; ok {
		return name
	}
	return fmt.Sprintf("RunStatus(%d)", int16(s))
}

func (s TaskStatus) String() string {
	if name, ok := taskStatusNames[s]; ok {
		return name
	}
	return fmt.Sprintf("TaskStatus(%d)", int16(s))
}

// MarshalText makes a status its name in JSON.
func (s RunStatus) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText makes a status its name in JSON.
func (s TaskStatus) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a status by its name.
func (s *RunStatus) UnmarshalText(text []byte) (err error) {
	*s, err = ParseRunStatus(string(text))
	return err
}

// UnmarshalText reads a status by its name.
func (s *TaskStatus) UnmarshalText(text []byte) (err error) {
	*s, err = ParseTaskStatus(string(text))
	return err
}

// ParseRunStatus reads a status by its name.
func ParseRunStatus(name string) (RunStatus, error) {
	for status, known := range runStatusNames {
		if known == name {
			return status, nil
		}
	}
	return 0, fmt.Errorf("unknown run status %q: it is one of pending, running, paused, completed, failed, cancelled", name)
}

// ParseTaskStatus reads a status by its name.
func ParseTaskStatus(name string) (TaskStatus, error) {
	for status, known := range taskStatusNames {
		if known == name {
			return status, nil
		}
	}
	return 0, fmt.Errorf("unknown task status %q", name)
}

// Cause says why a task run or an attempt came to its state. The numbers are
// stored; never change them.
type Cause int16

// The causes. CauseNone stands where the state itself says it all.
const (
	CauseNone         Cause = 0
	CauseExit         Cause = 1  // the process ended by itself with a non-zero exit code
	CauseSignal       Cause = 2  // the process was ended by a signal that we did not send
	CauseTimeout      Cause = 3  // the process ran into timeout_seconds
	CauseStart        Cause = 4  // the process could not be started
	CauseCancel       Cause = 5  // the run was cancelled
	CauseUpstream     Cause = 6  // a task that it depends on did not succeed
	CauseAgentLost    Cause = 7  // its agent died
	CauseAgentStopped Cause = 8  // its agent was stopped and handed it back
	CauseRescues      Cause = 9  // its agents died more often than max_rescues
	CauseRefused      Cause = 10 // the run could not be committed
	CauseApproval     Cause = 11 // it waits for a person
	CauseRejected     Cause = 12 // a person rejected it
	CausePaused       Cause = 13 // it waits until the run is resumed
	CauseNotChosen    Cause = 14 // an evaluation point chose others
	CauseTriggerRule  Cause = 15 // its trigger rule can't be met, and nothing failed; or, where it waits, is to be met again
	CauseEvaluation   Cause = 16 // its result as an evaluation point, its output or its items can't be used
	CauseGroup        Cause = 17 // it stands for the task runs of its items, which have ended
	CauseKept         Cause = 18 // an earlier run did its work
	CauseSkip         Cause = 19 // a person skipped it
	CauseStopped      Cause = 20 // another task failed, and the run's on_failure is stop
	CauseRunTimeout   Cause = 21 // the run came to its timeout_seconds
	CauseTooMany      Cause = 22 // the run came to max_dynamic_tasks
)

// lasting is the cause of a row as far as something still follows from it; else CauseNone.
func lasting(status TaskStatus, cause Cause) Cause {
	decided := cause == CauseNotChosen || cause == CauseSkip || cause == CauseKept
	if status == TaskWaiting || status == TaskSkipped && decided {
		return cause
	}
	return CauseNone
}

var causeNames = map[Cause]string{
	CauseNone: "", CauseExit: "exit", CauseSignal: "signal", CauseTimeout: "timeout", CauseStart: "start",
	CauseCancel: "cancel", CauseUpstream: "upstream", CauseAgentLost: "agent_lost",
	CauseAgentStopped: "agent_stopped", CauseRescues: "rescues", CauseRefused: "refused",
	CauseApproval: "approval", CauseRejected: "rejected", CausePaused: "paused", CauseNotChosen: "not_chosen",
	CauseTriggerRule: "trigger_rule", CauseEvaluation: "evaluation", CauseGroup: "group", CauseKept: "kept", CauseSkip: "skip",
	CauseStopped: "stopped", CauseRunTimeout: "run_timeout", CauseTooMany: "too_many",
}

func (c Cause) String() string {
	if name, ok := causeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("Cause(%d)", int16(c))
}

// MarshalText makes a cause its name in JSON.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a cause by its name.
func (c *Cause) UnmarshalText(text []byte) error {
	for cause, known := range causeNames {
		if known == string(text) {
			*c = cause
			return nil
		}
	}
	return fmt.Errorf("unknown cause %q", text)
}
