package postgres

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// pair opens two writers, which divide the buckets.
func (w *world) pair() (writers [2]*Writer) {
	w.Helper()
	opened, err := w.backend.OpenWriters(w.ctx, "test", 9)
	w.must(err, "open writers")
	if len(opened) != len(writers) {
		w.Fatalf("%d writers were opened", len(opened))
	}
	for i := range opened {
		writers[i] = opened[i].(*Writer) //nolint:forcetypeassert // its only type
		w.Cleanup(func() { _ = writers[i].Close(context.WithoutCancel(w.ctx)) })
		w.must(writers[i].Recover(w.ctx), "recover")
	}
	return writers
}

// submitTo submits a run to a bucket of the writer.
func (w *world) submitTo(writer *Writer) workflow.RunID {
	w.Helper()
	for {
		if id := w.submit(submission(planOf("a")))[0].ID; slices.Contains(writer.Buckets(), id.Bucket()) {
			return id
		}
	}
}

func TestWritersDivideTheBuckets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writers := w.pair()
	if all := slices.Sorted(slices.Values(slices.Concat(writers[0].Buckets(), writers[1].Buckets()))); len(slices.Compact(all)) != ask[int](w, "SELECT count(*) FROM cyclonetix__state.buckets") {
		t.Errorf("together they have the buckets %v", all)
	}
	for i, writer := range writers {
		if stored := askAll[int](w, "SELECT bucket FROM cyclonetix__state.buckets WHERE writer = $1 ORDER BY bucket", writer.number); !slices.Equal(stored, writer.Buckets()) {
			t.Errorf("writer %d has the buckets %v, and %v are stored", i, writer.Buckets(), stored)
		}
		for _, bucket := range writer.Buckets() {
			if to := writer.ReplyTo(bucket); !slices.Contains(writer.Buckets(), to) {
				t.Fatalf("reports on bucket %d of writer %d go to %d", bucket, i, to)
			}
		}
		own := w.submitTo(writer)
		mail, err := writer.ReadMail(w.ctx, true, 1000)
		w.must(err, "read mail")
		live, err := writer.LiveRuns(w.ctx, workflow.RunID{}, 1000)
		w.must(err, "list the live runs")
		if !slices.Contains(live, own) || !slices.ContainsFunc(mail, func(m engine.Mail) bool { return m.Run == own }) {
			t.Errorf("writer %d does not see its run", i)
		}
		for _, id := range live {
			if !slices.Contains(writer.Buckets(), id.Bucket()) {
				t.Errorf("writer %d sees the run %s of the other", i, id)
			}
		}
	}
	if former := writers[0].seq; !errors.Is(commitOf(w, writers[0]), nil) || writers[0].seq != former+1 || writers[1].seq != 0 {
		t.Errorf("a commit of one leaves the numbers %d and %d", writers[0].seq, writers[1].seq)
	}
}

func commitOf(w *world, writer *Writer) error {
	_, err := writer.Commit(w.ctx, &engine.Commit{At: writer.Now(), Backlog: []engine.Backlog{{Queue: "default", Priority: 2, Waiting: 1}}})
	return err
}

// A delivery is of one division even when one writer has both, so that two who come after it both get all reports on their runs.
func TestReportsFindTheWriterHoweverManyThereAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.takeOver()
	to := map[int]int{}
	for _, bucket := range one.Buckets() {
		to[bucket] = one.ReplyTo(bucket)
	}
	w.must(one.Close(w.ctx), "close")
	for i, writer := range w.pair() {
		for _, bucket := range writer.Buckets() {
			if !slices.Contains(writer.Buckets(), to[bucket]) {
				t.Fatalf("reports on bucket %d of writer %d went to bucket %d, which is another's", bucket, i, to[bucket])
			}
		}
	}
}

