package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// A watched run is looked at often in the beginning, as a short one is over soon, then less.
	firstPause, watchPause = 40 * time.Millisecond, 250 * time.Millisecond
	// patience is how long a server that does not answer may take to come back.
	patience = 30 * time.Second
	// failedShown and failedLines bound what is shown of the logs of what failed.
	failedShown, failedLines = 5, 20
)

// watch shows a run until it has ended: a live view on a terminal, else a line for each transition.
// When the context ends first, the run goes on, and the user is told how to look again.
func (p *program) watch(ctx context.Context, service api.Service, id string) (*api.Run, error) {
	var view interface {
		show(run *api.Run, now time.Time)
		// silent tells that there is no answer, so that what is seen may not be what is.
		silent()
		close()
	} = &transitions{program: p, states: map[string]shown{}}
	if isTerminal(p.err) {
		view = p.newScreen()
	}
	closeView := sync.OnceFunc(view.close)
	defer closeView()
	var lastAnswer time.Time
	for pause := firstPause; ; pause = min(pause*5/4, watchPause) {
		begin := time.Now()
		run, err := lookAt(ctx, service, id, view.silent)
		switch {
		case ctx.Err() != nil:
			closeView()
			self := calledAs()
			p.talk("the run goes on; look again: %s show-run %s --follow; stop it: %s cancel-run %s", self, id, self, id)
			return nil, statusError(exitInterrupted)
		case err != nil && (!unanswered(err) || lastAnswer.IsZero() || begin.Sub(lastAnswer) > patience):
			return nil, err
		case err != nil:
			view.silent()
		default:
			lastAnswer = begin
			view.show(run, begin)
			if run.Status.Ended() {
				return run, nil
			}
		}
		sleep(ctx, restAfter(time.Since(begin), pause))
	}
}

// silence is the time after which an answer is missed.
const silence = 3 * time.Second

// lookAt asks for the run, and tells when the answer lets itself be waited for.
func lookAt(ctx context.Context, service api.Service, id string, silent func()) (run *api.Run, err error) {
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		run, err = service.Run(ctx, id, api.Include{Tasks: true})
	}()
	missed := time.NewTimer(silence)
	defer missed.Stop()
	select {
	case <-answered:
	case <-missed.C:
		silent()
		<-answered
	}
	return run, err
}

// unanswered tells that a server or backend did not answer, which may pass.
func unanswered(err error) bool {
	var answer *api.Error
	return errors.As(err, &answer) && answer.Status == http.StatusServiceUnavailable
}

// restAfter is the pause after a look that took so long: a large run is looked at less often.
func restAfter(took, least time.Duration) time.Duration { return max(least, 4*took) }

// sleep waits, and tells whether the context still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// ended says how a run that was watched ended, and shows the logs of what failed.
func (p *program) ended(ctx context.Context, service api.Service, run *api.Run) error {
	if p.format == formatJSON {
		if err := writeJSON(p.out, run); err != nil {
			return err
		}
	}
	if !isTerminal(p.err) { // there the view has said it
		p.talk("run %s of %s is %s after %s: %s", run.RunID, run.DAGID, run.Status, span(run.StartTime, run.EndTime, run.EndTime), completion(run))
	} else if run.Status == workflow.RunCompleted {
		p.talk("%s %s logs %s", p.paint(p.err, dim, "what it printed:"), calledAs(), run.RunID)
	}
	if run.Status == workflow.RunCompleted {
		return nil
	}
	left := failedShown
	for i := range run.Tasks {
		task := &run.Tasks[i]
		if task.Status != workflow.TaskFailed {
			continue
		}
		if left--; left < 0 {
			p.talk("more failed: %s show-run %s --show-tasks", calledAs(), run.RunID)
			break
		}
		if err := p.showFailure(ctx, service, run, task); err != nil {
			return err
		}
	}
	if run.Reason != "" {
		p.talk("%s %s", p.paint(p.err, dim, "reason:"), run.Reason)
	}
	return statusError(exitFailed)
}

func (p *program) showFailure(ctx context.Context, service api.Service, run *api.Run, task *api.Task) error {
	p.talk("")
	p.talk("%s %s: %s", p.paint(p.err, red, taskLooks[task.Status].mark), p.paint(p.err, bold, task.ID), p.printed(task.Why()))
	logs, err := service.Logs(ctx, task.TaskRunID, &api.LogQuery{Tail: failedLines})
	if err != nil {
		return err
	}
	var printed strings.Builder
	for i := range logs.Logs {
		entry := &logs.Logs[i]
		if entry.Attempt != task.Attempt {
			continue
		}
		if entry.Stream == agentStream && printed.Len() > 0 && !strings.HasSuffix(printed.String(), "\n") {
			printed.WriteByte('\n')
		}
		printed.WriteString(entry.Text)
	}
	if printed.Len() == 0 {
		p.talk("  it printed nothing")
		return nil
	}
	for line := range strings.SplitSeq(strings.TrimRight(printed.String(), "\n"), "\n") {
		p.talk("  %s %s", p.paint(p.err, dim, "|"), p.printed(line))
	}
	p.talk("  all of it: %s logs %s %s", calledAs(), run.RunID, task.ID)
	return nil
}

