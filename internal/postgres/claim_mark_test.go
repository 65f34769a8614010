package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/db"
)

// queueModel is a queue whose transactions begin, draw ids, commit and roll back in any order.
type queueModel struct {
	nextXid uint64
	nextID  int64
	writing map[uint64][]int64 // the ids that open transactions have drawn
	open    []int64            // visible
}

// xmin is the oldest open transaction, as a snapshot has it.
func (q *queueModel) xmin() uint64 {
	xmin := q.nextXid
	for xid := range q.writing {
		xmin = min(xmin, xid)
	}
	return xmin
}

// No delivery is ever below the mark while it is open, or may yet be.
func TestClaimMarkPassesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		queue := queueModel{nextXid: 100, nextID: 1, writing: map[uint64][]int64{}}
		var mark claimMark
		now := time.Now()
		var look *db.FindOpenDispatchesRow // that is under way
		some := func(label string) uint64 {
			xids := []uint64{}
			for xid := range queue.writing {
				xids = append(xids, xid)
			}
			slices.Sort(xids)
			if len(xids) == 0 {
				r.Skip()
			}
			return rapid.SampledFrom(xids).Draw(r, label)
		}
		r.Repeat(map[string]func(*rapid.T){
			"begin": func(*rapid.T) { queue.writing[queue.nextXid] = nil; queue.nextXid++ },
			"insert": func(*rapid.T) {
				xid := some("writer")
				queue.writing[xid] = append(queue.writing[xid], queue.nextID)
				queue.nextID++
			},
			"commit": func(*rapid.T) {
				xid := some("writer")
				queue.open = append(queue.open, queue.writing[xid]...)
				delete(queue.writing, xid)
			},
			"roll back": func(*rapid.T) { delete(queue.writing, some("writer")) },
			"claim": func(r *rapid.T) {
				from := mark.begin(now)
				slices.Sort(queue.open)
				var taken []db.ClaimDispatchesRow
				count := rapid.IntRange(1, 5).Draw(r, "count")
				queue.open = slices.DeleteFunc(queue.open, func(id int64) bool {
					if id < from || len(taken) == count {
						return false
					}
					taken = append(taken, db.ClaimDispatchesRow{ID: id})
					return true
				})
				begin, ok := mark.due(now, taken)
				if !ok {
					return
				}
				seen := db.FindOpenDispatchesRow{Xmin: queue.xmin(), Bound: queue.nextXid}
				queue.nextXid++
				for _, id := range queue.open {
					seen.Newest = max(seen.Newest, id)
					if id >= begin && (seen.OldestOpen == 0 || id < seen.OldestOpen) {
						seen.OldestOpen = id
					}
				}
				look = &seen
			},
			"see": func(r *rapid.T) {
				if look == nil {
					r.Skip()
				}
				mark.look(now, *look)
				look = nil
			},
			"wait": func(r *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(r, "ms")) * time.Millisecond)
			},
			"": func(r *rapid.T) {
				for _, id := range queue.open {
					if id < mark.from {
						r.Fatalf("%d is open, and claims begin at %d", id, mark.from)
					}
				}
				for xid, ids := range queue.writing {
					for _, id := range ids {
						if id < mark.from {
							r.Fatalf("transaction %d may yet open %d, and claims begin at %d", xid, id, mark.from)
						}
					}
				}
			},
		})
	})
}

// What another agent of the process claims while a look is under way is not proven by that look.
func TestClaimMarkDuringALook(t *testing.T) {
	t.Parallel()
	var mark claimMark
	now := time.Now()
	mark.due(now, []db.ClaimDispatchesRow{{ID: 5}})
	// Transaction 201 draws 6 and stays open, 202 draws 7 and commits.
	mark.due(now, []db.ClaimDispatchesRow{{ID: 7}})
	mark.look(now, db.FindOpenDispatchesRow{Xmin: 200, Bound: 200, Newest: 5})
	now = now.Add(looksAfter)
	mark.due(now, []db.ClaimDispatchesRow{{ID: 8}})
	mark.look(now, db.FindOpenDispatchesRow{Xmin: 201, Bound: 203, Newest: 8})
	if mark.from != 6 {
		t.Errorf("claims begin at %d, should begin at 6, which may yet be open", mark.from)
	}
}

