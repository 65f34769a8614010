package api

import (
	"fmt"
	"net/http"
)

// Error is an error that the caller can do something about. In JSON it is the value of "error".
type Error struct {
	// Status is the status of the HTTP answer.
	Status int `json:"-"`
	// Code is for programs.
	Code string `json:"code"`
	// Message says what is wrong, in one sentence.
	Message string   `json:"message"`
	Details *Details `json:"details,omitempty"`
}

// Details are what more there is to say about an error.
type Details struct {
	// Hint says what to do next.
	Hint string `json:"hint,omitempty"`
	// Field is the field, query parameter or header that is wrong.
	Field string `json:"field,omitempty"`
	// Nearest are the known names that are most like the wrong one.
	Nearest []string `json:"nearest,omitempty"`
	// Allowed are all values that would do.
	Allowed []string `json:"allowed,omitempty"`
	// Status is the state that stands in the way.
	Status string `json:"status,omitempty"`
}

// The codes of errors.
const (
	CodeBadRequest       = "bad_request"        // 400: the request cannot be read
	CodeUnauthorized     = "unauthorized"       // 401
	CodeForbidden        = "forbidden"          // 403
	CodeNotFound         = "not_found"          // 404
	CodeMethodNotAllowed = "method_not_allowed" // 405
	CodeConflict         = "conflict"           // 409: an id is used already, or the state does not allow it
	CodeGone             = "gone"               // 410: retention has dropped what would be needed
	CodeTooLarge         = "too_large"          // 413
	CodeInvalid          = "invalid"            // 422: the request can be read, and makes no sense
	CodeTooMany          = "too_many_requests"  // 429
	CodeInternal         = "internal"           // 500
	CodeUnavailable      = "unavailable"        // 503: the backend does not answer
)

func (e *Error) Error() string { return e.Message }

// Hint says what to do next; empty when there is nothing to say.
func (e *Error) Hint() string {
	if e.Details == nil {
		return ""
	}
	return e.Details.Hint
}

// badField is the error of a query parameter or field that cannot be read.
func badField(field, message string) *Error {
	return &Error{
		Status: http.StatusBadRequest, Code: CodeBadRequest, Message: fmt.Sprintf("%s: %s", field, message),
		Details: &Details{Field: field},
	}
}

// notFound is the error of an id that names nothing.
func notFound(message, hint string) *Error {
	err := &Error{Status: http.StatusNotFound, Code: CodeNotFound, Message: message}
	if hint != "" {
		err.Details = &Details{Hint: hint}
	}
	return err
}

// conflict is the error of what the state of something does not allow.
func conflict(status fmt.Stringer, message, hint string) *Error {
	return &Error{
		Status: http.StatusConflict, Code: CodeConflict, Message: message, Details: &Details{Status: status.String(), Hint: hint},
	}
}
