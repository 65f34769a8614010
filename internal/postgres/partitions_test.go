package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/pgtest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var intervals = []Interval{Hour, Day, Week, Month}

func TestIntervals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		interval        Interval
		at, floor, next string
	}{
		{Hour, "2026-12-31T23:59:59Z", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z"},
		{Hour, "2026-03-29T01:30:00+02:00", "2026-03-28T23:00:00Z", "2026-03-29T00:00:00Z"},
		{Day, "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"},
		{Day, "2027-01-01T00:00:00+05:30", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"},
		{Day, "2028-02-28T12:00:00Z", "2028-02-28T00:00:00Z", "2028-02-29T00:00:00Z"},
		{Week, "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"}, // a Friday
		{Week, "2027-01-03T23:59:59Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"}, // a Sunday
		{Week, "2027-01-04T00:00:00Z", "2027-01-04T00:00:00Z", "2027-01-11T00:00:00Z"}, // a Monday
		{Month, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{Month, "2026-01-31T12:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, test.at)
		if err != nil {
			t.Fatal(err)
		}
		floor := test.interval.floor(at)
		if got := floor.Format(time.RFC3339); got != test.floor {
			t.Errorf("the %s of %s begins at %s, should be %s", test.interval, test.at, got, test.floor)
		}
		if got := test.interval.next(floor).Format(time.RFC3339); got != test.next {
			t.Errorf("the %s of %s ends at %s, should be %s", test.interval, test.at, got, test.next)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		interval := rapid.SampledFrom(intervals).Draw(t, "interval")
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), 0).In(time.FixedZone("", rapid.IntRange(-50_000, 50_000).Draw(t, "zone")))
		floor := interval.floor(at)
		next := interval.next(floor)
		if floor.After(at) || !next.After(at) || !interval.floor(next).Equal(next) || !interval.floor(next.Add(-1)).Equal(floor) {
			t.Fatalf("the %s of %s is %s to %s", interval, at, floor, next)
		}
	})
}

// Gaps and what is there make up the whole time ahead, and never overlap, whatever intervals were used before.
func TestGaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(rapid.Int64Range(1<<30, 1<<31).Draw(t, "now"), 0)
		var covered []span
		for range rapid.IntRange(0, 4).Draw(t, "former settings") {
			former := rapid.SampledFrom(intervals).Draw(t, "former interval")
			then := now.Add(-time.Duration(rapid.IntRange(0, 60*24).Draw(t, "hours ago")) * time.Hour)
			covered = append(covered, former.gaps(then, covered)...)
		}
		interval := rapid.SampledFrom(intervals).Draw(t, "interval")
		all := append(interval.gaps(now, slices.Clone(covered)), covered...)
		slices.SortFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
		start := interval.floor(now)
		end := start
		for range partitionsAhead + 1 {
			end = interval.next(end)
		}
		reached := start
		for i, part := range all {
			if !part.from.Before(part.to) || i > 0 && part.from.Before(all[i-1].to) {
				t.Fatalf("%v overlap", all)
			}
			if !part.from.After(reached) && part.to.After(reached) {
				reached = part.to
			}
		}
		if reached.Before(end) {
			t.Fatalf("from %v on nothing is there until %v: %v", reached, end, all)
		}
		if more := interval.gaps(now, all); len(more) > 0 {
			t.Fatalf("then %v are missing still", more)
		}
	})
}

func (w *world) partitionNames(parent string) []string {
	w.Helper()
	parts, err := w.backend.partitions(w.ctx, w.backend.on(w.backend.pool), parent)
	w.must(err, "list partitions")
	names := make([]string, len(parts))
	for i := range parts {
		names[i] = parts[i].Name
	}
	return names
}

func TestEnsurePartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := objects(t, w.ctx, mustConnect(w), "^cyclonetix")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := w.backend.EnsurePartitions(w.ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if after := objects(t, w.ctx, mustConnect(w), "^cyclonetix"); after != before {
		t.Error("what was there was made anew")
	}
	for _, table := range partitionedTables {
		w.exec("DROP TABLE cyclonetix__state." + w.partitionNames(table.name)[3])
		if names := w.partitionNames(table.name); len(names) != partitionsAhead {
			t.Fatalf("partitions are %v", names)
		}
	}
	for range 4 {
		group.Go(func() {
			if err := w.backend.EnsurePartitions(w.ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, table := range append([]string{"feed"}, askAll[string](w, "SELECT relname::text FROM pg_class WHERE relkind = 'p' AND relnamespace = 'cyclonetix__state'::regnamespace")...) {
		if names := w.partitionNames(table); len(names) != partitionsAhead+1 {
			t.Errorf("partitions are %v", names)
		}
	}
}

// Whoever changes the size of partitions keeps those that he has.
func TestChangedInterval(t *testing.T) {
	t.Parallel()
	url := pgtest.NewDatabase(t, migrated)
	for _, interval := range []Interval{Day, Month, Hour, Week} {
		w := worldOn(t, url, func(o *Options) { o.Interval = interval })
		run := w.start(planOf("a", "b: a"))
		w.drain(w.agent("one"))
		if view := w.view(run.ID); view.Status != workflow.RunCompleted {
			t.Errorf("with the interval %s a run is %s", interval, view.Status)
		}
		w.must(w.writer.Close(w.ctx), "close")
		w.backend.Close()
	}
}

// A row that fits no partition makes one.
func TestMissingPartitionsAreMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	session := w.agent("one")
	drop := func() {
		for _, table := range askAll[string](w, "SELECT relname::text FROM pg_class WHERE relkind = 'p' AND relnamespace = 'cyclonetix__state'::regnamespace") {
			for _, name := range w.partitionNames(table) {
				w.exec("DROP TABLE cyclonetix__state." + name)
			}
		}
	}
	drop()
	run := w.submit(submission(planOf("a")))[0]
	for _, table := range []string{"task_runs", "feed", "logs"} {
		for _, name := range w.partitionNames(table) {
			w.exec("DROP TABLE cyclonetix__state." + name)
		}
	}
	w.turn()
	deliveries := w.claim(session, 1, 0)
	for _, name := range w.partitionNames("logs") {
		w.exec("DROP TABLE cyclonetix__state." + name)
	}
	chunk := engine.LogChunk{Run: run.ID, Node: 0, Attempt: 1, Seq: 1, Time: w.writer.Now(), Stream: engine.StreamStdout, Body: []byte("x")}
	w.must(session.Report(w.ctx, reportOf(session, &deliveries[0]), []engine.LogChunk{chunk}, nil), "report")
	w.turn()
	if logs, err := w.backend.Logs(w.ctx, run.ID, 0, engine.LogPlace{}, 10); err != nil || len(logs) != 1 {
		t.Errorf("the log has %d chunks, %v", len(logs), err)
	}
	if view := w.view(run.ID); view.Status != workflow.RunCompleted {
		t.Errorf("the run is %s", view.Status)
	}
}

// makeOld makes partitions of a day long ago, and runs in them that a writer finished or did not.
func (w *world) makeOld(daysAgo int, live bool, name string) workflow.RunID {
	w.Helper()
	start := Day.floor(w.backend.clock.now()).AddDate(0, 0, -daysAgo)
	for _, table := range partitionedTables {
		w.exec("SELECT cyclonetix__state.ensure_partition($1, $2, $3, $4, $5)", table.name, partitionSuffix(start),
			workflow.FirstRunID(start).String(), workflow.FirstRunID(start.AddDate(0, 0, 1)).String(), table.options)
	}
	id := workflow.NewRunID(start.Add(time.Hour), 5)
	plan, err := w.backend.storePlan(w.ctx, planOf("old "+name))
	w.must(err, "store a plan")
	w.exec("UPDATE cyclonetix__state.plans SET last_used = $1 WHERE hash = $2", start, plan.String())
	w.exec("UPDATE cyclonetix__state.task_specs SET last_used = $1 WHERE task_id = $2", start, "old "+name)
	w.exec(`INSERT INTO cyclonetix__state.runs (run_id, plan, revision, created_at, by_outcome, dag_id, name, actor, cause) VALUES ($1, $2, 1, $3, false, 'd', $4, 'a', 't')`,
		id.String(), plan.String(), start, name)
	w.exec("INSERT INTO cyclonetix__state.run_names (kind, name, run_id) VALUES (1, $1, $2)", name, id.String())
	status, end := workflow.RunCompleted, &start
	if live {
		w.exec("INSERT INTO cyclonetix__state.live_runs (bucket, run_id) VALUES (5, $1)", id.String())
		status, end = workflow.RunRunning, nil
	}
	w.exec("INSERT INTO cyclonetix__state.run_states (run_id, status, task_count, completed_tasks, failed_tasks, start_time, end_time) VALUES ($1, $2, 1, 0, 0, $3, $4)",
		id.String(), int16(status), start, end)
	return id
}

func TestDropPartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	policy := engine.Retention{Days: 30}
	before := w.backend.clock.now().AddDate(0, 0, -policy.Days)
	live := w.makeOld(50, true, "live")
	done := w.makeOld(40, false, "done")
	kept := w.makeOld(20, false, "kept")
	w.exec("SELECT cyclonetix__state.ensure_partition('feed', '20260101t00', '2026-01-01 00:00+00', '2026-01-01 01:00+00', 'fillfactor = 100')")
	// What a process left that died between detaching and dropping.
	w.exec("CREATE TABLE cyclonetix__state.logs_20200101t00 (LIKE cyclonetix__state.logs, CHECK (run_id IS NOT NULL AND run_id >= '016f5e66-e800-7000-8000-000000000000' AND run_id < '016f638d-4400-7000-8000-000000000000'))")
	w.exec("CREATE TABLE cyclonetix__state.feed_20200101t00 (LIKE cyclonetix__state.feed)")
	// And what somebody else made.
	w.exec("CREATE TABLE cyclonetix__state.saved_20200101t00 (id bigint)")
	w.must(w.backend.DropPartitions(w.ctx, before), "drop partitions")
	w.must(w.backend.cleanup(w.ctx, policy), "clean up")
	for id, there := range map[workflow.RunID]bool{live: true, done: false, kept: true} {
		_, err := w.backend.FindRun(w.ctx, id.String())
		if there != (err == nil) || !there && !errors.Is(err, engine.ErrGone) {
			t.Errorf("run %s: %v", id, err)
		}
	}
	if _, err := w.backend.FindRun(w.ctx, "done"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the name of a dropped run: %v", err)
	}
	if view, err := w.backend.FindRun(w.ctx, "live"); err != nil || view.ID != live {
		t.Errorf("the name of a live run: %+v, %v", view, err)
	}
	tables := strings.Join(askAll[string](w, "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'cyclonetix__state'::regnamespace"), " ")
	if !strings.Contains(tables, "saved_20200101t00") {
		t.Error("somebody else's table is gone")
	}
	for _, gone := range []string{"feed_20260101t00", "feed_20200101t00", "logs_20200101t00", "task_runs_" + partitionSuffix(Day.floor(done.Time())), "runs_" + partitionSuffix(Day.floor(done.Time()))} {
		if strings.Contains(" "+tables+" ", " "+gone+" ") {
			t.Errorf("table %s is there still", gone)
		}
	}
	// The plan of a run that is alive in a kept partition is needed, however old it is.
	if runs, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{live}); err != nil || len(runs) != 1 {
		t.Errorf("the live run is loaded as %v, %v", runs, err)
	}
	w.exec("DELETE FROM cyclonetix__state.live_runs")
	w.must(w.backend.DropPartitions(w.ctx, before), "drop partitions")
	w.must(w.backend.cleanup(w.ctx, policy), "clean up")
	if _, err := w.backend.FindRun(w.ctx, live.String()); !errors.Is(err, engine.ErrGone) {
		t.Errorf("the run that was live: %v", err)
	}
	if specs := askAll[string](w, "SELECT task_id FROM cyclonetix__state.task_specs ORDER BY 1"); !slices.Equal(specs, []string{"old kept"}) {
		t.Errorf("kept are the specifications %v", specs)
	}
	if nodes := ask[int](w, "SELECT count(*) FROM cyclonetix__state.plan_nodes"); nodes != 1 {
		t.Errorf("kept are %d nodes of plans", nodes)
	}
	// All that is ahead is there still.
	w.start(planOf("a"))
}

// A long reader holds up the one who drops, and nobody else; what it broke off is finished later.
func TestDropBesideALongReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	w.makeOld(40, false, "old")
	reader, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	var count int
	w.must(reader.QueryRow(w.ctx, "SELECT count(*) FROM cyclonetix__state.runs").Scan(&count), "read")
	dropping, cancel := context.WithCancel(w.ctx)
	dropped := make(chan error, 1)
	go func() { dropped <- w.backend.DropPartitions(dropping, w.backend.clock.now().AddDate(0, 0, -30)) }()
	detaching := `SELECT count(*) FROM pg_inherits WHERE inhdetachpending`
	w.eventually("a partition is being detached", func() bool { return ask[int](w, detaching) == 1 })
	// Everybody else works on.
	run := w.start(planOf("a", "b: a"))
	w.drain(w.agent("one"))
	w.must(w.backend.EnsurePartitions(w.ctx), "make partitions")
	w.open().Close()
	if view := w.view(run.ID); view.Status != workflow.RunCompleted {
		t.Errorf("the run is %s", view.Status)
	}
	select {
	case err := <-dropped:
		t.Fatalf("it did not wait for the reader: %v", err)
	default:
	}
	cancel()
	if err := <-dropped; err == nil {
		t.Error("it was broken off and says nothing")
	}
	w.must(reader.Rollback(w.ctx), "end the reader")
	w.eventually("the server has noticed", func() bool {
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%DETACH%' AND state = 'active' AND pid <> pg_backend_pid()") == 0
	})
	w.must(w.backend.DropPartitions(w.ctx, w.backend.clock.now().AddDate(0, 0, -30)), "finish")
	if left := ask[int](w, detaching); left != 0 {
		t.Errorf("%d partitions are half detached", left)
	}
	if old := ask[int](w, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE $1", fmt.Sprintf("%%\\_%s", partitionSuffix(Day.floor(w.backend.clock.now()).AddDate(0, 0, -40)))); old != 0 {
		t.Errorf("%d old partitions are left", old)
	}
}

