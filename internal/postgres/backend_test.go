package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Whatever is wrong with a URL, its password is in no error.
func TestErrorsKeepPasswords(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"postgres://ann:geheim@127.0.0.1:1/none",
		"postgres://ann:geheim@127.0.0.1:port/none",
		"postgres://ann:geheim/9@127.0.0.1/none",
		"postgres://ann:geheim#9@127.0.0.1/none",
		"postgres://ann:geheim%zz@127.0.0.1/none",
		"postgres://ann:geheim@127.0.0.1/none?sslmode=perhaps",
		"postgres://127.0.0.1/none?password=geheim&port=x",
		"host=127.0.0.1 port=1 user=ann password=geheim",
		"host=127.0.0.1 user=ann password=geheim port=x",
		"ann:geheim@127.0.0.1",
	} {
		_, openErr := Open(t.Context(), Options{URL: address})
		_, statusErr := Status(t.Context(), Options{URL: address})
		for what, err := range map[string]error{"Open": openErr, "Status": statusErr, "MigrateUp": MigrateUp(t.Context(), Options{URL: address})} {
			if err == nil {
				t.Errorf("%s takes %s", what, address)
			} else if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "geheim") || strings.Contains(text, "%!") {
				t.Errorf("%s says of %s: %s", what, address, text)
			}
		}
	}
}

func TestInterpretError(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return fmt.Errorf("x: %w", &pgconn.PgError{Code: code}) }
	kinds := []error{engine.ErrFenced, engine.ErrUncertain, engine.ErrRefused, engine.ErrNameTaken, engine.ErrAgentLost, engine.ErrWriterExists}
	for _, test := range []struct {
		what string
		err  error
		want error
	}{
		{"the fence", pg(stateFenced), engine.ErrFenced},
		{"a wrong number of rows", pg(stateRowCount), engine.ErrRefused},
		{"a row twice in a statement", pg("21000"), engine.ErrRefused},
		{"no text", pg("22021"), engine.ErrRefused},
		{"a check", pg("23514"), engine.ErrRefused},
		{"too large", pg("54000"), engine.ErrRefused},
		{"a name", &pgconn.PgError{Code: "23505", TableName: "run_names"}, engine.ErrNameTaken},
		{"another key", &pgconn.PgError{Code: "23505", TableName: "runs"}, engine.ErrRefused},
		{"a missing partition", &pgconn.PgError{Code: "23514", Message: `no partition of relation "feed" found for row`}, nil},
		{"a deadlock", pg("40P01"), nil},
		{"a lock time-out", pg("55P03"), nil},
		{"cancelled", pg("57014"), nil},
		{"idle for too long in a transaction", pg("25P03"), nil},
		{"no code", pg(""), nil},
		{"the server stops", pg("57P01"), engine.ErrUncertain},
		{"the connection failed", pg("08006"), engine.ErrUncertain},
		{"a broken connection", errors.New("unexpected EOF"), engine.ErrUncertain},
		{"the caller gave up", context.Canceled, engine.ErrUncertain},
		{"ours already", fmt.Errorf("x: %w", engine.ErrWriterExists), engine.ErrWriterExists},
		{"refused already", fmt.Errorf("x: %w", engine.ErrRefused), engine.ErrRefused},
		{"no row", pgx.ErrNoRows, nil},
		{"nothing", nil, nil},
	} {
		got := interpretError(test.err)
		if (got == nil) != (test.err == nil) || test.err != nil && !errors.Is(got, test.err) {
			t.Errorf("%s: %v became %v", test.what, test.err, got)
		}
		for _, kind := range kinds {
			if is := errors.Is(got, kind); is != errors.Is(test.want, kind) {
				t.Errorf("%s: that %q is %q: %v", test.what, got, kind, is)
			}
		}
	}
	_, err := pgx.Connect(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	if got := interpretError(err); errors.Is(got, engine.ErrUncertain) {
		t.Errorf("no connection: %v", got)
	}
}

