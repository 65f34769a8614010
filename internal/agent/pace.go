package agent

import "time"

const (
	// ahead is what an agent may hold beyond its free slots: what it will start within this time.
	ahead = 20 * time.Millisecond
	// maxAhead bounds it for tasks that take no time.
	maxAhead = 4096
	// tooLong is when a member that waits for a slot is handed back: the guess was wrong.
	tooLong = 100 * time.Millisecond
	// weight of the newest duration in the mean.
	weight = 0.1
)

// pace knows how long tasks take here: a moving mean of the durations seen.
type pace struct {
	mean  float64 // nanoseconds
	known bool
}

func (p *pace) observe(duration time.Duration) {
	if !p.known {
		p.mean, p.known = float64(duration), true
		return
	}
	p.mean += weight * (float64(duration) - p.mean)
}

// forget makes the pace unknown until the next task ends.
func (p *pace) forget() { p.known = false }

// ahead is the number of tasks that the given number of slots will start within
// the time ahead; 0 when the pace is unknown.
func (p *pace) ahead(slots int) int {
	if !p.known {
		return 0
	}
	return int(min(float64(slots)*float64(ahead)/max(p.mean, 1), maxAhead))
}
