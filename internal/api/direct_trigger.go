package api

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var _ Triggers = (*Direct)(nil)

// StartTriggered starts the run of a trigger, or answers with the one that there is for the same occasion. A queue that
// no agent serves now is no reason to refuse it. Errors are those of ScheduleDAG.
func (d *Direct) StartTriggered(ctx context.Context, run *TriggeredRun) (*Scheduled, error) {
	asked, submission, err := d.planTriggered(ctx, run)
	if err != nil {
		return nil, err
	}
	return d.submit(ctx, asked, submission)
}

// StartAllTriggered is StartTriggered for many runs, in one step: after an error none is started.
func (d *Direct) StartAllTriggered(ctx context.Context, runs []TriggeredRun) error {
	submissions := make([]engine.Submission, len(runs))
	for i := range runs {
		_, submission, err := d.planTriggered(ctx, &runs[i])
		if err != nil {
			return err
		}
		submissions[i] = *submission
	}
	if _, err := d.backend.Submit(ctx, submissions); err != nil {
		return d.explain(ctx, "start the runs of a trigger", err)
	}
	return nil
}

func (d *Direct) planTriggered(ctx context.Context, run *TriggeredRun) (*order, *engine.Submission, error) {
	asked := &order{kind: spec.KindDAG, id: run.DAGID, trigger: &run.Trigger, unwatched: true}
	submission, err := d.plan(ctx, asked)
	if err != nil {
		return nil, nil, err
	}
	submission.Actor, submission.Cause = starter(&run.Trigger), string(run.Trigger.Kind)
	if run.Occasion != "" {
		submission.IdempotencyKey = language.TriggerKey(run.Trigger.Kind, run.DAGID, run.Occasion)
	}
	return asked, submission, nil
}

// starter says what started a run, as its actor.
func starter(trigger *workflow.Trigger) string {
	switch trigger.Kind {
	case workflow.TriggerDAGCompleted:
		return fmt.Sprintf("run %s of DAG %s", trigger.Run, trigger.DAG)
	case workflow.TriggerFileArrival:
		if quoted := strconv.Quote(trigger.File); quoted != `"`+trigger.File+`"` {
			return "file " + quoted // a name that would play tricks where it is shown
		}
		return "file " + trigger.File
	case workflow.TriggerWebhook:
	}
	return "a signed call"
}

// Webhook implements Triggers.
func (d *Direct) Webhook(ctx context.Context, call *WebhookCall) (*Scheduled, error) {
	catalog, _, err := d.language.Current(ctx)
	if err != nil {
		return nil, d.explain(ctx, "look for the webhook", err)
	}
	var secret string
	if webhook := catalog.Webhook(call.DAGID); webhook != nil {
		if secret, err = spec.WebhookSecret(webhook.Secret, d.options.Secrets); err == nil {
			d.told.Delete(call.DAGID)
		} else if before, _ := d.told.Swap(call.DAGID, err.Error()); before != err.Error() { // anybody can call
			d.options.warn("a webhook was called, and its secret can't be looked up", "dag", call.DAGID, "error", err)
		}
	}
	if !signed(call, secret) {
		return nil, unsigned()
	}
	if !utf8.Valid(call.Body) || bytes.IndexByte(call.Body, 0) >= 0 {
		return nil, badField("body", "it must be text in UTF-8, without NUL characters: tasks see it in their environment")
	}
	scheduled, err := d.StartTriggered(ctx, &TriggeredRun{
		DAGID: call.DAGID, Occasion: call.IdempotencyKey,
		Trigger: workflow.Trigger{Kind: workflow.TriggerWebhook, Body: string(call.Body)},
	})
	if err != nil {
		d.options.warn("a webhook was called, and its run can't be started; the caller is told, and may call again", "dag", call.DAGID, "error", err)
	}
	return scheduled, err
}

// signed tells whether one of the signatures is that of the body. Without a secret none is, and it takes as long.
func signed(call *WebhookCall, secret string) bool {
	key := []byte(secret)
	if secret == "" {
		key = []byte(rand.Text())
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(call.Body)
	want := mac.Sum(nil)
	right := false
	for _, signature := range call.Signatures {
		digest, ok := strings.CutPrefix(signature, "sha256=")
		given, err := hex.DecodeString(digest)
		right = hmac.Equal(given, want) && ok && err == nil || right
	}
	return right && secret != ""
}