// detach takes the partition with the run out, as a process does that dies then.
func (w *world) detach(parent string, run workflow.RunID) {
	w.Helper()
	_, err := w.sql.Exec(w.ctx, fmt.Sprintf("ALTER TABLE cyclonetix__state.%s DETACH PARTITION cyclonetix__state.%[1]s_%s CONCURRENTLY", parent, partitionSuffix(Day.floor(run.Time()))), pgx.QueryExecModeSimpleProtocol)
	w.must(err, "detach a partition")
}

// A process that dies between two steps leaves nothing that the next one does not finish: the names are free again.
func TestDropAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.makeOld(40, false, "old")
	w.exec("INSERT INTO cyclonetix__state.run_names (kind, name, run_id) VALUES (2, 'key', $1)", run.String())
	w.exec("INSERT INTO cyclonetix__state.run_names (kind, name, run_id) VALUES (2, 'soon', $1)", run.String())
	w.exec("INSERT INTO cyclonetix__state.settings (name, value) VALUES ('dropped_before', $1)", Day.floor(run.Time()).AddDate(0, 0, 1).Format(time.RFC3339))
	w.detach("runs", run)
	// Nobody has to wait for the next round of retention.
	soon := submission(planOf("a"))
	soon.IdempotencyKey = "soon"
	made := w.submit(soon)[0]
	if made.Existing || made.ID == run {
		t.Errorf("the key of a dropped run gives %+v", made)
	}
	if again := w.submit(soon)[0]; !again.Existing || again.ID != made.ID {
		t.Errorf("then it gives %+v", again)
	}
	w.must(w.backend.DropPartitions(w.ctx, w.backend.clock.now().AddDate(0, 0, -30)), "drop partitions")
	if left := askAll[string](w, "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname LIKE $1", "%\\_"+partitionSuffix(Day.floor(run.Time()))); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	again := submission(planOf("a"))
	again.Name, again.IdempotencyKey = "old", "key"
	if made := w.submit(again)[0]; made.Existing || made.Name != "old" {
		t.Errorf("a new run with the old names is %+v", made)
	}
	if err := w.backend.Command(w.ctx, run, engine.Command{Kind: engine.CommandRetry}); !errors.Is(err, engine.ErrGone) {
		t.Errorf("a command to the dropped run: %v", err)
	}
}

