package server

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

// handlers answer the requests of the API: they read what was asked, and write what the service says.
type handlers struct {
	service  api.Service
	stopping <-chan struct{}
}

// maxKey is the largest length of an idempotency key.
const maxKey = 200

func (h *handlers) scheduleTask(c echo.Context) error {
	var request api.ScheduleTask
	if err := readSchedule(c, &request, &request.Settings); err != nil {
		return err
	}
	return answer(c)(h.service.ScheduleTask(c.Request().Context(), &request))
}

func (h *handlers) scheduleDAG(c echo.Context) error {
	var request api.ScheduleDAG
	if err := readSchedule(c, &request, &request.Settings); err != nil {
		return err
	}
	return answer(c)(h.service.ScheduleDAG(c.Request().Context(), &request))
}

func (h *handlers) plan(c echo.Context) error {
	var request api.PlanRequest
	if err := readBody(c, &request); err != nil {
		return err
	}
	return answer(c)(h.service.Plan(c.Request().Context(), &request))
}

func readSchedule(c echo.Context, body any, settings *api.Settings) error {
	err := readBody(c, body)
	if err == nil {
		settings.IdempotencyKey, err = idempotencyKey(c)
	}
	return err
}

func idempotencyKey(c echo.Context) (string, error) {
	const header = "Idempotency-Key"
	key := c.Request().Header.Get(header)
	if len(key) > maxKey {
		return "", badRequest(header, fmt.Sprintf("%s is longer than %d bytes", header, maxKey))
	}
	return key, nil
}

func (h *handlers) rerun(c echo.Context) error {
	var request api.Rerun
	err := readOptionalBody(c, &request)
	if err == nil {
		request.IdempotencyKey, err = idempotencyKey(c)
	}
	if err != nil {
		return err
	}
	return answer(c)(h.service.Rerun(c.Request().Context(), id(c), &request))
}

func (h *handlers) backfill(c echo.Context) error {
	var request api.Backfill
	if err := readBody(c, &request); err != nil {
		return err
	}
	return answer(c)(h.service.Backfill(c.Request().Context(), &request))
}

func (h *handlers) tasks(c echo.Context) error {
	query, err := definitionQuery(c, "filter", "queue")
	if err != nil {
		return err
	}
	return answer(c)(h.service.Tasks(c.Request().Context(), query))
}

func (h *handlers) dags(c echo.Context) error {
	query, err := definitionQuery(c, "filter")
	if err != nil {
		return err
	}
	return answer(c)(h.service.DAGs(c.Request().Context(), query))
}

func (h *handlers) contexts(c echo.Context) error {
	query, err := definitionQuery(c, "filter")
	if err != nil {
		return err
	}
	return answer(c)(h.service.Contexts(c.Request().Context(), query))
}

func (h *handlers) parameterSets(c echo.Context) error {
	query, err := definitionQuery(c, "filter")
	if err != nil {
		return err
	}
	return answer(c)(h.service.ParameterSets(c.Request().Context(), query))
}

func definitionQuery(c echo.Context, filters ...string) (*api.DefinitionQuery, error) {
	q := readQuery(c, append(filters, "limit", "offset")...)
	query := &api.DefinitionQuery{
		Filter: q.text("filter"), Queue: q.text("queue"), Limit: q.limit(), Offset: q.offset(),
	}
	return query, q.err
}

func (h *handlers) runs(c echo.Context) error {
	q := readQuery(c, "status", "dag_id", "since", "until", "limit", "offset")
	query := &api.RunQuery{
		Status: q.statuses("status"), DAGID: q.text("dag_id"), Since: q.time("since"), Until: q.time("until"),
		Limit: q.limit(), Offset: q.offset(),
	}
	if q.err != nil {
		return q.err
	}
	return answer(c)(h.service.Runs(c.Request().Context(), query))
}

func (h *handlers) run(c echo.Context) error {
	q := readQuery(c, "include_tasks", "include_logs")
	include := api.Include{Tasks: q.flag("include_tasks"), Logs: q.flag("include_logs")}
	if q.err != nil {
		return q.err
	}
	return answer(c)(h.service.Run(c.Request().Context(), id(c), include))
}

func (h *handlers) graph(c echo.Context) error {
	if q := readQuery(c); q.err != nil {
		return q.err
	}
	return answer(c)(h.service.Graph(c.Request().Context(), id(c)))
}

func (h *handlers) cancelRun(c echo.Context) error {
	if err := readOptionalBody(c, &struct{}{}); err != nil {
		return err
	}
	return answer(c)(h.service.CancelRun(c.Request().Context(), id(c)))
}

func (h *handlers) events(c echo.Context) error {
	q := readQuery(c, "limit", "offset")
	query := &api.EventQuery{Limit: q.limit(), Offset: q.offset()}
	if q.err != nil {
		return q.err
	}
	return answer(c)(h.service.Events(c.Request().Context(), id(c), query))
}

func (h *handlers) controlRun(action api.RunAction) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := readOptionalBody(c, &struct{}{}); err != nil {
			return err
		}
		return answer(c)(h.service.ControlRun(c.Request().Context(), id(c), action))
	}
}

func (h *handlers) controlTask(action api.TaskAction) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := readOptionalBody(c, &struct{}{}); err != nil {
			return err
		}
		return answer(c)(h.service.ControlTask(c.Request().Context(), id(c), action))
	}
}

func (h *handlers) logs(c echo.Context) error {
	q := readQuery(c, "tail", "since", "after", "follow")
	query := &api.LogQuery{Tail: q.positive("tail", api.MaxTail), Since: q.time("since"), After: q.text("after")}
	follow := q.flag("follow")
	if q.err != nil {
		return q.err
	}
	if follow {
		return h.followLogs(c, query)
	}
	return answer(c)(h.service.Logs(c.Request().Context(), id(c), query))
}

func (h *handlers) health(c echo.Context) error {
	health, err := h.service.Health(c.Request().Context())
	if err != nil {
		return err
	}
	if health.Status != api.HealthOK {
		return c.JSON(http.StatusServiceUnavailable, health)
	}
	return c.JSON(http.StatusOK, health)
}

// id is the id in the path. Echo leaves it escaped where the path needs escapes.
func id(c echo.Context) string {
	given := c.Param("id")
	if c.Request().URL.RawPath == "" {
		return given
	}
	plain, err := url.PathUnescape(given)
	if err != nil {
		return given
	}
	return plain
}

// answer writes what a method of the service returned.
func answer(c echo.Context) func(value any, err error) error {
	return func(value any, err error) error {
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, value)
	}
}
