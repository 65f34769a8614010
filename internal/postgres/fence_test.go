package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// A commit of a writer that was declared dead, or whose number is not the next, stores nothing, though all of
// it is sent in one go with the fence.
func TestFencedCommitStoresNothing(t *testing.T) {
	t.Parallel()
	for name, fence := range map[string]func(*world){
		"dead":          func(w *world) { w.declareDead() },
		"an old number": func(w *world) { w.shift(-1) },
		"a number ahead, after a standby lost commits": func(w *world) { w.shift(1) },
		"its row is gone": func(w *world) { w.exec("DELETE FROM cyclonetix__state.writers") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.start(planOf("a", "b: a"))
			w.submit(submission(planOf("c")))
			mail, err := w.writer.ReadMail(w.ctx, true, 100)
			w.must(err, "read mail")
			contents := func() string {
				return ask[string](w, `SELECT concat_ws(' ', (SELECT count(*) FROM cyclonetix__state.task_runs), (SELECT count(*) FROM cyclonetix__state.dispatches),
					(SELECT count(*) FROM cyclonetix__state.mailbox), (SELECT sum(status) FROM cyclonetix__state.run_states), (SELECT count(*) FROM cyclonetix__state.feed))`)
			}
			before := contents()
			fence(w)
			if err := w.answer(mail); !errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrUncertain) {
				t.Fatalf("the commit says: %v", err)
			}
			if after := contents(); after != before {
				t.Errorf("it stored something: %s became %s", before, after)
			}
		})
	}
}

func TestRecoverOfADeadWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	w.declareDead()
	if err := w.writer.Recover(w.ctx); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("Recover says: %v", err)
	}
	// Its successor has the buckets at once.
	writerOf(w, w.open())
}

func TestSecondWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	_, err := w.open().OpenWriters(w.ctx, "second", 1)
	if !errors.Is(err, engine.ErrWriterExists) || errors.Is(err, engine.ErrUncertain) {
		t.Fatalf("a second writer hears: %v", err)
	}
	w.must(w.writer.Close(w.ctx), "close")
	// Of several who start at once one gets the buckets, and the others hear who it is.
	var group sync.WaitGroup
	var mutex sync.Mutex
	opened := 0
	for number := range 4 {
		backend := w.open()
		group.Go(func() {
			writers, err := backend.OpenWriters(w.ctx, fmt.Sprint(number), 1)
			mutex.Lock()
			defer mutex.Unlock()
			if err == nil {
				opened++
				t.Cleanup(func() { _ = writers[0].Close(context.WithoutCancel(w.ctx)) })
			} else if !errors.Is(err, engine.ErrWriterExists) || errors.Is(err, engine.ErrUncertain) {
				t.Errorf("one of many hears: %v", err)
			}
		})
	}
	group.Wait()
	if opened != 1 {
		t.Errorf("%d writers were opened", opened)
	}
}

// The lock of a host that lost its power is held for as long as the server does not miss it. Only what moves is alive.
func TestLockIsNoLife(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		writer db.ListLiveWritersRow
		alive  bool
		grace  time.Duration
	}{
		"at work":                  {db.ListLiveWritersRow{LockKey: 1, Locked: true, BeatAgeSeconds: 5.9}, true, lonelyWriterGrace},
		"the lock alone":           {db.ListLiveWritersRow{LockKey: 1, Locked: true, BeatAgeSeconds: 60}, false, lonelyWriterGrace},
		"the lock is gone":         {db.ListLiveWritersRow{LockKey: 1, BeatAgeSeconds: 1}, false, writerGrace},
		"never had a lock":         {db.ListLiveWritersRow{BeatAgeSeconds: 1}, false, lonelyWriterGrace},
		"a lock, and never a beat": {db.ListLiveWritersRow{LockKey: 1, Locked: true, BeatAgeSeconds: math.Inf(1)}, false, lonelyWriterGrace},
	} {
		if alive, grace := isAlive(&test.writer), graceOf(&test.writer); alive != test.alive || grace != test.grace {
			t.Errorf("%s: alive is %v, the grace %s", name, alive, grace)
		}
	}
	w := newWorld(t)
	w.takeOver()
	w.exec("UPDATE cyclonetix__state.writer_beats SET at = at - interval '1 minute'")
	w.exec("UPDATE cyclonetix__state.writers SET process = 'elsewhere'")
	w.eventually("the lock is held", func() bool { return ask[int](w, "SELECT count(*) "+listener, w.writer.group.lockKey) == 1 })
	retired := make(chan error, 1)
	go func() { retired <- w.backend.retireWriters(w.ctx) }()
	w.eventually("it is watched", func() bool {
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%ListLiveWriters%' AND pid <> pg_backend_pid()") > 0
	})
	select {
	case err := <-retired:
		t.Fatalf("it is not watched: %v", err)
	default:
	}
	// When it moves, it is alive; and it moves again, as the first may have come before it was looked at.
	moving := time.NewTicker(writerPoll / 2)
	defer moving.Stop()
	for {
		select {
		case err := <-retired:
			if !errors.Is(err, engine.ErrWriterExists) {
				t.Fatalf("of one that moves it says %v", err)
			}
			return
		case <-moving.C:
			w.exec("UPDATE cyclonetix__state.writer_beats SET beat = beat + 1")
		}
	}
}

