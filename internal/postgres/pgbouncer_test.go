package postgres

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/pgtest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// bouncer starts PgBouncer in front of a database, in transaction mode: each transaction gets another session of the server.
func bouncer(t *testing.T, direct string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			t.Fatal("there is no pgbouncer in PATH: install the package pgbouncer (apt-get install pgbouncer, brew install pgbouncer)")
		}
	}
	config, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "bouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	password := ""
	if config.Password != "" {
		password = " password='" + strings.ReplaceAll(config.Password, "'", "''") + "'"
	}
	settings := fmt.Sprintf(`[databases]
%[1]s = host='%[2]s' port=%[3]d dbname=%[1]s user='%[4]s'%[5]s
[pgbouncer]
unix_socket_dir = %[6]s
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = 6
server_round_robin = 1
logfile =
`, config.Database, config.Host, config.Port, config.User, password, folder)
	file := filepath.Join(folder, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, file)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	asWhom(t, command, config.Host, folder, file)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = command.Wait(); close(ended) }()
	t.Cleanup(func() { _ = command.Process.Kill(); <-ended })
	address := url.URL{Scheme: "postgres", User: url.User(config.User), Path: "/" + config.Database}
	address.RawQuery = url.Values{"host": {folder}, "port": {"6432"}, "sslmode": {"disable"}}.Encode()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := pgx.Connect(t.Context(), address.String())
		if err == nil {
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			return address.String()
		}
		select {
		case <-ended:
			t.Fatalf("pgbouncer ended: %s", output.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgbouncer does not answer: %v", err)
		}
	}
}

// asWhom lets a program that refuses to be root run as somebody else: the one who may enter the folder of the server's socket.
func asWhom(t *testing.T, command *exec.Cmd, host string, paths ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	var uid, gid int
	if info, err := os.Stat(host); err == nil {
		owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // on Unix
		uid, gid = int(owner.Uid), int(owner.Gid)
	}
	if uid == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ = strconv.Atoi(nobody.Uid)
		gid, _ = strconv.Atoi(nobody.Gid)
	}
	for _, path := range paths {
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}} //nolint:gosec // ids
}

// workThrough lets two processes, a writer's and an agent's, take a run from its submission to its end.
func (w *world) workThrough(other *Backend) {
	w.Helper()
	w.takeOver()
	session := agentOf(w, other, engine.AgentInfo{ID: "one"})
	of := submission(planOf("a", "b: a", "c: a", "d: b c"))
	of.Name, of.Values = "named", workflow.RunValues{Env: map[string]string{"K": "V"}}
	submitted, err := other.Submit(w.ctx, []engine.Submission{of})
	w.must(err, "submit")
	for round := range 4 {
		w.turn()
		deliveries := w.claim(session, 9, 9)
		for i := range deliveries {
			delivery := &deliveries[i]
			for _, task := range delivery.Tasks {
				if task.Run.Values.Env["K"] != "V" {
					w.Errorf("the run is %+v", task.Run)
				}
			}
			chunk := engine.LogChunk{Run: submitted[0].ID, Node: delivery.Tasks[0].Node, Attempt: 1, Seq: 1, Time: delivery.ClaimedAt, Stream: engine.StreamStdout, Body: []byte{0, 1}}
			w.must(session.WriteLogs(w.ctx, []engine.LogChunk{chunk}), "write logs")
			w.must(session.Report(w.ctx, reportOf(session, delivery), []engine.LogChunk{chunk}, nil), "report")
		}
		if _, err := session.Beat(w.ctx); err != nil {
			w.Fatalf("beat: %v", err)
		}
		tick, err := w.writer.Tick(w.ctx)
		w.must(err, "tick")
		if len(tick.Agents) != 1 {
			w.Fatalf("in round %d the agents are %+v", round, tick.Agents)
		}
	}
	view, err := w.backend.FindRun(w.ctx, "named")
	w.must(err, "find the run")
	if view.Status != workflow.RunCompleted || view.CompletedTasks != 4 {
		w.Fatalf("the run is %+v", view)
	}
	w.must(w.backend.Cancel(w.ctx, w.submit(submission(planOf("x")))[0].ID, "ann"), "cancel")
	w.turn()
	w.list(engine.RunFilter{Status: []workflow.RunStatus{workflow.RunCompleted, workflow.RunCancelled}})
	if logs, err := w.backend.Logs(w.ctx, view.ID, 3, engine.LogPlace{}, 9); err != nil || len(logs) != 1 {
		w.Errorf("a log has %d chunks, %v", len(logs), err)
	}
	for _, read := range []func() error{
		func() error { _, err := w.backend.TaskRuns(w.ctx, view.ID); return err },
		func() error { _, err := w.backend.Queues(w.ctx); return err },
		func() error { _, err := w.backend.Agents(w.ctx); return err },
		func() error { _, err := w.backend.Plan(w.ctx, view.ID); return err },
		func() error {
			_, _, err := w.backend.Publish(w.ctx, []engine.Definition{{Kind: "task", ID: "t", Body: []byte(`{}`)}}, "x")
			return err
		},
	} {
		w.must(read(), "read")
	}
	var log jobLog
	jobs := &engine.Jobs{}
	jobs.HandleJob("tell", func(_ context.Context, args []byte) error { log.add(string(args)); return nil })
	_, err = w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Changes: []*workflow.Change{{ID: view.ID, Jobs: []workflow.Job{{Kind: "tell", Key: "k", Args: []byte("[]")}}}}})
	w.must(err, "commit a job")
	w.startJobs(jobs, engine.Retention{Days: 1})
	w.eventually("the job has run", func() bool { return len(log.all()) == 1 })
	w.must(w.backend.DropPartitions(w.ctx, w.backend.clock.now().AddDate(0, 0, -1)), "drop partitions")
}

