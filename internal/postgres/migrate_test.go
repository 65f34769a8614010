package postgres

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/pgtest"
	"github.com/cyclonetix/cyclonetix/migrations"
)

// objects describes everything in the schemas whose names begin so, row counts of small tables too.
func objects(t *testing.T, ctx context.Context, conn *pgx.Conn, prefix string) string {
	t.Helper()
	var all string
	err := conn.QueryRow(ctx, `
		SELECT coalesce(string_agg(what, E'\n' ORDER BY what), '') FROM (
			SELECT 'schema ' || nspname AS what FROM pg_namespace n WHERE nspname ~ $1
			UNION ALL SELECT n.nspname || '.' || c.relname || ' ' || c.relkind::text || ' ' || c.oid || ' ' || c.relfilenode
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ~ $1
			UNION ALL SELECT n.nspname || '.' || p.proname || ' function ' || p.oid
			FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname ~ $1) AS o`, prefix).Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func connect(t *testing.T, url string) (context.Context, *pgx.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
	return ctx, conn
}

func TestMigrateUpAndDown(t *testing.T) {
	t.Parallel()
	options := Options{URL: pgtest.NewDatabase(t, nil)}
	ctx, conn := connect(t, options.URL)
	want := func(version int) {
		t.Helper()
		status, err := Status(ctx, options)
		if err != nil {
			t.Fatal(err)
		}
		if status.Version != version || status.Dirty || status.Newest != migrations.Newest() {
			t.Fatalf("the status is %+v, should be at %d", status, version)
		}
	}
	newest := migrations.Newest()
	want(0)
	if _, err := Open(ctx, options); err == nil || !strings.Contains(err.Error(), "cyclonetix migrate up") {
		t.Fatalf("without a schema Open says: %v", err)
	}
	for range 2 {
		if err := MigrateUp(ctx, options); err != nil {
			t.Fatal(err)
		}
		want(newest)
	}
	full := objects(t, ctx, conn, "^cyclonetix")
	if err := MigrateDown(ctx, options, 1); err != nil {
		t.Fatal(err)
	}
	want(newest - 1)
	if _, err := Open(ctx, options); err == nil || !strings.Contains(err.Error(), "cyclonetix migrate up") {
		t.Fatalf("with an old schema Open says: %v", err)
	}
	if err := MigrateUp(ctx, options); err != nil {
		t.Fatal(err)
	}
	// With a partition, and with more steps than there are.
	backend, err := Open(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	backend.Close()
	for range 2 {
		if err := MigrateDown(ctx, options, 99); err != nil {
			t.Fatal(err)
		}
		want(0)
		if left := objects(t, ctx, conn, "^cyclonetix"); left != "" {
			t.Fatalf("left is\n%s", left)
		}
	}
	if err := MigrateUp(ctx, options); err != nil {
		t.Fatal(err)
	}
	if again := objects(t, ctx, conn, "^cyclonetix"); strings.Count(again, "\n") != strings.Count(full, "\n") {
		t.Fatalf("there are other objects than before:\n%s\nand\n%s", full, again)
	}
}

func TestMigrateAllAtOnce(t *testing.T) {
	t.Parallel()
	options := Options{URL: pgtest.NewDatabase(t, nil)}
	ctx, _ := connect(t, options.URL)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := MigrateUp(ctx, options); err != nil {
				t.Error(err)
				return
			}
			backend, err := Open(ctx, options)
			if err != nil {
				t.Error(err)
				return
			}
			backend.Close()
		})
	}
	group.Wait()
}

// A process that waits for another's migration gives up with its context.
func TestMigrateWaitsForTheLock(t *testing.T) {
	t.Parallel()
	options := Options{URL: pgtest.NewDatabase(t, nil)}
	ctx, conn := connect(t, options.URL)
	names, err := newSchema("")
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := lockMigrations(ctx, options, names)
	if err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(ctx, 3*lockPoll)
	defer cancel()
	if err := MigrateUp(waiting, options); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another migrates it says: %v", err)
	}
	if left := objects(t, ctx, conn, "^cyclonetix"); left != "" {
		t.Errorf("and has made\n%s", left)
	}
	unlock()
	if err := MigrateUp(ctx, options); err != nil {
		t.Error(err)
	}
}