// A plan that is damaged is that run's trouble.
func TestDamagedRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	for name, damage := range map[string]string{
		"a specification that is none": `UPDATE cyclonetix__state.task_specs SET body = '[]' WHERE hash IN (SELECT spec FROM cyclonetix__state.plan_nodes WHERE plan = $1)`,
		"a specification is gone":      `DELETE FROM cyclonetix__state.task_specs WHERE hash IN (SELECT spec FROM cyclonetix__state.plan_nodes WHERE plan = $1)`,
		"its nodes are gone":           `DELETE FROM cyclonetix__state.plan_nodes WHERE plan = $1`,
		"a node is gone":               `DELETE FROM cyclonetix__state.plan_nodes WHERE plan = $1 AND node = 0`,
		"a cycle":                      `UPDATE cyclonetix__state.plan_nodes SET dependencies = '{1}' WHERE plan = $1`,
		"an unknown dependency":        `UPDATE cyclonetix__state.plan_nodes SET dependencies = '{7}' WHERE plan = $1`,
		"a row of an unknown node":     `UPDATE cyclonetix__state.task_runs SET node = 99 WHERE run_id = (SELECT run_id FROM cyclonetix__state.runs WHERE plan = $1)`,
	} {
		run := w.start(planOf("a "+name, "b "+name+": a "+name))
		w.exec(damage, ask[string](w, "SELECT plan::text FROM cyclonetix__state.runs WHERE run_id = $1", run.ID.String()))
		w.must(w.writer.Close(w.ctx), "close")
		w.backend = w.open() // it knows nothing yet
		w.takeOver()
		_, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{run.ID})
		var broken *engine.BrokenRunError
		if !errors.As(err, &broken) || broken.ID != run.ID || !errors.Is(err, engine.ErrRefused) || errors.Is(err, engine.ErrUncertain) {
			t.Fatalf("%s: loading it says: %v", name, err)
		}
		if strings.Contains(err.Error(), "uncertain") {
			t.Errorf("%s: loading it says: %v", name, err)
		}
		// It is failed, and takes nothing along.
		_, err = w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Refused: []engine.RefusedRun{{ID: run.ID, Reason: "damaged"}}})
		w.must(err, "refuse it")
		if got := ask[string](w, `SELECT concat_ws(' ', status, reason, end_time IS NOT NULL) FROM cyclonetix.runs WHERE run_uuid = $1`, run.ID.String()); got != "failed damaged t" {
			t.Errorf("%s: the run is %s", name, got)
		}
		if left := ask[int](w, `SELECT (SELECT count(*) FROM cyclonetix__state.live_runs) + (SELECT count(*) FROM cyclonetix__state.task_runs WHERE status < 10)`); left != 0 {
			t.Errorf("%s: %d rows of it live", name, left)
		}
	}
}

// The messages of a run that is failed are kept for a look.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	id := w.submit(submission(planOf("a")))[0].ID
	w.must(w.backend.Cancel(w.ctx, id, "ann"), "cancel")
	mail := w.read(true, 10)
	_, err := w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Refused: []engine.RefusedRun{{ID: id, Reason: "no", Mail: []engine.MailKey{mail[0].Key, mail[1].Key}}}})
	w.must(err, "commit")
	if got := ask[string](w, "SELECT string_agg(kind || ' ' || reason || ' ' || bucket, ', ' ORDER BY kind) FROM cyclonetix__state.dead_letters WHERE run_id = $1", id.String()); got != fmt.Sprintf("1 no %[1]d, 3 no %[1]d", id.Bucket()) {
		t.Errorf("kept is %s", got)
	}
	if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.mailbox"); left != 0 {
		t.Errorf("%d messages are left", left)
	}
	if view := w.view(id); view.Status.String() != "failed" || view.StartTime.IsZero() {
		t.Errorf("the run is %+v", view)
	}
}

// A pipeline may be sent again on another connection, which has prepared nothing yet.
func TestPipelineTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.backend.pipeline()
	asked := 0
	p.add(func(on db.DBTX) error {
		_, err := w.backend.queries.GetTime(w.ctx, on)
		asked++
		return err //nolint:wrapcheck // the test looks at it
	})
	for range 2 {
		conn, err := pgx.Connect(w.ctx, w.options.URL)
		w.must(err, "connect")
		for range 2 {
			w.must(p.send(w.ctx, conn), "send")
		}
		w.must(conn.Close(w.ctx), "close")
	}
	if asked != 8 { // recorded and read, four times
		t.Errorf("the step was called %d times", asked)
	}
}
