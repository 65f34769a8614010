package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/nearest"
)

// logPause is how often the logs of a run that goes on are looked at.
const logPause = 300 * time.Millisecond

// agentStream is the stream of what the agent itself has to say.
var agentStream = engine.StreamAgent.String()

func (p *program) logs() *cobra.Command {
	var follow bool
	var tail int
	var sinceText string
	var since time.Time
	command := &cobra.Command{
		Use: "logs RUN [TASK]", Short: "Print what a run's tasks printed",
		Long: "Print what a task of a run printed, as it was; or what all its tasks printed, each line after the task's id.\n" +
			"Without #N, TASK means the last iteration of a task that ran more than once.",
		Args: p.takes("RUN", "[TASK]"),
		PreRunE: func(command *cobra.Command, _ []string) error {
			if tail < 0 || tail > api.MaxTail {
				return p.usage(command, fmt.Errorf("--tail: %d is not from 0 to %d", tail, api.MaxTail))
			}
			if sinceText != "" {
				var err error
				if since, err = parseSince(sinceText, time.Now()); err != nil {
					return p.usage(command, fmt.Errorf("--since: %w", err))
				}
			}
			return nil
		},
		RunE: p.withService(func(ctx context.Context, service api.Service, args []string) error {
			reader := &logReader{program: p, service: service, run: args[0], from: api.LogQuery{Tail: tail, Since: since}, follow: follow, places: map[string]*logState{}}
			if len(args) > 1 {
				reader.task = args[1]
			}
			return reader.read(ctx)
		}),
	}
	command.Flags().BoolVar(&follow, "follow", false, "go on until the run, or the task, has ended")
	command.Flags().IntVar(&tail, "tail", 0, "begin with the last so many `lines` of each task; 0 for all")
	command.Flags().StringVar(&sinceText, "since", "", "begin with what was printed since a `time`: an age (15m, 2d), a date, or RFC 3339")
	return command
}

// logReader prints the logs of a run.
type logReader struct {
	*program

	service api.Service
	run     string
	task    string       // empty for all
	chose   string       // the task run that it meant at first
	from    api.LogQuery // where each log begins
	follow  bool
	places  map[string]*logState // by task run
	printed bool
	missed  bool // there was no answer, and that was told
}

// logState is how much of a task run's log was printed.
type logState struct {
	next    string
	attempt int
	done    bool
	open    bool // the last line printed has no end yet
}

// read prints until there is no more, or, when it follows, until all has ended. A server that does not answer for a
// while is asked again then; each log goes on where it was.
func (r *logReader) read(ctx context.Context) error {
	var lastAnswer time.Time
	for {
		begin := time.Now()
		ended, err := r.look(ctx)
		switch {
		case err == nil && (ended || !r.follow):
			if !r.printed && r.format != formatJSON {
				r.talk("nothing was printed")
			}
			return nil
		case err == nil:
			lastAnswer, r.missed = begin, false
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !r.follow || !unanswered(err) || lastAnswer.IsZero() || begin.Sub(lastAnswer) > patience:
			return err
		default:
			r.silent()
		}
		if !sleep(ctx, restAfter(time.Since(begin), logPause)) {
			return context.Cause(ctx)
		}
	}
}

// silent tells, once each time, that there is no answer.
func (r *logReader) silent() {
	if !r.missed {
		r.talk("%s", noAnswer)
	}
	r.missed = true
}

// look prints what is new, and tells whether all has ended.
func (r *logReader) look(ctx context.Context) (ended bool, err error) {
	run, err := lookAt(ctx, r.service, r.run, r.silent)
	if err != nil {
		return false, err
	}
	tasks, err := r.chosen(run)
	if err != nil {
		return false, err
	}
	ended = true
	for i := range tasks {
		if err := r.print(ctx, &tasks[i]); err != nil {
			return false, err
		}
		ended = ended && tasks[i].Status.Ended()
	}
	return ended, nil
}

