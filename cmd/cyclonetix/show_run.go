package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func (p *program) showRun() *cobra.Command {
	var showTasks, follow bool
	command := &cobra.Command{
		Use: "show-run RUN", Short: "Show a run and how it is doing",
		Args: p.takes("RUN"),
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			if follow {
				run, err := p.watch(ctx, service, args[0])
				if err != nil {
					return err
				}
				return p.ended(ctx, service, run)
			}
			run, err := service.Run(ctx, args[0], api.Include{Tasks: showTasks})
			if err != nil {
				return err
			}
			if p.format == formatJSON {
				return writeJSON(p.out, run)
			}
			p.writeRun(run, showTasks)
			if !run.Status.Ended() && !showTasks { // it may wait for somebody
				if run, err = service.Run(ctx, args[0], api.Include{Tasks: true}); err != nil {
					return err
				}
			}
			p.writeHints(run)
			return nil
		}),
	}
	command.Flags().BoolVar(&showTasks, "show-tasks", false, "show its task runs, too")
	command.Flags().BoolVar(&follow, "follow", false, "watch it until it has ended; exit with 1 when it failed")
	return command
}

func (p *program) writeRun(run *api.Run, tasks bool) {
	now := time.Now()
	kind := "dag"
	if run.ByOutcome {
		kind = "task"
	}
	fields := [][2]string{
		{"run", run.RunID}, {kind, run.DAGID}, {"status", p.paint(p.out, runLooks[run.Status].colour, run.Status.String())},
		{"waits for", run.WaitsFor}, {"reason", run.Reason}, {"tasks", completion(run)}, {"context", run.Context},
		{"for", logicalDate(run)}, {"rerun of", run.RerunOf},
		{"created", moment(run.CreatedTime, now)}, {"by", strings.TrimSpace(run.Actor + inBrackets(run.Cause))},
		{"started", moment(run.StartTime, now)}, {"cancelled", moment(run.CancelTime, now)}, {"ended", moment(run.EndTime, now)},
		{"duration", span(run.StartTime, run.EndTime, now)},
	}
	for _, field := range fields {
		if field[1] != "" && field[1] != "-" {
			fmt.Fprintf(p.out, "%s  %s\n", p.paint(p.out, dim, fmt.Sprintf("%-9s", field[0])), field[1])
		}
	}
	if tasks {
		fmt.Fprintln(p.out)
		p.writeTasks(run.Tasks, now)
	}
}

func logicalDate(run *api.Run) string {
	if run.LogicalDate.IsZero() {
		return ""
	}
	return dateText(run.LogicalDate)
}

// writeHints says what a run waits for that a person can do.
func (p *program) writeHints(run *api.Run) {
	if run.Status == workflow.RunPaused {
		p.talk("it is paused; let it go on: %s resume-run %s", calledAs(), run.RunID)
	}
	for i := range run.Tasks {
		if task := &run.Tasks[i]; waitsForApproval(task) {
			p.talk("%s %s; %s", task.ID, why(task), howToDecide(run, task))
		}
	}
}

func howToDecide(run *api.Run, task *api.Task) string {
	return fmt.Sprintf("decide: %s approve %s %s, or reject", calledAs(), run.RunID, task.ID)
}

func waitsForApproval(task *api.Task) bool {
	return task.Status == workflow.TaskWaiting && task.Cause == workflow.CauseApproval.String()
}

func (p *program) writeTasks(tasks []api.Task, now time.Time) {
	rows := make([][]cell, len(tasks))
	for i := range tasks {
		task := &tasks[i]
		rows[i] = []cell{
			text(task.ID), taskStatus(task.Status), text(attempt(task)), text(ago(task.StartTime, now)),
			text(span(task.StartTime, task.EndTime, now)), text(task.AgentID), text(why(task)),
		}
	}
	p.writeTable([]column{
		{title: "TASK"}, {title: "STATUS"}, {"ATTEMPT", true}, {title: "STARTED"}, {"DURATION", true}, {title: "AGENT"}, {title: "REASON"},
	}, rows)
}

func attempt(task *api.Task) string {
	if task.Attempt == 0 {
		return "-"
	}
	return strconv.Itoa(task.Attempt)
}

// why is the reason of a task run's state, as far as there is one to tell.
func why(task *api.Task) string {
	switch {
	case task.Error != "":
		return oneLine(task.Error)
	case task.ExitCode != nil && *task.ExitCode != 0:
		return fmt.Sprintf("exit code %d", *task.ExitCode)
	case waitsForApproval(task) && task.Message != "":
		return "waits for approval: " + oneLine(task.Message)
	case task.Status == workflow.TaskWaiting:
		return waits[task.Cause]
	case task.Status == workflow.TaskUpstreamFailed || task.Status == workflow.TaskCancelled:
		return "" // the status says it
	}
	if words, ok := causes[task.Cause]; ok {
		return words
	}
	return task.Cause
}

// waits and causes say in words why a task run waits, and why it came to its state, where the cause alone does not.
var (
	waits = map[string]string{
		"": "waits to be tried again", workflow.CauseApproval.String(): "waits for approval", workflow.CausePaused.String(): "the run is paused",
		workflow.CauseTriggerRule.String(): "waits for its trigger rule again",
	}
	causes = map[string]string{
		workflow.CauseNotChosen.String(): "not chosen", workflow.CauseTriggerRule.String(): "its trigger rule cannot be met",
		workflow.CauseKept.String(): "kept from an earlier run", workflow.CauseGroup.String(): "all its items",
		workflow.CauseSkip.String(): "skipped by hand",
	}
)

// completion says in words how many of a run's task runs are completed, and failed.
func completion(run *api.Run) string {
	completed, failed := counts(run)
	text := fmt.Sprintf("%d of %s completed", completed, count(taskCount(run), "task"))
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	return text
}

// moment is a time in the local zone, and how long ago that was.
func moment(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	at := local(t).Format("2006-01-02 15:04:05 MST")
	if now.Sub(t) < 48*time.Hour {
		at += inBrackets(ago(t, now))
	}
	return at
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}
