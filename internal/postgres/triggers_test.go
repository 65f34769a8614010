package postgres

import (
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Definitions that are published while a commit is under way do not undo it: else one that takes long would be tried again for
// as long as somebody publishes.
func TestPublishDuringACommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	session := w.agent("one")
	delivery := w.claim(session, 1, 0)[0]
	end := reportOf(session, &delivery).Ends[0]
	end.Result.Agent = session.Incarnation()
	listeners, err := w.writer.Listeners(w.ctx)
	w.must(err, "read who waits for runs of others")
	at := w.writer.Now()
	change, _ := workflow.Advance(run, at, []workflow.Event{{
		Kind: workflow.EventEnd, Node: end.Node, Attempt: end.Attempt, Delivery: end.Delivery, Result: end.Result,
	}}, workflow.DefaultLimits)
	holding, err := mustConnect(w).Begin(w.ctx)
	w.must(err, "begin")
	defer holding.Rollback(w.ctx) //nolint:errcheck // it wrote nothing
	_, err = holding.Exec(w.ctx, "SELECT FROM cyclonetix__state.dispatches FOR UPDATE")
	w.must(err, "hold the delivery")
	committed := make(chan error, 1)
	go func() {
		_, err := w.writer.Commit(w.ctx, &engine.Commit{
			At: at, Changes: []*workflow.Change{change}, Remove: []engine.DeliveryKey{{ReplyTo: delivery.ReplyTo, ID: delivery.ID}}, Revision: &listeners.Revision,
		})
		committed <- err
	}()
	w.eventually("the commit waits", func() bool {
		select {
		case err := <-committed:
			t.Fatalf("the commit does not wait: %v", err)
		default:
		}
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
	_, _, err = w.backend.Publish(w.ctx, []engine.Definition{{Kind: "dag", ID: "b", Body: []byte(`{"triggers":{"dag_completed":["dag"]}}`)}}, "test")
	w.must(err, "publish")
	w.must(holding.Rollback(w.ctx), "let the delivery go")
	w.must(<-committed, "commit")
	if view := w.view(run.ID); view.Status != workflow.RunCompleted {
		t.Errorf("the run is %s", view.Status)
	}
}
