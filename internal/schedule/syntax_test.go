package schedule

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// setOf is the set of some values.
func setOf(values ...int) uint64 {
	var set uint64
	for _, value := range values {
		set |= 1 << value
	}
	return set
}

func TestParseFields(t *testing.T) {
	t.Parallel()
	weekdays := func(s Schedule) uint64 { return s.weekdays }
	months := func(s Schedule) uint64 { return s.months }
	minutes := func(s Schedule) uint64 { return s.minutes }
	days := func(s Schedule) uint64 { return s.days }
	for _, test := range []struct {
		cron string
		of   func(Schedule) uint64
		want uint64
	}{
		{"5 * * * *", minutes, setOf(5)},
		{"05 * * * *", minutes, setOf(5)},
		{"*/25 * * * *", minutes, setOf(0, 25, 50)},
		{"10-50/20 * * * *", minutes, setOf(10, 30, 50)},
		{"5/25 * * * *", minutes, setOf(5, 30, 55)},
		{"59/5 * * * *", minutes, setOf(59)},
		{"1,3,1-4/3,59 * * * *", minutes, setOf(1, 3, 4, 59)},
		{"\t7  *\t* * * ", minutes, setOf(7)},
		{"@HOURLY", minutes, setOf(0)},
		{"* * 31 * *", days, setOf(31)},
		{"* * */15 * *", days, setOf(1, 16, 31)},
		{"* * * Jan,DEC *", months, setOf(1, 12)},
		{"* * * feb-apr *", months, setOf(2, 3, 4)},
		{"* * * 10/1 *", months, setOf(10, 11, 12)},
		{"@yearly", months, setOf(1)},
		{"* * * * *", weekdays, setOf(0, 1, 2, 3, 4, 5, 6)},
		{"* * * * 0", weekdays, setOf(0)},
		{"* * * * 7", weekdays, setOf(0)},
		{"* * * * 0-7", weekdays, setOf(0, 1, 2, 3, 4, 5, 6)},
		{"* * * * 5-7", weekdays, setOf(5, 6, 0)},
		{"* * * * fri-sun", weekdays, setOf(5, 6, 0)},
		{"* * * * Sun-Tue", weekdays, setOf(0, 1, 2)},
		{"* * * * sun-sun", weekdays, setOf(0)},
		{"* * * * mon-fri/2", weekdays, setOf(1, 3, 5)},
		{"* * * * 1/3", weekdays, setOf(1, 4)},
		{"* * * * 7/2", weekdays, setOf(0)},
		{"* * * * */7", weekdays, setOf(0)},
	} {
		if got := test.of(mustParse(t, test.cron, "")); got != test.want {
			t.Errorf("%q: %b, not %b", test.cron, got, test.want)
		}
	}
}

// TestParseEachFieldWrong gives each field what it must not have. The error names the field and stays short.
func TestParseEachFieldWrong(t *testing.T) {
	t.Parallel()
	names := []string{"minute", "hour", "day of the month", "month", "day of the week"}
	tooHigh := []string{"60", "24", "32", "13", "8"}
	for i, name := range names {
		wrong := []string{
			tooHigh[i], "1-" + tooHigh[i], "99999999999999999999", strings.Repeat("9", 900), "-1", "+1", "1.5", "x", "é", "\x00", "\xff",
			"1,,2", ",", "1-", "1-2-3", "*-5", "**", "*5", "3-2", "1/", "*/0", "*/-1", "*/99", "*/999999999999999999999", "1/2/3", "/5", "?", "0x1", "１", "H",
			strings.Repeat("x", 900),
		}
		for _, text := range wrong {
			texts := []string{"*", "*", "*", "*", "*"}
			texts[i] = text
			_, err := Parse(strings.Join(texts, " "), "")
			if err == nil || !strings.HasPrefix(err.Error(), "the "+name+" of the cron expression: ") || len(err.Error()) > 400 {
				t.Errorf("%q as %s: %v", text, name, err)
			}
		}
		fewer := strings.Fields("* * * * *")[:i]
		if _, err := Parse(strings.Join(fewer, " "), ""); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has %d fields", i)) {
			t.Errorf("%d fields: %v", i, err)
		}
	}
}

func TestParseNamesWhatIsUnsupported(t *testing.T) {
	t.Parallel()
	for cron, want := range map[string]string{
		"0 0 ? * mon":            "? is not supported",
		"0 0 L * *":              "L (the last) is not supported",
		"0 0 L-3 * *":            "L (the last) is not supported",
		"0 0 1,l * *":            "L (the last) is not supported",
		"0 0 * * 5L":             "L (the last) is not supported",
		"0 0 * * friL":           "L (the last) is not supported",
		"0 0 15W * *":            "W (the nearest working day) is not supported",
		"0 0 LW * *":             "W (the nearest working day) is not supported",
		"0 0 * * fri#2":          "# (the nth weekday of a month) is not supported",
		"0 0 0 * * *":            "no seconds",
		"0 0 0 1 1 * 2030":       "no seconds and no years",
		"CRON_TZ=UTC 0 0 * * *":  "as timezone",
		"@reboot":                "@daily, @hourly",
		"@every 5m":              "those with @ are",
		"@daily @daily":          "those with @ are",
		"0 0 1 jul wed":          "",
		strings.Repeat(" ", 999): "has 0 fields",
	} {
		_, err := Parse(cron, "")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", cron, err)
		}
	}
}

// TestParseAgainstSets writes random sets down as lists, and reads them again.
func TestParseAgainstSets(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var texts []string
		var want [len(fields)]uint64
		for i := range fields {
			f := &fields[i]
			var items []string
			for range rapid.IntRange(1, 4).Draw(t, "items") {
				first := rapid.IntRange(f.low, f.high).Draw(t, "first")
				last := rapid.IntRange(first, f.high).Draw(t, "last")
				step := rapid.IntRange(1, f.high).Draw(t, "step")
				items = append(items, fmt.Sprintf("%d-%d/%d", first, last, step))
				for value := f.low; value <= f.high; value++ {
					if value >= first && value <= last && (value-first)%step == 0 {
						want[i] |= 1 << value
					}
				}
			}
			texts = append(texts, strings.Join(items, ","))
		}
		if has(want[dayOfWeek], sunday) {
			want[dayOfWeek] = want[dayOfWeek]&^setOf(sunday) | setOf(0)
		}
		s := mustParse(t, strings.Join(texts, " "), "")
		if got := [...]uint64{s.minutes, s.hours, s.days, s.months, s.weekdays}; got != want {
			t.Fatalf("%s: %b, not %b", texts, got, want)
		}
		if !s.either || s.everyHour || bits.OnesCount64(s.weekdays) > 7 {
			t.Fatalf("%s: %+v", texts, s)
		}
	})
}
