package schedule

import (
	"slices"
	"time"
)

// Missed gives the logical dates that are due at now and were not run, the oldest
// first: those after last, the latest date that is done with, up to now and to end,
// both included. Where last is zero they begin with start, itself included; where
// start is zero as well, with now. A zero end is none. No date is before start.
//
// With catchup, they are the oldest of them and at most that many: who carried
// these out comes again with a new last. Without catchup it is the latest alone.
func Missed(s Schedule, start, end, last, now time.Time, catchup bool, most int) []time.Time {
	if most <= 0 {
		return nil
	}
	from, to := start, now
	switch {
	case !last.IsZero() && !last.Before(start):
		from = last.Add(time.Nanosecond)
	case last.IsZero() && start.IsZero():
		from = now
	}
	if !end.IsZero() && end.Before(now) {
		to = end
	}
	if !catchup {
		latest, ok := s.Previous(to.Add(time.Nanosecond))
		if !ok || latest.Before(from) {
			return nil
		}
		return []time.Time{latest}
	}
	var dates []time.Time
	for date := range s.Between(from, to) {
		if dates = append(dates, date); len(dates) == most {
			break
		}
	}
	return slices.Clip(dates)
}