// Buckets are in order after any number of takeovers, as LiveRuns pages through them.
func TestLiveRunsAreAllFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := planOf("a")
	submissions := make([]engine.Submission, 300)
	for i := range submissions {
		submissions[i] = submission(plan)
	}
	w.submit(submissions...)
	for range 6 {
		w.takeOver()
		// Rows of buckets move about in their table.
		w.exec("UPDATE cyclonetix__state.buckets SET epoch = epoch + 1 WHERE bucket % 7 = 3")
		found := map[workflow.RunID]bool{}
		var after workflow.RunID
		for {
			ids, err := w.writer.LiveRuns(w.ctx, after, 11)
			w.must(err, "list live runs")
			if len(ids) == 0 {
				break
			}
			for _, id := range ids {
				found[id] = true
			}
			after = ids[len(ids)-1]
		}
		if len(found) != len(submissions) {
			t.Fatalf("%d of %d live runs are found", len(found), len(submissions))
		}
		w.must(w.writer.Close(w.ctx), "close")
	}
}

// A process that froze in the middle of a transaction holds up its successor for no longer than a moment.
func TestFrozenCommitHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const limit = 1500 * time.Millisecond
	for name, freeze := range map[string]func(*world) context.CancelFunc{
		"between statements": func(w *world) context.CancelFunc {
			tx, err := w.sql.Begin(w.ctx)
			w.must(err, "begin")
			_, err = tx.Exec(w.ctx, "SELECT cyclonetix__state.fence($1, $2)", w.writer.number, w.writer.seq+1)
			w.must(err, "fence")
			return func() { _ = tx.Rollback(w.ctx) }
		},
		// No time-out of the server knows of this one: it is not idle, it waits for the rest of the pipeline.
		"in the middle of a pipeline": func(w *world) context.CancelFunc {
			conn := mustConnect(w)
			frontend := conn.PgConn().Frontend()
			sql := fmt.Sprintf("SELECT cyclonetix__state.fence(%d, %d)", w.writer.number, w.writer.seq+1)
			frontend.SendParse(&pgproto3.Parse{Query: sql})
			frontend.SendBind(&pgproto3.Bind{})
			frontend.SendExecute(&pgproto3.Execute{})
			w.must(frontend.Flush(), "send")
			return func() { _ = conn.PgConn().Conn().Close() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.takeOver()
			defer freeze(w)()
			w.eventually("the frozen transaction holds the row", func() bool {
				_, err := w.sql.Exec(w.ctx, "SELECT FROM cyclonetix__state.writers FOR UPDATE NOWAIT")
				return err != nil
			})
			start := time.Now()
			w.declareDead()
			if took := time.Since(start); took > limit {
				t.Errorf("it took %v", took)
			}
			if !ask[bool](w, "SELECT bool_and(dead) FROM cyclonetix__state.writers") || !w.inStep() {
				t.Error("the frozen commit was stored")
			}
		})
	}
}

