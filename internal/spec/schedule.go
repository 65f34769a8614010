package spec

import (
	"slices"
	"time"
	_ "time/tzdata" // the zones, where the system has none

	"github.com/cyclonetix/cyclonetix/internal/schedule"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// The years that a schedule may name.
const (
	firstYear = 1970
	lastYear  = 9998
)

// scheduleDraft is a schedule while it is read. What a date means hangs on the zone.
type scheduleDraft struct {
	workflow.Schedule
	cron, zone, start, end value
}

var scheduleFields = []field[scheduleDraft]{
	{
		name: "cron", required: true, form: labelForm().with(Form{"type": "string", "minLength": 1}),
		about: "Five fields (minute, hour, day, month, day of the week), or @hourly, @daily and so on.",
		read:  func(v value, s *scheduleDraft) { s.cron = v; s.Cron, _ = v.label() },
	},
	{
		name: "timezone", form: labelForm().with(Form{"type": "string", "default": "UTC"}), about: "An IANA name such as Europe/Berlin.",
		read: func(v value, s *scheduleDraft) { s.zone = v; s.Timezone, _ = v.label() },
	},
	{
		name: "start_date", form: dateForm(), about: "The first logical date that gets a run by itself: YYYY-MM-DD, or with a time as RFC 3339 has it. A backfill may go back further.",
		read: func(v value, s *scheduleDraft) { s.start = v },
	},
	{
		name: "end_date", form: dateForm(), about: "The last logical date that gets a run by itself; a day counts to its end.",
		read: func(v value, s *scheduleDraft) { s.end = v },
	},
	{
		name: "catchup", form: flagForm().with(Form{"default": false}), about: "Whether each time that was missed gets its run, not the latest alone.",
		read: func(v value, s *scheduleDraft) { s.Catchup = v.flag() },
	},
	{
		name: "depends_on_past", form: flagForm().with(Form{"default": false}),
		about: "Whether a run waits until that of the former logical date has succeeded.",
		read:  func(v value, s *scheduleDraft) { s.DependsOnPast = v.flag() },
	},
}

func dateForm() Form {
	return Form{"type": "string", "pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2}))?$`}
}

func readSchedule(v value, d *dagDraft) {
	var draft scheduleDraft
	given, ok := readFields(v, "schedule", scheduleFields, &draft)
	if !ok {
		return
	}
	zone := time.UTC
	if draft.Timezone != "" {
		var err error
		if zone, err = time.LoadLocation(draft.Timezone); err != nil || draft.Timezone == "Local" {
			draft.zone.problem("timezone %s is not known", quote(draft.Timezone))
			v.reader.hint("give an IANA name such as Europe/Berlin or UTC")
			zone = nil
		}
	}
	switch {
	case !slices.Contains(given, "cron"):
		v.problem("this schedule has no cron")
		v.reader.hint(`give it one, such as cron: "0 3 * * *" for each day at three`)
	case draft.Cron != "" && zone != nil:
		draft.checkCron()
	}
	if zone != nil {
		draft.readDates(v, zone)
	}
	d.Schedule = &draft.Schedule
}

// checkCron tells a cron expression that means nothing, or that is never due.
func (s *scheduleDraft) checkCron() {
	times, err := schedule.Parse(s.Cron, s.Timezone)
	if err != nil {
		s.cron.problem("%v", err)
	} else if _, due := times.Next(time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC)); !due {
		s.cron.problem("the cron expression %s is never due", quote(s.Cron))
	}
}

// readDates reads the dates in a zone.
func (s *scheduleDraft) readDates(v value, zone *time.Location) {
	before := len(v.reader.problems)
	if s.start.node != nil {
		s.StartDate = s.start.date(zone, false)
	}
	if s.end.node != nil {
		s.EndDate = s.end.date(zone, true)
	}
	if len(v.reader.problems) == before && !s.EndDate.IsZero() && s.EndDate.Before(s.StartDate) {
		s.end.problem("end_date %s is before the start_date", quote(s.end.node.Value))
	}
}

// date is a time in UTC. A day stands for its first moment, or for its last second.
func (v value) date(zone *time.Location, last bool) time.Time {
	text, ok := v.text()
	if !ok {
		return time.Time{}
	}
	date, err := time.Parse(time.RFC3339, text)
	if err != nil {
		if date, err = time.ParseInLocation(time.DateOnly, text, zone); err == nil && last {
			date = date.AddDate(0, 0, 1).Add(-time.Second)
		}
	}
	switch date = date.UTC(); {
	case err != nil:
		v.problem("%s %s is no date", v.what, quote(text))
		v.reader.hint("write YYYY-MM-DD, or a time such as 2024-01-31T03:00:00Z")
		return time.Time{}
	case date.Year() < firstYear || date.Year() > lastYear:
		v.problem("%s %s must be in the years %d to %d", v.what, quote(text), firstYear, lastYear)
		return time.Time{}
	}
	return date
}
