package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// mailReader knows which buckets were rung, and for each bucket a mark below which everything was read. The mark never passes
// the snapshot's xmin, because a transaction that is still open may commit mail with a smaller number later.
type mailReader struct {
	mutex sync.Mutex
	rung  map[int]bool
	marks map[int]mailMark
	// reading counts how often everything was read anew.
	reading int
	// started is when the server did, zero where that is in doubt; newest is the greatest xmin that was seen.
	started time.Time
	newest  uint64

	// given is what was given out and not answered yet, by bucket. It is the writer's goroutine's.
	given map[int]map[mailMark]bool
}

// mailNews tells which of the buckets had unread mail in a snapshot.
type mailNews struct {
	buckets, waiting []int
	started          time.Time // of the server
	xmin             uint64    // of the snapshot

	// When it was asked: which reading it was, and the greatest xmin that had been seen.
	reading int
	newest  uint64
}

// mailRead is a read of some mailboxes.
type mailRead struct {
	db.ReadMailParams
	limit int
}

// mailMark is a place in a mailbox: everything up to it was read, itself too.
type mailMark struct {
	xid uint64
	id  int64
}

func (m mailMark) less(other mailMark) bool {
	return m.xid < other.xid || m.xid == other.xid && m.id < other.id
}

// perBucket bounds what one bucket gives at once, so that none starves the others.
const perBucket = 500

func (m *mailReader) init(buckets []int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.reading++
	m.rung, m.marks, m.given = map[int]bool{}, make(map[int]mailMark, len(buckets)), make(map[int]map[mailMark]bool, len(buckets))
	m.started, m.newest = time.Time{}, 0
	for _, bucket := range buckets {
		m.marks[bucket], m.given[bucket] = mailMark{}, map[mailMark]bool{}
	}
}

func (m *mailReader) ring(buckets ...int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, bucket := range buckets {
		m.rung[bucket] = true
	}
}

// takeRung gives the arguments of a read of the buckets that were rung. While a mark is held back by an open transaction,
// what is above it and was given is read again, so a read has room for that as well.
func (m *mailReader) takeRung(limit int) (mailRead, bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	read := mailRead{limit: limit}
	again, most := 0, 0
	for bucket := range m.rung {
		mark, ok := m.marks[bucket]
		if !ok {
			continue
		}
		read.Buckets = append(read.Buckets, int16(bucket)) //nolint:gosec // 12 bits
		read.MarkXids, read.MarkIds = append(read.MarkXids, mark.xid), append(read.MarkIds, mark.id)
		above := 0
		for place := range m.given[bucket] {
			if mark.less(place) {
				above++
			}
		}
		again, most = again+above, max(most, above)
	}
	clear(m.rung)
	read.Most, read.MostOfBucket = int32(limit+again), int32(min(perBucket, limit)+most) //nolint:gosec // bounded by memory
	return read, len(read.Buckets) > 0
}

// forget is called with what was answered.
func (m *mailReader) forget(key engine.MailKey) {
	delete(m.given[key.Bucket], mailMark{key.XID, key.ID})
}

// putBack rings the buckets of a read that failed, or that was cut short.
func (m *mailReader) putBack(params mailRead) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, bucket := range params.Buckets {
		m.rung[int(bucket)] = true
	}
}

// doubt is called when the server did not answer: it may have crashed.
func (m *mailReader) doubt() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.started = time.Time{}
}

// move takes the mark of a bucket on, never back.
func (m *mailReader) move(bucket int, to mailMark) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.moveLocked(bucket, to)
}

func (m *mailReader) moveLocked(bucket int, to mailMark) {
	m.newest = max(m.newest, to.xid)
	if m.marks[bucket].less(to) {
		m.marks[bucket] = to
	}
}

// readings is the number of times that everything was read anew.
func (m *mailReader) readings() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.reading
}

// ask adds to a tick whether the buckets have unread mail, and gives what is known before the answer.
func (m *mailReader) ask(params *db.TickParams, buckets []int) mailNews {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, bucket := range buckets {
		mark := m.marks[bucket]
		params.Buckets = append(params.Buckets, int16(bucket)) //nolint:gosec // 12 bits
		params.MarkXids, params.MarkIds = append(params.MarkXids, mark.xid), append(params.MarkIds, mark.id)
	}
	return mailNews{buckets: buckets, reading: m.reading, newest: m.newest}
}

