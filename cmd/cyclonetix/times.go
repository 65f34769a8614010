package main

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// ago is a time as a table shows it: how long ago it was, or the local date when that is long.
func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "-"
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return local(t).Format("2006-01-02 15:04")
	}
}

// local is a time in the zone of whoever reads it.
func local(t time.Time) time.Time { return t.Local() } //nolint:gosmopolitan // a terminal is in one place

// span is the time between two moments as a table shows it; now stands for an end that has not come.
func span(start, end, now time.Time) string {
	if start.IsZero() {
		return "-"
	}
	if end.IsZero() {
		end = now
	}
	switch d := max(0, end.Sub(start)); {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

var agoPattern = regexp.MustCompile(`^([0-9]{1,9})([smhdw])$`)

// parseSince reads a time that was given as an age (90s, 15m, 1h, 2d, 1w), as a local date
// (2023-01-01, at its beginning), or in full (RFC 3339).
func parseSince(text string, now time.Time) (time.Time, error) {
	if parts := agoPattern.FindStringSubmatch(text); parts != nil {
		count, err := strconv.Atoi(parts[1])
		if err != nil {
			return time.Time{}, fmt.Errorf("%q is too large", text)
		}
		switch parts[2] {
		case "d":
			return now.AddDate(0, 0, -count), nil
		case "w":
			return now.AddDate(0, 0, -7*count), nil
		}
		unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[parts[2]]
		return now.Add(-time.Duration(count) * unit), nil
	}
	if at, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		return at, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: give an age (90s, 15m, 1h, 2d, 1w), a date (2023-01-01) or a time (2023-01-01T08:00:00Z)", text)
}
