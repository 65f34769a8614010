package backendtest

import (
	"encoding/json"
	"reflect"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

func definition(kind, id, body string) engine.Definition {
	return engine.Definition{Kind: kind, ID: id, Body: []byte(body)}
}

// publish makes definitions the current ones, and checks what is answered.
func (w *world) publish(wantChanged bool, definitions ...engine.Definition) int64 {
	w.Helper()
	revision, changed, err := w.backend.Publish(w.ctx, definitions, "test")
	w.must(err, "publish")
	if changed != wantChanged {
		w.Fatalf("publishing answers that it changed something: %v", changed)
	}
	current, err := w.backend.Revision(w.ctx)
	w.must(err, "read the revision")
	if current != revision {
		w.Fatalf("the revision is %d after publishing %d", current, revision)
	}
	return revision
}

// wantDefinitions compares the bodies of a revision, by kind and id.
func (w *world) wantDefinitions(revision int64, want map[string]string) {
	w.Helper()
	definitions, err := w.backend.LoadDefinitions(w.ctx, revision)
	w.must(err, "load definitions")
	got := map[string]string{}
	for _, one := range definitions {
		if !json.Valid(one.Body) {
			w.Errorf("%s %s is not JSON: %s", one.Kind, one.ID, one.Body)
		}
		got[one.Kind+" "+one.ID] = string(one.Body)
	}
	if !reflect.DeepEqual(got, want) {
		w.Fatalf("revision %d holds %v, should hold %v", revision, got, want)
	}
}

var definitionTests = []test{
	{name: "before the first publication there is no revision", run: func(w *world) {
		revision, err := w.backend.Revision(w.ctx)
		w.must(err, "read the revision")
		if revision != 0 {
			w.Fatalf("the revision is %d", revision)
		}
		w.wantDefinitions(0, map[string]string{})
	}},
	{name: "a revision keeps its definitions whatever comes later", run: func(w *world) {
		first := w.publish(true, definition("task", "a", `{"v":1}`), definition("task", "b", `{"v":1}`), definition("dag", "a", `{"v":1}`))
		second := w.publish(true, definition("task", "a", `{"v":2}`), definition("dag", "a", `{"v":1}`), definition("context", "c", `{}`))
		third := w.publish(true, definition("task", "a", `{"v":1}`), definition("task", "b", `{"v":3}`))
		if first >= second || second >= third {
			w.Fatalf("the revisions are %d, %d, %d", first, second, third)
		}
		w.wantDefinitions(first, map[string]string{"task a": `{"v":1}`, "task b": `{"v":1}`, "dag a": `{"v":1}`})
		w.wantDefinitions(second, map[string]string{"task a": `{"v":2}`, "dag a": `{"v":1}`, "context c": `{}`})
		w.wantDefinitions(third, map[string]string{"task a": `{"v":1}`, "task b": `{"v":3}`})
	}},
	{name: "publishing the same again makes no revision", run: func(w *world) {
		first := w.publish(true, definition("task", "a", `{}`), definition("task", "b", `{}`))
		if again := w.publish(false, definition("task", "b", `{}`), definition("task", "a", `{}`)); again != first {
			w.Fatalf("the revision went from %d to %d", first, again)
		}
	}},
	{name: "what is declared last counts", run: func(w *world) {
		for _, want := range []engine.Declared{
			{}, {Queues: []string{"default", "gpu"}, DefaultContext: "production"}, {Queues: []string{"default"}}, {Queues: []string{"default"}},
		} {
			if len(want.Queues) > 0 {
				w.must(w.backend.Declare(w.ctx, want), "declare")
			}
			got, err := w.backend.Declared(w.ctx)
			w.must(err, "read what is declared")
			if got.DefaultContext != want.DefaultContext || !slices.Equal(got.Queues, want.Queues) {
				w.Fatalf("%+v is declared, should be %+v", got, want)
			}
		}
	}},
	{name: "all definitions can go", run: func(w *world) {
		w.publish(true, definition("task", "a", `{}`))
		w.wantDefinitions(w.publish(true), map[string]string{})
	}},
}
