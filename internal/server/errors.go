package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

// errorBody is the answer of every request that went wrong.
type errorBody struct {
	Error *api.Error `json:"error"`
}

// answerError writes the answer to a request that went wrong. What a client cannot mend is logged, and not shown.
func (s *Server) answerError(err error, c echo.Context) {
	request := c.Request()
	if c.Response().Committed || request.Context().Err() != nil {
		return // a stream that broke, or a client that is gone
	}
	answer := errorOf(err, request)
	if answer.Status == http.StatusInternalServerError {
		s.options.Logger.Error("a request could not be answered", "method", request.Method, "path", request.URL.Path, "error", err)
	}
	if answer.Status == http.StatusTooManyRequests || answer.Status == http.StatusServiceUnavailable {
		c.Response().Header().Set("Retry-After", "1")
	}
	if wantsPage(request) {
		if err := s.page.failed(c, answer); err != nil {
			s.options.Logger.Debug("an error could not be sent", "path", request.URL.Path, "error", err)
		}
		return
	}
	if err := c.JSON(answer.Status, errorBody{answer}); err != nil {
		s.options.Logger.Debug("an error could not be sent", "path", request.URL.Path, "error", err)
	}
}

func errorOf(err error, request *http.Request) *api.Error {
	var known *api.Error
	var large *http.MaxBytesError
	var routing *echo.HTTPError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &large):
		return tooLarge(maxBody)
	case errors.Is(err, context.DeadlineExceeded):
		return &api.Error{Status: http.StatusServiceUnavailable, Code: api.CodeUnavailable, Message: "the answer took too long"}
	case errors.As(err, &routing) && routing.Code == http.StatusNotFound:
		return &api.Error{
			Status: http.StatusNotFound, Code: api.CodeNotFound, Message: fmt.Sprintf("there is nothing at %s", request.URL.Path),
		}
	case errors.As(err, &routing) && routing.Code == http.StatusMethodNotAllowed:
		return &api.Error{
			Status: http.StatusMethodNotAllowed, Code: api.CodeMethodNotAllowed,
			Message: fmt.Sprintf("%s does not take %s", request.URL.Path, request.Method),
		}
	case errors.As(err, &routing) && routing.Code < http.StatusInternalServerError:
		return &api.Error{Status: routing.Code, Code: api.CodeBadRequest, Message: fmt.Sprint(routing.Message)}
	}
	return &api.Error{
		Status: http.StatusInternalServerError, Code: api.CodeInternal, Message: "something went wrong in the server",
		Details: &api.Details{Hint: "the server's log says what"},
	}
}

func tooLarge(most int) *api.Error {
	return &api.Error{
		Status: http.StatusRequestEntityTooLarge, Code: api.CodeTooLarge,
		Message: fmt.Sprintf("the body of the request is larger than %d bytes", most),
	}
}

func badRequest(field, message string) *api.Error {
	err := &api.Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: message}
	if field != "" {
		err.Details = &api.Details{Field: field}
	}
	return err
}
