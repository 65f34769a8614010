package postgres

import (
	"slices"
	"testing"
	"time"

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
				seen := db.FindOpenDispatchesRow{Xmin: queue.xmin(), Xmax: queue.nextXid}
				for _, id := range queue.open {
					seen.Newest = max(seen.Newest, id)
					if id >= begin && (seen.OldestOpen == 0 || id < seen.OldestOpen) {
						seen.OldestOpen = id
					}
				}
				mark.look(now, seen)
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
