package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/db"
)

// claimMark is where the claims of this process may begin: every delivery with a smaller id is gone or claimed, and none of them is
// opened again. Without it a claim would pass all deliveries that went while somebody held an old snapshot, each time.
//
// Ids become visible in another order than that in which they are drawn, and a claim that is under way may yet be undone.
// So a look at the table proves nothing at once about the ids up to the newest one that it sees: it does when all
// transactions have ended that were open then. A delivery's id is drawn by a transaction that has its number already
// (it has written the fence, or locked the row that it divides), so one that drew an id below a visible one has a number
// below that which the look drew for itself.
type claimMark struct {
	mutex  sync.Mutex
	from   int64  // where the next claims begin
	newest int64  // the newest id that was claimed or seen
	unsure int64  // what newest was when the look was made that is not proven yet,
	bound  uint64 // and that look's number: it is proven when no transaction below is left

	lookedAt, searchedAt time.Time // the last look, and the last one at the whole table
	taken                int       // deliveries that were claimed since the last look
	looking              bool
	before               int64 // what newest was when the look began that is under way: what others claim meanwhile is not of it
}

const (
	// A look costs about as much as passing the deliveries that went since the last one.
	looksEvery, looksAfter = 256, time.Second
	// A mark that was not looked at for so long does not count, and in such intervals a look begins at the first row: so a
	// database that has lost transactions, and gives ids anew, makes a mark wrong for no longer than that.
	markHolds = 10 * time.Second
)

// begin gives the id that a claim may begin at.
func (m *claimMark) begin(now time.Time) int64 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if now.Sub(m.lookedAt) > markHolds {
		return 0
	}
	return m.from
}

// forget makes claims begin at the first row.
func (m *claimMark) forget() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.from, m.newest, m.before, m.unsure, m.bound = 0, 0, 0, 0, 0
	m.lookedAt, m.searchedAt = time.Time{}, time.Time{}
}

// due takes note of what was claimed, and tells whether it is time for a look, and at which id that begins.
func (m *claimMark) due(now time.Time, claimed []db.ClaimDispatchesRow) (from int64, ok bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for i := range claimed {
		m.newest = max(m.newest, claimed[i].ID)
	}
	m.taken += len(claimed)
	if m.looking || len(claimed) == 0 || m.taken < looksEvery && now.Sub(m.lookedAt) < looksAfter {
		return 0, false
	}
	m.looking, m.before = true, m.newest
	if now.Sub(m.searchedAt) < markHolds {
		return m.from, true
	}
	m.searchedAt = now
	return 0, true
}

// look moves the mark by what was seen of the table.
func (m *claimMark) look(now time.Time, seen db.FindOpenDispatchesRow) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.newest = max(m.before, seen.Newest)
	if seen.Xmin >= m.bound {
		m.from = max(m.from, m.unsure+1)
		m.unsure, m.bound = max(m.before, seen.Newest), seen.Bound
	}
	if seen.OldestOpen > 0 {
		m.from = min(m.from, seen.OldestOpen)
	}
	m.lookedAt, m.taken, m.looking = now, 0, false
}

// moveMark looks at the queue when that is due after a claim. A look that fails is made up for by the next one.
func (b *Backend) moveMark(ctx context.Context, claimed []db.ClaimDispatchesRow) {
	now := time.Now()
	from, ok := b.claims.due(now, claimed)
	if !ok {
		return
	}
	seen, err := b.queries.FindOpenDispatches(ctx, b.on(b.pool), from)
	if err != nil {
		b.claims.forget()
	}
	b.claims.look(now, seen)
}
