package schedule

import (
	"iter"
	"time"
)

// horizon is how far Next and Previous look, in seconds. A day that exists comes
// within 40 years: a 29 February on a given weekday takes that long around 2100.
const horizon = 41 * 366 * day

// Schedule is a cron expression in a time zone, made by Parse. The zero Schedule
// is never due. It may be copied, and used by several goroutines at once.
type Schedule struct {
	calendar
	// everyHour tells that the hour begins with *: see the package's comment.
	everyHour bool
	location  *time.Location
}

// Next is the first time that is due strictly after another, in UTC. There is
// none if nothing is due within 41 years (30 February) or up to the year 9999.
func (s Schedule) Next(after time.Time) (time.Time, bool) {
	if s.location == nil || after.Unix() >= latest {
		return time.Time{}, false
	}
	from := max(after.Unix()+1, earliest)
	for limit := min(from+horizon, latest); from <= limit; {
		during := stretchAt(s.location, from)
		if at, ok := s.nextIn(during, from); ok {
			return time.Unix(at, 0).UTC(), true
		}
		from = during.end
	}
	return time.Time{}, false
}

// Previous is the last time that is due strictly before another, in UTC. There is
// none if nothing was due within 41 years, or since the year 0.
func (s Schedule) Previous(before time.Time) (time.Time, bool) {
	to := before.Unix()
	if before.Nanosecond() > 0 {
		to++ // its second has begun
	}
	if s.location == nil || to <= earliest {
		return time.Time{}, false
	}
	to = min(to, latest+1)
	for limit := max(to-horizon, earliest); to > limit; {
		during := stretchAt(s.location, to-1)
		if at, ok := s.previousIn(during, to); ok {
			return time.Unix(at, 0).UTC(), true
		}
		to = during.start
	}
	return time.Time{}, false
}

// Between gives the times that are due from one time to another, both included,
// in UTC and in order.
func (s Schedule) Between(from, to time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		at, ok := s.Next(from.Add(-time.Nanosecond))
		for ok && !at.After(to) && yield(at) {
			at, ok = s.Next(at)
		}
	}
}

// nextIn is the first time that is due in a stretch and not before from, which lies in it.
func (s *Schedule) nextIn(during stretch, from int64) (int64, bool) {
	shown := from + during.offset
	if !s.everyHour {
		if from == during.start && s.skipped(during) {
			return from, true
		}
		shown = max(shown, during.reached)
	}
	at, ok := s.next(shown, during.end+during.offset)
	return at - during.offset, ok
}

// previousIn is the last time that is due in a stretch and before to, which lies in it or is its end.
func (s *Schedule) previousIn(during stretch, to int64) (int64, bool) {
	shown := during.start + during.offset
	if !s.everyHour {
		shown = max(shown, during.reached)
	}
	at, ok := s.previous(shown, to+during.offset)
	if !ok && !s.everyHour && s.skipped(during) {
		return during.start, true
	}
	return at - during.offset, ok
}

// skipped tells whether the clocks jump past a fixed time as a stretch begins.
func (s *Schedule) skipped(during stretch) bool {
	_, ok := s.next(during.reached, during.start+during.offset)
	return ok
}
