package orchestrator

import (
	"container/heap"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

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
		if due, ok := t.due[keyOf(timer)]; ok && due.Equal(timer.Due) {
			delete(t.due, keyOf(timer))
			return timer, true
		}
	}
	return engine.DueTimer{}, false
}

// next fires when the first timer is due; never when there is none.
func (t *timers) next(now time.Time) <-chan time.Time {
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
