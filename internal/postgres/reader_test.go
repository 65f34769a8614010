package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func (w *world) list(filter engine.RunFilter) engine.RunList {
	w.Helper()
	list, err := w.backend.Runs(w.ctx, filter)
	w.must(err, "list runs")
	return list
}

func TestListRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	session := w.agent("one")
	var ids []workflow.RunID
	status := map[workflow.RunID]workflow.RunStatus{}
	add := func(dag string, want workflow.RunStatus) {
		t.Helper()
		of := submission(planOf("a"))
		of.DAG = dag
		id := w.submit(of)[0].ID
		ids, status[id] = append(ids, id), want
		w.eventually("time goes on", func() bool { return !w.backend.clock.now().Truncate(time.Millisecond).Equal(id.Time()) })
		if want == workflow.RunPending {
			return
		}
		w.turn()
		deliveries := w.claim(session, 1, 0)
		switch want {
		case workflow.RunCompleted:
			w.complete(session, deliveries)
		case workflow.RunFailed:
			report := reportOf(session, &deliveries[0])
			report.Ends[0].Status, report.Ends[0].Cause = workflow.TaskFailed, workflow.CauseExit
			w.must(session.Report(w.ctx, report, nil, nil), "report")
		default: // it runs on
		}
		w.turn()
	}
	for _, dag := range []string{"x", "y"} {
		for _, want := range []workflow.RunStatus{workflow.RunCompleted, workflow.RunRunning, workflow.RunFailed, workflow.RunCompleted} {
			add(dag, want)
		}
	}
	add("x", workflow.RunPending)
	slices.Reverse(ids) // the newest first
	dagOf := func(id workflow.RunID) string { return w.view(id).DAG }
	for _, filter := range []engine.RunFilter{
		{}, {Limit: 3}, {Limit: 2, Offset: 1}, {Offset: 7}, {Offset: 100}, {DAG: "x"}, {DAG: "none"}, {DAG: "x", Limit: 1, Offset: 1},
		{Status: []workflow.RunStatus{workflow.RunRunning}}, {Status: []workflow.RunStatus{workflow.RunCompleted}},
		{Status: []workflow.RunStatus{workflow.RunPending, workflow.RunFailed}}, {Status: []workflow.RunStatus{workflow.RunCompleted, workflow.RunFailed}, Limit: 2, Offset: 1},
		{Status: []workflow.RunStatus{workflow.RunCancelled, workflow.RunPaused}}, {Status: []workflow.RunStatus{workflow.RunCompleted}, DAG: "y", Limit: 1},
		{Since: ids[4].Time()}, {Until: ids[4].Time()}, {Since: ids[6].Time(), Until: ids[2].Time(), Status: []workflow.RunStatus{workflow.RunCompleted, workflow.RunRunning}},
		{Status: []workflow.RunStatus{workflow.RunPending, workflow.RunRunning, workflow.RunPaused, workflow.RunCompleted, workflow.RunFailed, workflow.RunCancelled}},
	} {
		want := slices.DeleteFunc(slices.Clone(ids), func(id workflow.RunID) bool {
			return len(filter.Status) > 0 && !slices.Contains(filter.Status, status[id]) || filter.DAG != "" && filter.DAG != dagOf(id) ||
				!filter.Since.IsZero() && id.Time().Before(filter.Since) || !filter.Until.IsZero() && !id.Time().Before(filter.Until)
		})
		total := len(want)
		want = want[min(filter.Offset, len(want)):]
		if filter.Limit > 0 {
			want = want[:min(filter.Limit, len(want))]
		}
		list := w.list(filter)
		var got []workflow.RunID
		for _, view := range list.Runs {
			got = append(got, view.ID)
			if view.Status != status[view.ID] {
				t.Errorf("run %s is listed as %s", view.ID, view.Status)
			}
		}
		if !slices.Equal(got, want) || list.Total != total || !list.TotalExact {
			t.Errorf("with %+v are listed %v of %d (%v), should be %v of %d", filter, got, list.Total, list.TotalExact, want, total)
		}
	}
}

// Beyond a number the total is not counted.
func TestTotalOfManyRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := planOf("a")
	for left := exactTotal; left > 0; left -= 1000 {
		submissions := slices.Repeat([]engine.Submission{submission(plan)}, 1000)
		w.submit(submissions...)
	}
	for _, filter := range []engine.RunFilter{{Limit: 1}, {Limit: 1, Status: []workflow.RunStatus{workflow.RunPending}}} {
		if list := w.list(filter); list.Total != exactTotal || !list.TotalExact || len(list.Runs) != 1 {
			t.Errorf("of %d runs are counted %d, exactly: %v", exactTotal, list.Total, list.TotalExact)
		}
	}
	w.submit(submission(plan))
	for _, filter := range []engine.RunFilter{{Limit: 1}, {Limit: 1, Status: []workflow.RunStatus{workflow.RunPending}}} {
		if list := w.list(filter); list.Total != exactTotal || list.TotalExact {
			t.Errorf("of %d runs are counted %d, exactly: %v", exactTotal+1, list.Total, list.TotalExact)
		}
	}
	if list := w.list(engine.RunFilter{}); len(list.Runs) != defaultLimit {
		t.Errorf("without a limit %d runs are listed", len(list.Runs))
	}
}