// Deliveries that are gone are passed by while a snapshot keeps them; one that was drawn before them and committed late is not.
func TestClaimMarkUnderSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(planOf("a", "b"))
	session := w.agent("one")
	look := func() {
		w.Helper()
		w.backend.claims.lookedAt = time.Time{}
		w.backend.moveMark(w.ctx, []db.ClaimDispatchesRow{{ID: 1}})
	}
	early, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	defer early.Rollback(w.ctx) //nolint:errcheck // committed, unless the test fails
	copied := `INSERT INTO cyclonetix__state.dispatches (class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members)
		SELECT class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members FROM cyclonetix__state.dispatches ORDER BY id LIMIT 1 RETURNING id`
	var late int64
	_, err = early.Exec(w.ctx, "SELECT pg_current_xact_id()")
	w.must(err, "number the transaction")
	w.must(early.QueryRow(w.ctx, copied).Scan(&late), "insert a delivery, to be committed late")
	w.exec(`INSERT INTO cyclonetix__state.dispatches (class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members)
		SELECT class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members FROM cyclonetix__state.dispatches, generate_series(1, 50) ORDER BY id LIMIT 50`)
	for len(w.claim(session, 20, 0)) > 0 {
		look()
	}
	look()
	look()
	if w.backend.claims.from > late {
		t.Fatalf("claims begin at %d, while %d may yet be committed", w.backend.claims.from, late)
	}
	w.must(early.Commit(w.ctx), "commit it")
	if got := w.claim(session, 20, 0); len(got) != 1 || got[0].ID != late {
		t.Fatalf("claimed is %v, should be delivery %d", got, late)
	}
	newest := ask[int64](w, "SELECT max(id) FROM cyclonetix__state.dispatches")
	// Transactions of other databases of the server count too, so it may take some looks.
	w.eventually("claims begin behind what is gone", func() bool {
		look()
		return w.backend.claims.from == newest+1
	})
}

// A transaction that was numbered late may draw an id before one that was numbered early, and be visible after it.
func TestClaimMarkWaitsForTheLaterNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(planOf("a", "b"))
	session := w.agent("one")
	w.claim(session, 20, 0)
	w.backend.claims.forget()
	begin := func() pgx.Tx {
		w.Helper()
		tx, err := mustConnect(w).Begin(w.ctx)
		w.must(err, "begin")
		_, err = tx.Exec(w.ctx, "SELECT pg_current_xact_id()")
		w.must(err, "number the transaction")
		return tx
	}
	draw := func(tx pgx.Tx) (id int64) {
		w.Helper()
		w.must(tx.QueryRow(w.ctx, `
			INSERT INTO cyclonetix__state.dispatches (class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members)
			SELECT class, n, priority, reply_to, queued_at, runs, dags, versions, specs, members FROM cyclonetix__state.dispatches ORDER BY id LIMIT 1
			RETURNING id`).Scan(&id), "insert a delivery")
		return id
	}
	early, late := begin(), begin()
	defer late.Rollback(w.ctx) //nolint:errcheck // committed, unless the test fails
	missed := draw(late)
	draw(early)
	w.must(early.Commit(w.ctx), "commit the early one")
	for range 3 { // as claims do that took what came before
		w.backend.claims.lookedAt = time.Time{}
		w.backend.moveMark(w.ctx, []db.ClaimDispatchesRow{{ID: 1}})
	}
	w.must(late.Commit(w.ctx), "commit the late one")
	if from := w.backend.claims.from; from > missed {
		t.Errorf("claims begin at %d, and %d is open", from, missed)
	}
	if got := w.claim(session, 20, 0); len(got) != 2 || got[0].ID != missed {
		t.Errorf("claimed is %v, should be delivery %d and the one after it", got, missed)
	}
}