// Behind a transaction pooler, with a way beside it for the one connection that needs a session.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	direct := pgtest.NewDatabase(t, migrated)
	pooled := bouncer(t, direct)
	w := worldOn(t, direct, func(o *Options) { o.URL, o.DirectURL, o.PreparedStatements = pooled, direct, false })
	other := w.open()
	w.workThrough(other)
	quietly := w.writer.Wake()
	hush(quietly)
	submittedBy(w, other)
	w.hears(quietly, "a submission")
	if keys := ask[int](w, "SELECT cardinality(cyclonetix__state.held_locks())"); keys < 2 {
		t.Errorf("%d locks are held", keys)
	}
}

// Without such a way nobody listens and no lock is held: all is found by looking.
func TestPgBouncerAlone(t *testing.T) {
	t.Parallel()
	direct := pgtest.NewDatabase(t, nil)
	pooled := bouncer(t, direct)
	pooledOnly := func(o *Options) { o.URL, o.PreparedStatements = pooled, false }
	options := Options{URL: pooled}
	if err := MigrateUp(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	if status, err := Status(t.Context(), options); err != nil || status.Version == 0 {
		t.Fatalf("the status is %+v, %v", status, err)
	}
	w := worldOn(t, direct, pooledOnly)
	other := w.open()
	w.workThrough(other)
	// A missing lock is no suspicion here.
	for start := time.Now(); time.Since(start) < 2*suspicionGrace; time.Sleep(suspicionGrace / 4) {
		tick, err := w.writer.Tick(w.ctx)
		w.must(err, "tick")
		if len(tick.Agents) != 1 {
			t.Fatal("the agent was declared dead")
		}
	}
	if keys := ask[int](w, "SELECT cardinality(cyclonetix__state.held_locks())"); keys != 0 {
		t.Errorf("%d locks are held by sessions of the pooler", keys)
	}
	if listening := ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"); listening != 0 {
		t.Errorf("%d sessions of the pooler listen", listening)
	}
	if poll := agentOf(w, other, engine.AgentInfo{ID: "two"}).Poll(); poll > time.Second {
		t.Errorf("an agent polls every %v", poll)
	}
	submittedBy(w, other)
	if tick, err := w.writer.Tick(w.ctx); err != nil || !tick.MailWaits {
		t.Errorf("the tick says of new mail: %v, %v", tick.MailWaits, err)
	}
	if err := MigrateUp(w.ctx, options); err != nil {
		t.Errorf("migrating again: %v", err)
	}
}
