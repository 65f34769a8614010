package language_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/language"
	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// definitions has in each revision a task of the revision's number, and counts what is asked of it.
type definitions struct {
	engine.Definitions

	mu       sync.Mutex
	revision int64
	loads    []int64
	err      error
}

func (d *definitions) Revision(context.Context) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.revision, d.err
}

func (d *definitions) LoadDefinitions(_ context.Context, revision int64) ([]engine.Definition, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loads = append(d.loads, revision)
	id := fmt.Sprintf("t%d", revision)
	return []engine.Definition{
		{Kind: "task", ID: id, Body: fmt.Appendf(nil, `{"id":%q,"command":"true","queue":"default","priority":2,"dependencies":["base"]}`, id)},
		{Kind: "task", ID: "base", Body: []byte(`{"id":"base","command":"true","queue":"default","priority":2}`)},
		{Kind: "task", ID: "broken", Body: []byte(`{"id":"broken","command":"true","queue":"default","priority":2,"dependencies":["nothing"]}`)},
		{Kind: "dag", ID: "nightly", Body: []byte(`{"id":"nightly","tasks":[{"id":"base","overrides":{"id":"","command":"","queue":"","priority":0}}],"schedule":{"cron":"@daily"}}`)},
		{Kind: "dag", ID: "never", Body: []byte(`{"id":"never","tasks":[{"id":"base","overrides":{"id":"","command":"","queue":"","priority":0}}]}`)},
	}, d.err
}

func has(t *testing.T, catalog *spec.Catalog, id string) bool {
	t.Helper()
	_, err := catalog.Lookup(spec.KindTask, id)
	return err == nil
}

func TestCatalogsAreRemembered(t *testing.T) {
	t.Parallel()
	d := &definitions{revision: 1}
	l := language.New(d)
	for range 3 {
		catalog, revision, err := l.Current(t.Context())
		if err != nil || revision != 1 || !has(t, catalog, "t1") {
			t.Fatalf("revision %d, %v", revision, err)
		}
	}
	d.revision = 2
	if catalog, revision, err := l.Current(t.Context()); err != nil || revision != 2 || !has(t, catalog, "t2") {
		t.Fatalf("revision %d, %v", revision, err)
	}
	if catalog, err := l.Catalog(t.Context(), 1); err != nil || !has(t, catalog, "t1") {
		t.Fatalf("an older revision: %v", err)
	}
	if !slices.Equal(d.loads, []int64{1, 2}) {
		t.Errorf("loaded %v", d.loads)
	}
	// The one that was not used for longest is forgotten, when there are too many.
	for _, revision := range []int64{3, 4, 1, 5, 1, 2} {
		if _, err := l.Catalog(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(d.loads, []int64{1, 2, 3, 4, 5, 2}) {
		t.Errorf("loaded %v", d.loads)
	}
}

func TestCurrentNeverGoesBack(t *testing.T) {
	t.Parallel()
	d := &definitions{revision: 2}
	l := language.New(d)
	if _, _, err := l.Current(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.revision = 1 // as a reader that lags would say
	if _, revision, err := l.Current(t.Context()); err != nil || revision != 2 {
		t.Errorf("revision %d, %v", revision, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	d := &definitions{revision: 1}
	l := language.New(d)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if _, err := l.Catalog(t.Context(), int64(i%3+1)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(d.loads) != 3 {
		t.Errorf("loaded %v", d.loads)
	}
}

func TestErrorsAreNotRemembered(t *testing.T) {
	t.Parallel()
	d := &definitions{revision: 1, err: errors.New("down")}
	l := language.New(d)
	if _, _, err := l.Current(t.Context()); !errors.Is(err, d.err) {
		t.Errorf("error %v", err)
	}
	if _, _, _, err := l.Plan(t.Context(), 1, []string{"t1"}); !errors.Is(err, d.err) {
		t.Errorf("error %v", err)
	}
	d.err = nil
	if _, err := l.Catalog(t.Context(), 1); err != nil {
		t.Errorf("error %v", err)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	l := language.New(&definitions{revision: 2})
	plan, found, unusable, err := l.Plan(t.Context(), 1, []string{"t2", "t1", "broken", ""}) // of another revision, good, not usable, none
	if err != nil || len(plan.Nodes) != 2 || plan.Nodes[1].Name != "t1" || len(found) != 1 || !found["t1"] ||
		len(unusable) != 1 || !strings.HasPrefix(unusable["broken"], `task "broken" depends on`) {
		t.Errorf("%+v, %v, %q, %v", plan, found, unusable, err)
	}
	if plan, found, unusable, err := l.Plan(t.Context(), 1, []string{"t2"}); plan != nil || len(found)+len(unusable) > 0 || err != nil {
		t.Errorf("%+v, %v, %q, %v", plan, found, unusable, err)
	}
}

func TestItems(t *testing.T) {
	t.Parallel()
	task := &workflow.TaskSpec{TaskID: "each", Command: "true", ForEach: &workflow.ForEach{Reference: "${tasks.list.FILES}"}}
	run := &engine.RunDetails{Name: "mine", Values: &workflow.RunValues{}}
	down := errors.New("down")
	for _, test := range []struct {
		name    string
		output  workflow.Value
		err     error
		items   int
		problem string
	}{
		{"list", `{"FILES": ["a", "b", "c"]}`, nil, 3, ""},
		{"empty list", `{"FILES": []}`, nil, 0, ""},
		{"no list", `{"FILES": 7}`, nil, 0, "not a list"},
		{"no output", `{}`, nil, 0, "FILES"},
		{"backend down", "", down, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			group, items, problem, err := language.New(nil).Items(task, run, func([]string) (map[string]workflow.Value, error) {
				return map[string]workflow.Value{"list": test.output}, test.err
			})
			if !errors.Is(err, test.err) || len(items) != test.items || !strings.Contains(problem, test.problem) || (problem == "") != (test.problem == "") {
				t.Fatalf("%d items, problem %q, error %v", len(items), problem, err)
			}
			if test.items > 0 && (group.ForEach == nil || items[2].Item.Value != `"c"` || items[2].Item.Index != 2) {
				t.Errorf("group %+v, last item %+v", group, items[2].Item)
			}
		})
	}
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	schedules, revision, err := language.New(&definitions{revision: 7}).Schedules(t.Context())
	if err != nil || revision != 7 || len(schedules) != 1 || schedules["nightly"].Cron != "@daily" {
		t.Errorf("%v of revision %d, %v", schedules, revision, err)
	}
}

func TestDateKey(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 3600)
	if got := language.DateKey("nightly", time.Date(2026, 1, 31, 4, 30, 0, 0, zone)); got != "date/nightly/2026-01-31T03:30:00Z" {
		t.Errorf("key %q", got)
	}
}