// Few unfinished runs are found among many that completed without going through those.
func TestUnfinishedRunsAreFoundByIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	w.fill(w.backend.clock.now())
	w.exec("UPDATE cyclonetix__state.run_states SET status = 10, end_time = start_time")
	w.exec("TRUNCATE cyclonetix__state.mailbox, cyclonetix__state.live_runs, cyclonetix__state.dispatches")
	failed := w.start(planOf("a"))
	w.exec("UPDATE cyclonetix__state.run_states SET status = 11, end_time = start_time WHERE run_id = $1", failed.ID.String())
	w.exec("DELETE FROM cyclonetix__state.live_runs")
	run := w.start(planOf("a"))
	w.exec("ANALYZE cyclonetix__state.run_states, cyclonetix__state.runs")
	read := func(status workflow.RunStatus, want workflow.RunID) int {
		t.Helper()
		// What this transaction alone has read.
		tx, err := w.sql.Begin(w.ctx)
		w.must(err, "begin")
		defer tx.Rollback(w.ctx) //nolint:errcheck // it read only
		var before, after int
		const counted = `SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_xact_user_tables WHERE relname ~ '^(run_states|live_runs)'`
		w.must(tx.QueryRow(w.ctx, counted).Scan(&before), "count")
		rows, err := w.backend.queries.ListRunViewsByStatus(w.ctx, w.backend.on(tx), listParams(status))
		w.must(err, "list")
		if len(rows) != 1 || workflow.RunID(rows[0].RunUuid) != want {
			t.Errorf("%d runs are %s", len(rows), status)
		}
		total, err := w.backend.queries.CountRunViewsByStatus(w.ctx, w.backend.on(tx), countParams(status))
		w.must(err, "count")
		if total != 1 {
			t.Errorf("%d runs are counted as %s", total, status)
		}
		w.must(tx.QueryRow(w.ctx, counted).Scan(&after), "count")
		return after - before
	}
	for status, run := range map[workflow.RunStatus]workflow.RunID{workflow.RunRunning: run.ID, workflow.RunFailed: failed.ID} {
		if rows := read(status, run); rows > 100 {
			t.Errorf("%d rows are read to list one run that is %s", rows, status)
		}
	}
}

func TestTaskRunViews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := planOf("claimed", "queued", "after: claimed", "failed", "doomed: failed", "done")
	plan.Specs[1].Queue, plan.Specs[1].Priority = "slow", 4
	run := w.start(plan)
	session := agentOf(w, w.backend, engine.AgentInfo{ID: "one", Queues: []string{"default"}})
	deliveries := w.wantClaim(session, 9, 0, "claimed failed done")
	at := deliveries[1].ClaimedAt
	code := int32(3)
	failure := reportOf(session, &deliveries[1])
	failure.Ends[0].Result = workflow.Result{Status: workflow.TaskFailed, Cause: workflow.CauseExit, Started: true, ExitCode: &code, Reason: "it said no", StartTime: at, EndTime: at.Add(1500 * time.Millisecond)}
	w.must(session.Report(w.ctx, failure, nil, nil), "report")
	w.complete(session, deliveries[2:])
	w.turn()
	tasks, err := w.backend.TaskRuns(w.ctx, run.ID)
	w.must(err, "read")
	if len(tasks) != len(plan.Nodes) {
		t.Fatalf("%d task runs are listed", len(tasks))
	}
	for number, want := range []struct {
		status        workflow.TaskStatus
		attempt       int
		agent         string
		queued, start bool
		end           bool
	}{
		{workflow.TaskRunning, 1, "one", true, true, false}, {workflow.TaskQueued, 1, "", true, false, false}, {workflow.TaskPending, 0, "", false, false, false},
		{workflow.TaskFailed, 1, "one", true, true, true}, {workflow.TaskUpstreamFailed, 0, "", false, false, true}, {workflow.TaskCompleted, 1, "one", true, true, true},
	} {
		got := &tasks[number]
		if int(got.Node) != number || got.Name != plan.Nodes[number].Name || got.TaskID != got.Name || got.Queue != plan.Specs[number].Queue || got.Priority != plan.Specs[number].Priority ||
			got.Status != want.status || got.Attempt != want.attempt || got.AgentID != want.agent || got.QueuedTime.IsZero() == want.queued || got.StartTime.IsZero() == want.start || got.EndTime.IsZero() == want.end {
			t.Errorf("node %d is %+v, should be %+v", number, got, want)
		}
	}
	if failed := &tasks[3]; failed.ExitCode == nil || *failed.ExitCode != code || failed.Cause != workflow.CauseExit || failed.Reason != "it said no" || failed.EndTime.Sub(failed.StartTime) != 1500*time.Millisecond {
		t.Errorf("the failed task is %+v", failed)
	}
	if !tasks[0].StartTime.Equal(deliveries[0].ClaimedAt) {
		t.Errorf("the running task started at %v, was claimed at %v", tasks[0].StartTime, deliveries[0].ClaimedAt)
	}
	if duration := ask[float64](w, "SELECT duration_seconds FROM cyclonetix.task_runs WHERE node = 3"); duration != 1.5 {
		t.Errorf("in SQL it took %v s", duration)
	}
	if id := ask[string](w, "SELECT task_run_id FROM cyclonetix.task_runs WHERE node = 2"); id != workflow.TaskRunID(run.ID, 2) {
		t.Errorf("in SQL it is %s", id)
	}
}

