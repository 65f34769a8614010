package schedule

import (
	"math/bits"
	"time"
)

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour // on the wall: no day of a calendar is longer or shorter
)

// calendar is what an expression means: a set of minutes of all days, as clocks
// on the wall show them. The set for each field has bit n for the value n.
//
// A time on the wall is given as the seconds since 1970-01-01 00:00 there; a day
// as the days since then.
type calendar struct {
	minutes, hours, days, months, weekdays uint64
	// either tells that a day matches by its date or by its weekday, not by both.
	either bool
}

// next is the first matching time in [from, to).
func (c *calendar) next(from, to int64) (int64, bool) {
	if from >= to {
		return 0, false
	}
	date := floorDiv(from, day)
	if c.hasDay(date) {
		if at, ok := c.nextMinute(int((from - date*day + minute - 1) / minute)); ok {
			at := date*day + int64(at)*minute
			return at, at < to
		}
	}
	date, ok := c.nextDay(date+1, floorDiv(to-1, day))
	if !ok {
		return 0, false
	}
	first, ok := c.nextMinute(0)
	at := date*day + int64(first)*minute
	return at, ok && at < to
}

// previous is the last matching time in [from, to).
func (c *calendar) previous(from, to int64) (int64, bool) {
	if from >= to {
		return 0, false
	}
	date := floorDiv(to-1, day)
	if c.hasDay(date) {
		if at, ok := c.previousMinute(int((to - 1 - date*day) / minute)); ok {
			at := date*day + int64(at)*minute
			return at, at >= from
		}
	}
	date, ok := c.previousDay(date-1, floorDiv(from, day))
	if !ok {
		return 0, false
	}
	last, ok := c.previousMinute(day/minute - 1)
	at := date*day + int64(last)*minute
	return at, ok && at >= from
}

// nextMinute is the first minute of a day that matches and is not before from.
func (c *calendar) nextMinute(from int) (int, bool) {
	at := from / 60
	if minutes := notBelow(c.minutes, from%60); has(c.hours, at) && minutes != 0 {
		return at*60 + lowest(minutes), true
	}
	hours := notBelow(c.hours, at+1)
	return lowest(hours)*60 + lowest(c.minutes), hours != 0 && c.minutes != 0
}

// previousMinute is the last minute of a day that matches and is not after to.
func (c *calendar) previousMinute(to int) (int, bool) {
	at := to / 60
	if minutes := notAbove(c.minutes, to%60); has(c.hours, at) && minutes != 0 {
		return at*60 + highest(minutes), true
	}
	hours := notAbove(c.hours, at-1)
	return highest(hours)*60 + highest(c.minutes), hours != 0 && c.minutes != 0
}

func (c *calendar) hasDay(date int64) bool {
	year, month, monthDay := civil(date)
	return has(c.daysOf(year, month, date-int64(monthDay)+1), monthDay)
}

// nextDay is the first day in [from, to] that matches.
func (c *calendar) nextDay(from, to int64) (int64, bool) {
	year, month, monthDay := civil(from)
	first := from - int64(monthDay) + 1
	for first <= to {
		if days := notBelow(c.daysOf(year, month, first), monthDay); days != 0 {
			found := first + int64(lowest(days)) - 1
			return found, found <= to
		}
		first += int64(daysIn(year, month))
		monthDay = 1
		if month++; month > time.December {
			year, month = year+1, time.January
		}
	}
	return 0, false
}

// previousDay is the last day in [to, from] that matches.
func (c *calendar) previousDay(from, to int64) (int64, bool) {
	year, month, monthDay := civil(from)
	first := from - int64(monthDay) + 1
	for {
		if days := notAbove(c.daysOf(year, month, first), monthDay); days != 0 {
			found := first + int64(highest(days)) - 1
			return found, found >= to
		}
		if first <= to {
			return 0, false
		}
		if month--; month < time.January {
			year, month = year-1, time.December
		}
		monthDay = daysIn(year, month)
		first -= int64(monthDay)
	}
}

// daysOf is the set of the days of a month that match. The month begins on first.
func (c *calendar) daysOf(year int, month time.Month, first int64) uint64 {
	if !has(c.months, int(month)) {
		return 0
	}
	const eachWeek = 1 | 1<<7 | 1<<14 | 1<<21 | 1<<28 | 1<<35
	// 1970-01-01 was a Thursday.
	weekday := int(first+int64(time.Thursday)-floorDiv(first+int64(time.Thursday), 7)*7) % 7
	byWeekday := c.weekdays * eachWeek >> weekday << 1
	days := c.days & byWeekday
	if c.either {
		days = c.days | byWeekday
	}
	return notAbove(days, daysIn(year, month)) &^ 1
}

func civil(date int64) (year int, month time.Month, monthDay int) {
	return time.Unix(date*day, 0).UTC().Date()
}

func daysIn(year int, month time.Month) int {
	switch month {
	case time.April, time.June, time.September, time.November:
		return 30
	case time.February:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	default:
		return 31
	}
}

func has(set uint64, n int) bool { return set>>n&1 != 0 }

func notBelow(set uint64, n int) uint64 { return set >> n << n }

// notAbove takes n from -1 on.
func notAbove(set uint64, n int) uint64 { return set &^ (^uint64(0) << (n + 1)) }

func lowest(set uint64) int { return bits.TrailingZeros64(set) }

func highest(set uint64) int { return bits.Len64(set) - 1 }

func floorDiv(a, b int64) int64 {
	quotient := a / b
	if a%b < 0 {
		quotient--
	}
	return quotient
}
