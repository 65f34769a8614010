// Package schedule tells when a cron expression is due in a time zone. It is
// pure: it reads no clock and does no I/O, except that Parse loads the zone.
//
// # Expressions
//
// There are five fields: minute, hour, day of month, month and day of week. Each
// takes *, numbers, names (jan, mon, in any case), ranges (1-5, fri-sun), steps
// (*/5, 10-50/7, and 5/15, which goes on from 5 to the end) and lists of all
// these. Sunday is 0 or 7. A field that begins with * restricts nothing: if day
// of month and day of week are both restricted, a day must match one of them,
// else both. Instead of the fields there may be @yearly, @annually, @monthly,
// @weekly, @daily, @midnight or @hourly.
//
// # Summer time
//
// The hour field decides what happens when the clocks of a zone are changed.
//
// A fixed time of day (the hour does not begin with *) runs once: when the clocks
// first reach it or jump past it. So one that is skipped runs at the first instant
// after the gap, together with all others that are skipped there, and one that
// occurs twice runs the first time only. "30 2 * * *" in New York runs at 03:00 on
// the day in March that has no half past two, and "30 1 * * *" runs at the first
// half past one in November.
//
// A schedule whose hour begins with * runs by elapsed time: at each instant at which
// the clocks show a matching time, so in the repeated hour both times. "*/15 * * * *"
// and "0 * * * *" go on steadily, each 15 minutes and each hour of real time (the
// latter in Lord Howe with an hour and a half when the clocks change by a half). What
// has a step of hours goes by the clocks' hours: "0 */2 * * *" has no run at a two
// o'clock that is skipped, and the next at four.
//
// This holds for changes of any size: half an hour (Australia/Lord_Howe), at
// midnight (America/Sao_Paulo until 2018) or of a whole day: what was due in
// Pacific/Apia at fixed times of 2011-12-30, which was left out there, runs once
// as the 31st begins.
//
// # Why not a library
//
// [github.com/adhocore/gronx], looked at in version 1.20, walks over the clock's
// face, knows no rule for summer time (a time in the gap has no run that day), reads
// the expression's text anew at each step, gives up on Pacific/Apia's missing day,
// takes ?, L, W, # and seconds, and says of a wrong expression only that it is wrong.
// All that it could be used for is less than what it would have to be guarded against.
//
// [github.com/adhocore/gronx]: https://github.com/adhocore/gronx
package schedule
