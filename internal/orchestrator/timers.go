package orchestrator

import (
	"container/heap"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// timersAhead is how far ahead the memory looks. A tick finds what comes later when its time has come, but only so many
// at once: delays up to this are as exact as they can be, and longer ones are spread by their jitter.
const timersAhead = time.Minute

// timers holds those that are due soon. The stored ones are the truth; a
// tick reads what is due before the next.
type timers struct {
	heap timerHeap
	due  map[timerKey]time.Time
}

type timerKey struct {
	run  workflow.RunID
	node int32
	kind workflow.TimerKind
}

func newTimers() timers { return timers{due: map[timerKey]time.Time{}} }

func keyOf(timer engine.DueTimer) timerKey { return timerKey{timer.Run, timer.Node, timer.Kind} }

// changed takes note of the timers of a committed change.
func (t *timers) changed(change *workflow.Change, now time.Time) {
	for _, timer := range change.DropTimers {
		delete(t.due, timerKey{change.ID, timer.Node, timer.Kind})
	}
	for _, timer := range change.SetTimers {
		set := engine.DueTimer{Run: change.ID, Timer: timer}
		if timer.Due.Sub(now) < timersAhead {
			t.set(set)
		} else {
			delete(t.due, keyOf(set)) // it may have been due earlier
		}
	}
}

func (t *timers) set(timer engine.DueTimer) {
	if known, ok := t.due[keyOf(timer)]; ok && known.Equal(timer.Due) {
		return
	}
	t.due[keyOf(timer)] = timer.Due
	heap.Push(&t.heap, timer)
}

// pop gives a timer that is due.
func (t *timers) pop(now time.Time) (engine.DueTimer, bool) {
	for len(t.heap) > 0 && !t.heap[0].Due.After(now) {
		timer, _ := heap.Pop(&t.heap).(engine.DueTimer)
		if t.counts(timer) {
			delete(t.due, keyOf(timer))
			return timer, true
		}
	}
	return engine.DueTimer{}, false
}

// counts tells whether a timer was not dropped, or set to another time, since.
func (t *timers) counts(timer engine.DueTimer) bool {
	due, ok := t.due[keyOf(timer)]
	return ok && due.Equal(timer.Due)
}

// next fires when the first timer is due; never when there is none.
func (t *timers) next(now time.Time) <-chan time.Time {
	for len(t.heap) > 0 && !t.counts(t.heap[0]) {
		heap.Pop(&t.heap)
	}
	if len(t.heap) == 0 {
		return nil
	}
	return time.After(t.heap[0].Due.Sub(now))
}

type timerHeap []engine.DueTimer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].Due.Before(h[j].Due) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(timer any)    { *h = append(*h, timer.(engine.DueTimer)) } //nolint:forcetypeassert // only timers
func (h *timerHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
