package server

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// query reads the query parameters of a request. Its first error stays.
type query struct {
	values url.Values
	err    error
}

// readQuery takes the query of a request, which may have the given parameters.
func readQuery(c echo.Context, known ...string) *query {
	q := &query{}
	values, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		q.err = badRequest("", "the query of the request cannot be read")
		return q
	}
	q.values = values
	for name, given := range values {
		if !slices.Contains(known, name) {
			q.fail(unknownField(name, known))
		} else if len(given) > 1 && name != "status" {
			q.fail(badRequest(name, name+" is given more than once"))
		}
	}
	return q
}

func (q *query) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *query) text(name string) string { return q.values.Get(name) }

// positive is a number from 1 to most; 0 when it is not given.
func (q *query) positive(name string, most int) int {
	text := q.values.Get(name)
	if text == "" {
		return 0
	}
	number, err := strconv.Atoi(text)
	if err != nil || number < 1 || number > most {
		q.fail(badRequest(name, fmt.Sprintf("%s: %q is not a number from 1 to %d", name, text, most)))
	}
	return number
}

func (q *query) limit() int { return q.positive("limit", api.MaxLimit) }

// offset is a number that is not negative; 0 when it is not given.
func (q *query) offset() int {
	const name = "offset"
	text := q.values.Get(name)
	if text == "" {
		return 0
	}
	number, err := strconv.ParseInt(text, 10, 32)
	if err != nil || number < 0 {
		q.fail(badRequest(name, fmt.Sprintf("%s: %q is not a number from 0", name, text)))
	}
	return int(number)
}

// flag is set by "true" and "1", and by the bare name.
func (q *query) flag(name string) bool {
	if !q.values.Has(name) {
		return false
	}
	switch text := q.values.Get(name); text {
	case "", "1", "true":
		return true
	case "0", "false":
		return false
	default:
		q.fail(badRequest(name, fmt.Sprintf("%s: %q is not true or false", name, text)))
		return false
	}
}

func (q *query) time(name string) time.Time {
	text := q.values.Get(name)
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.fail(badRequest(name, fmt.Sprintf("%s: %q is not a time such as 2026-01-31T08:00:00Z (RFC 3339)", name, text)))
	}
	return at
}

// statuses are given by repeating the parameter, or with commas.
func (q *query) statuses(name string) []workflow.RunStatus {
	var statuses []workflow.RunStatus
	for _, text := range q.values[name] {
		for one := range strings.SplitSeq(text, ",") {
			if one == "" {
				continue
			}
			status, err := workflow.ParseRunStatus(one)
			if err != nil {
				q.fail(badRequest(name, err.Error()))
			}
			statuses = append(statuses, status)
		}
	}
	return statuses
}
