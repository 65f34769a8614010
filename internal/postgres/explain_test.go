package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The statements that writers and agents send all day reach large tables by index, and of partitioned ones a single
// partition: in a partition that is new and empty, in one that has grown and that the planner knows nothing of, and in
// one that it knows all about; with plans for the values at hand and with plans for any.
func TestPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	now := w.backend.clock.now()
	for day := 1; day <= 27; day++ {
		start := Day.floor(now).AddDate(0, 0, -day)
		for _, table := range partitionedTables {
			w.exec("SELECT cyclonetix__state.ensure_partition($1, $2, $3, $4, $5)", table.name, partitionSuffix(start),
				workflow.FirstRunID(start).String(), workflow.FirstRunID(start.AddDate(0, 0, 1)).String(), table.options)
		}
	}
	if count := ask[int](w, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'cyclonetix__state.task_runs'::regclass"); count != 35 {
		t.Fatalf("there are %d partitions", count)
	}
	// Nobody looks at the tables but this test.
	for _, table := range askAll[string](w, "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'cyclonetix__state'::regnamespace AND relkind = 'r'") {
		w.exec("ALTER TABLE " + table + " SET (autovacuum_enabled = false)")
	}
	sent := w.statements()
	check := func(when string) {
		t.Helper()
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			for _, statement := range sent {
				for _, fault := range w.faultsOf(statement, mode) {
					t.Errorf("%s, with %s: %s: %s", when, mode, statement.name, fault)
				}
			}
		}
	}
	check("in an empty partition")
	w.fill(now)
	check("in a partition that has grown")
	w.exec("ANALYZE")
	check("in a partition that is known")
	if t.Failed() {
		return
	}
	// And the test would see it if it were otherwise.
	bad := statement{name: "bad", sql: "SELECT count(*) FROM cyclonetix__state.task_runs WHERE status = $1", args: []any{int16(1)}}
	if faults := w.faultsOf(bad, "force_generic_plan"); len(faults) < 2 {
		t.Errorf("a scan of everything is found to have the faults %v", faults)
	}
}

// fill makes the current partition, and the tables beside it, as large as after a busy morning.
func (w *world) fill(now time.Time) {
	w.Helper()
	const runs, tasks = 20_000, 10
	ids := make([]string, runs)
	for i := range ids {
		ids[i] = workflow.NewRunID(now, i%256).String()
	}
	for _, sql := range []string{
		`INSERT INTO cyclonetix__state.runs (run_id, plan, revision, created_at, by_outcome, dag_id, actor, cause, logical_date)
			SELECT id, id, 1, now(), false, 'dag', 'ann', 'test', CASE WHEN i % 2 = 0 THEN now() - i * interval '1 minute' END
			FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, i)`,
		`INSERT INTO cyclonetix__state.run_states (run_id, status, task_count, completed_tasks, failed_tasks, start_time) SELECT id, 1, 10, 0, 0, now() FROM unnest($1::uuid[]) AS id`,
		`INSERT INTO cyclonetix__state.live_runs (bucket, run_id) SELECT i % 256, id FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, i)`,
		`INSERT INTO cyclonetix__state.timers (run_id, node, kind, bucket, due) SELECT id, 0, 1, i % 256, now() + interval '1 hour' FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, i)`,
		`INSERT INTO cyclonetix__state.mailbox (bucket, kind, run_id) SELECT i % 256, 3, id FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, i)`,
		`INSERT INTO cyclonetix__state.attempts (run_id, node, attempt, status, cause) SELECT id, 0, 1, 11, 1 FROM unnest($1::uuid[]) AS id`,
		`INSERT INTO cyclonetix__state.outputs (run_id, node, task, body) SELECT id, 0, 'a', '{}' FROM unnest($1::uuid[]) AS id`,
		`INSERT INTO cyclonetix__state.run_nodes (run_id, node, spec, name, dependencies, iteration_of) SELECT id, 10, id, 'a#2', '{}', 'a' FROM unnest($1::uuid[]) AS id`,
		`INSERT INTO cyclonetix__state.run_updates (run_id, version, body) SELECT id, 1, '{}' FROM unnest($1::uuid[]) AS id`,
		`INSERT INTO cyclonetix__state.run_events (run_id, at, node, kind, actor) SELECT id, now(), -1, 'cancel', 'ann' FROM unnest($1::uuid[]) AS id`,
		`INSERT INTO cyclonetix__state.logs (run_id, node, attempt, stream, seq, at, body) SELECT id, 0, 1, 1, 1, now(), 'x' FROM unnest($1::uuid[]) AS id`,
		`INSERT INTO cyclonetix__state.dispatches (class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members)
			SELECT 1, 1, 2, 0, now(), ARRAY[id], '{dag}', '{}', ARRAY[id], '\x000000000000000000010001' FROM unnest(($1::uuid[])[1:2000]) AS id`,
		fmt.Sprintf(`INSERT INTO cyclonetix__state.task_runs (run_id, queued_time, node, status, attempt, delivery, cause)
			SELECT id, now(), n, 1, 1, 1, 0 FROM unnest($1::uuid[]) AS id, generate_series(0, %d) AS n`, tasks-1),
	} {
		w.exec(sql, ids)
	}
}

