package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// mailReader knows which buckets were rung, and for each bucket a mark below which everything was read. The mark never passes
// the snapshot's xmin, because a transaction that is still open may commit mail with a smaller number later.
type mailReader struct {
	mutex sync.Mutex
	rung  map[int]bool

	// Of the writer's goroutine.
	marks map[int]uint64
	given map[engine.MailKey]bool
}

// perBucket bounds what one bucket gives at once, so that none starves the others.
const perBucket = 500

func (m *mailReader) init(buckets []int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.rung, m.marks, m.given = map[int]bool{}, make(map[int]uint64, len(buckets)), map[engine.MailKey]bool{}
	for _, bucket := range buckets {
		m.marks[bucket] = 0
	}
}

func (m *mailReader) ring(bucket int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.rung[bucket] = true
}

// takeRung gives the arguments of a read of the buckets that were rung.
func (m *mailReader) takeRung(limit int) (db.ReadMailParams, bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if len(m.rung) == 0 {
		return db.ReadMailParams{}, false
	}
	params := db.ReadMailParams{Most: int32(min(perBucket, limit))} //nolint:gosec // small
	for bucket := range m.rung {
		if mark, ok := m.marks[bucket]; ok {
			params.Buckets = append(params.Buckets, int16(bucket)) //nolint:gosec // 12 bits
			params.Marks = append(params.Marks, mark)
		}
	}
	clear(m.rung)
	return params, len(params.Buckets) > 0
}

// putBack rings the buckets of a read that failed.
func (m *mailReader) putBack(params db.ReadMailParams) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, bucket := range params.Buckets {
		m.rung[int(bucket)] = true
	}
}

// ReadMail implements engine.Writer.
func (w *Writer) ReadMail(ctx context.Context, sweep bool, limit int) ([]engine.Mail, error) {
	if sweep {
		w.ringAll()
	}
	params, any := w.mail.takeRung(limit)
	if !any {
		return nil, nil
	}
	rows, err := w.backend.queries.ReadMail(ctx, w.backend.on(w.backend.pool), params)
	if err != nil {
		w.mail.putBack(params)
		return nil, fmt.Errorf("read mail: %w", interpretError(err))
	}
	return w.take(ctx, params, rows)
}

// take turns rows into mail, and moves the marks.
func (w *Writer) take(ctx context.Context, params db.ReadMailParams, rows []db.ReadMailRow) ([]engine.Mail, error) {
	counts := map[int16]int32{}
	last := map[int16]uint64{}
	var xmin uint64
	mail := make([]engine.Mail, 0, len(rows))
	for i := range rows {
		row := &rows[i]
		counts[row.Bucket]++
		last[row.Bucket], xmin = row.XID, row.Xmin
		key := engine.MailKey{Bucket: int(row.Bucket), XID: row.XID, ID: row.ID}
		if w.mail.given[key] {
			continue
		}
		w.mail.given[key] = true
		letter, err := w.open(ctx, row, key)
		if err != nil {
			return nil, err
		}
		mail = append(mail, letter)
	}
	for bucket, count := range counts {
		mark := xmin
		if count >= params.Most {
			mark = min(mark, last[bucket])
			w.ring(int(bucket)) // there may be more
		}
		w.mail.marks[int(bucket)] = max(w.mail.marks[int(bucket)], mark)
	}
	return mail, nil
}

func (w *Writer) open(ctx context.Context, row *db.ReadMailRow, key engine.MailKey) (engine.Mail, error) {
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
		report, err := unpackReport(row.Body, key.Bucket)
		if err != nil {
			// It can't be understood, ever: its tasks end when their agent does.
			w.backend.logger.Error("a report can't be read and is thrown away", "bucket", key.Bucket, "id", key.ID, "error", err)
			report = &engine.Report{ReplyTo: key.Bucket}
		}
		mail.Report = report
	case engine.MailLost:
		lost, err := w.lostDelivery(ctx, *row.Dispatch)
		if err != nil {
			return mail, err
		}
		mail.Lost = lost
	case engine.MailSubmit, engine.MailCancel:
	}
	return mail, nil
}

// lostDelivery gives the members of a delivery whose agent died; none when it is gone.
func (w *Writer) lostDelivery(ctx context.Context, id int64) (*engine.LostDelivery, error) {
	lost := &engine.LostDelivery{ID: id}
	rows, err := w.backend.queries.ListLostDispatches(ctx, w.backend.on(w.backend.pool), []int64{id})
	if err != nil {
		return nil, fmt.Errorf("read the lost delivery %d: %w", id, interpretError(err))
	}
	for i := range rows {
		row := &rows[i]
		none := make([]string, len(row.Runs))
		members, err := unpackMembers(row.Runs, none, make([]bool, len(row.Runs)), make([]db.UUID, 1<<16), row.Members)
		if err != nil {
			return nil, fmt.Errorf("delivery %d: %w", id, err)
		}
		lost.ClaimedAt = orZero(row.ClaimedAt)
		if row.ClaimedBy != nil {
			lost.Agent = *row.ClaimedBy
		}
		for _, member := range members {
			lost.Members = append(lost.Members, member.Member)
		}
	}
	return lost, nil
}
