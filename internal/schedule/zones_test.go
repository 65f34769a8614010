package schedule

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestChangesOfClocks has what is due while clocks change, in UTC.
func TestChangesOfClocks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, cron, zone, from, to string
		want                       []string
	}{
		{"a gap takes all that is skipped together", "0,30 2 * * *", "America/New_York", "2026-03-08 05:00", "2026-03-08 09:00", []string{"2026-03-08 07:00"}},
		{"also with what is due as it ends", "0 2,3 * * *", "America/New_York", "2026-03-08 05:00", "2026-03-08 09:00", []string{"2026-03-08 07:00"}},
		{"a minute before the gap is not in it", "59 1 * * *", "America/New_York", "2026-03-08 05:00", "2026-03-08 09:00", []string{"2026-03-08 06:59"}},
		{"a gap of another day is none", "30 2 7 * *", "America/New_York", "2026-03-08 00:00", "2026-03-09 00:00", nil},
		{"each minute of a fixed hour, once", "*/20 1 * * *", "America/New_York", "2026-11-01 04:00", "2026-11-01 08:00", []string{"2026-11-01 05:00", "2026-11-01 05:20", "2026-11-01 05:40"}},
		{"all hours by name are fixed", "30 0-23 * * *", "America/New_York", "2026-11-01 04:00", "2026-11-01 08:00", []string{"2026-11-01 04:30", "2026-11-01 05:30", "2026-11-01 07:30"}},
		{"every hour runs through the gap", "0 * * * *", "America/New_York", "2026-03-08 05:00", "2026-03-08 09:00", []string{"2026-03-08 05:00", "2026-03-08 06:00", "2026-03-08 07:00", "2026-03-08 08:00", "2026-03-08 09:00"}},
		{"every hour runs in both", "0 * * * *", "America/New_York", "2026-11-01 04:00", "2026-11-01 08:00", []string{"2026-11-01 04:00", "2026-11-01 05:00", "2026-11-01 06:00", "2026-11-01 07:00", "2026-11-01 08:00"}},
		{"Lord Howe skips half an hour", "0 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", "2026-10-04 12:00", []string{"2026-10-03 15:30"}},
		{"Lord Howe repeats half an hour", "30 1 * * *", "Australia/Lord_Howe", "2026-04-04 12:00", "2026-04-05 12:00", []string{"2026-04-04 14:30"}},
		{"in both halves", "45 * * * *", "Australia/Lord_Howe", "2026-04-04 14:00", "2026-04-04 16:20", []string{"2026-04-04 14:45", "2026-04-04 15:15", "2026-04-04 16:15"}},
		{"Cairo skips midnight", "@daily", "Africa/Cairo", "2023-04-27 12:00", "2023-04-28 12:00", []string{"2023-04-27 22:00"}},
		{"Cairo repeats the last hour of the day", "30 23 * * *", "Africa/Cairo", "2023-10-26 12:00", "2023-10-27 12:00", []string{"2023-10-26 20:30"}},
		{"and has one midnight", "@daily", "Africa/Cairo", "2023-10-26 12:00", "2023-10-27 12:00", []string{"2023-10-26 22:00"}},
		{"Beirut skips midnight", "15 0 * * *", "Asia/Beirut", "2022-03-26 12:00", "2022-03-27 12:00", []string{"2022-03-26 22:00"}},
		{"a repeated midnight is of the first day's", "0 0 1 11 *", "America/Havana", "2026-10-31 12:00", "2026-11-02 12:00", []string{"2026-11-01 04:00"}},
		{"Troll moves by two hours", "30 1,2 * * *", "Antarctica/Troll", "2026-03-28 12:00", "2026-03-29 12:00", []string{"2026-03-29 01:00"}},
		{"Apia's day that was left out", "0 6,18 30 12 *", "Pacific/Apia", "2011-12-28 00:00", "2011-12-31 12:00", []string{"2011-12-30 10:00"}},
		{"had no quarter of an hour", "*/15 * 30 12 *", "Pacific/Apia", "2011-12-28 00:00", "2011-12-31 12:00", nil},
		{"Kwajalein's day that was left out", "0 12 * * *", "Pacific/Kwajalein", "1993-08-20 12:00", "1993-08-22 12:00", []string{"1993-08-21 00:00", "1993-08-21 12:00", "1993-08-22 00:00"}},
		{"Caracas by half an hour, once", "45 2 * * *", "America/Caracas", "2007-12-09 00:00", "2007-12-10 00:00", []string{"2007-12-09 06:45"}},
		{"a leap year's last day, after the table ends", "0 12 * * *", "America/New_York", "2048-12-30 18:00", "2049-01-02 00:00", []string{"2048-12-31 17:00", "2049-01-01 17:00"}},
		{"in the south", "30 2 * * *", "Australia/Sydney", "2048-10-03 00:00", "2048-10-05 00:00", []string{"2048-10-03 16:00", "2048-10-04 15:30"}},
		{"offsets with seconds", "0 0 * * *", "Africa/Monrovia", "1970-01-01 00:00", "1970-01-01 12:00", []string{"1970-01-01 00:44"}},
	} {
		s := mustParse(t, test.cron, test.zone)
		var got []string
		for due := range s.Between(at(t, test.from), at(t, test.to)) {
			got = append(got, due.Format("2006-01-02 15:04"))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q in %s: %v, not %v", test.name, test.cron, test.zone, got, test.want)
		}
	}
}

