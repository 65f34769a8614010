package postgres

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// large starts a run in each shard, and gives the mail that a commit of both answers with more than splitRows rows.
func (w *world) large() (ids [shardCount]workflow.RunID, mail []engine.Mail) {
	w.Helper()
	w.takeOver()
	w.pack = 50
	for index := range ids {
		for ids[index].IsZero() {
			id := w.submit(submission(wide(splitRows)))[0].ID
			if shardOf(id.Bucket()) == index {
				ids[index] = id
				continue
			}
			w.must(w.backend.Cancel(w.ctx, id, "ann"), "cancel a run too many")
		}
	}
	mail, err := w.writer.ReadMail(w.ctx, true, 100)
	w.must(err, "read mail")
	return ids, mail
}

// stored tells of each run whether its start was stored: all of it, or else nothing.
func (w *world) stored(ids [shardCount]workflow.RunID) (stored [shardCount]bool) {
	w.Helper()
	for index, id := range ids {
		rows := ask[int](w, "SELECT count(*) FROM cyclonetix__state.task_runs WHERE run_id = $1", id.String())
		members := ask[int](w, "SELECT coalesce(sum(n), 0) FROM cyclonetix__state.dispatches WHERE $1 = ANY (runs)", id.String())
		unread := ask[int](w, "SELECT count(*) FROM cyclonetix__state.mailbox WHERE run_id = $1", id.String())
		switch {
		case rows == splitRows && members == splitRows && unread == 0:
			stored[index] = true
		case rows != 0 || members != 0 || unread != 1:
			w.Fatalf("of run %s %d rows, %d members and %d messages are stored", id, rows, members, unread)
		}
	}
	return stored
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestLargeCommitIsStoredByShards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids, mail := w.large()
	w.must(w.answer(mail), "commit")
	if stored := w.stored(ids); stored != [...]bool{true, true} {
		t.Fatalf("stored is %v", stored)
	}
	if transactions := ask[int](w, "SELECT count(DISTINCT xmin::text) FROM cyclonetix__state.task_runs WHERE run_id = $1 OR run_id = $2", ids[0].String(), ids[1].String()); transactions != shardCount {
		t.Errorf("it was stored by %d transactions", transactions)
	}
	if mixed := ask[int](w, `SELECT count(*) FROM cyclonetix__state.dispatches WHERE reply_to % 2 <> (('x' || substr(replace(runs[1]::text, '-', ''), 14, 3))::bit(12)::int) % 2`); mixed != 0 {
		t.Errorf("%d deliveries reply to the other shard", mixed)
	}
	if !w.inStep() {
		t.Errorf("the stored numbers are not those of %+v", w.writer.shards)
	}
}

// What fails in one shard leaves the other whole, and the writer knows afterwards what is stored.
func TestLargeCommitThatFailsInOneShard(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(*world, workflow.RunID)
		mend  func(*world, workflow.RunID)
		want  error
	}{
		"its fence": {
			spoil: func(w *world, _ workflow.RunID) {
				w.exec("UPDATE cyclonetix__state.writers SET dead = true WHERE writer = $1", w.writer.shards[1].writer)
			},
			want: engine.ErrFenced,
		},
		"its content": {
			spoil: func(w *world, id workflow.RunID) {
				w.exec("INSERT INTO cyclonetix__state.task_runs (run_id, node, status, attempt, delivery, cause, queued_time) VALUES ($1, 7, 1, 1, 1, 0, now())", id.String())
			},
			mend: func(w *world, id workflow.RunID) {
				w.exec("DELETE FROM cyclonetix__state.task_runs WHERE run_id = $1", id.String())
			},
			want: engine.ErrRefused,
		},
		"something that passes": {
			spoil: func(w *world, id workflow.RunID) {
				w.exec("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.run_id = '" + id.String() +
					"' THEN RAISE 'later' USING ERRCODE = '40P01'; END IF; RETURN NEW; END $$")
				w.exec("CREATE TRIGGER fail BEFORE UPDATE ON cyclonetix__state.run_states FOR EACH ROW EXECUTE FUNCTION fail()")
			},
			mend: func(w *world, _ workflow.RunID) {
				w.exec("DROP TRIGGER fail ON cyclonetix__state.run_states")
			},
			want: engine.ErrUncertain, // half of it is stored, so it must not be tried again as it is
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ids, mail := w.large()
			w.must(w.load(mail), "load")
			test.spoil(w, ids[1])
			if err := w.answer(mail); !errors.Is(err, test.want) {
				t.Fatalf("the commit says: %v", err)
			}
			if test.mend == nil {
				if err := w.writer.Recover(w.ctx); !errors.Is(err, engine.ErrFenced) {
					t.Errorf("recovering says: %v", err)
				}
				return
			}
			test.mend(w, ids[1])
			if stored := w.stored(ids); stored != [...]bool{true, false} {
				t.Fatalf("stored is %v", stored)
			}
			clear(w.runs)
			w.recover()
			if !w.inStep() {
				t.Errorf("the stored numbers are not those of %+v", w.writer.shards)
			}
			w.turn()
			if stored := w.stored(ids); stored != [...]bool{true, true} {
				t.Errorf("then stored is %v", stored)
			}
		})
	}
}

