package server

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// pageTasks is the number of task runs that the page of a run shows; of more, those that failed come first.
	pageTasks = 1000
	// pageLines is the number of lines at the end of a log that its page shows.
	pageLines = 2000
)

// runView is what the template of a run shows.
type runView struct {
	Title            string
	RefreshSeconds   int // 0 when nothing will change
	Now              time.Time
	Run              *api.Run
	Mark, StatusText string
	Facts            []fact
	Tasks            []taskRow
	Left             int // task runs that are not shown
}

type fact struct{ Name, Text string }

type taskRow struct {
	*api.Task
	Mark, StatusText, Duration, LogURL string
}

// run is the page of a run.
func (p *page) run(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), pageTime)
	defer cancel()
	head, err := p.options.Service.Run(ctx, id(c), api.Include{})
	if err != nil {
		return err
	}
	body := p.large.find(head.RunID)
	switch {
	case body != nil:
	case head.TaskCount <= pageTasks:
		body, _, err = p.runBody(ctx, head.RunID)
	default:
		ctx, cancel := context.WithTimeout(c.Request().Context(), largePageTime)
		defer cancel()
		body, err = p.large.get(ctx, head.RunID, func() ([]byte, time.Time, error) { return p.runBody(ctx, head.RunID) })
	}
	if err != nil {
		return err
	}
	return c.HTMLBlob(http.StatusOK, body)
}

// runBody makes the page of a run. Until then another one is not worth what it costs.
func (p *page) runBody(ctx context.Context, id string) (body []byte, until time.Time, err error) {
	begin := time.Now()
	run, err := p.options.Service.Run(ctx, id, api.Include{Tasks: true})
	if err != nil {
		return nil, until, err
	}
	rest := max(time.Second, largePageShare*time.Since(begin))
	view := &runView{
		Title: p.options.Title, Now: time.Now(), Run: run, Mark: marks[run.Status], StatusText: run.Status.String(),
	}
	if !run.Status.Ended() {
		view.RefreshSeconds = max(1, int(p.options.Refresh.Seconds()), int(rest.Seconds()))
		if !run.CancelTime.IsZero() {
			view.StatusText += ", cancelling"
		}
	}
	view.Facts = facts(run, view.Now)
	tasks := make([]*api.Task, len(run.Tasks))
	for i := range run.Tasks {
		tasks[i] = &run.Tasks[i]
	}
	if view.Left = max(0, len(tasks)-pageTasks); view.Left > 0 {
		slices.SortStableFunc(tasks, func(a, b *api.Task) int { return cmp.Compare(urgency(a), urgency(b)) })
		tasks = tasks[:pageTasks]
	}
	for _, task := range tasks {
		view.Tasks = append(view.Tasks, rowOf(task, view.Now))
	}
	body, err = p.render("run.html", view)
	return body, time.Now().Add(rest), err
}

// facts are what there is to tell about a run.
func facts(run *api.Run, now time.Time) (list []fact) {
	tasks := fmt.Sprintf("%d of %d completed", run.CompletedTasks, max(run.TaskCount, len(run.Tasks)))
	if run.FailedTasks > 0 {
		tasks += fmt.Sprintf(", %d failed", run.FailedTasks)
	}
	for _, one := range []fact{
		{"waits for", run.WaitsFor}, {"reason", run.Reason}, {"tasks", tasks}, {"context", run.Context}, {"for", pageMoment(run.LogicalDate)},
		{"rerun of", run.RerunOf}, {"by", run.Actor}, {"created", pageMoment(run.CreatedTime)}, {"started", pageMoment(run.StartTime)},
		{"ended", pageMoment(run.EndTime)}, {"duration", lasted(run.DurationSeconds, run.StartTime, now)},
	} {
		if one.Text != "" {
			list = append(list, one)
		}
	}
	return list
}

func rowOf(task *api.Task, now time.Time) taskRow {
	row := taskRow{Task: task, Mark: taskMarks[task.Status], StatusText: strings.ReplaceAll(task.Status.String(), "_", " ")}
	if task.Attempt > 0 {
		row.LogURL = "/task-runs/" + url.PathEscape(task.TaskRunID) + "/log"
	}
	if task.DurationSeconds != nil || task.Status == workflow.TaskRunning {
		row.Duration = lasted(task.DurationSeconds, task.StartTime, now)
	}
	return row
}

// urgency orders task runs where not all can be shown.
func urgency(task *api.Task) int {
	switch task.Status {
	case workflow.TaskFailed:
		return 0
	case workflow.TaskRunning, workflow.TaskWaiting:
		return 1
	default:
		return 2
	}
}

// taskMarks tell states apart without colour.
var taskMarks = map[workflow.TaskStatus]string{
	workflow.TaskPending: "○", workflow.TaskQueued: "◌", workflow.TaskRunning: "▶", workflow.TaskWaiting: "❚❚",
	workflow.TaskCompleted: "✓", workflow.TaskFailed: "✗", workflow.TaskSkipped: "–", workflow.TaskUpstreamFailed: "✗", workflow.TaskCancelled: "⊘",
}

func pageMoment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 MST")
}

// lasted is how long something took, or takes since its start.
func lasted(seconds *float64, start, now time.Time) string {
	switch {
	case seconds != nil:
		return length(time.Duration(*seconds * float64(time.Second)))
	case !start.IsZero():
		return length(max(0, now.Sub(start)))
	}
	return ""
}

// log is the end of a task run's log, as plain text: nothing in it means anything to a browser.
func (p *page) log(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), pageTime)
	defer cancel()
	var text bytes.Buffer
	for query := (api.LogQuery{Tail: pageLines}); ; {
		logs, err := p.options.Service.Logs(ctx, id(c), &query)
		if err != nil {
			return err
		}
		for i := range logs.Logs {
			text.WriteString(logs.Logs[i].Text)
		}
		if !logs.HasMore || len(logs.Logs) == 0 {
			break
		}
		query = api.LogQuery{After: logs.Next}
	}
	if text.Len() == 0 {
		text.WriteString("nothing was printed\n")
	}
	return c.Blob(http.StatusOK, echo.MIMETextPlainCharsetUTF8, bytes.ToValidUTF8(text.Bytes(), []byte("\uFFFD")))
}

// errorView is what the template of an error shows.
type errorView struct{ Title, Heading, Message, Hint string }

// failed is an error as a page.
func (p *page) failed(c echo.Context, answer *api.Error) error {
	heading := "This did not work"
	if answer.Status == http.StatusNotFound {
		heading = "Not found"
	}
	return p.write(c, answer.Status, "error.html", &errorView{p.options.Title, heading, answer.Message, answer.Hint()})
}

// wantsPage tells whether a browser asks, for its user to look at the answer.
func wantsPage(request *http.Request) bool {
	return request.Method == http.MethodGet && strings.Contains(request.Header.Get(echo.HeaderAccept), echo.MIMETextHTML)
}

func (p *page) write(c echo.Context, status int, name string, view any) error {
	body, err := p.render(name, view)
	if err != nil {
		return err
	}
	return c.HTMLBlob(status, body)
}

func (p *page) render(name string, view any) ([]byte, error) {
	var body bytes.Buffer
	if err := p.template.ExecuteTemplate(&body, name, view); err != nil {
		return nil, fmt.Errorf("write the page: %w", err)
	}
	return body.Bytes(), nil
}
