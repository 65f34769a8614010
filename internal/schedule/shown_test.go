package schedule

import "time"

// asShown is what a clock on the wall shows at a time, as if it were UTC.
func asShown(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// onDay tells whether a day matches, without the sets of months that the package works with.
func (s Schedule) onDay(date time.Time) bool {
	byDate, byWeekday := has(s.days, date.Day()), has(s.weekdays, int(date.Weekday()))
	if s.either {
		return has(s.months, int(date.Month())) && (byDate || byWeekday)
	}
	return has(s.months, int(date.Month())) && byDate && byWeekday
}
