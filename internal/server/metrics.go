package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Metrics are what a process tells about itself. It has a registry of its own.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec

	runsEnded     map[workflow.RunStatus]prometheus.Counter
	taskRunsEnded map[workflow.TaskStatus]prometheus.Counter
	commits       prometheus.Histogram
	commitRows    prometheus.Histogram
}

// NewMetrics makes the metrics of a process with the given version of the program; more are collected with them.
func NewMetrics(version string, more ...prometheus.Collector) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cyclonetix_http_request_duration_seconds", Help: "Time to answer HTTP requests; logs that are followed count until their end.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
		}, []string{"method", "route", "code"}),
		runsEnded:     map[workflow.RunStatus]prometheus.Counter{},
		taskRunsEnded: map[workflow.TaskStatus]prometheus.Counter{},
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cyclonetix_commit_duration_seconds", Help: "Duration of this orchestrator's commits.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 13),
		}),
		commitRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cyclonetix_commit_task_runs", Help: "Task runs changed in one commit.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cyclonetix_build_info", Help: "Always 1; the label says which version runs.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
	runs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cyclonetix_runs_ended_total", Help: "Runs that this orchestrator ended, by their final status.",
	}, []string{"status"})
	for _, status := range []workflow.RunStatus{workflow.RunCompleted, workflow.RunFailed, workflow.RunCancelled} {
		m.runsEnded[status] = runs.WithLabelValues(status.String())
	}
	taskRuns := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cyclonetix_task_runs_ended_total", Help: "Task runs that this orchestrator ended, by their final status.",
	}, []string{"status"})
	for _, status := range []workflow.TaskStatus{
		workflow.TaskCompleted, workflow.TaskFailed, workflow.TaskSkipped, workflow.TaskUpstreamFailed, workflow.TaskCancelled,
	} {
		m.taskRunsEnded[status] = taskRuns.WithLabelValues(status.String())
	}
	m.registry.MustRegister(
		m.requests, runs, taskRuns, m.commits, m.commitRows, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.registry.MustRegister(more...)
	return m
}

// Committed counts what an orchestrator committed in one step, and how long that took.
func (m *Metrics) Committed(took time.Duration, changes []*workflow.Change) {
	rows := 0
	for _, change := range changes {
		rows += len(change.Tasks)
		for i := range change.Tasks {
			if status := change.Tasks[i].Status; status.Ended() {
				m.taskRunsEnded[status].Inc()
			}
		}
		if change.Ends() {
			m.runsEnded[change.Run.Status].Inc()
		}
	}
	m.commits.Observe(took.Seconds())
	m.commitRows.Observe(float64(rows))
}

func (m *Metrics) handler() echo.HandlerFunc {
	return echo.WrapHandler(promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry}))
}

// observe measures requests by route, so that ids do not become labels.
func (m *Metrics) observe(next echo.HandlerFunc) echo.HandlerFunc {
	if m == nil {
		return next
	}
	return func(c echo.Context) error {
		begin := time.Now()
		err := next(c)
		if err != nil {
			c.Error(err) // writes the answer, so that its status is known here
		}
		route := c.Path()
		if route == "" || c.Response().Status == http.StatusNotFound && route == "/*" {
			route = "none"
		}
		m.requests.WithLabelValues(method(c.Request().Method), route, strconv.Itoa(c.Response().Status)).Observe(time.Since(begin).Seconds())
		return nil
	}
}

// method keeps made-up methods from becoming labels.
func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return name
	}
	return "other"
}
