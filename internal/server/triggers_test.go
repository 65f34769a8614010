package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/server"
)

// webhooks keeps the calls that came through.
type webhooks struct {
	calls []api.WebhookCall
	err   error
}

func (w *webhooks) Webhook(_ context.Context, call *api.WebhookCall) (*api.Scheduled, error) {
	w.calls = append(w.calls, *call)
	return &api.Scheduled{Success: true, RunID: "r"}, w.err
}

func hooked(t *testing.T, w *webhooks) *server.Server {
	t.Helper()
	return start(t, &fake{}, func(options *server.Options) {
		options.Triggers, options.AdvertiseURL = w, "https://flow.example.org"
	})
}

func call(s *server.Server, r *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	s.Handler().ServeHTTP(recorder, r)
	return recorder
}

func TestWebhookCalls(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 201)
	for name, test := range map[string]struct {
		body   string
		header []string
		status int
		want   api.WebhookCall
	}{
		"signed":              {"{}", []string{"X-Cyclonetix-Signature", "sha256=00"}, 200, api.WebhookCall{Signatures: []string{"sha256=00", ""}}},
		"as GitHub does":      {"{}", []string{"X-Hub-Signature-256", "sha256=11", "X-GitHub-Delivery", "d"}, 200, api.WebhookCall{Signatures: []string{"", "sha256=11"}, IdempotencyKey: "d"}},
		"with a key":          {"", []string{"Idempotency-Key", "k", "X-GitHub-Delivery", "d"}, 200, api.WebhookCall{Signatures: []string{"", ""}, IdempotencyKey: "k"}},
		"as large as may be":  {strings.Repeat("x", 64<<10), nil, 200, api.WebhookCall{Signatures: []string{"", ""}}},
		"too large":           {strings.Repeat("x", 64<<10+1), nil, 413, api.WebhookCall{}},
		"much too large":      {strings.Repeat("x", 2<<20), nil, 413, api.WebhookCall{}},
		"a key too long":      {"", []string{"Idempotency-Key", long}, 400, api.WebhookCall{}},
		"another key too":     {"", []string{"Idempotency-Key", "k", "X-GitHub-Delivery", long}, 400, api.WebhookCall{}},
		"by its public name":  {"{}", []string{"Host", "flow.example.org"}, 200, api.WebhookCall{Signatures: []string{"", ""}}},
		"by a forged name":    {"{}", []string{"Host", "evil.example.com"}, 403, api.WebhookCall{}},
		"by a page elsewhere": {"{}", []string{"Origin", "https://evil.example.com"}, 403, api.WebhookCall{}},
		"by a page of ours":   {"{}", []string{"Origin", "https://flow.example.org"}, 200, api.WebhookCall{Signatures: []string{"", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &webhooks{}
			answer := call(hooked(t, w), request("POST", "/api/triggers/a.b-c", test.body, test.header...))
			if answer.Code != test.status {
				t.Fatalf("the status is %d: %s", answer.Code, answer.Body)
			}
			if test.status != 200 {
				if len(w.calls) > 0 {
					t.Error("it came through")
				}
				return
			}
			if len(w.calls) != 1 {
				t.Fatalf("%d calls came through", len(w.calls))
			}
			got := w.calls[0]
			if got.DAGID != "a.b-c" || string(got.Body) != test.body || got.IdempotencyKey != test.want.IdempotencyKey || !slices.Equal(got.Signatures, test.want.Signatures) {
				t.Errorf("the call is %+v", got)
			}
		})
	}
}

// A body whose length nobody says is bounded as well.
func TestWebhookBodyOfUnknownLength(t *testing.T) {
	t.Parallel()
	w := &webhooks{}
	r := request("POST", "/api/triggers/a", strings.Repeat("x", 64<<10+1))
	r.ContentLength = -1
	if answer := call(hooked(t, w), r); answer.Code != http.StatusRequestEntityTooLarge || len(w.calls) > 0 {
		t.Errorf("the status is %d, %d calls came through", answer.Code, len(w.calls))
	}
}

// Calls are bounded before anything is done for them, for each address.
func TestWebhookPace(t *testing.T) {
	t.Parallel()
	w := &webhooks{err: &api.Error{Status: http.StatusUnauthorized, Code: api.CodeUnauthorized, Message: "no"}}
	s := hooked(t, w)
	counts := map[int]int{}
	for range 1000 {
		answer := call(s, request("POST", "/api/triggers/a", ""))
		counts[answer.Code]++
		if answer.Code == http.StatusTooManyRequests && answer.Header().Get("Retry-After") == "" {
			t.Error("nothing tells when to come again")
		}
	}
	if counts[http.StatusUnauthorized] < 100 || counts[http.StatusTooManyRequests] < 100 || counts[http.StatusUnauthorized] != len(w.calls) {
		t.Errorf("the answers are %v, %d calls came through", counts, len(w.calls))
	}
	other := request("POST", "/api/triggers/a", "")
	other.RemoteAddr = "198.51.100.7:1234"
	if answer := call(s, other); answer.Code != http.StatusUnauthorized {
		t.Errorf("another address gets %d", answer.Code)
	}
}

func TestWebhooksCanBeOff(t *testing.T) {
	t.Parallel()
	if answer := call(start(t, &fake{}), request("POST", "/api/triggers/a", "")); answer.Code != http.StatusNotFound {
		t.Errorf("the status is %d: %s", answer.Code, fmt.Sprint(answer.Body))
	}
	if answer := call(hooked(t, &webhooks{}), request("GET", "/api/triggers/a", "")); answer.Code != http.StatusMethodNotAllowed {
		t.Errorf("the status is %d", answer.Code)
	}
}