// The connection breaks at any moment of a commit. Whatever the caller is told: after it recovered and loaded what is
// stored, the commit is there whole or not at all, and never twice.
func TestCommitsThatBreakOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	backends := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'commits'`
	config := w.backend.pool.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "commits"
	pool, err := poolOf(w.ctx, config)
	w.must(err, "connect")
	w.backend.pool.Close()
	w.backend.pool = pool
	uncertain, stored := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		plan := planOf("a", "b: a", "c: a", "d: b c")
		var ids []workflow.RunID
		for range rapid.IntRange(1, 4).Draw(r, "runs") {
			ids = append(ids, w.submit(submission(plan))[0].ID)
		}
		delay := time.Duration(rapid.IntRange(0, 3000).Draw(r, "microseconds until the connection breaks")) * time.Microsecond
		mail, err := w.writer.ReadMail(w.ctx, true, 100)
		w.must(err, "read mail")
		w.must(w.load(mail), "load")
		killed := make(chan error, 1)
		go func() {
			time.Sleep(delay)
			_, err := w.sql.Exec(w.ctx, backends)
			killed <- err
		}()
		err = w.answer(mail)
		w.must(<-killed, "end the connection")
		switch {
		case err == nil:
			stored++
		case errors.Is(err, engine.ErrFenced), errors.Is(err, engine.ErrRefused):
			r.Fatalf("it is told: %v", err)
		case errors.Is(err, engine.ErrUncertain):
			uncertain++
		}
		clear(w.runs)
		w.recover()
		w.turn()
		for _, id := range ids {
			run := w.run(id)
			if run == nil || run.Status != workflow.RunRunning {
				r.Fatalf("run %s is %+v", id, run)
			}
			if queued := run.Queued(); len(queued) != 1 || queued[0].Node != 0 || queued[0].Attempt != 1 || queued[0].Delivery != 1 {
				r.Fatalf("queued is %v", queued)
			}
			if dispatched := ask[int](w, "SELECT count(*) FROM cyclonetix__state.dispatches WHERE $1 = ANY (runs)", id.String()); dispatched != 1 {
				r.Fatalf("run %s is dispatched %d times", id, dispatched)
			}
		}
		if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.mailbox"); left != 0 {
			r.Fatalf("%d messages are left", left)
		}
	})
	t.Logf("%d commits were stored, %d uncertain", stored, uncertain)
}

// recover makes the writer usable again, however often the connection breaks.
func (w *world) recover() {
	w.Helper()
	w.eventually("the writer recovers", func() bool {
		err := w.writer.Recover(w.ctx)
		if errors.Is(err, engine.ErrFenced) {
			w.Fatal(err)
		}
		return err == nil
	})
}

// cutter is a connection to the server that breaks on demand, before what was sent arrives or before the answer does.
type cutter struct {
	net.Conn
	cut *cut
}

type cut struct {
	mutex                 sync.Mutex
	beforeSend, afterSend bool
}

var errCut = errors.New("the cable was cut")

func (c cutter) Write(bytes []byte) (int, error) {
	c.cut.mutex.Lock()
	before := c.cut.beforeSend
	c.cut.mutex.Unlock()
	if before {
		_ = c.Close()
		return 0, errCut
	}
	return c.Conn.Write(bytes)
}

func (c cutter) Read(bytes []byte) (int, error) {
	n, err := c.Conn.Read(bytes)
	c.cut.mutex.Lock()
	after := c.cut.afterSend
	c.cut.mutex.Unlock()
	if after {
		_ = c.Close()
		return 0, errCut
	}
	return n, err
}

// throughCutter lets a backend's pool have one connection, through a cable that can be cut.
func (w *world) throughCutter() *cut {
	w.Helper()
	c := &cut{}
	config := w.backend.pool.Config()
	config.MaxConns = 1
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return cutter{conn, c}, err
	}
	pool, err := poolOf(w.ctx, config)
	w.must(err, "connect")
	w.must(pool.Ping(w.ctx), "connect")
	w.backend.pool.Close()
	w.backend.pool = pool
	return c
}

func (c *cut) set(before, after bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.beforeSend, c.afterSend = before, after
}

func TestCommitWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ before, after bool }{"on the way there": {before: true}, "on the way back": {after: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.takeOver()
			cable := w.throughCutter()
			id := w.submit(submission(planOf("a")))[0].ID
			mail, err := w.writer.ReadMail(w.ctx, true, 100)
			w.must(err, "read mail")
			w.run(id)
			cable.set(test.before, test.after)
			if err := w.answer(mail); err == nil || errors.Is(err, engine.ErrUncertain) != test.after {
				t.Fatalf("the commit says: %v", err)
			}
			cable.set(false, false)
			clear(w.runs)
			w.recover()
			w.turn()
			if run := w.run(id); len(run.Queued()) != 1 {
				t.Errorf("queued is %v", run.Queued())
			}
			if dispatched := ask[int](w, "SELECT count(*) FROM cyclonetix__state.dispatches"); dispatched != 1 {
				t.Errorf("it is dispatched %d times", dispatched)
			}
		})
	}
}

// Where no connection comes about nothing was sent, so the same commit may be tried again.
func TestCommitWithoutAConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	id := w.submit(submission(planOf("a")))[0].ID
	mail, err := w.writer.ReadMail(w.ctx, true, 100)
	w.must(err, "read mail")
	w.run(id)
	good := w.backend.pool
	config := good.Config()
	config.ConnConfig.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, errCut }
	bad, err := poolOf(w.ctx, config)
	w.must(err, "make a pool")
	w.backend.pool = bad
	err = w.answer(mail)
	w.backend.pool = good
	bad.Close()
	if err == nil || errors.Is(err, engine.ErrUncertain) || errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrRefused) {
		t.Fatalf("the commit says: %v", err)
	}
	w.must(w.answer(mail), "try again")
}

// A content that can't be stored is told apart from trouble on the way.
func TestRefusedCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	at := w.writer.Now()
	for name, change := range map[string]*workflow.Change{
		"a row that was never made":  {Tasks: []workflow.TaskChange{{Node: 7, Status: workflow.TaskCompleted, Attempt: 1, Delivery: 1, StartTime: at, EndTime: at, Agent: 1}}},
		"a row that is there":        {Tasks: []workflow.TaskChange{{Node: 0, Status: workflow.TaskQueued, First: true, Attempt: 1, Delivery: 1}}},
		"a row twice":                {Tasks: []workflow.TaskChange{{Node: 0, Status: workflow.TaskCompleted, Attempt: 1, Delivery: 1, StartTime: at, EndTime: at, Agent: 1}, {Node: 0, Status: workflow.TaskCompleted, Attempt: 1, Delivery: 1, StartTime: at, EndTime: at, Agent: 1}}},
		"an old attempt":             {Tasks: []workflow.TaskChange{{Node: 0, Status: workflow.TaskCompleted, Attempt: 2, Delivery: 1, StartTime: at, EndTime: at, Agent: 1}}},
		"an old delivery":            {Tasks: []workflow.TaskChange{{Node: 0, Status: workflow.TaskCompleted, Attempt: 1, Delivery: 2, StartTime: at, EndTime: at, Agent: 1}}},
		"completed by no agent":      {Tasks: []workflow.TaskChange{{Node: 0, Status: workflow.TaskCompleted, Attempt: 1, Delivery: 1, StartTime: at, EndTime: at}}},
		"a state of no run":          {ID: workflow.NewRunID(at, 1), Run: &workflow.RunChange{Status: workflow.RunRunning, StartTime: at, Total: 1}},
		"an attempt of 32768":        {Tasks: []workflow.TaskChange{{Node: 0, Status: workflow.TaskQueued, Attempt: 32768, Delivery: 1}}},
		"a text that is none":        {Attempts: []workflow.AttemptChange{{Node: 0, Attempt: 1, Status: workflow.TaskFailed, StartTime: at, EndTime: at, Agent: 1, Reason: "a\x00b"}}},
		"arguments that are no JSON": {Jobs: []workflow.Job{{Kind: "x", Args: []byte("{")}}},
	} {
		if change.ID.IsZero() {
			change.ID = run.ID
		}
		_, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Changes: []*workflow.Change{change}})
		if !errors.Is(err, engine.ErrRefused) || errors.Is(err, engine.ErrUncertain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !w.inStep() {
		t.Errorf("the stored number is not %d", w.writer.seq)
	}
	w.drain(w.agent("one"))
	if view := w.view(run.ID); view.Status != workflow.RunCompleted {
		t.Errorf("the run is %s", view.Status)
	}
}

// A clock that was set back makes no run impossible to store.
func TestClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a", "b: a"))
	session := w.agent("one")
	deliveries := w.claim(session, 9, 0)
	back := run.StartTime.Add(-time.Hour)
	report := reportOf(session, &deliveries[0])
	report.Ends[0].EndTime = back
	w.must(session.Report(w.ctx, report, nil, nil), "report")
	w.turn()
	deliveries = w.claim(session, 9, 0)
	w.complete(session, deliveries)
	mail, err := w.writer.ReadMail(w.ctx, true, 100)
	w.must(err, "read mail")
	reading := *w.backend.clock.reading.Load()
	reading.database = reading.database.Add(-time.Hour)
	w.backend.clock.reading.Store(&reading)
	w.must(w.answer(mail), "commit")
	view := w.view(run.ID)
	if view.Status != workflow.RunCompleted || view.EndTime.Before(view.StartTime) {
		t.Errorf("the run is %+v", view)
	}
}