func (r *logReader) chosen(run *api.Run) ([]api.Task, error) {
	if r.task == "" {
		return run.Tasks, nil
	}
	if r.chose == "" {
		task := findTask(run, r.task)
		if task == nil {
			return nil, unknownTask(run, r.task)
		}
		r.chose = task.TaskRunID
	}
	at := slices.IndexFunc(run.Tasks, func(task api.Task) bool { return task.TaskRunID == r.chose })
	if at < 0 {
		return nil, unknownTask(run, r.task)
	}
	return run.Tasks[at : at+1], nil
}

// unknownTask names the tasks of the run that are most like the wanted one.
func unknownTask(run *api.Run, wanted string) error {
	err := fmt.Errorf("run %q has no task %q", run.RunID, wanted)
	near := nearest.Name(wanted, func(yield func(string) bool) {
		for i := range run.Tasks {
			if !yield(run.Tasks[i].ID) {
				return
			}
		}
	})
	if near == "" {
		return withHint(err, "`cyclonetix show-run %s --show-tasks` shows its tasks", run.RunID)
	}
	return withHint(err, "did you mean %q?", near)
}

// print prints what is new in the log of a task run.
func (r *logReader) print(ctx context.Context, task *api.Task) error {
	state := r.places[task.TaskRunID]
	if task.Attempt == 0 || state != nil && state.done {
		return nil
	}
	query := r.from
	if state != nil {
		query = api.LogQuery{After: state.next}
	}
	for more := true; more; {
		logs, err := r.service.Logs(ctx, task.TaskRunID, &query)
		if err != nil {
			return err
		}
		r.printed = r.printed || len(logs.Logs) > 0
		if state == nil {
			state = &logState{}
			r.places[task.TaskRunID] = state
		}
		for i := range logs.Logs {
			if err := r.entry(task, state, &logs.Logs[i]); err != nil {
				return err
			}
		}
		state.next, more = logs.Next, logs.HasMore
		query = api.LogQuery{After: state.next}
	}
	// A line without an end gets one, before another task's begins.
	if state.done = task.Status.Ended(); state.open && (state.done || r.task == "") {
		fmt.Fprintln(r.out)
		state.open = false
	}
	return nil
}

// taskEntry is an entry of a log in JSON: one a line.
type taskEntry struct {
	ID        string `json:"id"`
	TaskRunID string `json:"task_run_id"`
	api.LogEntry
}

func (r *logReader) entry(task *api.Task, state *logState, entry *api.LogEntry) error {
	if r.format == formatJSON {
		encoder := json.NewEncoder(r.out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(taskEntry{task.ID, task.TaskRunID, *entry}); err != nil {
			return fmt.Errorf("write a log entry: %w", err)
		}
		return nil
	}
	if entry.Attempt != state.attempt && entry.Attempt > 1 {
		if state.open {
			fmt.Fprintln(r.out)
			state.open = false
		}
		r.talk("%s", r.paint(r.err, dim, fmt.Sprintf("%s: attempt %d", task.ID, entry.Attempt)))
	}
	state.attempt = entry.Attempt
	if entry.Stream == agentStream && state.open { // what the agent says does not end a line of the task
		fmt.Fprintln(r.out)
		state.open = false
	}
	text := entry.Text
	if isTerminal(r.out) {
		text = harmless(text)
	}
	if r.task != "" {
		state.open = text != "" && !strings.HasSuffix(text, "\n")
		_, err := fmt.Fprint(r.out, text)
		return err //nolint:wrapcheck // a pipe that broke
	}
	return r.prefixed(task, state, text)
}

// prefixed prints text with the task's id before each line.
func (r *logReader) prefixed(task *api.Task, state *logState, text string) error {
	prefix := r.paint(r.out, dim, task.ID+" | ")
	for line := range strings.SplitAfterSeq(text, "\n") {
		if line == "" {
			continue
		}
		if !state.open {
			line = prefix + line
		}
		state.open = !strings.HasSuffix(line, "\n")
		if _, err := fmt.Fprint(r.out, line); err != nil {
			return err //nolint:wrapcheck // a pipe that broke
		}
	}
	return nil
}
