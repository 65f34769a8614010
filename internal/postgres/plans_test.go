package postgres

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"weak"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// What was submitted today is not stored again, whoever made the plan anew; and no plan is kept in memory for that.
func TestPlansAreRememberedByContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := planOf("a", "b: a")
	hash, err := w.backend.storePlan(w.ctx, first)
	w.must(err, "store a plan")
	w.exec("ALTER TABLE cyclonetix__state.plans RENAME TO hidden")
	if again, err := w.backend.storePlan(w.ctx, planOf("a", "b: a")); err != nil || again != hash {
		t.Errorf("the same plan has the hash %s and not %s, %v", again, hash, err)
	}
	if _, err := w.backend.storePlan(w.ctx, planOf("a", "c: a")); err == nil {
		t.Error("another plan is known")
	}
	kept := weak.Make(first)
	w.eventually("the plan leaves memory", func() bool {
		runtime.GC()
		return kept.Value() == nil
	})
}

func TestGraphsHaveAWeight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	weigh := func(plan *workflow.Plan) int {
		hash, err := w.backend.storePlan(w.ctx, plan)
		w.must(err, "store a plan")
		before := w.backend.plans.weight
		for range 2 {
			_, err = w.backend.graph(w.ctx, hash)
			w.must(err, "load a plan")
		}
		return w.backend.plans.weight - before
	}
	if one, many := weigh(planOf("a")), weigh(wide(100)); one < 20 || many <= one || many > 3*100+30 {
		t.Errorf("a node weighs %d, a hundred with one specification %d", one, many)
	}
}

// Two who touch plans with the same specifications take them in the same order.
func TestPlansAreTouchedInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := make([]string, 20)
	for i := range nodes {
		nodes[i] = fmt.Sprint("n", i)
	}
	_, err := w.backend.storePlan(w.ctx, planOf(nodes...))
	w.must(err, "store a plan")
	w.exec("UPDATE cyclonetix__state.plans SET last_used = last_used - 1")
	w.exec("UPDATE cyclonetix__state.task_specs SET last_used = last_used - 1")
	hashes := askAll[string](w, "SELECT hash::text FROM cyclonetix__state.task_specs ORDER BY hash")
	other, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	defer other.Rollback(w.ctx) //nolint:errcheck // it locked only
	_, err = other.Exec(w.ctx, "SELECT FROM cyclonetix__state.task_specs WHERE hash = $1 FOR UPDATE", hashes[0])
	w.must(err, "lock the first")
	touched := make(chan error, 1)
	backend := w.open()
	go func() {
		_, err := backend.storePlan(w.ctx, planOf(nodes...))
		touched <- err
	}()
	w.eventually("it waits for the first", func() bool {
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
	})
	_, err = other.Exec(w.ctx, "SELECT FROM cyclonetix__state.task_specs WHERE hash = ANY ($1) FOR UPDATE NOWAIT", slices.Clone(hashes[1:]))
	w.must(err, "lock the others")
	w.must(other.Commit(w.ctx), "unlock them")
	w.must(<-touched, "touch the plan")
	if old := ask[int](w, "SELECT count(*) FROM cyclonetix__state.task_specs WHERE last_used < current_date"); old != 0 {
		t.Errorf("%d specifications were not touched", old)
	}
}
