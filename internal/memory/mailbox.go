package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// letter is a message as it is stored: of a lost delivery it holds the number alone,
// because the delivery itself says who is in it.
type letter struct {
	engine.Mail
	dispatch int64
}

// send puts a message into a bucket's mailbox, and rings its writer.
func (b *Backend) send(bucket int, message letter) {
	message.Key = engine.MailKey{Bucket: bucket, ID: b.number()}
	b.mail[bucket] = append(b.mail[bucket], message)
	if message.Kind == engine.MailSubmit {
		b.unstarted++
	}
	if b.writer != nil {
		b.writer.rung[bucket] = true
		signal(b.writer.wake)
	}
}

// find gives the place of a message in its bucket.
func (b *Backend) find(key engine.MailKey) (place int, found bool) {
	return slices.BinarySearchFunc(b.mail[key.Bucket], key.ID, func(message letter, id int64) int { return cmp.Compare(message.Key.ID, id) })
}

// consume deletes messages that are there.
func (b *Backend) consume(keys []engine.MailKey) {
	gone := make(map[engine.MailKey]bool, len(keys))
	buckets := map[int]bool{}
	for _, key := range keys {
		gone[key], buckets[key.Bucket] = true, true
	}
	for bucket := range buckets {
		b.mail[bucket] = slices.DeleteFunc(b.mail[bucket], func(message letter) bool {
			if gone[message.Key] && message.Kind == engine.MailSubmit {
				b.unstarted--
			}
			return gone[message.Key]
		})
	}
}

// ReadMail implements engine.Writer.
func (w *Writer) ReadMail(ctx context.Context, sweep bool, limit int) ([]engine.Mail, error) {
	if err := w.backend.lock(ctx); err != nil {
		return nil, fmt.Errorf("read mail: %w", err)
	}
	defer w.backend.mutex.Unlock()
	if sweep {
		w.ringAll()
	}
	return w.readMail(limit), nil
}

// readMail gives the oldest messages of buckets that were rung, above the number up to which each was read.
func (w *Writer) readMail(limit int) []engine.Mail {
	var unread []letter
	for bucket := range w.rung {
		for _, message := range w.backend.mail[bucket] {
			if message.Key.ID > w.read[bucket] {
				unread = append(unread, message)
			}
		}
	}
	slices.SortFunc(unread, func(one, other letter) int { return cmp.Compare(one.Key.ID, other.Key.ID) })
	clear(w.rung)
	for _, message := range unread[min(limit, len(unread)):] {
		w.rung[message.Key.Bucket] = true
	}
	given := make([]engine.Mail, 0, min(limit, len(unread)))
	for _, message := range unread[:min(limit, len(unread))] {
		w.read[message.Key.Bucket] = message.Key.ID
		if message.Kind == engine.MailLost {
			message.Lost = w.backend.lostDelivery(message.dispatch)
		}
		given = append(given, message.Mail)
	}
	return given
}

// ringAll lets all buckets be read.
func (w *Writer) ringAll() {
	for bucket := range w.backend.mail {
		w.rung[bucket] = true
	}
}

// mailWaits tells that something was not read yet.
func (w *Writer) mailWaits() bool {
	for bucket, messages := range w.backend.mail {
		if len(messages) > 0 && messages[len(messages)-1].Key.ID > w.read[bucket] {
			return true
		}
	}
	return false
}
