package schedule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the zones, where the system has none
	"unicode/utf8"
)

// maxCron is the length of an expression in bytes: more than one that lists every value.
const maxCron = 1000

var nicknames = map[string]string{
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly":  "0 0 1 * *",
	"@weekly":   "0 0 * * 0",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
}

// field is one of the five of an expression.
type field struct {
	name      string
	low, high int
	names     []string // of the values from low on
	takes     string
}

var fields = [5]field{
	{name: "minute", high: 59, takes: "0 to 59"},
	{name: "hour", high: 23, takes: "0 to 23"},
	{name: "day of the month", low: 1, high: 31, takes: "1 to 31"},
	{
		name: "month", low: 1, high: 12, takes: "1 to 12, or jan to dec",
		names: []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"},
	},
	{
		name: "day of the week", high: sunday, takes: "0 to 7, or sun to sat",
		names: []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"},
	},
}

const (
	dayOfMonth = 2
	dayOfWeek  = 4
	sunday     = 7 // its other number
)

// Parse reads an expression of five fields, or one of @yearly, @annually,
// @monthly, @weekly, @daily, @midnight and @hourly, for an IANA zone; an empty
// one is UTC. The package's comment tells what it means. An error says which
// field is wrong, and what it takes.
func Parse(cron, timezone string) (Schedule, error) {
	zone, err := loadZone(timezone)
	if err != nil {
		return Schedule{}, err
	}
	texts, err := split(cron)
	if err != nil {
		return Schedule{}, err
	}
	var sets [len(fields)]uint64
	for i := range fields {
		if sets[i], err = fields[i].parse(texts[i]); err != nil {
			return Schedule{}, fmt.Errorf("the %s of the cron expression: %w", fields[i].name, err)
		}
	}
	sets[dayOfWeek] = sets[dayOfWeek]&^(1<<sunday) | sets[dayOfWeek]>>sunday
	restricted := func(i int) bool { return !strings.HasPrefix(texts[i], "*") }
	return Schedule{
		calendar: calendar{
			minutes: sets[0], hours: sets[1], days: sets[2], months: sets[3], weekdays: sets[4],
			either: restricted(dayOfMonth) && restricted(dayOfWeek),
		},
		everyHour: !restricted(1),
		location:  zone,
	}, nil
}

func loadZone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // which depends on the machine
		return nil, fmt.Errorf("%s is no time zone: it takes an IANA name such as Europe/Berlin, or UTC", quote(name))
	}
	return zone, nil
}

// split cuts an expression into its fields.
func split(cron string) ([]string, error) {
	if len(cron) > maxCron {
		return nil, fmt.Errorf("the cron expression has %d bytes: it takes at most %d", len(cron), maxCron)
	}
	texts := strings.Fields(cron)
	if len(texts) > 0 && strings.HasPrefix(texts[0], "@") {
		standard, ok := nicknames[strings.ToLower(texts[0])]
		if !ok || len(texts) > 1 {
			return nil, fmt.Errorf("the cron expression %s is none: those with @ are %s", quote(cron), strings.Join(slices.Sorted(maps.Keys(nicknames)), ", "))
		}
		texts = strings.Fields(standard)
	}
	switch {
	case len(texts) > 0 && strings.Contains(texts[0], "TZ="):
		return nil, fmt.Errorf("the cron expression %s names a time zone: that is given beside it, as timezone", quote(cron))
	case len(texts) != len(fields):
		return nil, fmt.Errorf("the cron expression %s has %d fields: it takes five (minute, hour, day, month, weekday), no seconds and no years", quote(cron), len(texts))
	}
	return texts, nil
}

// parse reads a list into the set of its values.
func (f *field) parse(text string) (uint64, error) {
	var set uint64
	for item := range strings.SplitSeq(text, ",") {
		values, err := f.parseItem(item)
		if err != nil {
			return 0, err
		}
		set |= values
	}
	return set, nil
}

// parseItem reads a value, a range or *, which may have a step.
func (f *field) parseItem(item string) (uint64, error) {
	if err := f.unsupported(item); err != nil {
		return 0, err
	}
	span, stepText, hasStep := strings.Cut(item, "/")
	firstText, lastText, isRange := strings.Cut(span, "-")
	// A week has seven days, though there are eight numbers for them.
	end := f.high
	if end == sunday {
		end--
	}
	first, last := f.low, end
	var err error
	if span != "*" {
		if first, err = f.value(firstText); err != nil {
			return 0, err
		}
		switch {
		case isRange:
			if last, err = f.value(lastText); err != nil {
				return 0, err
			}
			if f.high == sunday && last == 0 && first > 0 && strings.EqualFold(lastText, f.names[0]) {
				last = sunday // fri-sun
			}
		case hasStep:
			last = max(first, end)
		default:
			last = first
		}
	}
	if first > last {
		return 0, fmt.Errorf("the range %s ends before it begins", quote(span))
	}
	step := 1
	if hasStep {
		if step, err = number(stepText); err != nil || step < 1 || step > f.high {
			return 0, fmt.Errorf("%s has the step %s: it takes 1 to %d", quote(item), quote(stepText), f.high)
		}
	}
	var set uint64
	for value := first; value <= last; value += step {
		set |= 1 << value
	}
	return set, nil
}

// value reads a number or a name.
func (f *field) value(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.low + i, nil
		}
	}
	value, err := number(text)
	if err != nil || value < f.low || value > f.high {
		return 0, fmt.Errorf("%s is none: it takes %s", quote(text), f.takes)
	}
	return value, nil
}

// unsupported names what other kinds of cron have in a field, and this has not.
func (f *field) unsupported(item string) error {
	if strings.Contains(item, "?") {
		return errors.New("? is not supported: * takes any")
	}
	if f != &fields[dayOfMonth] && f != &fields[dayOfWeek] {
		return nil
	}
	upper := strings.ToUpper(item)
	rest := strings.TrimLeft(upper, "0123456789")
	for _, name := range f.names {
		rest = strings.TrimPrefix(rest, strings.ToUpper(name))
	}
	switch {
	case strings.Contains(item, "#"):
		return errors.New("# (the nth weekday of a month) is not supported")
	case rest == "W", rest == "LW":
		return errors.New("W (the nearest working day) is not supported") //nolint:staticcheck,revive // W is what was written
	case rest == "L", strings.HasPrefix(rest, "L-"):
		return errors.New("L (the last) is not supported") //nolint:staticcheck,revive // L is what was written
	}
	return nil
}

// number reads digits, and nothing else.
func number(text string) (int, error) {
	if strings.Trim(text, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(text)
}

// quote shows a text of which only the beginning may be of use.
func quote(text string) string {
	const most = 40
	if len(text) <= most {
		return strconv.Quote(text)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strconv.Quote(text[:cut] + "…")
}
