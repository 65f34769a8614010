package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustParse(t rapid.TB, cron, zone string) Schedule {
	t.Helper()
	s, err := Parse(cron, zone)
	if err != nil {
		t.Fatalf("%s in %s: %v", cron, zone, err)
	}
	return s
}

func at(t rapid.TB, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestNext(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cron, zone, after string
		want              []string // in UTC
	}{
		{"30 2 * * *", "", "2026-01-01 00:00", []string{"2026-01-01 02:30", "2026-01-02 02:30"}},
		{"*/15 * * * *", "", "2026-01-01 00:01", []string{"2026-01-01 00:15", "2026-01-01 00:30"}},
		{"0 9-17/4 * * mon-FRI", "", "2026-01-02 13:00", []string{"2026-01-02 17:00", "2026-01-05 09:00", "2026-01-05 13:00"}},
		{"0 0 13 * 5", "", "2026-01-01 00:00", []string{"2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00", "2026-01-16 00:00"}},
		{"0 0 */10 * 5", "", "2026-01-01 00:00", []string{"2026-05-01 00:00", "2026-07-31 00:00"}},
		{"0 0 29 2 *", "", "2026-01-01 00:00", []string{"2028-02-29 00:00", "2032-02-29 00:00"}},
		{"0 0 * * 7", "", "2026-01-01 00:00", []string{"2026-01-04 00:00", "2026-01-11 00:00"}},
		{"5/20 0 1 jan *", "", "2026-01-02 00:00", []string{"2027-01-01 00:05", "2027-01-01 00:25", "2027-01-01 00:45", "2028-01-01 00:05"}},
		{"@weekly", "", "2026-01-01 00:00", []string{"2026-01-04 00:00"}},
		// Berlin: 2026-03-29 02:00 → 03:00, 2026-10-25 03:00 → 02:00.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", []string{"2026-03-29 01:00", "2026-03-30 00:30"}},
		{"15,45 2 * * *", "Europe/Berlin", "2026-03-28 12:00", []string{"2026-03-29 01:00", "2026-03-30 00:15"}},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", []string{"2026-10-25 00:30", "2026-10-26 01:30"}},
		{"0 3 * * *", "Europe/Berlin", "2026-10-24 12:00", []string{"2026-10-25 02:00", "2026-10-26 02:00"}},
		{"30 * * * *", "Europe/Berlin", "2026-10-24 23:45", []string{"2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"}},
		{"30 * * * *", "Europe/Berlin", "2026-03-29 00:00", []string{"2026-03-29 00:30", "2026-03-29 01:30"}},
		{"30 */2 * * *", "Europe/Berlin", "2026-03-29 00:00", []string{"2026-03-29 02:30"}},
		// New York: 2026-03-08 02:00 → 03:00, 2026-11-01 02:00 → 01:00.
		{"30 1 * * *", "America/New_York", "2026-10-31 12:00", []string{"2026-11-01 05:30", "2026-11-02 06:30"}},
		// Lord Howe: half an hour, 2026-04-05 02:00 → 01:30, 2026-10-04 02:00 → 02:30.
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-03 15:00", []string{"2026-04-04 14:45", "2026-04-05 15:15"}},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00", []string{"2026-10-03 15:30", "2026-10-04 15:15"}},
		{"*/30 * * * *", "Australia/Lord_Howe", "2026-04-04 14:00", []string{"2026-04-04 14:30", "2026-04-04 15:00", "2026-04-04 15:30"}},
		// São Paulo skipped midnight: 2018-11-04 00:00 → 01:00, and had 23:00 twice on 2018-02-17.
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03 12:00", []string{"2018-11-04 03:00", "2018-11-05 02:00"}},
		{"30 23 * * *", "America/Sao_Paulo", "2018-02-17 12:00", []string{"2018-02-18 01:30", "2018-02-19 02:30"}},
		{"0 0 * * *", "America/Sao_Paulo", "2018-02-17 12:00", []string{"2018-02-18 03:00", "2018-02-19 03:00"}},
		// Samoa had no 30th of December in 2011.
		{"0 12 * * *", "Pacific/Apia", "2011-12-29 00:00", []string{"2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00"}},
	} {
		s := mustParse(t, test.cron, test.zone)
		after := at(t, test.after)
		for _, want := range test.want {
			next, ok := s.Next(after)
			if got := next.UTC().Format("2006-01-02 15:04"); !ok || got != want {
				t.Errorf("%s in %s after %s: %s, not %s", test.cron, test.zone, after.Format(time.RFC3339), got, want)
			}
			if previous, ok := s.Previous(next.Add(1)); !ok || !previous.Equal(next) {
				t.Errorf("%s in %s: before %s comes %s", test.cron, test.zone, next, previous)
			}
			after = next
		}
	}
	if next, ok := mustParse(t, "0 0 30 2 *", "").Next(at(t, "2026-01-01 00:00")); ok {
		t.Errorf("the 30th of February is %s", next)
	}
	if _, ok := mustParse(t, "0 0 30 2 *", "").Previous(at(t, "2026-01-01 00:00")); ok {
		t.Errorf("there was a 30th of February")
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ cron, zone, want string }{
		{"", "", "has 0 fields: it takes five"},
		{"* * * *", "", "has 4 fields"},
		{"0 * * * * *", "", "has 6 fields"},
		{"60 * * * *", "", "the minute of the cron expression: \"60\" is none: it takes 0 to 59"},
		{"* 24 * * *", "", "the hour of"},
		{"* * 0 * *", "", "the day of the month of"},
		{"* * 32 * *", "", "it takes 1 to 31"},
		{"* * * 13 *", "", "it takes 1 to 12, or jan to dec"},
		{"* * * * 8", "", "it takes 0 to 7, or sun to sat"},
		{"* * * foo *", "", `the month of the cron expression: "foo" is none`},
		{"5-1 * * * *", "", `the range "5-1" ends before it begins`},
		{"*/0 * * * *", "", `has the step "0": it takes 1 to 59`},
		{"*/60 * * * *", "", "has the step"},
		{"*/x * * * *", "", "has the step"},
		{"1, * * * *", "", `"" is none`},
		{"- * * * *", "", `"" is none`},
		{"-1 * * * *", "", `"" is none`},
		{"+1 * * * *", "", `"+1" is none`},
		{"* * ? * *", "", "not supported"},
		{"* * L * *", "", "not supported"},
		{"* * 5W * *", "", "not supported"},
		{"* * * * 5#2", "", "not supported"},
		{"@never", "", "those with @ are"},
		{strings.Repeat("1,", 600) + "1 * * * *", "", "it takes at most 1000"},
		{"99999999999999999999 * * * *", "", "is none"},
		{"* * * * *", "Mars/Olympus", "is no time zone"},
		{"* * * * *", "Local", "is no time zone"},
		{"* * * * *", "../etc/passwd", "is no time zone"},
	} {
		_, err := Parse(test.cron, test.zone)
		if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 300 {
			t.Errorf("%q in %q: %v", test.cron, test.zone, err)
		}
	}
}

