package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
)

// The headers that calls of webhooks are signed by, and that tell one delivery from another: ours, and those of GitHub.
var (
	signatureHeaders = []string{"X-Cyclonetix-Signature", "X-Hub-Signature-256"}
	deliveryHeaders  = []string{"Idempotency-Key", "X-GitHub-Delivery"}
)

// triggers answers the calls of webhooks.
type triggers struct {
	triggers api.Triggers
	pace     *pace
}

// webhook takes a call from anywhere: who may start the run is told by the signature, not by a login. What it costs to
// find that out is bounded first.
func (t *triggers) webhook(c echo.Context) error {
	request := c.Request()
	if !t.pace.allows(request.RemoteAddr) {
		return &api.Error{
			Status: http.StatusTooManyRequests, Code: api.CodeTooMany, Message: "too many calls of webhooks from this address",
			Details: &api.Details{Hint: fmt.Sprintf("at most %d a second are taken; try again in a moment", webhooksPerSecond)},
		}
	}
	if request.ContentLength > api.MaxWebhookBody {
		return tooLarge(api.MaxWebhookBody)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), request.Body, api.MaxWebhookBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return tooLarge(api.MaxWebhookBody)
		}
		return badRequest("", "the body of the request breaks off")
	}
	call := &api.WebhookCall{DAGID: id(c), Body: body}
	for _, header := range signatureHeaders {
		call.Signatures = append(call.Signatures, request.Header.Get(header))
	}
	for _, header := range deliveryHeaders {
		if key := request.Header.Get(header); len(key) > maxKey {
			return badRequest(header, fmt.Sprintf("%s is longer than %d bytes", header, maxKey))
		} else if call.IdempotencyKey == "" {
			call.IdempotencyKey = key
		}
	}
	return answer(c)(t.triggers.Webhook(request.Context(), call))
}