// printed is a line that a task printed, as the terminal, if it is one, may have it.
func (p *program) printed(line string) string {
	if !isTerminal(p.err) {
		return line
	}
	if line = harmless(line); strings.Contains(line, "\x1b") {
		line += reset
	}
	return line
}

// shown is what transitions showed of a task run.
type shown struct {
	status  workflow.TaskStatus
	attempt int
	waits   string // for what
}

// transitions shows a run as lines, one for each change that was seen.
type transitions struct {
	*program

	run    workflow.RunStatus
	begun  bool
	missed bool             // there was no answer, and that was told
	waits  string           // what the run was last seen to wait for
	states map[string]shown // by task run
	last   time.Time        // of the line that was shown last
}

// transition is a change that was seen.
type transition struct {
	at          time.Time
	what, state string
	after       string // a line for who has to do something; may be empty
}

// noAnswer is told while a run is watched.
const noAnswer = "the server does not answer; trying again"

func (t *transitions) silent() {
	if !t.missed {
		t.talk("%s", noAnswer)
	}
	t.missed = true
}

func (t *transitions) show(run *api.Run, now time.Time) {
	t.missed = false
	var seen []transition
	if !t.begun || run.Status != t.run && !run.Status.Ended() {
		seen = append(seen, transition{at: sinceWhen(run, now), what: fmt.Sprintf("run %s of %s", run.RunID, run.DAGID), state: run.Status.String()})
		t.begun = true
	}
	t.run = run.Status
	if run.WaitsFor != "" && run.WaitsFor != t.waits {
		t.talk("still pending: it waits for %s", run.WaitsFor)
	}
	t.waits = run.WaitsFor
	for i := range run.Tasks {
		task := &run.Tasks[i]
		state := shown{status: task.Status, attempt: task.Attempt, waits: task.WaitsFor}
		if task.Status == workflow.TaskWaiting {
			state.waits = task.Cause
		}
		before, known := t.states[task.TaskRunID]
		t.states[task.TaskRunID] = state
		if before == state && known || !known && task.Status == workflow.TaskPending {
			continue
		}
		text := task.Status.String()
		if task.Status.Ended() && task.DurationSeconds != nil {
			text += " after " + span(task.StartTime, task.EndTime, now)
		}
		if task.Attempt > 1 {
			text += fmt.Sprintf(", attempt %d", task.Attempt)
		}
		if reason := reasonShown(task); reason != "" {
			text += ": " + reason
		}
		one := transition{at: moreExact(task, now), what: task.ID, state: text}
		if waitsForApproval(task) {
			one.after = howToDecide(run, task)
		}
		seen = append(seen, one)
	}
	// In a second, which is what is shown, they stand in the order of the run, where a task comes after those it waits for.
	second := func(one transition) time.Time { return one.at.Truncate(time.Second) }
	slices.SortStableFunc(seen, func(a, b transition) int { return second(a).Compare(second(b)) })
	for i := range seen {
		t.line(&seen[i])
	}
}

// sinceWhen is when a run came to its state, where that is known.
func sinceWhen(run *api.Run, seen time.Time) time.Time {
	switch {
	case run.Status == workflow.RunPending && !run.CreatedTime.IsZero():
		return run.CreatedTime
	case run.Status == workflow.RunRunning && !run.StartTime.IsZero():
		return run.StartTime
	}
	return seen
}

// reasonShown is why a task run is in its state; that it completed needs none, but when it did not run at all.
func reasonShown(task *api.Task) string {
	if task.Status == workflow.TaskCompleted && task.Cause != workflow.CauseKept.String() {
		return ""
	}
	return task.Why()
}

func (t *transitions) close() {}

// line shows a transition. What is heard of late, after something that came later, has the time of that: times go on.
func (t *transitions) line(one *transition) {
	if one.at.After(t.last) {
		t.last = one.at
	}
	t.talk("%s %s %s", local(t.last).Format("15:04:05"), one.what, one.state)
	if one.after != "" {
		t.talk("%s", one.after)
	}
}

// moreExact is when a task run came to its state, where that is known.
func moreExact(task *api.Task, seen time.Time) time.Time {
	switch {
	case task.Status.Ended() && !task.EndTime.IsZero():
		return task.EndTime
	case task.Status == workflow.TaskRunning && !task.StartTime.IsZero():
		return task.StartTime
	case task.Status == workflow.TaskQueued && !task.QueuedTime.IsZero():
		return task.QueuedTime
	}
	return seen
}
