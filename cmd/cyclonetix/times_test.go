package main

import (
	"testing"
	"time"
)

func TestParseSince(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 30, 12, 0, 0, 0, berlin) // a day after the clocks were put forward
	for text, want := range map[string]time.Time{
		"90s":                       now.Add(-90 * time.Second),
		"15m":                       now.Add(-15 * time.Minute),
		"1h":                        now.Add(-time.Hour),
		"2d":                        time.Date(2026, 3, 28, 12, 0, 0, 0, berlin), // the same time of the day
		"1w":                        time.Date(2026, 3, 23, 12, 0, 0, 0, berlin),
		"2023-01-01":                time.Date(2023, 1, 1, 0, 0, 0, 0, berlin),
		"2023-01-01T08:00:00Z":      time.Date(2023, 1, 1, 8, 0, 0, 0, time.UTC),
		"2023-01-01T08:00:00+02:00": time.Date(2023, 1, 1, 6, 0, 0, 0, time.UTC),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v; wanted %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "h", "-1h", "1.5h", "1y", "yesterday", "2023-13-01", "99999999999d"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%q passes as %v", text, got)
		}
	}
}

func TestSpanAndAgo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration][2]string{
		0:                             {"0ms", "now"},
		999 * time.Millisecond:        {"999ms", "now"},
		1500 * time.Millisecond:       {"1.5s", "1s ago"},
		61 * time.Second:              {"1m01s", "1m ago"},
		3*time.Hour + 125*time.Second: {"3h02m", "3h ago"},
	} {
		if got := span(now.Add(-d), time.Time{}, now); got != want[0] {
			t.Errorf("span of %v: %s, wanted %s", d, got, want[0])
		}
		if got := ago(now.Add(-d), now); got != want[1] {
			t.Errorf("%v ago: %s, wanted %s", d, got, want[1])
		}
	}
	if got := span(now.Add(time.Second), now, now); got != "0ms" {
		t.Errorf("a span that runs backwards: %s", got)
	}
	if span(time.Time{}, now, now) != "-" || ago(time.Time{}, now) != "-" {
		t.Error("a time that is not there is shown")
	}
}