// A migration that breaks off, because it is wrong or its process is killed, leaves nothing behind.
func TestMigrationBreaksOff(t *testing.T) {
	t.Parallel()
	options := Options{URL: pgtest.NewDatabase(t, nil)}
	ctx, conn := connect(t, options.URL)
	// Its second migration fails in the middle, after it made functions.
	if _, err := conn.Exec(ctx, `CREATE SCHEMA cyclonetix__state; CREATE FUNCTION cyclonetix__state.held_locks() RETURNS text LANGUAGE sql AS $$ SELECT '' $$`); err != nil {
		t.Fatal(err)
	}
	err := MigrateUp(ctx, options)
	if err == nil || !strings.Contains(err.Error(), "migration to version 2") {
		t.Fatalf("it says: %v", err)
	}
	status, err := Status(ctx, options)
	if err != nil || status.Version != 1 || status.Dirty {
		t.Fatalf("the status is %+v, %v", status, err)
	}
	if _, err := conn.Exec(ctx, "DROP FUNCTION cyclonetix__state.held_locks()"); err != nil {
		t.Fatal(err)
	}
	if err := MigrateUp(ctx, options); err != nil {
		t.Fatal(err)
	}
}

func TestSchemaThatAnotherToolLeftDirty(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec("UPDATE cyclonetix__state.schema_migrations SET dirty = true")
	_, err := Open(w.ctx, w.options)
	for what, err := range map[string]error{"Open": err, "MigrateUp": MigrateUp(w.ctx, w.options), "MigrateDown": MigrateDown(w.ctx, w.options, 1)} {
		if err == nil || !strings.Contains(err.Error(), "dirty at migration") {
			t.Errorf("%s says: %v", what, err)
		}
	}
}

func TestSchemaOfANewerProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// One that this program may work with.
	w.exec("UPDATE cyclonetix__state.schema_migrations SET version = 99")
	w.must(MigrateUp(w.ctx, w.options), "migrate")
	w.open().Close()
	if err := MigrateDown(w.ctx, w.options, 1); !errors.Is(err, engine.ErrSchemaNewer) {
		t.Errorf("MigrateDown says: %v", err)
	}
	// And one that it may not.
	w.exec("UPDATE cyclonetix__state.settings SET value = '98' WHERE name = 'compatible_from'")
	_, err := Open(w.ctx, w.options)
	for what, err := range map[string]error{"Open": err, "MigrateUp": MigrateUp(w.ctx, w.options)} {
		if !errors.Is(err, engine.ErrSchemaNewer) || !strings.Contains(err.Error(), "install a newer cyclonetix") || !strings.Contains(err.Error(), "99") {
			t.Errorf("%s says: %v", what, err)
		}
	}
}

