package schedule

import "time"

// The times that are looked at, in Unix seconds: those of the years 0 to 9999.
const (
	earliest = -62_167_219_200
	latest   = 253_402_300_799
)

// reach is longer than any change of clocks, and than the time between two
// changes that could bear on each other.
const reach = 2 * day

// stretch is a time during which the clocks of a zone are not changed. It may
// end or begin where they are not changed either. Times are in Unix seconds;
// those on the wall are that plus the offset.
type stretch struct {
	start, end int64 // [start, end)
	offset     int64
	// reached is the first time on the wall that no clock had shown or jumped past before start.
	reached int64
}

// stretchAt is the stretch that holds a time.
func stretchAt(zone *time.Location, at int64) stretch {
	s := bounds(zone, at)
	s.reached = s.start + s.offset
	former := s
	for former.start > earliest && s.start-former.start < reach {
		end := former.start
		former = bounds(zone, end-1)
		if end == s.start {
			s.reached = end + former.offset
		}
		s.reached = max(s.reached, end+former.offset)
	}
	return s
}

func bounds(zone *time.Location, at int64) stretch {
	t := time.Unix(at, 0).In(zone)
	_, offset := t.Zone()
	s := stretch{start: earliest, end: latest + 1, offset: int64(offset)}
	start, end := t.ZoneBounds()
	if !start.IsZero() {
		s.start = max(s.start, start.Unix())
	}
	if !end.IsZero() {
		s.end = min(s.end, end.Unix())
	}
	if s.end <= at {
		// Where a zone goes on by rule, ZoneBounds takes all years for 365 days long: on the last
		// day of a leap year, it gives an end that has passed. No rule changes clocks on that day.
		s.end = (floorDiv(at, day) + 1) * day
	}
	return s
}
