package main

import (
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// look is how a state is shown: a mark, a colour, and always its name beside.
type look struct {
	mark   string
	colour colour
}

var runLooks = map[workflow.RunStatus]look{
	workflow.RunPending:   {"○", dim},
	workflow.RunRunning:   {"▶", yellow},
	workflow.RunPaused:    {"‖", yellow},
	workflow.RunCompleted: {"✓", green},
	workflow.RunFailed:    {"✗", red},
	workflow.RunCancelled: {"⊘", dim},
}

var taskLooks = map[workflow.TaskStatus]look{
	workflow.TaskPending:        {"○", dim},
	workflow.TaskQueued:         {"◌", blue},
	workflow.TaskRunning:        {"▶", yellow},
	workflow.TaskWaiting:        {"…", yellow},
	workflow.TaskCompleted:      {"✓", green},
	workflow.TaskFailed:         {"✗", red},
	workflow.TaskSkipped:        {"-", dim},
	workflow.TaskUpstreamFailed: {"✗", red},
	workflow.TaskCancelled:      {"⊘", dim},
}

func runStatus(status workflow.RunStatus) cell { return cell{status.String(), runLooks[status].colour} }

func taskStatus(status workflow.TaskStatus) cell {
	return cell{status.String(), taskLooks[status].colour}
}