// A run that lived again while its partition was being taken away is found again, with all that there is of it.
func TestReopenedWhileDropped(t *testing.T) {
	t.Parallel()
	for _, stage := range []string{"detached", "half detached"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			run := w.makeOld(40, false, "old")
			w.detach("run_events", run)
			if stage == "detached" {
				w.detach("runs", run)
			} else {
				w.breakOffDetaching()
			}
			if _, err := w.backend.FindRun(w.ctx, run.String()); !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, engine.ErrGone) {
				t.Fatalf("the test tests nothing: %v", err)
			}
			w.exec("INSERT INTO cyclonetix__state.live_runs (bucket, run_id) VALUES (5, $1)", run.String())
			w.exec("UPDATE cyclonetix__state.run_states SET status = 1, end_time = NULL, reopened = true WHERE run_id = $1", run.String())
			before := w.backend.clock.now().AddDate(0, 0, -30)
			w.must(w.backend.DropPartitions(w.ctx, before), "drop partitions")
			if view, err := w.backend.FindRun(w.ctx, "old"); err != nil || view.ID != run {
				t.Errorf("the run is %+v, %v", view, err)
			}
			for _, table := range partitionedTables {
				if name := table.name + "_" + partitionSuffix(Day.floor(run.Time())); !slices.Contains(w.partitionNames(table.name), name) {
					t.Errorf("%s is no partition", name)
				}
			}
			w.exec("DELETE FROM cyclonetix__state.live_runs")
			w.must(w.backend.DropPartitions(w.ctx, before), "drop partitions")
			if left := askAll[string](w, "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname LIKE $1", "%\\_"+partitionSuffix(Day.floor(run.Time()))); len(left) > 0 {
				t.Errorf("left are %v", left)
			}
		})
	}
}

