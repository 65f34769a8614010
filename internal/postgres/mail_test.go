package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// post puts messages into a bucket in one transaction. The actor numbers them.
func (w *world) post(bucket int, actors ...string) {
	w.Helper()
	w.exec(`INSERT INTO cyclonetix__state.mailbox (bucket, kind, actor) SELECT $1, 3, a FROM unnest($2::text[]) AS a`, bucket, actors)
}

func actorsOf(mail []engine.Mail) []string {
	actors := make([]string, len(mail))
	for i := range mail {
		actors[i] = mail[i].Actor
	}
	return actors
}

func (w *world) read(sweep bool, limit int) []engine.Mail {
	w.Helper()
	mail, err := w.writer.ReadMail(w.ctx, sweep, limit)
	w.must(err, "read mail")
	return mail
}

// A transaction that began early and commits late has a small number: others' mail with larger ones was read before.
func TestMailOfALongTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	long, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	_, err = long.Exec(w.ctx, "INSERT INTO cyclonetix__state.mailbox (bucket, kind, actor) VALUES (3, 3, 'late')")
	w.must(err, "post")
	for number := range 5 {
		w.post(3, fmt.Sprint(number))
		mail := w.read(true, 100)
		if got := actorsOf(mail); !slices.Equal(got, []string{fmt.Sprint(number)}) {
			t.Fatalf("read is %v", got)
		}
		w.must(w.answer(mail), "answer")
		_, err := w.writer.Tick(w.ctx)
		w.must(err, "tick")
	}
	w.must(long.Commit(w.ctx), "commit")
	tick, err := w.writer.Tick(w.ctx)
	w.must(err, "tick")
	if got := actorsOf(w.read(false, 100)); !tick.MailWaits || !slices.Equal(got, []string{"late"}) {
		t.Fatalf("of the late message the tick says %v, and read is %v", tick.MailWaits, got)
	}
	if again := w.read(true, 100); len(again) > 0 {
		t.Errorf("read again is %v", actorsOf(again))
	}
}

// One transaction may post more to a bucket than is read at once.
func TestMuchMailOfOneTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	const count = 2*perBucket + 100
	actors := make([]string, count)
	for number := range actors {
		actors[number] = fmt.Sprint(number)
	}
	w.post(3, actors...)
	var got []string
	w.writer.ring(3)
	for range 10 {
		mail := w.read(false, 300)
		if len(mail) > 300 {
			t.Fatalf("%d messages are given, not 300", len(mail))
		}
		got = append(got, actorsOf(mail)...)
	}
	if !slices.Equal(got, actors) {
		t.Fatalf("%d of %d messages are read", len(got), count)
	}
}

func TestMailOfManyBuckets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	want := map[string]bool{}
	for bucket := range 256 {
		actors := []string{fmt.Sprintf("%d.0", bucket), fmt.Sprintf("%d.1", bucket)}
		w.post(bucket, actors...)
		want[actors[0]], want[actors[1]] = true, true
	}
	first := w.read(true, 1) // the rest is rung still
	if len(first) != 1 {
		t.Fatalf("%d messages are given, not one", len(first))
	}
	delete(want, first[0].Actor)
	for len(want) > 0 {
		mail := w.read(false, 100)
		if len(mail) == 0 || len(mail) > 100 {
			t.Fatalf("a read gives %d messages while %d are left", len(mail), len(want))
		}
		for i := range mail {
			if !want[mail[i].Actor] {
				t.Fatalf("message %s is given twice", mail[i].Actor)
			}
			delete(want, mail[i].Actor)
		}
	}
}

// What a read that failed half-way had in hand is given by the next one.
func TestMailAfterAReadThatFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	session := w.agent("one")
	w.claim(session, 1, 0)
	w.must(session.Close(w.ctx), "close")
	w.post(w.writer.ReplyTo(run.ID.Bucket()), "after")
	// The message tells of a lost delivery, which is read as well.
	w.exec("ALTER TABLE cyclonetix__state.dispatches RENAME TO hidden")
	if _, err := w.writer.ReadMail(w.ctx, true, 100); err == nil {
		t.Fatal("it should have failed")
	}
	w.exec("ALTER TABLE cyclonetix__state.hidden RENAME TO dispatches")
	mail := w.read(false, 100)
	if len(mail) != 2 || mail[0].Kind != engine.MailLost || len(mail[0].Lost.Members) != 1 || mail[1].Actor != "after" {
		t.Fatalf("then it gives %+v", mail)
	}
}

// A newer program's message is left for it.
func TestMailOfAnUnknownKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	w.exec("INSERT INTO cyclonetix__state.mailbox (bucket, kind) VALUES (1, 99)")
	w.post(1, "known")
	if got := actorsOf(w.turn()); !slices.Equal(got, []string{"known"}) {
		t.Fatalf("read is %v", got)
	}
	if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.mailbox WHERE kind = 99"); left != 1 {
		t.Error("it is gone")
	}
}

// The agent of a report that is damaged registers anew: nobody knows what of its work has ended.
func TestReportThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	session := w.agent("one")
	deliveries := w.claim(session, 1, 0)
	whole := packReport(reportOf(session, &deliveries[0]))
	bucket := deliveries[0].ReplyTo
	w.exec(`INSERT INTO cyclonetix__state.mailbox (bucket, kind, body) VALUES ($1, 2, NULL), ($1, 2, $2)`, bucket, whole[:len(whole)-1])
	mail := w.turn()
	if len(mail) != 2 || len(mail[0].Report.Ends)+len(mail[1].Report.Ends) > 0 {
		t.Fatalf("read is %+v", mail)
	}
	if _, err := session.Beat(w.ctx); !errors.Is(err, engine.ErrAgentLost) {
		t.Errorf("the agent beats on: %v", err)
	}
	if mail := w.turn(); len(mail) != 1 || mail[0].Kind != engine.MailLost || len(mail[0].Lost.Members) != 1 {
		t.Fatalf("then read is %+v", mail)
	}
	w.drain(w.agent("one"))
	if view := w.view(run.ID); view.Status != workflow.RunCompleted {
		t.Errorf("the run is %s", view.Status)
	}
	if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.mailbox"); left != 0 {
		t.Errorf("%d messages are left", left)
	}
}