// statement is one as it is sent.
type statement struct {
	name, sql string
	args      []any
	// fenced tells that it follows the fence, which makes settings for its transaction.
	fenced bool
	// index is the one by which it looks into the partitions of runs, any of which may have what it wants; empty for a
	// statement that knows the partition.
	index string
}

var statementName = regexp.MustCompile(`-- name: (\w+)`)

// statements are those of a commit that has everything, of a claim, a report, and a look into the mail.
func (w *world) statements() []statement {
	w.Helper()
	run, refused := w.start(planOf("a", "b: a")), w.start(planOf("c"))
	at := w.writer.Now()
	spec := workflow.NewSpecOf(&workflow.TaskSpec{TaskID: "new", Queue: "default", Priority: 2})
	commit := &engine.Commit{
		At: at,
		Changes: []*workflow.Change{{
			ID: run.ID, At: at, Run: &workflow.RunChange{
				Status: workflow.RunFailed, StartTime: at, EndTime: at, Total: 5, Stop: workflow.CauseStopped, Version: 1, Reason: "x", Reopened: true, LogicalDate: at,
			},
			Tasks: []workflow.TaskChange{
				{Node: 1, Status: workflow.TaskQueued, First: true, Attempt: 1, Delivery: 1}, {Node: 2, Status: workflow.TaskUpstreamFailed, First: true, Cause: workflow.CauseUpstream},
				{Node: 0, Status: workflow.TaskFailed, Attempt: 1, Delivery: 1, StartTime: at, EndTime: at, Agent: 1, Reason: "x"},
				{Node: 3, Status: workflow.TaskQueued, Attempt: 2, Delivery: 1},
				{Node: 4, Status: workflow.TaskWaiting, First: true, Attempt: 1, Delivery: 1, Cause: workflow.CauseApproval},
			},
			Attempts:  []workflow.AttemptChange{{Node: 3, Attempt: 1, Status: workflow.TaskFailed, StartTime: at, EndTime: at, Agent: 1, Reason: "x"}},
			SetTimers: []workflow.Timer{{Node: 3, Kind: workflow.TimerRetry, Due: at}}, DropTimers: []workflow.Timer{{Node: 4, Kind: workflow.TimerRetry}},
			Events: []workflow.RunEvent{{Kind: "cancel", Actor: "ann", At: at}},
			Reset:  []int32{5, 6}, Retire: []int32{7}, Outputs: []workflow.Output{{Node: 0, Body: "{}"}}, Updates: []workflow.PointUpdate{{}},
			Specs: []*workflow.NewSpec{spec}, Nodes: []workflow.GrownNode{{Number: 2, Node: workflow.Node{Name: "a#2", Spec: 2, Dependencies: []int32{0, 1}}}},
		}},
		Dispatches: w.dispatches(run, []workflow.Member{{Run: run.ID, Node: 1, Attempt: 1, Delivery: 1}}),
		Remove:     []engine.DeliveryKey{{ID: 1}}, Withdraw: []workflow.RunID{run.ID}, Orders: []engine.KillOrder{{Member: workflow.Member{Run: run.ID, Attempt: 1, Delivery: 1}}},
		Mail:    []engine.MailKey{{Bucket: 1, XID: 1000, ID: 1}},
		Backlog: []engine.Backlog{{Queue: "default", Priority: 2, Waiting: 1, Oldest: at}},
		Refused: []engine.RefusedRun{{ID: refused.ID, Reason: "x", Mail: []engine.MailKey{{Bucket: 1, XID: 1000, ID: 2}}}},
	}
	stored := &storing{Commit: commit}
	var err error
	stored.classes, err = w.backend.classNumbers(w.ctx, commit.Dispatches)
	w.must(err, "number the classes")
	stored.grown, err = w.writer.grownRows(w.ctx, commit.Changes)
	w.must(err, "let a run grow")
	fenced := w.writer.build(w.ctx, stored)
	w.writer.ringAll()
	reading, _ := w.writer.mail.takeRung(1000)
	readMail := func(on db.DBTX) error {
		_, err := w.backend.queries.ReadMail(w.ctx, on, reading.ReadMailParams)
		return err //nolint:wrapcheck // recorded
	}
	fenced.add(readMail)

	session := w.agent("one")
	plain := w.backend.pipeline()
	plain.add(readMail)
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.ClaimDispatches(w.ctx, on, claimParams(session, 4))
		return err //nolint:wrapcheck // recorded
	})
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.FindOpenDispatches(w.ctx, on, 5)
		return err //nolint:wrapcheck // recorded
	})
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.ListOrders(w.ctx, on, session.incarnation)
		return err //nolint:wrapcheck // recorded
	})
	plain.add(func(on db.DBTX) error { return w.backend.queries.DeleteOrders(w.ctx, on, []int64{1, 2}) })
	plain.add(func(on db.DBTX) error {
		return w.backend.queries.InsertReport(w.ctx, on, db.InsertReportParams{Bucket: 1, Body: []byte{1}})
	})
	plain.add(func(on db.DBTX) error {
		return w.backend.queries.InsertLogs(w.ctx, on, logRows([]engine.LogChunk{{Run: run.ID, Attempt: 1, Stream: 1, Time: at, Body: []byte{1}}}))
	})
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.Tick(w.ctx, on, db.TickParams{Sweep: true, Writers: []int64{w.writer.number}, Buckets: reading.Buckets, MarkXids: reading.MarkXids, MarkIds: reading.MarkIds})
		return err //nolint:wrapcheck // recorded
	})
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.ListDueTimers(w.ctx, on, db.ListDueTimersParams{Buckets: reading.Buckets, Before: at, Most: maxDue})
		return err //nolint:wrapcheck // recorded
	})
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.ListOutputs(w.ctx, on, db.ListOutputsParams{RunID: db.UUID(run.ID), Tasks: []string{"a", "b"}})
		return err //nolint:wrapcheck // recorded
	})
	ids := []db.UUID{db.UUID(run.ID), db.UUID(refused.ID)}
	least, greatest := boundsOf(ids)
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.LoadRuns(w.ctx, on, db.LoadRunsParams{RunIDs: ids, Least: least, Greatest: greatest})
		return err //nolint:wrapcheck // recorded
	})
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.LoadTaskRuns(w.ctx, on, ids[0])
		return err //nolint:wrapcheck // recorded
	})
	plain.add(func(on db.DBTX) error {
		_, err := w.backend.queries.LoadRunInfos(w.ctx, on, db.LoadRunInfosParams{RunIDs: ids, KnownVersions: []int32{0, 2}, Least: least, Greatest: greatest})
		return err //nolint:wrapcheck // recorded
	})
	id := []db.UUID{db.UUID(run.ID)}
	plain.add(func(on db.DBTX) error {
		return w.backend.queries.CopyOutputs(w.ctx, on, db.CopyOutputsParams{RunIDs: id, Nodes: []int32{0}, Tasks: []string{"a"}, FromRuns: id, FromNodes: []int32{0}, Least: id[0], Greatest: id[0]})
	})
	dates := w.backend.pipeline()
	dates.add(func(on db.DBTX) error {
		_, err := w.backend.queries.ListKnownDates(w.ctx, on, db.ListKnownDatesParams{
			DagIds: []string{"dag", "dag"}, LogicalDates: []time.Time{at, at.Add(-time.Hour)}, Least: db.UUID(firstRunFor(at.AddDate(0, 0, -9))),
		})
		return err //nolint:wrapcheck // recorded
	})
	dates.add(func(on db.DBTX) error {
		_, err := w.backend.queries.FindLatestDate(w.ctx, on, db.FindLatestDateParams{DagID: "dag", Before: at})
		return err //nolint:wrapcheck // recorded
	})
	byDate := recorded(dates, false)
	for i := range byDate {
		byDate[i].index = "dag_id_logical_date"
	}
	return slices.Concat(recorded(fenced, true), recorded(plain, false), byDate)
}

