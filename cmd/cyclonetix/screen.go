package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const barColumns = 24

// screen shows a run as a few lines that are drawn anew: a bar, and the tasks with states and times.
// When there are more tasks than lines, those that move come first.
type screen struct {
	*program

	drawing *tea.Program
	done    chan struct{} // closed when the last frame is drawn
}

func (p *program) newScreen() *screen {
	s := &screen{program: p, done: make(chan struct{})}
	// It asks the terminal nothing and reads nothing, so Ctrl-C stays a signal, and what is typed stays for the shell.
	s.drawing = tea.NewProgram(frame(""), tea.WithOutput(p.err), tea.WithInput(nil), tea.WithoutSignalHandler())
	go func() {
		defer close(s.done)
		if _, err := s.drawing.Run(); err != nil {
			p.talk("the live view ended: %v", err)
		}
	}()
	return s
}

func (s *screen) show(run *api.Run, now time.Time) {
	columns, rows := size(s.err)
	lines := s.lines(run, now, columns, max(4, rows-2))
	s.drawing.Send(frame(strings.Join(lines, "\n") + "\n")) // the last line is cleared at the end
}

func (s *screen) silent() { s.drawing.Send(missed(s.paint(s.err, yellow, "  "+noAnswer))) }

// close leaves the last frame on the screen.
func (s *screen) close() {
	s.drawing.Quit()
	<-s.done
}

// frame is what is to be seen, and the message to show it.
type frame string

// missed is the message to show a line below what was seen last.
type missed string

// Init implements tea.Model.
func (f frame) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (f frame) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch next := message.(type) {
	case frame:
		return next, nil
	case missed:
		if line := string(next) + "\n"; !strings.HasSuffix(string(f), line) {
			f += frame(line)
		}
	}
	return f, nil
}

// View implements tea.Model.
func (f frame) View() tea.View { return tea.NewView(string(f)) }

// lines are what is to be seen, at most so many, none wider than the screen.
func (s *screen) lines(run *api.Run, now time.Time, columns, most int) []string {
	lines := []string{s.head(run, now, columns)}
	tasks := run.Tasks
	room := most - 1
	decide := slices.IndexFunc(tasks, func(task api.Task) bool { return waitsForApproval(&task) })
	if room < 4 {
		decide = -1
	}
	if decide >= 0 {
		room--
	}
	if len(tasks) > room {
		lines = append(lines, "  "+clip(states(tasks), columns-2))
		room--
		tasks = slices.SortedStableFunc(slices.Values(tasks), func(a, b api.Task) int {
			return cmp.Or(cmp.Compare(urgency(a.Status), urgency(b.Status)), b.EndTime.Compare(a.EndTime))
		})[:room-1]
	}
	names := 0
	for i := range tasks {
		names = max(names, width(tasks[i].ID))
	}
	names = min(names, max(10, columns/2))
	for i := range tasks {
		lines = append(lines, s.task(&tasks[i], now, columns, names))
	}
	if hidden := len(run.Tasks) - len(tasks); hidden > 0 {
		lines = append(lines, s.paint(s.err, dim, clip(fmt.Sprintf("  and %s more", count(hidden, "task")), columns)))
	}
	if decide >= 0 {
		lines = append(lines, s.paint(s.err, bold, clip("  "+howToDecide(run, &run.Tasks[decide]), columns)))
	}
	return lines
}

func (s *screen) head(run *api.Run, now time.Time, columns int) string {
	looks := runLooks[run.Status]
	words := fmt.Sprintf(" %s  %s  %s", run.Status, progress(run), span(run.StartTime, run.EndTime, now))
	if !run.CancelTime.IsZero() && !run.Status.Ended() {
		words += "  cancelling"
	}
	if run.WaitsFor != "" {
		words += "  waits for " + run.WaitsFor
	}
	bar := ""
	if columns >= width(words)+barColumns+4 {
		done := 0
		for i := range run.Tasks {
			if run.Tasks[i].Status.Ended() {
				done++
			}
		}
		filled := barColumns * done / max(1, len(run.Tasks))
		bar = " " + s.paint(s.err, looks.colour, strings.Repeat("█", filled)) + s.paint(s.err, dim, strings.Repeat("░", barColumns-filled))
		columns -= barColumns + 1
	}
	return s.paint(s.err, looks.colour, looks.mark) + bar + clip(words, columns-1)
}

func (s *screen) task(task *api.Task, now time.Time, columns, names int) string {
	looks := taskLooks[task.Status]
	name := clip(task.ID, names)
	name += strings.Repeat(" ", names-width(name))
	words := fmt.Sprintf("%-15s %7s", task.Status, span(task.StartTime, task.EndTime, now))
	if task.Attempt > 1 {
		words += fmt.Sprintf("  attempt %d", task.Attempt)
	}
	if reason := reasonShown(task); reason != "" {
		words += "  " + reason
	}
	return "  " + s.paint(s.err, looks.colour, looks.mark) + " " + name + "  " + clip(words, max(0, columns-names-6))
}

// states are the numbers of tasks in each state.
func states(tasks []api.Task) string {
	counts := map[workflow.TaskStatus]int{}
	for i := range tasks {
		counts[tasks[i].Status]++
	}
	var words []string
	for _, status := range byUrgency {
		if counts[status] > 0 {
			words = append(words, fmt.Sprintf("%d %s", counts[status], status))
		}
	}
	return strings.Join(words, "  ")
}

// byUrgency are the states in the order in which a watcher wants to see them.
var byUrgency = []workflow.TaskStatus{
	workflow.TaskFailed, workflow.TaskRunning, workflow.TaskWaiting, workflow.TaskQueued, workflow.TaskCompleted,
	workflow.TaskPending, workflow.TaskUpstreamFailed, workflow.TaskCancelled, workflow.TaskSkipped,
}

func urgency(status workflow.TaskStatus) int { return slices.Index(byUrgency, status) }