// TestSteady has schedules that go by elapsed time over 40 years: their distances never change.
func TestSteady(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Africa/Cairo", "Antarctica/Troll", "Pacific/Apia"} {
		s := mustParse(t, "0 * * * *", zone)
		former := at(t, "2010-01-01 00:00")
		for due := range s.Between(former.Add(1), at(t, "2050-01-01 00:00")) {
			if due.Sub(former) != time.Hour {
				t.Fatalf("%s: after %s comes %s", zone, former, due)
			}
			former = due
		}
	}
}

// TestOnceADay has fixed times over 140 years, where clocks never change by a day: one for each date.
func TestOnceADay(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Beirut", "Antarctica/Troll"} {
		for _, cron := range []string{"0 0 * * *", "30 1 * * *", "15 2 * * *", "30 23 * * *"} {
			s := mustParse(t, cron, zone)
			date := time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)
			from := time.Date(1960, 1, 1, 0, 0, 0, 0, s.location)
			to := time.Date(2100, 1, 1, 0, 0, 0, 0, s.location)
			for due := range s.Between(from, to.Add(-1)) {
				if shown := asShown(due.In(s.location)).Truncate(24 * time.Hour); !shown.Equal(date) {
					t.Fatalf("%s in %s: %s is not of %s", cron, zone, due.In(s.location), date)
				}
				date = date.AddDate(0, 0, 1)
			}
			if date.Year() != 2100 {
				t.Errorf("%s in %s: ended at %s", cron, zone, date)
			}
		}
	}
}

// TestRare has days that are long in coming.
func TestRare(t *testing.T) {
	t.Parallel()
	for cron, want := range map[string]string{
		"0 0 29 2 *":   "2104-02-29 00:00",
		"0 0 29 2 */7": "2128-02-29 00:00", // both must match
		"0 0 31 */5 *": "2101-01-31 00:00",
	} {
		s := mustParse(t, cron, "")
		if next, ok := s.Next(at(t, "2100-12-01 00:00")); !ok || !next.Equal(at(t, want)) {
			t.Errorf("%s: %s, not %s", cron, next, want)
		}
	}
	// The longest wait of all.
	s := mustParse(t, "0 0 29 2 */7", "Europe/Berlin")
	var longest time.Duration
	former, _ := s.Next(at(t, "1600-01-01 00:00"))
	for due := range s.Between(former, at(t, "2500-01-01 00:00")) {
		longest = max(longest, due.Sub(former))
		former = due
	}
	if former.Year() < 2450 || longest > horizon*time.Second {
		t.Errorf("%s is the last, %s the longest", former, longest)
	}
}

func TestEndsOfTime(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "@hourly", "America/New_York")
	far := time.Unix(1<<62, 0)
	for _, after := range []time.Time{far, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} {
		if next, ok := s.Next(after); ok {
			t.Errorf("after %s comes %s", after, next)
		}
	}
	for _, before := range []time.Time{time.Unix(-1<<62, 0), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if previous, ok := s.Previous(before); ok {
			t.Errorf("before %s comes %s", before, previous)
		}
	}
	if _, ok := s.Next(time.Time{}); !ok {
		t.Error("nothing comes after the zero time")
	}
	if _, ok := s.Previous(far); !ok {
		t.Error("nothing comes before the end of time")
	}
	var zero Schedule
	if _, ok := zero.Next(time.Time{}); ok {
		t.Error("the zero schedule has a next time")
	}
	if _, ok := zero.Previous(far); ok {
		t.Error("the zero schedule has a previous time")
	}
}

