package api_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const triggersYAML = `
- {id: literal, triggers: {webhook: {secret: "MARKERliteral$${x}"}}, tasks: [{id: t, command: x}]}
- {id: variable, triggers: {webhook: {secret: "${env:HOOK}"}}, tasks: [{id: t, command: x}], max_active_runs: 1}
- {id: secret, triggers: {webhook: {secret: "${secret:hook}"}}, tasks: [{id: t, command: x}]}
- {id: unset, triggers: {webhook: {secret: "${secret:none}"}}, tasks: [{id: t, command: x}]}
- {id: entangled, triggers: {webhook: {secret: MARKERentangled}}, tasks: [{id: unknown_task}]}
- {id: files, triggers: {file_arrival: {path: in}, dag_completed: [literal]}, tasks: [{id: t, command: x}]}
- {id: plain, tasks: [{id: t, command: x}]}
`

// hook is a backend with DAGs that have webhooks, and a service on it.
func hook(t *testing.T) (*backend, *api.Direct, *bytes.Buffer) {
	t.Helper()
	b, log := newBackend(t), &bytes.Buffer{}
	b.define(t, spec.KindDAG, triggersYAML)
	return b, api.NewDirect(b, api.DirectOptions{
		Actor: "api", Cause: "api", Logger: slog.New(slog.NewTextHandler(log, nil)),
		Secrets: spec.Lookups{
			Env: func(name string) (string, bool) { return "MARKERvariable", name == "HOOK" },
			Secret: func(name string) (string, error) {
				if name != "hook" {
					return "", errors.New("there is no secret " + name)
				}
				return "MARKERsecret", nil
			},
		},
	}), log
}

func sign(body, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	const body = `{"parameters": {"t.X": 1}, "a": "${secret:hook} $${b}"}`
	for dag, secret := range map[string]string{"literal": "MARKERliteral${x}", "variable": "MARKERvariable", "secret": "MARKERsecret"} {
		t.Run(dag, func(t *testing.T) {
			t.Parallel()
			b, direct, _ := hook(t)
			scheduled, err := direct.Webhook(t.Context(), &api.WebhookCall{
				DAGID: dag, Body: []byte(body), Signatures: []string{"", strings.ToUpper(sign(body, secret)[7:]), sign(body, secret)}, IdempotencyKey: "k",
			})
			if err != nil || !scheduled.Success || len(b.submitted) != 1 {
				t.Fatalf("it gives %+v, %v", scheduled, err)
			}
			got := b.submitted[0]
			if diff := cmp.Diff(workflow.RunValues{Trigger: &workflow.Trigger{Kind: workflow.TriggerWebhook, Body: body}}, got.Values); diff != "" {
				t.Error(diff)
			}
			if got.DAG != dag || got.IdempotencyKey != "trigger/webhook/"+dag+"/k" || got.Actor != "a signed call" || got.Cause != "webhook" ||
				(got.Pin != "") != (dag == "variable") {
				t.Errorf("submitted is %+v", got)
			}
		})
	}
}

// Who does not know the secret is told the same, whatever is there.
func TestWebhookThatIsNotSigned(t *testing.T) {
	t.Parallel()
	b, direct, _ := hook(t)
	var first *api.Error
	for _, call := range []struct{ dag, signature string }{
		{"literal", ""}, {"literal", "sha256="}, {"literal", "sha256=00"}, {"literal", sign("b", "MARKERliteral$${x}")}, {"literal", sign("other", "MARKERliteral${x}")},
		{"literal", sign("b", "MARKERliteral${x}")[7:]}, {"literal", "sha1=" + sign("b", "MARKERliteral${x}")[7:]}, {"literal", sign("b", "MARKERliteral${x}") + "00"},
		{"variable", sign("b", "")}, {"variable", sign("b", "${env:HOOK}")}, {"secret", sign("b", "MARKERvariable")},
		{"unset", sign("b", "")}, {"unset", sign("b", "${secret:none}")}, {"files", sign("b", "")}, {"plain", sign("b", "")}, {"nobody", sign("b", "")}, {"", ""},
		{"entangled", sign("b", "")}, {"nightly", ""},
	} {
		_, err := direct.Webhook(t.Context(), &api.WebhookCall{DAGID: call.dag, Body: []byte("b"), Signatures: []string{call.signature}})
		var known *api.Error
		if !errors.As(err, &known) || known.Status != http.StatusUnauthorized {
			t.Fatalf("%+v gives %v", call, err)
		}
		if first == nil {
			first = known
		}
		if diff := cmp.Diff(first, known); diff != "" {
			t.Errorf("%+v: %s", call, diff)
		}
	}
	if len(b.submitted) > 0 {
		t.Error("something is started")
	}
}

