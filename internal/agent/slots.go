package agent

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// slots holds the tasks that run, at most as many as there are slots, and those
// that wait for one. All methods are safe for concurrent use.
type slots struct {
	size int

	mu      sync.Mutex
	running []*task
	waiting []*task // from first on
	first   int
	closed  bool
	pace    pace
	booked  bookings
	// freed tells that resources were given back, so that something that waited for them may fit.
	freed atomic.Bool
}

// add lets the tasks wait, and sets aside what they need. It gives those that there is no room for, which a claim never brings.
func (s *slots) add(tasks []task) (homeless []*task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if 2*s.first >= len(s.waiting) {
		kept := copy(s.waiting, s.waiting[s.first:])
		clear(s.waiting[kept:])
		s.waiting, s.first = s.waiting[:kept], 0
	}
	for i := range tasks {
		if t := &tasks[i]; s.booked.add(t) {
			s.waiting = append(s.waiting, t)
		} else {
			homeless = append(homeless, t)
		}
	}
	return homeless
}

// release gives back what tasks have set aside that are gone.
func (s *slots) release(tasks ...*task) {
	for _, t := range tasks {
		if s.booked.remove(t) {
			s.freed.Store(true)
		}
	}
}

// resources are what is in use, and what is free; freed tells whether anything was given back since it was last asked.
func (s *slots) resources() (used, free workflow.Resources, freed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.booked.used, s.booked.total.Minus(s.booked.used), s.freed.Swap(false)
}

// take gives the next task to start, or nil.
func (s *slots) take() *task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next()
}

func (s *slots) next() *task {
	if s.closed || s.first == len(s.waiting) || len(s.running) >= s.size {
		return nil
	}
	t := s.waiting[s.first]
	s.waiting[s.first] = nil
	s.first++
	t.index = len(s.running)
	t.kill = make(chan struct{})
	s.running = append(s.running, t)
	return t
}

// finish takes a task out that ended, and gives the next one to start, or nil,
// with the orders that were meant for the one that ended.
func (s *slots) finish(t *task, duration time.Duration) (next *task, orders []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.running) - 1
	s.running[t.index] = s.running[last]
	s.running[t.index].index = t.index
	s.running[last] = nil
	s.running = s.running[:last]
	s.pace.observe(duration)
	s.release(t)
	return s.next(), t.orders
}

// takeInline appends up to limit tasks, which count as done at once, to tasks.
func (s *slots) takeInline(tasks []*task, limit int) []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return tasks
	}
	end := min(len(s.waiting), s.first+limit)
	tasks = append(tasks, s.waiting[s.first:end]...)
	s.release(s.waiting[s.first:end]...)
	clear(s.waiting[s.first:end])
	s.first = end
	if len(tasks) > 0 {
		s.pace.observe(0)
	}
	return tasks
}

// room is the number of tasks to claim, and by how many the last delivery may
// exceed it; 0 while it is not worth asking.
func (s *slots) room() (want, slack int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := len(s.waiting) - s.first
	spare := s.pace.ahead(s.size)
	free := s.size - len(s.running)
	want = free + spare - waiting
	if s.closed || want <= 0 || free <= waiting && 2*want < spare {
		return 0, 0
	}
	return want, spare
}

// kill carries out an order to stop a member. A member that waits is taken out
// and given back: it will never start.
func (s *slots) kill(order *engine.Order) (here bool, waited *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.running {
		if t.Member == order.Member {
			t.order(order.ID)
			if !t.killed {
				t.killed = true
				close(t.kill)
			}
			return true, nil
		}
	}
	for i := s.first; i < len(s.waiting); i++ {
		if t := s.waiting[i]; t.Member == order.Member {
			t.order(order.ID)
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			s.release(t)
			return true, t
		}
	}
	return false, nil
}

func (t *task) order(id int64) {
	if !slices.Contains(t.orders, id) {
		t.orders = append(t.orders, id)
	}
}

// stale takes out the tasks that have waited since before the given time. If
// there are any, the pace is no longer believed.
func (s *slots) stale(before time.Time) []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.first
	for end < len(s.waiting) && s.waiting[end].held.received.Before(before) {
		end++
	}
	if end == s.first {
		return nil
	}
	s.pace.forget()
	stale := append([]*task(nil), s.waiting[s.first:end]...)
	s.release(stale...)
	clear(s.waiting[s.first:end])
	s.first = end
	return stale
}

// oldest is when the task that has waited longest was claimed.
func (s *slots) oldest() (received time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == len(s.waiting) {
		return time.Time{}, false
	}
	return s.waiting[s.first].held.received, true
}

// close lets nothing start any more, and gives those that waited.
func (s *slots) close() []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	waited := append([]*task(nil), s.waiting[s.first:]...)
	s.release(waited...)
	s.waiting, s.first = nil, 0
	return waited
}

// crowded tells that every slot is taken and more tasks wait.
func (s *slots) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running) >= s.size && len(s.waiting) > s.first
}

// busy is the number of tasks that run.
func (s *slots) busy() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running)
}