// A role of the name of the schema has it first in its search path.
func TestRoleNamedLikeTheSchema(t *testing.T) {
	t.Parallel()
	address, err := url.Parse(pgtest.NewDatabase(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, conn := connect(t, address.String())
	database := strings.TrimPrefix(address.Path, "/")
	// Roles are the whole server's, which tests may share.
	for _, role := range []string{"cyclonetix", "cyclonetix__state"} {
		if _, err := conn.Exec(ctx, `DO $$ BEGIN CREATE ROLE `+role+` LOGIN PASSWORD 'secret'; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, sql := range []string{"DROP OWNED BY " + role + " CASCADE", "DROP ROLE " + role} {
				if _, err := conn.Exec(context.WithoutCancel(ctx), sql); err != nil {
					t.Logf("%s: %v", sql, err) // another test process uses it as well
				}
			}
		})
		if _, err := conn.Exec(ctx, "GRANT ALL ON DATABASE "+database+" TO "+role); err != nil {
			t.Fatal(err)
		}
		own := *address
		own.User = url.UserPassword(role, "secret")
		options := Options{URL: own.String(), PreparedStatements: true}
		for range 2 {
			if err := MigrateUp(ctx, options); err != nil {
				t.Fatalf("as %s: %v", role, err)
			}
		}
		w := worldOn(t, own.String())
		w.start(planOf("a", "b: a"))
		w.drain(w.agent("one"))
		if done := ask[int](w, "SELECT count(*) FROM cyclonetix.runs WHERE status = 'completed'"); done != 1 {
			t.Errorf("as %s %d runs completed", role, done)
		}
		w.must(w.writer.Close(ctx), "close")
		w.backend.Close()
		if err := MigrateDown(ctx, options, 99); err != nil {
			t.Fatalf("as %s: %v", role, err)
		}
	}
}

// Clusters in one database have nothing to do with each other.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(planOf("a", "b: a"))
	before := objects(t, w.ctx, mustConnect(w), "^cyclonetix(__|$)")
	other := func(o *Options) { o.Cluster = "blue_2" }
	options := w.options
	other(&options)
	w.must(MigrateUp(w.ctx, options), "migrate")
	v := worldOn(t, w.options.URL, other)
	v.start(planOf("c", "d: c"))
	if got := namesOf(v.claim(v.agent("one"), 9, 0)); got != "c" {
		t.Errorf("in the other cluster is claimed: %q", got)
	}
	if got := namesOf(w.claim(w.agent("one"), 9, 0)); got != "a" {
		t.Errorf("in the first cluster is claimed: %q", got)
	}
	for schema, want := range map[string]string{"cyclonetix": "a", "cyclonetix_blue_2": "c"} {
		if got := ask[string](w, "SELECT string_agg(name, ' ') FROM "+schema+".task_runs WHERE status = 'running'"); got != want {
			t.Errorf("in the view of %s runs %q", schema, got)
		}
	}
	if tables := ask[int](w, "SELECT count(*) FROM pg_class WHERE relnamespace = 'cyclonetix_blue_2__river'::regnamespace AND relname = 'river_job'"); tables != 1 {
		t.Errorf("the other cluster's River has %d tables of jobs", tables)
	}
	if keys := ask[int](w, "SELECT count(DISTINCT k) FROM unnest($1::bigint[]) AS k", []int64{w.backend.schema.key("x"), v.backend.schema.key("x")}); keys != 2 {
		t.Error("the clusters share advisory locks")
	}
	if w.backend.schema.channel() == v.backend.schema.channel() {
		t.Error("the clusters share a channel")
	}
	w.must(v.writer.Close(w.ctx), "close")
	v.backend.Close()
	w.must(MigrateDown(w.ctx, options, 99), "migrate down")
	conn := mustConnect(w)
	if left := objects(t, w.ctx, conn, "blue"); left != "" {
		t.Errorf("of the other cluster is left\n%s", left)
	}
	if after := objects(t, w.ctx, conn, "^cyclonetix(__|$)"); after != before {
		t.Errorf("the first cluster was touched: it had\n%s\nand has\n%s", before, after)
	}
}

func mustConnect(w *world) *pgx.Conn {
	w.Helper()
	conn, err := pgx.Connect(w.ctx, w.options.URL)
	w.must(err, "connect")
	w.Cleanup(func() { _ = conn.Close(context.WithoutCancel(w.ctx)) })
	return conn
}

func TestClusterNames(t *testing.T) {
	t.Parallel()
	for _, cluster := range []string{"A", "a__b", "_a", "a_", "a-b", "a.b", `a"b`, "ä", " ", strings.Repeat("a", 41)} {
		if names, err := newSchema(cluster); err == nil {
			t.Errorf("cluster_id %q is taken for %s", cluster, names.base)
		}
	}
	for cluster, base := range map[string]string{"": "cyclonetix", DefaultCluster: "cyclonetix", "a": "cyclonetix_a", "1_b": "cyclonetix_1_b"} {
		if names, err := newSchema(cluster); err != nil || names.base != base {
			t.Errorf("cluster_id %q: %v, %v", cluster, names, err)
		}
	}
	for _, err := range []error{
		MigrateUp(t.Context(), Options{URL: "postgres://nobody@localhost:1/none", Cluster: "A"}),
		func() error { _, err := Open(t.Context(), Options{Cluster: "A"}); return err }(),
		func() error { _, err := Status(t.Context(), Options{Cluster: "A"}); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "cluster_id") {
			t.Errorf("it says: %v", err)
		}
	}
}

// Whoever looks in SQL finds every column explained.
func TestViewsAreCommented(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, view := range []string{"runs", "task_runs", "events", "queues", "agents"} {
		bare := askAll[string](w, `
			SELECT a.attname::text FROM pg_attribute a
			WHERE a.attrelid = ('cyclonetix.' || $1::text)::regclass AND a.attnum > 0 AND coalesce(col_description(a.attrelid, a.attnum), '') = ''`, view)
		if len(bare) > 0 {
			t.Errorf("columns of %s without a comment: %v", view, bare)
		}
		if ask[string](w, "SELECT coalesce(obj_description(('cyclonetix.' || $1::text)::regclass, 'pg_class'), '')", view) == "" {
			t.Errorf("view %s has no comment", view)
		}
	}
	if views := askAll[string](w, "SELECT viewname::text FROM pg_views WHERE schemaname = 'cyclonetix' ORDER BY 1"); strings.Join(views, " ") != "agents events queues runs task_runs" {
		t.Errorf("the views are %v", views)
	}
}

// Runs that were stored before migration 4 are read as before: what was asked for is not known, nor what point changed a value.
func TestRunsFromBeforeRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(loop())
	w.exec("INSERT INTO cyclonetix__state.run_updates (run_id, version, body, node) VALUES ($1, 1, '{}', 0)", run.ID.String())
	w.must(MigrateDown(w.ctx, w.options, migrations.Newest()-3), "migrate down")
	if view := ask[string](w, "SELECT rerun_of::text FROM (SELECT run_id, coalesce(rerun_of::text, 'none') AS rerun_of FROM cyclonetix.runs) r"); view != "none" {
		t.Errorf("it repeats %s", view)
	}
	w.must(MigrateUp(w.ctx, w.options), "migrate up")
	view, err := w.backend.FindRun(w.ctx, run.ID.String())
	w.must(err, "read the run")
	if view.Request != nil || view.RerunOfName != "" {
		t.Errorf("it is read as %+v", view)
	}
	updates, err := w.backend.Updates(w.ctx, run.ID)
	w.must(err, "read the updates")
	if len(updates) > 0 {
		t.Errorf("the updates are %+v", updates)
	}
}

// What is queued with resources stays queued when the program that knows of them is taken back, and classes from before
// need nothing.
func TestMigrateResources(t *testing.T) {
	t.Parallel()
	options := Options{URL: pgtest.NewDatabase(t, nil)}
	ctx, conn := connect(t, options.URL)
	if err := MigrateUp(ctx, options); err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	queued := func() (text string) {
		t.Helper()
		err := conn.QueryRow(ctx, `SELECT string_agg(c.queue || ' ' || c.requires::text, ', ' ORDER BY d.id)
			FROM cyclonetix__state.dispatches d JOIN cyclonetix__state.dispatch_classes c ON c.class = d.class`).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	exec(`INSERT INTO cyclonetix__state.dispatch_classes (queue, requires, cpu_millis, memory_mb)
		VALUES ('a', '{}', 500, 0), ('a', '{}', 500, 7), ('a', '{eu}', 1, 0), ('b', '{}', 0, 0), ('b', '{}', 0, 1)`)
	exec(`INSERT INTO cyclonetix__state.dispatches (class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members)
		SELECT class, 1, 2, 0, now(), '{}', '{}', '{}', '{}', '\x000000000000000000010001' FROM cyclonetix__state.dispatch_classes ORDER BY class`)
	want := "a {}, a {}, a {eu}, b {}, b {}"
	if got := queued(); got != want {
		t.Fatalf("queued is %s", got)
	}
	if err := MigrateDown(ctx, options, migrations.Newest()-4); err != nil {
		t.Fatal(err)
	}
	if got := queued(); got != want {
		t.Errorf("without resources queued is %s, should be %s", got, want)
	}
	if err := MigrateUp(ctx, options); err != nil {
		t.Fatal(err)
	}
	var classes, needing int
	if err := conn.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE cpu_millis + memory_mb + gpu + disk_mb > 0) FROM cyclonetix__state.dispatch_classes").Scan(&classes, &needing); err != nil {
		t.Fatal(err)
	}
	if got := queued(); got != want || classes != 3 || needing != 0 {
		t.Errorf("queued is %s, in %d classes of which %d need something", got, classes, needing)
	}
}

// What migration 7 allows holds for partitions from before and for new ones, and what it forbids, too; on the way down nothing
// waits for what an older program does not know.
func TestRulesMigration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(loop())
	w.must(MigrateDown(w.ctx, w.options, migrations.Newest()-6), "migrate down")
	before := ask[string](w, "SELECT value FROM cyclonetix__state.settings WHERE name = 'compatible_from'")
	const wait = "UPDATE cyclonetix__state.task_runs SET status = 3, cause = $1::int WHERE node = 0"
	refused := func(cause int) bool {
		_, err := mustConnect(w).Exec(w.ctx, wait, cause)
		return err != nil
	}
	if !refused(15) {
		t.Error("the old schema lets a task run wait for its trigger rule")
	}
	w.must(MigrateUp(w.ctx, w.options), "migrate up")
	ask[bool](w, "SELECT cyclonetix__state.ensure_partition('task_runs', 'later', 'ff000000-0000-0000-0000-000000000000', 'ff100000-0000-0000-0000-000000000000', 'fillfactor = 45')")
	unlike := ask[int](w, `
		SELECT count(*) FROM pg_inherits i
		LEFT JOIN pg_constraint c ON c.conrelid = i.inhrelid AND c.conname = 'not_ended_has_no_end' AND pg_get_constraintdef(c.oid) LIKE '%15%'
		WHERE i.inhparent = 'cyclonetix__state.task_runs'::regclass AND c.oid IS NULL`)
	if unlike > 0 {
		t.Errorf("%d partitions have another constraint", unlike)
	}
	// Retention may make a partition that it detached one again.
	part := ask[string](w, `SELECT i.inhrelid::regclass::text FROM pg_inherits i
		WHERE i.inhparent = 'cyclonetix__state.task_runs'::regclass ORDER BY i.inhrelid LIMIT 1`)
	bound := ask[string](w, "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = $1::regclass", part)
	w.exec("ALTER TABLE cyclonetix__state.task_runs DETACH PARTITION " + part)
	w.exec("ALTER TABLE cyclonetix__state.task_runs ATTACH PARTITION " + part + " " + bound)
	if !refused(14) || refused(15) {
		t.Error("the new schema forbids to wait for a trigger rule, or allows to wait for anything")
	}
	w.must(MigrateDown(w.ctx, w.options, migrations.Newest()-6), "migrate down")
	if cause := ask[int](w, "SELECT cause::int FROM cyclonetix__state.task_runs WHERE node = 0"); cause != 13 || !refused(15) {
		t.Errorf("it waits because of %d", cause)
	}
	if after := ask[string](w, "SELECT value FROM cyclonetix__state.settings WHERE name = 'compatible_from'"); after != before {
		t.Errorf("compatible_from is %s, and was %s", after, before)
	}
}