func TestQueueAndAgentViews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pack = 3
	run := w.start(specified("a", "b", "c", "d queue=slow"))
	all := w.agent("all")
	some := agentOf(w, w.backend, engine.AgentInfo{ID: "some", Queues: []string{"slow", "empty"}, Slots: 7})
	w.wantClaim(all, 1, 0, "a")
	oldest := w.writer.Now().Add(-time.Hour).Truncate(time.Microsecond)
	_, err := w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Backlog: []engine.Backlog{
		{Queue: "default", Priority: 1, Waiting: 10, Oldest: oldest}, {Queue: "default", Priority: 2, Waiting: 5, Oldest: oldest.Add(time.Minute)}, {Queue: "later", Priority: 2, Waiting: 1},
	}})
	w.must(err, "commit")
	check := func(want string) {
		t.Helper()
		queues, err := w.backend.Queues(w.ctx)
		w.must(err, "read the queues")
		var got []string
		for _, queue := range queues {
			text := fmt.Sprintf("%s %d %d %d", queue.Name, queue.Depth, queue.Running, queue.Consumers)
			switch {
			case queue.Oldest.IsZero():
			case queue.Oldest.Equal(oldest):
				text += " oldest"
			case queue.Oldest.Before(run.StartTime.Truncate(time.Microsecond)):
				text += " older"
			default:
				text += " since"
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("the queues are %s\nshould be      %s", strings.Join(got, ", "), want)
		}
	}
	check("default 17 1 1 oldest, empty 0 0 2, later 1 0 1, slow 1 0 2 since")
	w.must(some.Close(w.ctx), "close")
	_, err = w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Backlog: []engine.Backlog{{Queue: "default", Priority: 1}, {Queue: "default", Priority: 2}, {Queue: "later", Priority: 2}}})
	w.must(err, "commit")
	check("default 2 1 1 since, later 0 0 1, slow 1 0 1 since")
	agents, err := w.backend.Agents(w.ctx)
	w.must(err, "read the agents")
	if len(agents) != 2 || agents[0].ID != "all" || agents[0].Status != "live" || agents[0].Running != 1 || agents[0].LastHeartbeat.IsZero() || agents[0].Incarnation != all.incarnation ||
		agents[1].ID != "some" || agents[1].Status != "stopped" || agents[1].Slots != 7 || !slices.Equal(agents[1].Queues, []string{"slow", "empty"}) || agents[1].Version != "1.0" {
		t.Errorf("the agents are %+v", agents)
	}
	// A dead orchestrator's tasks are counted by its successor.
	_, err = w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Backlog: []engine.Backlog{{Queue: "default", Priority: 1, Waiting: 9}}})
	w.must(err, "commit")
	w.must(w.writer.Close(w.ctx), "close")
	check("default 2 1 1 since, slow 1 0 1 since")
}

func TestUnknownRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"none", workflow.NewRunID(time.Now(), 1).String(), "", "x' OR true --"} {
		if _, err := w.backend.FindRun(w.ctx, id); !errors.Is(err, engine.ErrNotFound) || errors.Is(err, engine.ErrUncertain) {
			t.Errorf("run %q: %v", id, err)
		}
	}
	id := workflow.NewRunID(time.Now(), 1)
	if _, err := w.backend.Plan(w.ctx, id); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("its plan: %v", err)
	}
	if tasks, err := w.backend.TaskRuns(w.ctx, id); err != nil || len(tasks) != 0 {
		t.Errorf("its task runs: %v, %v", tasks, err)
	}
}