// hear rings the buckets that have mail, and moves the marks of the others, so that the next tick does not
// walk through what was deleted meanwhile. It looks at whether the server is the one that it was. One that crashed gives numbers
// of transactions again that it had not yet written down, so mail may come below the marks: they begin anew. One on which fewer
// transactions have ended than before is another, to which not all was copied. What the writer knows may not be
// stored then: engine.ErrFenced.
func (m *mailReader) hear(news *mailNews) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if news.xmin < news.newest {
		return fmt.Errorf("%w: the database has lost transactions (its oldest is %d, and was %d); was a standby promoted?", engine.ErrFenced, news.xmin, news.newest)
	}
	anew := m.newest > 0 && !news.started.Equal(m.started)
	m.started, m.newest = news.started, max(m.newest, news.xmin)
	for _, bucket := range news.buckets {
		switch {
		case anew:
			m.marks[bucket], m.rung[bucket] = mailMark{}, true
		case slices.Contains(news.waiting, bucket):
			m.rung[bucket] = true
		default:
			m.moveLocked(bucket, mailMark{xid: news.xmin})
		}
	}
	return nil
}

// ReadMail implements engine.Writer.
func (w *Writer) ReadMail(ctx context.Context, sweep bool, limit int) ([]engine.Mail, error) {
	if sweep {
		w.ringAll()
	}
	params, some := w.mail.takeRung(limit)
	if !some {
		return nil, nil
	}
	rows, err := w.backend.queries.ReadMail(ctx, w.backend.on(w.backend.pool), params.ReadMailParams)
	if err != nil {
		w.mail.putBack(params)
		return nil, fmt.Errorf("read mail: %w", interpretError(err))
	}
	return w.take(ctx, params, rows)
}

// take turns rows into mail, and moves the marks. After an error nothing was taken.
func (w *Writer) take(ctx context.Context, read mailRead, rows []db.ReadMailRow) ([]engine.Mail, error) {
	lost, err := w.lostDeliveries(ctx, rows)
	if err != nil {
		w.mail.putBack(read)
		return nil, err
	}
	reports, err := w.unpackReports(ctx, rows)
	if err != nil {
		w.mail.putBack(read)
		return nil, err
	}
	counts := map[int16]int32{}
	last := map[int16]mailMark{}
	var xmin mailMark
	mail := make([]engine.Mail, 0, min(len(rows), read.limit))
	cut := len(rows) >= int(read.Most)
	for i := range rows {
		row, place := &rows[i], mailMark{rows[i].XID, rows[i].ID}
		if given := w.mail.given[int(row.Bucket)]; !given[place] {
			if len(mail) == read.limit {
				cut = true
				break
			}
			given[place] = true
			if known(row) {
				mail = append(mail, w.open(row, engine.MailKey{Bucket: int(row.Bucket), XID: row.XID, ID: row.ID}, lost, reports[i]))
			} else {
				w.backend.logger.Warn("a message of a newer program is left for an orchestrator that understands it; upgrade this one",
					"bucket", row.Bucket, "id", row.ID, "kind", row.Kind)
			}
		}
		counts[row.Bucket]++
		last[row.Bucket], xmin.xid = place, row.Xmin
	}
	for bucket, count := range counts {
		mark := xmin
		if full := count >= read.MostOfBucket; full || cut {
			if last[bucket].less(mark) {
				mark = last[bucket]
			}
			if full {
				w.ring(int(bucket)) // there may be more
			}
		}
		w.mail.move(int(bucket), mark)
	}
	if cut {
		w.mail.putBack(read)
		signal(w.wake)
	}
	return mail, nil
}

// known tells whether this program understands a message; a newer one will, so others stay where they are.
func known(row *db.ReadMailRow) bool {
	switch engine.MailKind(row.Kind) {
	case engine.MailReport:
		version, ok := versionOf(row.Body)
		return !ok || version <= reportVersion
	case engine.MailCommand:
		var command engine.Command
		return json.Unmarshal(row.Body, &command) != nil || command.Kind <= 0 || command.Kind.Known()
	case engine.MailSubmit, engine.MailCancel, engine.MailLost:
		return true
	}
	return false
}