func TestFractions(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "* * * * *", "")
	due := at(t, "2026-01-01 00:00")
	for _, test := range []struct {
		from                time.Time
		next, previousAfter time.Duration
	}{
		{due, time.Minute, -time.Minute},
		{due.Add(1), time.Minute, 0},
		{due.Add(-1), 0, -time.Minute},
		{due.Add(time.Second), time.Minute, 0},
	} {
		if next, ok := s.Next(test.from); !ok || !next.Equal(due.Add(test.next)) {
			t.Errorf("after %s comes %s", test.from, next)
		}
		if previous, ok := s.Previous(test.from); !ok || !previous.Equal(due.Add(test.previousAfter)) {
			t.Errorf("before %s comes %s", test.from, previous)
		}
	}
	if got := slices.Collect(s.Between(due, due.Add(time.Minute))); len(got) != 2 {
		t.Errorf("both ends are not included: %s", got)
	}
	if got := slices.Collect(s.Between(due.Add(1), due)); len(got) != 0 {
		t.Errorf("there is something in an empty range: %s", got)
	}
}

// TestThereAndBack compares Next, Previous and the oracle at changes of clocks in many zones and years.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	zones := []string{
		"America/New_York", "Australia/Lord_Howe", "Australia/Sydney", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "Asia/Gaza", "Asia/Pyongyang",
		"Pacific/Apia", "Pacific/Kwajalein", "America/Caracas", "America/Scoresbysund", "America/Nuuk", "Antarctica/Casey", "Europe/Dublin", "Africa/Casablanca",
	}
	part := rapid.SampledFrom([]string{"*", "0", "30", "*/15", "0,45", "10-50/20"})
	hours := rapid.SampledFrom([]string{"*", "*/2", "*/3", "0", "1", "2", "23", "0-2", "22-23", "1,3", "0-23", "0-23/2"})
	rapid.Check(t, func(t *rapid.T) {
		cron := strings.Join([]string{
			part.Draw(t, "minute"), hours.Draw(t, "hour"), rapid.SampledFrom([]string{"*", "*/2", "1-15", "30"}).Draw(t, "day"), "*",
			rapid.SampledFrom([]string{"*", "sun", "*/2", "5,6"}).Draw(t, "weekday"),
		}, " ")
		s := mustParse(t, cron, rapid.SampledFrom(zones).Draw(t, "zone"))
		change := time.Date(rapid.IntRange(1973, 2060).Draw(t, "year"), time.Month(rapid.IntRange(1, 12).Draw(t, "month")), 1, 0, 0, 0, 0, time.UTC)
		if _, end := change.In(s.location).ZoneBounds(); end.After(change) && end.Year() < 2061 {
			change = end.UTC().Truncate(time.Minute)
		}
		from := change.Add(-time.Duration(rapid.IntRange(0, 26*60).Draw(t, "minutes before")) * time.Minute)
		to := change.Add(26 * time.Hour)
		want := oracle(s, from, to)
		if got := slices.Collect(s.Between(from, to)); !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%s in %s from %s:\n%v, not\n%v", cron, s.location, from, got, want)
		}
		before := to.Add(1)
		for _, due := range slices.Backward(want) {
			previous, ok := s.Previous(before)
			if !ok || !previous.Equal(due) {
				t.Fatalf("%s in %s: before %s comes %s, not %s", cron, s.location, before, previous, due)
			}
			before = due
		}
		if previous, ok := s.Previous(before); ok && !previous.Before(from) {
			t.Fatalf("%s in %s: before %s comes %s as well", cron, s.location, before, previous)
		}
	})
}

// TestMissedComesAgain catches up in pieces: nothing is lost, nothing comes twice.
func TestMissedComesAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := mustParse(t, rapid.SampledFrom([]string{"*/20 * * * *", "30 1,2 * * *", "@daily"}).Draw(t, "cron"), "America/New_York")
		start := at(t, "2026-03-07 00:00").Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "start")) * time.Minute)
		now := start.Add(time.Duration(rapid.IntRange(-10, 5000).Draw(t, "minutes")) * time.Minute)
		end := start.Add(time.Duration(rapid.IntRange(0, 6000).Draw(t, "end")) * time.Minute)
		most := rapid.IntRange(1, 40).Draw(t, "most")
		var got []time.Time
		var last time.Time
		for {
			dates := Missed(s, start, end, last, now, true, most)
			if len(dates) == 0 {
				break
			}
			if len(dates) > most {
				t.Fatalf("%d dates, not %d at most", len(dates), most)
			}
			got = append(got, dates...)
			last = got[len(got)-1]
		}
		to := now
		if end.Before(now) {
			to = end
		}
		want := slices.Collect(s.Between(start, to))
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%v, not %v", got, want)
		}
		latest := Missed(s, start, end, time.Time{}, now, false, most)
		if len(latest) != min(1, len(want)) || len(latest) > 0 && !latest[0].Equal(want[len(want)-1]) {
			t.Fatalf("the latest of %v is %v", want, latest)
		}
	})
}
