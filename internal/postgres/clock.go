package postgres

import (
	"sync/atomic"
	"time"
)

// clock follows the database's clock: the only one that counts. Between two
// readings it goes on by this process's monotonic clock.
type clock struct {
	reading atomic.Pointer[clockReading]
	checked atomic.Pointer[time.Time] // when the database was asked last
}

type clockReading struct {
	local    time.Time // with its monotonic part
	database time.Time
}

// maxDrift is the difference below which a new reading is not worth a jump.
const maxDrift = 5 * time.Millisecond

// set takes a reading that was asked for at the time before and has just arrived.
func (c *clock) set(before, database time.Time) {
	now := time.Now()
	c.checked.Store(&now)
	if c.reading.Load() != nil {
		drift := c.at(before.Add(now.Sub(before) / 2)).Sub(database)
		if drift.Abs() < maxDrift+now.Sub(before) {
			return
		}
	}
	c.reading.Store(&clockReading{local: before.Add(now.Sub(before) / 2), database: database})
}

// staleAfter is the age at which a reading is not relied on any more where a run's id and time come from it.
const staleAfter = 10 * time.Second

// stale tells that the database should be asked again: while a machine sleeps the monotonic clock
// stands still, so the clock of the wall is looked at as well.
func (c *clock) stale() bool {
	checked, now := *c.checked.Load(), time.Now()
	wall := now.Round(0).Sub(checked.Round(0))
	return now.Sub(checked) > staleAfter || wall > staleAfter || wall < 0
}

func (c *clock) at(local time.Time) time.Time {
	reading := c.reading.Load()
	return reading.database.Add(local.Sub(reading.local)).Truncate(time.Microsecond)
}

// now is the database's time, to the microsecond that it stores.
func (c *clock) now() time.Time { return c.at(time.Now()).UTC() }

// Now is the database's time, as well as this process knows it.
func (b *Backend) Now() time.Time { return b.clock.now() }