func recorded(p *pipeline, fenced bool) []statement {
	var batch pgx.Batch
	for _, step := range p.steps {
		_ = step(recorder{p.schema, &batch})
	}
	statements := make([]statement, len(batch.QueuedQueries))
	for i, query := range batch.QueuedQueries {
		statements[i] = statement{name: statementName.FindStringSubmatch(query.SQL)[1], sql: query.SQL, args: query.Arguments, fenced: fenced && i > 0}
	}
	return statements
}

// planNode is a node of a plan as EXPLAIN gives it.
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Index    string     `json:"Index Name"`
	Plans    []planNode `json:"Plans"`
}

// large are the tables that may grow large; a partition's name begins with its table's.
var large = regexp.MustCompile(`^(task_runs|run_states|runs|attempts|run_events|run_nodes|run_updates|outputs|logs|live_runs|timers|mailbox)(_\d{8}t\d{2})?$`)

// faultsOf says what is wrong with the plan of a statement.
func (w *world) faultsOf(s statement, mode string) (faults []string) {
	w.Helper()
	conn, err := w.sql.Acquire(w.ctx)
	w.must(err, "connect")
	defer conn.Release()
	tx, err := conn.Begin(w.ctx)
	w.must(err, "begin")
	defer tx.Rollback(context.WithoutCancel(w.ctx)) //nolint:errcheck // nothing was done
	if s.fenced {
		_, err := tx.Exec(w.ctx, "SELECT cyclonetix__state.fence($1, $2)", w.writer.number, w.writer.seq+1)
		w.must(err, "fence")
	}
	_, err = tx.Exec(w.ctx, "SELECT set_config('plan_cache_mode', $1, true)", mode)
	w.must(err, "choose a way to plan")
	prepared, err := tx.Prepare(w.ctx, "explained", s.sql)
	w.must(err, "prepare "+s.name)
	literals := make([]string, len(s.args))
	for i, arg := range s.args {
		text, err := conn.Conn().TypeMap().Encode(prepared.ParamOIDs[i], pgtype.TextFormatCode, arg, nil)
		w.must(err, "write an argument of "+s.name)
		literals[i] = "NULL"
		if text != nil {
			literals[i] = "'" + strings.ReplaceAll(string(text), "'", "''") + "'"
		}
	}
	explain := "EXPLAIN (FORMAT JSON) EXECUTE explained"
	if len(literals) > 0 {
		explain += "(" + strings.Join(literals, ", ") + ")"
	}
	var text []byte
	w.must(tx.QueryRow(w.ctx, explain, pgx.QueryExecModeSimpleProtocol).Scan(&text), "explain "+s.name)
	var plans []struct{ Plan planNode }
	w.must(json.Unmarshal(text, &plans), "read the plan of "+s.name)
	w.must(conn.Conn().Deallocate(w.ctx, "explained"), "forget "+s.name)
	partitions := map[string]map[string]bool{}
	var walk func(planNode)
	walk = func(node planNode) {
		if match := large.FindStringSubmatch(node.Relation); match != nil && node.Type != "ModifyTable" {
			switch node.Type {
			case "Seq Scan":
				// Of many partitions it may read those of which it is known that nothing is there.
				if s.index != "" && ask[bool](w, "SELECT reltuples = 0 FROM pg_class WHERE oid = ('cyclonetix__state.' || $1::text)::regclass", node.Relation) {
					return
				}
				faults = append(faults, node.Type+" on "+node.Relation)
			case "Index Scan", "Index Only Scan", "Tid Scan", "Bitmap Heap Scan":
			default:
				faults = append(faults, node.Type+" on "+node.Relation)
			}
			if !strings.Contains(node.Index, s.index) {
				faults = append(faults, fmt.Sprintf("%s on %s by %s", node.Type, node.Relation, node.Index))
			}
			if partitions[match[1]] == nil {
				partitions[match[1]] = map[string]bool{}
			}
			partitions[match[1]][node.Relation] = true
		}
		for _, child := range node.Plans {
			walk(child)
		}
	}
	walk(plans[0].Plan)
	for table, of := range partitions {
		if len(of) > 1 && s.index == "" {
			faults = append(faults, fmt.Sprintf("it looks into %d partitions of %s", len(of), table))
		}
	}
	return faults
}
