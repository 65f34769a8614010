package workflow

import "sync"

// scratch is what one call of Advance needs for itself. It is kept for the next
// call, because most calls are small: a map and growing slices would cost more
// than the decisions.
type scratch struct {
	// entries holds, for each node, its entry in the change, with the call's
	// stamp above it: an entry with another stamp is of an earlier call.
	entries []uint64
	stamp   uint32
	// What is left to do, as in backlog.
	decided
	// touched are nodes to decide anew on, because a person undid what was decided. It may name one several times.
	touched []int32
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// takeScratch gives a scratch for a call on the run, with the run's backlog.
func takeScratch(run *Run) *scratch {
	s := scratches.Get().(*scratch) //nolint:forcetypeassert // nothing else is in the pool
	s.stamp++
	if len(s.entries) < len(run.Nodes) || s.stamp == 0 {
		s.entries, s.stamp = make([]uint64, len(run.Nodes)), 1
	}
	s.ready, s.doomed, s.skip, s.touched = s.ready[:0], s.doomed[:0], s.skip[:0], s.touched[:0]
	if left := run.backlog.decided; left != nil {
		s.ready, s.doomed, s.skip = append(s.ready, left.ready...), append(s.doomed, left.doomed...), append(s.skip, left.skip...)
	}
	return s
}

func (s *scratch) release() { scratches.Put(s) }

// grow makes room for nodes that are added.
func (s *scratch) grow(nodes int) {
	if len(s.entries) < nodes {
		s.entries = append(s.entries, make([]uint64, nodes-len(s.entries))...)
	}
}

// find gives the node's entry, if it has one.
func (s *scratch) find(node int32) (entry int32, ok bool) {
	stamped := s.entries[node]
	return int32(uint32(stamped)), uint32(stamped>>32) == s.stamp //nolint:gosec // the halves of the word
}

// add gives the node the entry, which it did not have.
func (s *scratch) add(node, entry int32) {
	s.entries[node] = uint64(s.stamp)<<32 | uint64(entry) //nolint:gosec // bounded by the number of nodes
}