// What a newer program says in a message of a known kind is left for a newer writer, too.
func TestMailOfANewerForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	w.exec(`INSERT INTO cyclonetix__state.mailbox (bucket, kind, body) VALUES (1, 2, '\x0201'), (1, 5, '{"kind": 7, "node": 0, "actor": "ann"}'), (1, 5, 'no JSON')`)
	w.post(1, "known")
	if mail := w.turn(); len(mail) != 2 || mail[1].Actor != "known" {
		t.Fatalf("read is %+v", mail)
	}
	if left := askAll[int16](w, "SELECT kind FROM cyclonetix__state.mailbox ORDER BY kind"); !slices.Equal(left, []int16{2, 5}) {
		t.Errorf("left are messages of the kinds %v", left)
	}
	w.must(w.writer.Recover(w.ctx), "recover")
	if mail := w.turn(); len(mail) != 0 {
		t.Errorf("then read is %+v", mail)
	}
}

// A server that crashed gives the numbers of transactions again that it had not written down, below the marks.
func TestMailBelowTheMarks(t *testing.T) {
	t.Parallel()
	for name, happen := range map[string]func(w *world){
		"the server started anew": func(w *world) { w.writer.mail.started = w.writer.mail.started.Add(-time.Hour) },
		"the server crashed":      func(w *world) { w.writer.mail.doubt() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.takeOver()
			_, err := w.writer.Tick(w.ctx)
			w.must(err, "tick")
			w.read(true, 100)
			long, err := w.sql.Begin(w.ctx)
			w.must(err, "begin")
			_, err = long.Exec(w.ctx, "INSERT INTO cyclonetix__state.mailbox (bucket, kind, actor) VALUES (3, 3, 'below')")
			w.must(err, "post")
			mark := mailMark{xid: ask[uint64](w, "SELECT pg_current_xact_id()")}
			w.must(long.Commit(w.ctx), "commit")
			w.writer.mail.marks[3] = mark
			if got := w.read(true, 100); len(got) != 0 {
				t.Fatalf("the test tests nothing: read is %v", actorsOf(got))
			}
			happen(w)
			_, err = w.writer.Tick(w.ctx)
			w.must(err, "tick")
			if got := actorsOf(w.read(false, 100)); !slices.Equal(got, []string{"below"}) {
				t.Errorf("read is %v", got)
			}
		})
	}
}

// A standby that was promoted may lack what was committed last. The writer must not go on with what it knows.
func TestDatabaseThatWentBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	_, err := w.writer.Tick(w.ctx)
	w.must(err, "tick")
	w.writer.mail.newest += 1_000_000
	if _, err := w.writer.Tick(w.ctx); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("the tick says %v", err)
	}
}

// An old snapshot keeps dead rows from being removed. The marks keep reads and ticks from going through them.
func TestMailboxBehindDeadRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	old, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	defer old.Rollback(w.ctx) //nolint:errcheck // it read only
	_, err = old.Exec(w.ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM cyclonetix__state.mailbox")
	w.must(err, "take a snapshot")
	const dead = 50_000
	w.exec("INSERT INTO cyclonetix__state.mailbox (bucket, kind, actor) SELECT i % 2, 3, 'x' FROM generate_series(1, $1) AS i", dead)
	w.exec("DELETE FROM cyclonetix__state.mailbox")
	gone := ask[uint64](w, "SELECT pg_current_xact_id()")
	// Transactions that write, in any database of the server, hold the marks back while they last.
	w.eventually("the marks pass the dead rows", func() bool {
		_, err := w.writer.Tick(w.ctx)
		w.must(err, "tick")
		return w.writer.mail.marks[0].xid >= gone && w.writer.mail.marks[1].xid >= gone
	})
	w.post(0, "fresh")
	buffers := func(reading string) int {
		t.Helper()
		plan := ask[[]byte](w, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+reading)
		var plans []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		w.must(json.Unmarshal(plan, &plans), "read the plan")
		return plans[0].Plan.Hit + plans[0].Plan.Read
	}
	read := func(mark mailMark) int {
		return buffers(fmt.Sprintf(`SELECT m.* FROM ROWS FROM (unnest('{0,1}'::smallint[]), unnest('{%[1]d,%[1]d}'::text[]::xid8[]), unnest('{%[2]d,%[2]d}'::bigint[])) AS u (bucket, xid, id),
			LATERAL (SELECT * FROM cyclonetix__state.mailbox m WHERE m.bucket = u.bucket AND (m.xid, m.id) > (u.xid, u.id)
			         ORDER BY m.bucket, m.xid, m.id LIMIT 500) m LIMIT 4000`, mark.xid, mark.id))
	}
	if all := read(mailMark{}); all < 500 {
		t.Fatalf("from the beginning it reads only %d buffers: the test tests nothing", all)
	}
	for bucket := range 2 {
		if used := read(w.writer.mail.marks[bucket]); used > 30 {
			t.Errorf("from the mark of bucket %d it reads %d buffers", bucket, used)
		}
	}
	if got := actorsOf(w.read(true, 100)); !slices.Equal(got, []string{"fresh"}) {
		t.Errorf("read is %v", got)
	}
}