func TestMissed(t *testing.T) {
	t.Parallel()
	daily := mustParse(t, "0 6 * * *", "")
	day := func(number int) time.Time { return time.Date(2026, 5, number, 6, 0, 0, 0, time.UTC) }
	noon := day(10).Add(6 * time.Hour)
	for name, test := range map[string]struct {
		start, end, last time.Time
		catchup          bool
		most             int
		want             []time.Time
	}{
		"never run, without a start":    {catchup: true, most: 9},
		"never run, since a start":      {start: day(8), catchup: true, most: 9, want: []time.Time{day(8), day(9), day(10)}},
		"the latest alone":              {start: day(8), most: 9, want: []time.Time{day(10)}},
		"since the last":                {last: day(8), catchup: true, most: 9, want: []time.Time{day(9), day(10)}},
		"the latest since the last":     {last: day(8), most: 9, want: []time.Time{day(10)}},
		"nothing since the last":        {last: day(10), catchup: true, most: 9},
		"nothing new":                   {last: day(10), most: 9},
		"not before the start":          {start: day(10), last: day(3), catchup: true, most: 9, want: []time.Time{day(10)}},
		"not after the end":             {end: day(9), last: day(7), catchup: true, most: 9, want: []time.Time{day(8), day(9)}},
		"the latest before the end":     {end: day(9), last: day(7), most: 9, want: []time.Time{day(9)}},
		"all after the end":             {end: day(5), last: day(7), catchup: true, most: 9},
		"before the start":              {start: day(12), catchup: true, most: 9},
		"the oldest, as many as wanted": {last: day(1), catchup: true, most: 2, want: []time.Time{day(2), day(3)}},
		"none is wanted":                {last: day(1), catchup: true},
	} {
		got := Missed(daily, test.start, test.end, test.last, noon, test.catchup, test.most)
		if !slices.EqualFunc(got, test.want, time.Time.Equal) {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
}

// oracle finds the times of a schedule minute by minute.
func oracle(s Schedule, from, to time.Time) []time.Time {
	var times []time.Time
	matches := func(shown time.Time) bool {
		return s.onDay(time.Date(shown.Year(), shown.Month(), shown.Day(), 0, 0, 0, 0, time.UTC)) &&
			s.hours&(1<<shown.Hour()) != 0 && s.minutes&(1<<shown.Minute()) != 0
	}
	seen := map[time.Time]bool{}
	begin := from.Add(-49 * time.Hour)
	before := asShown(begin.Add(-time.Minute).In(s.location))
	for now := begin; !now.After(to); now = now.Add(time.Minute) {
		shown := asShown(now.In(s.location))
		due := false
		if s.everyHour {
			due = matches(shown)
		} else {
			for skipped := before.Add(time.Minute); skipped.Before(shown); skipped = skipped.Add(time.Minute) {
				if !seen[skipped] && matches(skipped) {
					due = true
				}
				seen[skipped] = true
			}
			if !seen[shown] && matches(shown) {
				due = true
			}
			seen[shown] = true
		}
		before = shown
		if due && !now.Before(from) {
			times = append(times, now)
		}
	}
	return times
}

func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut",
		"Pacific/Apia", "Asia/Kathmandu", "Africa/Casablanca", "America/Havana", "Asia/Tehran", "Antarctica/Troll",
	}
	part := func(low, high int) *rapid.Generator[string] {
		number := rapid.IntRange(low, high)
		return rapid.OneOf(
			rapid.Just("*"), rapid.Just("*"),
			rapid.Map(number, func(n int) string { return fmt.Sprint(n) }),
			rapid.Map(rapid.IntRange(1, high), func(n int) string { return fmt.Sprintf("*/%d", n) }),
			rapid.Custom(func(t *rapid.T) string {
				one, other := number.Draw(t, "one"), number.Draw(t, "other")
				return fmt.Sprintf("%d-%d/%d,%d", min(one, other), max(one, other), rapid.IntRange(1, high).Draw(t, "step"), number.Draw(t, "another"))
			}),
		)
	}
	minute, hour, day, month, weekday := part(0, 59), part(0, 23), part(1, 31), part(1, 12), part(0, 7)
	rapid.Check(t, func(t *rapid.T) {
		cron := strings.Join([]string{minute.Draw(t, "minute"), hour.Draw(t, "hour"), day.Draw(t, "day"), month.Draw(t, "month"), weekday.Draw(t, "weekday")}, " ")
		s := mustParse(t, cron, rapid.SampledFrom(zones).Draw(t, "zone"))
		// A window around a change of the clocks, where there is one.
		from := time.Date(rapid.IntRange(1990, 2037).Draw(t, "year"), 1, 1, 0, 0, 0, 0, time.UTC)
		if _, change := from.In(s.location).ZoneBounds(); !change.IsZero() {
			from = change.UTC().Truncate(time.Minute)
		}
		from = from.Add(-time.Duration(rapid.IntRange(0, 30*60).Draw(t, "minutes before")) * time.Minute)
		to := from.Add(52 * time.Hour)
		want := oracle(s, from, to)
		got := slices.Collect(s.Between(from, to))
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%s in %s from %s:\n%v, not\n%v", cron, s.location, from, got, want)
		}
		if len(want) > 0 {
			if last, ok := s.Previous(to.Add(1)); !ok || !last.Equal(want[len(want)-1]) {
				t.Fatalf("the last is %s, not %s", last, want[len(want)-1])
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, cron := range []string{"*/5 * * * *", "0 0 1 jan mon", "@daily", "1-5/2,7 * * * 7", "? L W #"} {
		f.Add(cron, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, cron, zone string) {
		s, err := Parse(cron, zone)
		if err != nil {
			if len(err.Error()) > 1500 {
				t.Errorf("the error has %d characters", len(err.Error()))
			}
			return
		}
		now := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
		if next, ok := s.Next(now); ok && !next.After(now) {
			t.Errorf("%q in %q: %s is not after %s", cron, zone, next, now)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for _, cron := range []string{"*/5 * * * *", "0 6 * * mon", "0 0 29 2 *", "0 0 30 2 *"} {
		b.Run(cron, func(b *testing.B) {
			s, err := Parse(cron, "Europe/Berlin")
			if err != nil {
				b.Fatal(err)
			}
			now := time.Date(2026, 3, 28, 0, 30, 0, 0, time.UTC)
			for b.Loop() {
				s.Next(now)
			}
		})
	}
}
