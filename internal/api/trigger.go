package api

import (
	"context"
	"net/http"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Triggers starts runs of DAGs for others than people.
type Triggers interface {
	// Webhook starts a run for a call of a DAG's webhook. The Error is 401 for a call that is not signed as it should be,
	// and the same where there is no such DAG, or it has no webhook: who does not know the secret learns nothing.
	Webhook(ctx context.Context, call *WebhookCall) (*Scheduled, error)
}

// MaxWebhookBody is the largest body of a call of a webhook, in bytes. Tasks see it in their environment, where the
// system has a bound of twice that.
const MaxWebhookBody = 64 << 10

// WebhookCall is a call of a DAG's webhook.
type WebhookCall struct {
	DAGID string
	Body  []byte
	// Signatures are those that came with it, as sha256=HEX. One that is right will do.
	Signatures []string
	// IdempotencyKey makes a delivery that is repeated the same run; empty for none.
	IdempotencyKey string
}

// TriggeredRun is a run that a trigger starts.
type TriggeredRun struct {
	DAGID   string
	Trigger workflow.Trigger
	// Occasion names what the run is for: there is one for each. Empty for a run each time.
	Occasion string
}

// unsigned is the error of a call of a webhook that is not signed as it should be.
func unsigned() *Error {
	return &Error{
		Status: http.StatusUnauthorized, Code: CodeUnauthorized,
		Message: "there is no webhook here that this call is signed for",
		Details: &Details{
			Field: "X-Cyclonetix-Signature",
			Hint:  "it takes sha256= and the HMAC-SHA256 of the body, in hexadecimal, by the secret of the DAG's webhook; see the id of the DAG, too",
		},
	}
}