// A reader that takes too long is cut off, and the server stops working for it.
func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.StatementTimeout = 100 * time.Millisecond })
	blocking, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	_, err = blocking.Exec(w.ctx, "LOCK cyclonetix__state.runs, cyclonetix__state.agents, cyclonetix__state.plan_nodes, cyclonetix__state.logs, cyclonetix__state.dispatches IN ACCESS EXCLUSIVE MODE")
	w.must(err, "block readers")
	id := workflow.NewRunID(time.Now(), 1)
	for name, read := range map[string]func(context.Context) error{
		"FindRun":  func(ctx context.Context) error { _, err := w.backend.FindRun(ctx, id.String()); return err },
		"Runs":     func(ctx context.Context) error { _, err := w.backend.Runs(ctx, engine.RunFilter{}); return err },
		"TaskRuns": func(ctx context.Context) error { _, err := w.backend.TaskRuns(ctx, id); return err },
		"Events":   func(ctx context.Context) error { _, err := w.backend.Events(ctx, id); return err },
		"Given":    func(ctx context.Context) error { _, err := w.backend.Given(ctx, id); return err },
		"Plan":     func(ctx context.Context) error { _, err := w.backend.Plan(ctx, id); return err },
		"Logs": func(ctx context.Context) error {
			_, err := w.backend.Logs(ctx, id, 0, engine.LogPlace{}, 1)
			return err
		},
		"Queues": func(ctx context.Context) error { _, err := w.backend.Queues(ctx); return err },
		"Agents": func(ctx context.Context) error { _, err := w.backend.Agents(ctx); return err },
	} {
		if err := read(w.ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.eventually("the server has stopped", func() bool {
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 0
	})
	w.must(blocking.Rollback(w.ctx), "let go")
	w.eventually("readers are answered again", func() bool { // within a time-out that is short for a busy machine
		_, err := w.backend.Runs(w.ctx, engine.RunFilter{})
		return err == nil
	})
}

func listParams(status workflow.RunStatus) db.ListRunViewsByStatusParams {
	return db.ListRunViewsByStatusParams{Statuses: []int16{int16(status)}, Until: db.UUID{0: 0xff}, Most: 100, Reach: 100}
}

func countParams(status workflow.RunStatus) db.CountRunViewsByStatusParams {
	return db.CountRunViewsByStatusParams{Statuses: []int16{int16(status)}, Until: db.UUID{0: 0xff}, Most: exactTotal}
}

// What happened at one instant is told in the order in which one thing led to another.
func TestEventsOfOneInstant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := planOf("a", "b: a", "c: b")
	plan.Specs[0].Retries = workflow.Retries{Count: 2}
	run := w.start(plan).ID
	session := w.agent("one")
	for _, end := range []workflow.TaskStatus{workflow.TaskFailed, workflow.TaskFailed, workflow.TaskCompleted, workflow.TaskFailed} {
		deliveries, err := session.Claim(w.ctx, 1, 0, workflow.Resources{})
		w.must(err, "claim")
		report := reportOf(session, &deliveries.Deliveries[0])
		if report.Ends[0].Status = end; end == workflow.TaskFailed {
			report.Ends[0].Cause = workflow.CauseExit
		}
		w.must(session.Report(w.ctx, report, nil, nil), "report")
		w.turn()
	}
	const at = "'2026-01-02 00:00+00'"
	for _, sql := range []string{
		"UPDATE cyclonetix__state.task_runs SET queued_time = " + at + " WHERE queued_time IS NOT NULL",
		"UPDATE cyclonetix__state.task_runs SET start_time = " + at + ", end_time = " + at + " WHERE start_time IS NOT NULL",
		"UPDATE cyclonetix__state.task_runs SET end_time = " + at,
		"UPDATE cyclonetix__state.attempts SET queued_time = " + at + ", start_time = " + at + ", end_time = " + at,
		"UPDATE cyclonetix__state.run_states SET start_time = " + at + ", end_time = " + at,
		"UPDATE cyclonetix__state.runs SET created_at = " + at,
	} {
		w.exec(sql)
	}
	events, err := w.backend.Events(w.ctx, run)
	w.must(err, "read the events")
	var texts []string
	for _, event := range events {
		texts = append(texts, strings.TrimSpace(fmt.Sprint(event.Name, event.Attempt, " ", event.Kind)))
	}
	got := strings.Join(texts, ", ")
	want := "0 pending, 0 running, a1 queued, a1 running, a1 failed, a2 queued, a2 running, a2 failed, a3 queued, a3 running, a3 completed, " +
		"b1 queued, b1 running, b1 failed, c0 upstream_failed, 0 failed"
	if got != want {
		t.Errorf("the events are %s, should be %s", got, want)
	}
	if order := askAll[string](w, "SELECT kind FROM cyclonetix.events ORDER BY at, place, id"); len(order) != len(events) || order[4] != "failed" {
		t.Errorf("in SQL they are %v", order)
	}
}
