package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// What can't be is refused by the schema, whoever writes it.
func TestImpossibleStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a")).ID.String()
	const first, later = "'2026-01-02 00:00+00'", "'2026-01-02 00:00:01+00'"
	const taskColumns = "run_id, node, status, attempt, delivery, cause, queued_time, start_time, end_time, agent"
	task := func(values string) string {
		return "INSERT INTO cyclonetix__state.task_runs (" + taskColumns + ") VALUES ('" + run + "', " + values + ")"
	}
	const stateColumns = "status, task_count, completed_tasks, failed_tasks, start_time, end_time, cancel_time"
	state := func(values string) string {
		return "UPDATE cyclonetix__state.run_states SET (" + stateColumns + ") = (" + values + ") WHERE run_id = '" + run + "'"
	}
	attempt := func(values string) string {
		return "INSERT INTO cyclonetix__state.attempts (run_id, node, attempt, status, cause, start_time, end_time) VALUES ('" + run + "', " + values + ")"
	}
	dispatch := func(values string) string {
		return "INSERT INTO cyclonetix__state.dispatches (class, priority, reply_to, queued_at, runs, dags, versions, specs, n, members, claimed_at, claimed_by) " +
			"VALUES (1, 2, 0, now(), '{}', '{}', '{}', '{}', " + values + ")"
	}
	const agentColumns = "agent_id, status, queues, tags, slots, version, heartbeat_interval_ms, process, lock_key, ended_at"
	agent := func(values string) string {
		return "INSERT INTO cyclonetix__state.agents (" + agentColumns + ") VALUES (" + values + ")"
	}
	for _, test := range []struct{ what, sql string }{
		{"a negative node", task("-1, 1, 1, 1, 0, now(), NULL, NULL, NULL")},
		{"an unknown status", task("1, 4, 1, 1, 0, now(), NULL, NULL, NULL")},
		{"a stored running", task("1, 2, 1, 1, 0, now(), now(), NULL, 1")},
		{"an end while queued", task("1, 1, 1, 1, 0, now(), NULL, now(), 1")},
		{"an end while waiting", task("1, 3, 1, 1, 0, now(), NULL, now(), 1")},
		{"a failure without an end", task("1, 11, 1, 1, 1, now(), now(), NULL, 1")},
		{"queued for no attempt", task("1, 1, 0, 0, 0, now(), NULL, NULL, NULL")},
		{"completed without an attempt", task("1, 10, 0, 0, 0, NULL, NULL, now(), 1")},
		{"skipped after being queued for no attempt", task("1, 12, 0, 0, 0, now(), NULL, now(), NULL")},
		{"a negative attempt", task("1, 1, -1, 1, 0, now(), NULL, NULL, NULL")},
		{"a delivery of no attempt", task("1, 13, 0, 1, 6, NULL, NULL, now(), NULL")},
		{"an attempt without a delivery", task("1, 1, 1, 0, 0, now(), NULL, NULL, NULL")},
		{"completed without a start", task("1, 10, 1, 1, 0, now(), NULL, now(), 1")},
		{"started by nobody", task("1, 11, 1, 1, 1, now(), now(), now(), NULL")},
		{"an end before the start", task("1, 11, 1, 1, 1, now(), " + later + ", " + first + ", 1")},

		{"completed without an attempt, for no reason", task("1, 10, 0, 0, 1, NULL, NULL, now(), NULL")},
		{"an attempt that stands for its items and did not start", task("1, 10, 1, 1, 17, now(), NULL, now(), 1")},
		{"kept, and yet started", task("1, 10, 0, 0, 18, NULL, now(), now(), 1")},
		{"kept, and yet run by an agent", task("1, 10, 0, 0, 18, NULL, NULL, now(), 1")},
		{"failed without an attempt", task("1, 11, 0, 0, 1, NULL, NULL, now(), NULL")},
		{"waiting for nothing", task("1, 3, 1, 1, 5, now(), NULL, NULL, NULL")},
		{"waiting without an attempt", task("1, 3, 0, 0, 11, NULL, NULL, NULL, NULL")},
		{"queued for an approval", task("1, 1, 1, 1, 11, now(), NULL, NULL, NULL")},

		{"a run of an unknown status", state("3, 1, 0, 0, now(), NULL, NULL")},
		{"a running run with an end", state("1, 1, 0, 0, now(), now(), NULL")},
		{"a completed run without an end", state("10, 1, 1, 0, now(), NULL, NULL")},
		{"a pending run with a start", state("0, 1, 0, 0, now(), NULL, NULL")},
		{"a running run without a start", state("1, 1, 0, 0, NULL, NULL, NULL")},
		{"a run that ends before it starts", state("10, 1, 1, 0, " + later + ", " + first + ", NULL")},
		{"cancelled by nobody", state("12, 1, 0, 0, now(), now(), NULL")},
		{"more ends than tasks", state("1, 1, 1, 1, now(), NULL, NULL")},
		{"negative counts", state("1, 1, -1, 1, now(), NULL, NULL")},

		{"stopped for an unknown reason", "UPDATE cyclonetix__state.run_states SET stop = 5"},
		{"a negative version", "UPDATE cyclonetix__state.run_states SET version = -1"},
		{"an update of no version", "INSERT INTO cyclonetix__state.run_updates VALUES ('" + run + "', 0, '{}')"},
		{"an output that is a list", "INSERT INTO cyclonetix__state.outputs VALUES ('" + run + "', 0, 'a', '[]')"},
		{"an added node before the first", "INSERT INTO cyclonetix__state.run_nodes VALUES ('" + run + "', -1, '" + run + "', 'a', '{}')"},
		{"an event of no node", "INSERT INTO cyclonetix__state.run_events (run_id, at, node, kind, actor) VALUES ('" + run + "', now(), -2, 'x', 'y')"},
		{"a time-out of the run at a node", "INSERT INTO cyclonetix__state.timers VALUES ('" + run + "', 0, 3, 0, now())"},
		{"a retry of the run", "INSERT INTO cyclonetix__state.timers VALUES ('" + run + "', -1, 1, 0, now())"},
		{"a timer of an unknown kind", "INSERT INTO cyclonetix__state.timers VALUES ('" + run + "', 0, 4, 0, now())"},

		{"an attempt number 0", attempt("0, 0, 11, 1, now(), now()")},
		{"a superseded attempt that waits", attempt("0, 1, 1, 1, now(), now()")},
		{"an attempt that ends before it starts", attempt("0, 1, 11, 1, " + later + ", " + first)},

		{"a delivery of nothing", dispatch(`0, '', NULL, NULL`)},
		{"half a member", dispatch(`1, '\x0000000000000000000000', NULL, NULL`)},
		{"more members than are counted", dispatch(`1, '\x000000000000000000000000000000000000000000000000', NULL, NULL`)},
		{"claimed by nobody", dispatch(`1, '\x000000000000000000000000', now(), NULL`)},
		{"claimed at no time", dispatch(`1, '\x000000000000000000000000', NULL, 1`)},

		{"an agent of an unknown status", agent("'x', 'dead', '{}', '{}', 1, '1', 1, 'p', 0, now()")},
		{"an agent without slots", agent("'x', 'live', '{}', '{}', 0, '1', 1, 'p', 0, NULL")},
		{"an agent that never beats", agent("'x', 'live', '{}', '{}', 1, '1', 0, 'p', 0, NULL")},
		{"a living agent that ended", agent("'x', 'live', '{}', '{}', 1, '1', 1, 'p', 0, now()")},
		{"a lost agent that did not end", agent("'x', 'lost', '{}', '{}', 1, '1', 1, 'p', 0, NULL")},

		{"a bucket beyond 12 bits", "INSERT INTO cyclonetix__state.buckets (bucket) VALUES (4096)"},
		{"a log of an unknown stream", "INSERT INTO cyclonetix__state.logs VALUES ('" + run + "', 0, 1, 4, 1, now(), '')"},
		{"a name of an unknown kind", "INSERT INTO cyclonetix__state.run_names VALUES (3, 'x', '" + run + "')"},
		{"a negative backlog", "INSERT INTO cyclonetix__state.backlog VALUES (1, 'q', 1, -1)"},
		{"a priority of 5", "INSERT INTO cyclonetix__state.task_specs VALUES ('" + run + "', 't', 'q', 5, '{}')"},
		{"an unknown kind of definition", "INSERT INTO cyclonetix__state.definitions VALUES ('x', 'y', 1, NULL, '" + run + "', '{}')"},
		{"a definition that ends before it begins", "INSERT INTO cyclonetix__state.definitions VALUES ('task', 'y', 2, 1, '" + run + "', '{}')"},
	} {
		_, err := w.sql.Exec(w.ctx, test.sql)
		var refusal *pgconn.PgError
		switch {
		case err == nil:
			t.Errorf("%s is stored", test.what)
		case !errors.As(err, &refusal) || refusal.Code != "23514":
			t.Errorf("%s is refused by something else than a check: %v", test.what, err)
		}
	}
	// The same statements store what can be.
	for _, sql := range []string{
		task("1, 1, 1, 1, 0, now(), NULL, NULL, NULL"), task("2, 10, 1, 1, 0, now(), now(), now(), 1"), task("3, 13, 0, 0, 6, NULL, NULL, now(), NULL"),
		task("4, 14, 1, 1, 5, now(), NULL, now(), NULL"), task("5, 3, 2, 1, 0, now(), NULL, NULL, NULL"), task("6, 11, 1, 1, 4, now(), NULL, now(), 1"),
		task("7, 10, 0, 0, 17, NULL, NULL, now(), NULL"), task("8, 10, 0, 0, 18, NULL, NULL, now(), NULL"), task("9, 11, 0, 0, 16, NULL, NULL, now(), NULL"),
		task("10, 3, 1, 1, 11, now(), NULL, NULL, NULL"), task("11, 3, 2, 1, 13, now(), NULL, NULL, NULL"), task("12, 11, 1, 1, 12, now(), NULL, now(), NULL"),
		task("13, 12, 1, 1, 19, now(), NULL, now(), NULL"),
		attempt("0, 1, 11, 1, " + first + ", " + later), dispatch(`1, '\x000000000000000000000000', now(), 1`),
		agent("'x', 'lost', '{}', '{}', 1, '1', 1, 'p', 0, now()"), state("12, 1, 0, 0, now(), now(), now()"),
	} {
		w.exec(sql)
	}
}