// breakOffDetaching lets somebody drop what is old, and breaks it off while it waits for a reader.
func (w *world) breakOffDetaching() {
	w.Helper()
	reader, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	_, err = reader.Exec(w.ctx, "SELECT count(*) FROM cyclonetix__state.runs")
	w.must(err, "read")
	dropping, cancel := context.WithCancel(w.ctx)
	dropped := make(chan error, 1)
	go func() { dropped <- w.backend.DropPartitions(dropping, w.backend.clock.now().AddDate(0, 0, -30)) }()
	w.eventually("a partition is being detached", func() bool { return ask[int](w, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 1 })
	cancel()
	if <-dropped == nil {
		w.Error("it was broken off and says nothing")
	}
	w.must(reader.Rollback(w.ctx), "end the reader")
	w.eventually("the server has noticed", func() bool {
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%DETACH%' AND state = 'active' AND pid <> pg_backend_pid()") == 0
	})
}

// What has no partition, and never will, is refused: it must not hold up all other runs for ever.
func TestCommitWithoutAPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	run := w.makeOld(40, true, "old")
	w.exec("DROP TABLE cyclonetix__state.run_events_" + partitionSuffix(Day.floor(run.Time())))
	at := w.writer.Now()
	_, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Changes: []*workflow.Change{{ID: run, At: at, Events: []workflow.RunEvent{{Kind: "retry", Actor: "ann", At: at}}}}})
	if !errors.Is(err, engine.ErrRefused) {
		t.Fatalf("it says %v", err)
	}
	_, err = w.writer.Commit(w.ctx, &engine.Commit{At: at, Refused: []engine.RefusedRun{{ID: run, Reason: "it has no place"}}})
	w.must(err, "refuse the run")
	if view := w.view(run); view.Status != workflow.RunFailed {
		t.Errorf("the run is %s", view.Status)
	}
}

// An agent that was cut off for long reports of a run that is gone: its logs have no place, its report has.
func TestLogsOfADroppedRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	session := w.agent("one")
	chunk := engine.LogChunk{Run: workflow.NewRunID(w.writer.Now().AddDate(-1, 0, 0), 1), Attempt: 1, Seq: 1, Time: w.writer.Now(), Stream: engine.StreamStdout, Body: []byte("x")}
	report := &engine.Report{ReplyTo: w.writer.Buckets()[0], Agent: session.incarnation, Done: []int64{12345}}
	w.must(session.Report(w.ctx, report, []engine.LogChunk{chunk}, nil), "report")
	w.must(session.WriteLogs(w.ctx, []engine.LogChunk{chunk}), "write logs")
	if mail := w.turn(); len(mail) != 1 || !slices.Equal(mail[0].Report.Done, report.Done) {
		t.Errorf("the mail is %+v", mail)
	}
}