// Whatever a commit holds, its parts hold all of it once, and each only what is of its shards.
func TestPartsOfCommits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bucket := rapid.IntRange(0, 4095)
		run := rapid.Custom(func(t *rapid.T) workflow.RunID {
			return workflow.NewRunID(epoch, bucket.Draw(t, "bucket"))
		})
		commit := &engine.Commit{At: epoch}
		for _, id := range rapid.SliceOfN(run, 0, 5).Draw(t, "changes") {
			commit.Changes = append(commit.Changes, &workflow.Change{ID: id, Outputs: make([]workflow.Output, rapid.IntRange(0, 300).Draw(t, "outputs")), Tasks: make([]workflow.TaskChange, rapid.IntRange(0, 300).Draw(t, "rows"))})
		}
		for _, id := range rapid.SliceOfN(run, 0, 5).Draw(t, "dispatches") {
			commit.Dispatches = append(commit.Dispatches, engine.Dispatch{Members: []engine.DispatchMember{{Member: workflow.Member{Run: id}}}})
		}
		for _, of := range rapid.SliceOfN(bucket, 0, 5).Draw(t, "mail") {
			commit.Mail, commit.Remove = append(commit.Mail, engine.MailKey{Bucket: of}), append(commit.Remove, engine.DeliveryKey{ReplyTo: of})
		}
		commit.Withdraw = rapid.SliceOfN(run, 0, 3).Draw(t, "withdraw")
		for _, id := range rapid.SliceOfN(run, 0, 3).Draw(t, "orders") {
			commit.Orders = append(commit.Orders, engine.KillOrder{Member: workflow.Member{Run: id}})
			commit.Refused = append(commit.Refused, engine.RefusedRun{ID: id})
		}
		if rapid.Bool().Draw(t, "backlog") {
			commit.Backlog = []engine.Backlog{{}}
		}
		parts := partsOf(commit)
		sum := func(c *engine.Commit) int {
			return len(c.Changes) + len(c.Dispatches) + len(c.Mail) + len(c.Remove) + len(c.Withdraw) + len(c.Orders) + len(c.Refused) + len(c.Backlog)
		}
		var total int
		var touched [shardCount]int
		places := map[int]bool{}
		for _, p := range parts {
			total += sum(p.Commit)
			for index := range touched {
				if p.shards[index] {
					touched[index]++
				}
			}
			for i, place := range p.dispatches {
				if places[place] || commit.Dispatches[place].Members[0] != p.Dispatches[i].Members[0] {
					t.Fatalf("dispatch %d is where another belongs", place)
				}
				places[place] = true
			}
			for _, change := range p.Changes {
				if !p.shards[shardOf(change.ID.Bucket())] {
					t.Fatalf("a change is stored without its fence")
				}
			}
			for _, key := range p.Mail {
				if !p.shards[shardOf(key.Bucket)] {
					t.Fatalf("a message is answered without its fence")
				}
			}
		}
		if total != sum(commit) || len(places) != len(commit.Dispatches) {
			t.Fatalf("%d of %d things are in the parts", total, sum(commit))
		}
		if touched[0] > 1 || touched[1] > 1 || touched == [shardCount]int{} {
			t.Fatalf("the shards have %v parts", touched)
		}
	})
}
