package postgres

import (
	"sync/atomic"
	"time"
)

// clock follows the database's clock: the only one that counts. Between two
// readings it goes on by this process's monotonic clock.
type clock struct {
	reading atomic.Pointer[clockReading]
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
	if c.reading.Load() != nil {
		drift := c.at(before.Add(now.Sub(before) / 2)).Sub(database)
		if drift.Abs() < maxDrift+now.Sub(before) {
			return
		}
	}
	c.reading.Store(&clockReading{local: before.Add(now.Sub(before) / 2), database: database})
}

func (c *clock) at(local time.Time) time.Time {
	reading := c.reading.Load()
	return reading.database.Add(local.Sub(reading.local)).Truncate(time.Microsecond)
}

// now is the database's time, to the microsecond that it stores.
func (c *clock) now() time.Time { return c.at(time.Now()).UTC() }

// Now is the database's time, as well as this process knows it.
func (b *Backend) Now() time.Time { return b.clock.now() }
