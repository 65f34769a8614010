package server

import (
	"context"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
	"github.com/cyclonetix/cyclonetix/web"
)

// pageTime bounds the reading of what a page shows.
const pageTime = 5 * time.Second

// page makes the pages: the list of runs, a run, an error.
type page struct {
	options  Options
	template *template.Template
	large    *largePages
}

// runsView is what the template shows.
type runsView struct {
	Title          string
	RefreshSeconds int
	Now            time.Time
	Filters        []filterLink
	Filtered       bool
	Runs           []runRow
	First, Last    int
	Total          int
	TotalExact     bool
	Newer, Older   string
	Error, Hint    string
}

type filterLink struct {
	Label, URL string
	Current    bool
}

type runRow struct {
	api.Run
	URL, Mark, StatusText, Duration string
	Max                             int // at least 1, as <progress> needs it
}

func newPage(options Options) (*page, error) {
	parsed, err := template.New("").Funcs(template.FuncMap{
		"ago": ago, "clock": func(t time.Time) string { return t.Format("15:04:05 MST") },
		"machineTime": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}).ParseFS(web.Files, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	return &page{options: options, template: parsed, large: newLargePages()}, nil
}

// static serves the files that pages need.
func static() echo.HandlerFunc {
	files, err := fs.Sub(web.Files, "static")
	if err != nil {
		panic(err) // only for a malformed name
	}
	return filesOf(files)
}

// filesOf serves files that do not change while the server runs.
func filesOf(files fs.FS) echo.HandlerFunc {
	serve := echo.StaticDirectoryHandler(files, true)
	return func(c echo.Context) error {
		c.Response().Header().Set(echo.HeaderCacheControl, "public, max-age=300")
		return serve(c)
	}
}

func (p *page) runs(c echo.Context) error {
	q := readQuery(c, "status", "dag_id", "offset")
	query := &api.RunQuery{Status: q.statuses("status"), DAGID: q.text("dag_id"), Offset: q.offset()}
	if q.err != nil {
		return q.err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), pageTime)
	defer cancel()
	view := &runsView{
		Title: p.options.Title, RefreshSeconds: int(p.options.Refresh.Seconds()), Now: time.Now(),
		Filters: filters(query), Filtered: len(query.Status) > 0 || query.DAGID != "",
	}
	status := http.StatusOK
	if list, err := p.options.Service.Runs(ctx, query); err != nil {
		answer := errorOf(err, c.Request())
		if answer.Status == http.StatusInternalServerError {
			p.options.Logger.Error("the page could not be shown", "error", err)
		}
		status, view.Error, view.Hint = answer.Status, answer.Message, answer.Hint()
	} else {
		view.show(list, query)
	}
	return p.write(c, status, "runs.html", view)
}

func (v *runsView) show(list *api.RunList, query *api.RunQuery) {
	for _, run := range list.Runs {
		row := runRow{
			Run: run, URL: "/runs/" + url.PathEscape(run.RunID),
			Mark: marks[run.Status], StatusText: run.Status.String(), Max: max(1, run.TaskCount),
		}
		if !run.CancelTime.IsZero() && !run.Status.Ended() {
			row.StatusText += ", cancelling"
		}
		switch {
		case run.DurationSeconds != nil:
			row.Duration = length(time.Duration(*run.DurationSeconds * float64(time.Second)))
		case !run.StartTime.IsZero():
			row.Duration = length(max(0, v.Now.Sub(run.StartTime)))
		}
		v.Runs = append(v.Runs, row)
	}
	v.First, v.Last, v.Total, v.TotalExact = list.Offset+1, list.Offset+len(list.Runs), list.Total, list.TotalExact
	if list.Offset > 0 {
		v.Newer = pageURL(query, max(0, list.Offset-list.Limit))
	}
	if v.Last < list.Total || !list.TotalExact {
		v.Older = pageURL(query, list.Offset+list.Limit)
	}
}

// marks tell states apart without colour.
var marks = map[workflow.RunStatus]string{
	workflow.RunPending: "○", workflow.RunRunning: "▶", workflow.RunPaused: "❚❚",
	workflow.RunCompleted: "✓", workflow.RunFailed: "✗", workflow.RunCancelled: "⊘",
}

func filters(query *api.RunQuery) []filterLink {
	links := []filterLink{{"all", pageURL(&api.RunQuery{DAGID: query.DAGID}, 0), len(query.Status) == 0}}
	for _, status := range []workflow.RunStatus{
		workflow.RunPending, workflow.RunRunning, workflow.RunPaused, workflow.RunCompleted, workflow.RunFailed, workflow.RunCancelled,
	} {
		one := &api.RunQuery{DAGID: query.DAGID, Status: []workflow.RunStatus{status}}
		current := len(query.Status) == 1 && query.Status[0] == status
		links = append(links, filterLink{status.String(), pageURL(one, 0), current})
	}
	return links
}

func pageURL(query *api.RunQuery, offset int) string {
	values := url.Values{}
	for _, status := range query.Status {
		values.Add("status", status.String())
	}
	if query.DAGID != "" {
		values.Set("dag_id", query.DAGID)
	}
	if offset > 0 {
		values.Set("offset", strconv.Itoa(offset))
	}
	if len(values) == 0 {
		return "/"
	}
	return "/?" + values.Encode()
}

// ago is how long ago t was, in one word or two.
func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return ""
	case d < 2*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}

// length is a duration as people read it.
func length(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