// unpackReports unpacks the reports among messages that were not given yet, by row. One that is damaged is empty, and, where its
// beginning still tells whose it is, the
// registration of its agent is ended: what the report said is lost, and as long as the agent lived, the deliveries that it
// spoke of would be taken for running. So they are rescued, and the agent registers anew.
func (w *Writer) unpackReports(ctx context.Context, rows []db.ReadMailRow) ([]*engine.Report, error) {
	reports := make([]*engine.Report, len(rows))
	ended := false
	for i := range rows {
		row := &rows[i]
		if engine.MailKind(row.Kind) != engine.MailReport || !known(row) || w.mail.given[int(row.Bucket)][mailMark{row.XID, row.ID}] {
			continue
		}
		var err error
		if reports[i], err = unpackReport(row.Body, int(row.Bucket)); err == nil {
			continue
		}
		reports[i] = &engine.Report{ReplyTo: int(row.Bucket)}
		agent, ok := senderOf(row.Body)
		w.backend.logger.Error("a report can't be read; its agent has to register anew, and what it ran gets a new attempt",
			"bucket", row.Bucket, "id", row.ID, "incarnation", agent, "error", err)
		if ok {
			if err := w.backend.endAgent(ctx, agent, "lost"); err != nil {
				return nil, fmt.Errorf("declare agent %d lost: %w", agent, err)
			}
			ended = true
		}
	}
	if !ended {
		return reports, nil
	}
	return reports, w.backend.tellLost(ctx)
}

func (w *Writer) open(row *db.ReadMailRow, key engine.MailKey, lost map[int64]*engine.LostDelivery, report *engine.Report) engine.Mail {
	mail := engine.Mail{Key: key, Kind: engine.MailKind(row.Kind), HasValues: row.HasValues}
	if row.RunID != nil {
		mail.Run = workflow.RunID(*row.RunID)
	}
	if row.Plan != nil {
		mail.Plan = workflow.Hash(*row.Plan)
	}
	if row.DagID != nil {
		mail.DAG = *row.DagID
	}
	if row.Actor != nil {
		mail.Actor = *row.Actor
	}
	switch mail.Kind {
	case engine.MailReport:
		mail.Report = report
	case engine.MailLost:
		if mail.Lost = lost[*row.Dispatch]; mail.Lost == nil {
			mail.Lost = &engine.LostDelivery{ID: *row.Dispatch} // it is gone
		}
	case engine.MailSubmit:
		if len(row.Body) > 0 {
			w.decode(row.Body, &mail.Options, "the rules of a run", key)
		}
	case engine.MailCommand:
		mail.Command = new(engine.Command)
		w.decode(row.Body, mail.Command, "a command", key)
	case engine.MailCancel:
	}
	return mail
}

// decode reads JSON that a program wrote into a message. What can't be read is left out: nobody could ever read it.
func (w *Writer) decode(body []byte, into any, what string, key engine.MailKey) {
	if err := json.Unmarshal(body, into); err != nil {
		w.backend.logger.Error(what+" can't be read and is left out", "bucket", key.Bucket, "id", key.ID, "error", err)
	}
}

// lostDeliveries gives the deliveries whose agents died that messages speak of. Error: engine.ErrFenced after one that was
// damaged: the caller is to begin anew.
func (w *Writer) lostDeliveries(ctx context.Context, mail []db.ReadMailRow) (map[int64]*engine.LostDelivery, error) {
	var ids []int64
	for i := range mail {
		if engine.MailKind(mail[i].Kind) == engine.MailLost {
			ids = append(ids, *mail[i].Dispatch)
		}
	}
	if len(ids) == 0 {
		return nil, nil //nolint:nilnil // nothing is asked for
	}
	rows, err := w.backend.queries.ListLostDispatches(ctx, w.backend.on(w.backend.pool), ids)
	if err != nil {
		return nil, fmt.Errorf("read lost deliveries: %w", interpretError(err))
	}
	lost := make(map[int64]*engine.LostDelivery, len(rows))
	var damaged []int64
	for i := range rows {
		row := &rows[i]
		members, err := unpackMembers(row.Runs, row.Dags, row.Versions, row.Specs, row.Members)
		if err != nil {
			w.backend.logger.Error("a lost delivery can't be read and is thrown away", "delivery", row.ID, "error", err)
			damaged = append(damaged, row.ID)
			continue
		}
		delivery := &engine.LostDelivery{ID: row.ID, ClaimedAt: orZero(row.ClaimedAt), Members: make([]workflow.Member, len(members))}
		if row.ClaimedBy != nil {
			delivery.Agent = *row.ClaimedBy
		}
		for number := range members {
			delivery.Members[number] = members[number].Member
		}
		lost[row.ID] = delivery
	}
	if len(damaged) > 0 {
		// Nobody can ever tell what it held. When the memory is built anew, that is queued and in no delivery.
		if err := w.backend.queries.DeleteDispatches(ctx, w.backend.on(w.backend.pool), damaged); err != nil {
			return nil, fmt.Errorf("delete damaged deliveries: %w", interpretError(err))
		}
		return nil, fmt.Errorf("%w: deliveries %v were damaged", engine.ErrFenced, damaged)
	}
	return lost, nil
}