// What is wrong with a webhook is in the log, once where anybody could call again and again. No secret is.
func TestWebhookTroubles(t *testing.T) {
	t.Parallel()
	b, direct, log := hook(t)
	for range 3 {
		_, _ = direct.Webhook(t.Context(), &api.WebhookCall{DAGID: "unset", Signatures: []string{"sha256=00"}})
	}
	if told := log.String(); strings.Count(told, "level=WARN") != 1 || !strings.Contains(told, "there is no secret none") {
		t.Errorf("the log is %s", told)
	}
	_, err := direct.Webhook(t.Context(), &api.WebhookCall{DAGID: "entangled", Signatures: []string{sign("", "MARKERentangled")}})
	var known *api.Error
	if !errors.As(err, &known) || known.Status != http.StatusUnprocessableEntity || !strings.Contains(known.Message, "unknown_task") {
		t.Errorf("a DAG that can't be planned gives %v", err)
	}
	if told := log.String(); !strings.Contains(told, "unknown_task") || strings.Contains(told, "MARKER") || strings.Contains(known.Message, "MARKER") {
		t.Errorf("the log is %s, the error %v", told, err)
	}
	for _, body := range []string{"a\x00b", "\xff"} {
		_, err := direct.Webhook(t.Context(), &api.WebhookCall{DAGID: "literal", Body: []byte(body), Signatures: []string{sign(body, "MARKERliteral${x}")}})
		if !errors.As(err, &known) || known.Status != http.StatusBadRequest {
			t.Errorf("the body %q gives %v", body, err)
		}
	}
	b.submitErr = engine.ErrTooManyPending
	_, err = direct.Webhook(t.Context(), &api.WebhookCall{DAGID: "literal", Signatures: []string{sign("", "MARKERliteral${x}")}})
	if !errors.As(err, &known) || known.Status != http.StatusTooManyRequests {
		t.Errorf("with too many runs it gives %v", err)
	}
}

func TestStartTriggered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		trigger workflow.Trigger
		actor   string
	}{
		{workflow.Trigger{Kind: workflow.TriggerDAGCompleted, DAG: "sales", Run: "monday"}, "run monday of DAG sales"},
		{workflow.Trigger{Kind: workflow.TriggerFileArrival, File: "/in/a b.csv"}, "file /in/a b.csv"},
		{workflow.Trigger{Kind: workflow.TriggerFileArrival, File: "/in/a\x1b[2J\n"}, `file "/in/a\x1b[2J\n"`},
	} {
		b, direct, _ := hook(t)
		_, err := direct.StartTriggered(t.Context(), &api.TriggeredRun{DAGID: "plain", Trigger: test.trigger, Occasion: "o"})
		if err != nil {
			t.Fatal(err)
		}
		got := b.submitted[0]
		if got.Actor != test.actor || got.Cause != string(test.trigger.Kind) || got.IdempotencyKey != "trigger/"+got.Cause+"/plain/o" || *got.Values.Trigger != test.trigger {
			t.Errorf("submitted is %+v", got)
		}
	}
}

// A caller's key is never that of a trigger.
func TestTriggerKeysAreApart(t *testing.T) {
	t.Parallel()
	b, direct, _ := hook(t)
	request := &api.ScheduleDAG{DAGID: "plain"}
	request.IdempotencyKey = "trigger/webhook/plain/k"
	if _, err := direct.ScheduleDAG(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if key := b.submitted[0].IdempotencyKey; key == request.IdempotencyKey {
		t.Errorf("the key is %s", key)
	}
}

func TestTriggersAreListed(t *testing.T) {
	t.Parallel()
	_, direct, _ := hook(t)
	list, err := direct.DAGs(t.Context(), &api.DefinitionQuery{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*api.DAGTriggers{}
	for _, dag := range list.DAGs {
		got[dag.ID] = dag.Triggers
	}
	webhook := &api.DAGTriggers{Webhook: true}
	want := map[string]*api.DAGTriggers{
		"literal": webhook, "variable": webhook, "secret": webhook, "unset": webhook, "nightly": nil, "plain": nil,
		"files": {FileArrival: &workflow.FileArrival{Path: "in", Pattern: "*", WaitSeconds: 5}, DAGCompleted: []string{"literal"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A rerun of a run that a trigger started has what it had.
func TestRerunOfATriggeredRun(t *testing.T) {
	t.Parallel()
	b, direct, _ := hook(t)
	b.run = engine.RunView{ID: runID, Name: "mine", DAG: "plain", Status: workflow.RunFailed}
	b.given.Trigger = &workflow.Trigger{Kind: workflow.TriggerFileArrival, File: "/in/a"}
	for _, reset := range []bool{false, true} {
		if _, err := direct.Rerun(t.Context(), "mine", &api.Rerun{ResetParams: reset}); err != nil {
			t.Fatal(err)
		}
		if got := b.submitted[len(b.submitted)-1]; got.Values.Trigger == nil || *got.Values.Trigger != *b.given.Trigger || got.Cause != "api" {
			t.Errorf("submitted is %+v", got)
		}
	}
}

func TestStartAllTriggered(t *testing.T) {
	t.Parallel()
	b, direct, _ := hook(t)
	run := func(dag, file string) api.TriggeredRun {
		return api.TriggeredRun{DAGID: dag, Occasion: file, Trigger: workflow.Trigger{Kind: workflow.TriggerFileArrival, File: file}}
	}
	if err := direct.StartAllTriggered(t.Context(), []api.TriggeredRun{run("plain", "/a"), run("entangled", "/b")}); err == nil || len(b.submitted) > 0 {
		t.Errorf("it gives %v, %d are submitted", err, len(b.submitted))
	}
	if err := direct.StartAllTriggered(t.Context(), []api.TriggeredRun{run("plain", "/a"), run("plain", "/b")}); err != nil {
		t.Fatal(err)
	}
	for i, file := range []string{"/a", "/b"} {
		got := b.submitted[i]
		if got.Values.Trigger.File != file || got.IdempotencyKey != "trigger/file_arrival/plain/"+file || got.Actor != "file "+file {
			t.Errorf("submitted is %+v", got)
		}
	}
	b.submitErr = engine.ErrTooManyPending
	var known *api.Error
	if err := direct.StartAllTriggered(t.Context(), []api.TriggeredRun{run("plain", "/a")}); !errors.As(err, &known) || known.Status != http.StatusTooManyRequests {
		t.Errorf("it gives %v", err)
	}
}