// Whoever ticks first asks for both; what the other hears is its own.
func TestTickIsShared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writers := w.pair()
	first, second := writers[0], writers[1]
	id := w.submitTo(second)
	w.exec("INSERT INTO cyclonetix__state.timers (bucket, run_id, node, kind, due) VALUES ($1, $2, 0, 1, now())", id.Bucket(), id.String())
	tick := func(writer *Writer) engine.Tick {
		tick, err := writer.Tick(w.ctx)
		w.must(err, "tick")
		return tick
	}
	_, err := first.ReadMail(w.ctx, true, 1000)
	w.must(err, "read what came to the first")
	if own := tick(first); len(own.Due) != 0 {
		t.Errorf("the first hears what is the second's: %+v", own)
	}
	w.exec("DELETE FROM cyclonetix__state.timers")
	theirs := tick(second)
	if len(theirs.Due) != 1 || theirs.Due[0].Run != id || !theirs.MailWaits {
		t.Errorf("the second hears: %+v", theirs)
	}
	if mail, err := second.ReadMail(w.ctx, false, 10); err != nil || len(mail) != 1 {
		t.Errorf("it was rung for %v, %v", mail, err)
	}
	if again := tick(second); len(again.Due) != 0 {
		t.Errorf("the second hears the same twice: %+v", again)
	}
	if again := tick(first); len(again.Due) != 0 {
		t.Errorf("the first now hears: %+v", again)
	}
}

// News of a mailbox are old when all of it is read anew: marks must not move above what is unread again.
func TestRecoveryDoesNotBelieveOldNews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writers := w.pair()
	id := w.submitTo(writers[1])
	if mail, err := writers[1].ReadMail(w.ctx, true, 10); err != nil || len(mail) != 1 {
		t.Fatalf("it reads %v, %v", mail, err)
	}
	// Its mark stands above the message, which is not answered; so what the other asks now finds no mail for it.
	writers[1].mail.move(id.Bucket(), mailMark{xid: ask[uint64](w, "SELECT pg_current_xact_id()")})
	w.eventually("no transaction is as old as the message", func() bool {
		return ask[bool](w, "SELECT bool_and(m.xid < pg_snapshot_xmin(pg_current_snapshot())) FROM cyclonetix__state.mailbox m WHERE m.run_id = $1", id.String())
	})
	_, err := writers[0].Tick(w.ctx)
	w.must(err, "tick")
	w.must(writers[1].Recover(w.ctx), "recover")
	_, err = writers[1].Tick(w.ctx)
	w.must(err, "tick")
	if mail, err := writers[1].ReadMail(w.ctx, false, 10); err != nil || len(mail) != 1 || mail[0].Run != id {
		t.Errorf("after recovering it reads %v, %v", mail, err)
	}
}

func TestTickOfADeadWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writers := w.pair()
	w.must(w.backend.declareWriterDead(w.ctx, writers[1].number), "declare one dead")
	if _, err := writers[0].Tick(w.ctx); err != nil {
		t.Errorf("the tick of the other says: %v", err)
	}
	for range 2 { // what it heard, and what it asks
		if _, err := writers[1].Tick(w.ctx); !errors.Is(err, engine.ErrFenced) {
			t.Errorf("its tick says: %v", err)
		}
	}
	if beats := askAll[int64](w, "SELECT writer FROM cyclonetix__state.writer_beats WHERE at > (SELECT min(at) FROM cyclonetix__state.writer_beats)"); slices.Contains(beats, writers[1].number) {
		t.Errorf("it still beats")
	}
	w.must(writers[1].Close(w.ctx), "close")
	if !w.backend.bell.local() {
		t.Errorf("the bell has forgotten the one that is left")
	}
	w.must(writers[0].Close(w.ctx), "close")
	if w.backend.bell.local() {
		t.Errorf("the bell remembers writers that are closed")
	}
	if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.writers WHERE NOT dead"); left != 0 {
		t.Errorf("%d writers are left", left)
	}
}

// Whoever may connect may notify, of anything.
func TestRingsOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writers := w.pair()
	for _, payload := range []string{"m-1", "m", "mx", "m4096", "m99999999999999999999", "m1.5", "", "?"} {
		w.backend.bell.hear(payload)
	}
	hush(writers[1].Wake())
	w.backend.bell.hear("m1")
	w.hears(writers[1].Wake(), "what is heard after them")
}
