package main

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// patchy is a service that answers now and then.
type patchy struct {
	api.Service
	answers []workflow.RunStatus // 0: none
}

func (p *patchy) Run(context.Context, string, api.Include) (*api.Run, error) {
	status := p.answers[0]
	p.answers = p.answers[1:]
	if status == 0 {
		return nil, &api.Error{Status: http.StatusServiceUnavailable, Message: "no answer"}
	}
	return &api.Run{RunID: "one", Status: status}, nil
}

// A watcher is told that there is no answer, once each time.
func TestWatchTellsOfSilence(t *testing.T) {
	t.Parallel()
	var told bytes.Buffer
	p := &program{err: &told}
	running := workflow.RunRunning
	run, err := p.watch(t.Context(), &patchy{answers: []workflow.RunStatus{running, 0, 0, running, 0, running, workflow.RunCompleted}}, "one")
	if err != nil || run.Status != workflow.RunCompleted {
		t.Fatalf("it ends with %+v, %v", run, err)
	}
	if got := strings.Count(told.String(), noAnswer); got != 2 {
		t.Errorf("told %d times:\n%s", got, &told)
	}
}

func TestFrameTellsOfSilence(t *testing.T) {
	t.Parallel()
	var seen any = frame("picture\n")
	for range 2 {
		seen, _ = seen.(frame).Update(missed("no answer")) //nolint:forcetypeassert // its only type
	}
	if seen != frame("picture\nno answer\n") {
		t.Errorf("seen is %q", seen)
	}
	if seen, _ = seen.(frame).Update(frame("next\n")); seen != frame("next\n") { //nolint:forcetypeassert // its only type
		t.Errorf("then %q", seen)
	}
}
