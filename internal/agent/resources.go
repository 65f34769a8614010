package agent

import (
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// patience is how long the first task in line waits for room before the agent keeps room for it.
	patience = 10 * time.Second
	// lookEvery is how often the agent looks at most who is first in line.
	lookEvery = time.Second
)

// bookings are what tasks have set aside on this agent: those that it has claimed, whether they run or wait for a slot.
type bookings struct {
	total, used workflow.Resources
	gpus        []string // as tasks see them
	taken       []bool   // by gpu
}

func newBookings(host Host) bookings {
	return bookings{total: host.Total(), gpus: host.GPUs, taken: make([]bool, len(host.GPUs))}
}

// add sets aside what a task needs, and tells whether there was room.
func (b *bookings) add(t *task) bool {
	needs := t.Spec.Resources
	if needs.IsZero() {
		return true
	}
	used := b.used.Plus(needs)
	if !used.Fit(b.total) {
		return false
	}
	b.used = used
	for number := 0; len(t.gpus) < needs.GPU; number++ {
		if !b.taken[number] {
			b.taken[number] = true
			t.gpus = append(t.gpus, b.gpus[number])
		}
	}
	return true
}

// remove gives back what a task has set aside, and tells whether that was anything.
func (b *bookings) remove(t *task) bool {
	needs := t.Spec.Resources
	if needs.IsZero() {
		return false
	}
	b.used = b.used.Minus(needs)
	for _, name := range t.gpus {
		b.taken[slices.Index(b.gpus, name)] = false
	}
	return true
}

// line is what the agent knows of the tasks that wait for room. The rule: a task takes what is free, whoever waits for
// more; but when the first in line, by priority and age, has waited longer than patience, the agent keeps what it frees
// for that one, until it or another agent has taken it.
type line struct {
	looked time.Time
	freed  bool // something was given back since
	// first is what the first in line needs, once it has waited for so long.
	first workflow.Resources
}

// due tells whether it is time to look, when so much is in use.
func (l *line) due(used workflow.Resources, now time.Time) bool {
	if used.IsZero() { // whatever fits at all fits now
		l.first = workflow.Resources{}
		return false
	}
	return (l.freed || !l.first.IsZero()) && now.Sub(l.looked) >= lookEvery
}

// took tells that something was claimed: perhaps what was first in line.
func (l *line) took(needs workflow.Resources) {
	if needs == l.first {
		l.first = workflow.Resources{}
	}
}

// offer is what may be claimed of what is free.
func (l *line) offer(free workflow.Resources) workflow.Resources {
	if l.first.Fit(free) {
		return free
	}
	return free.Minus(l.first)
}
