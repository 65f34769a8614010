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
	{name: "what servers declare counts together, of each what it declared last", run: func(w *world) {
		want := func(context string, queues ...string) {
			w.Helper()
			got, err := w.backend.Declared(w.ctx)
			w.must(err, "read what is declared")
			if got.DefaultContext != context || !slices.Equal(got.Queues, queues) {
				w.Fatalf("%+v is declared, should be %q and the context %q", got, queues, context)
			}
		}
		declare := func(server, context string, queues ...string) {
			w.Helper()
			w.must(w.backend.Declare(w.ctx, server, engine.Declared{Queues: queues, DefaultContext: context}), "declare")
		}
		want("")
		declare("one", "production", "default", "gpu")
		want("production", "default", "gpu")
		declare("one", "", "default")
		want("", "default")
		declare("two", "staging", "default", "batch")
		want("staging", "batch", "default")
		declare("one", "", "default") // nothing new
		want("staging", "batch", "default")
		declare("one", "production", "default", "gpu")
		want("production", "batch", "default", "gpu")
		declare("two", "staging") // any
		want("staging")
		declare("two", "staging", "other")
		want("staging", "default", "gpu", "other")
	}},
	{name: "all definitions can go", run: func(w *world) {
		w.publish(true, definition("task", "a", `{}`))
		w.wantDefinitions(w.publish(true), map[string]string{})
	}},
}
