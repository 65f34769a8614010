// Package nearest finds the names that somebody may have meant who wrote another.
package nearest

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// most is how many names are offered.
const most = 3

// Names gives up to three of the names that look most like the wanted one,
// the likeliest first, each once. Case does not count. A name that takes more edits than a
// third of its length is no likeness.
func Names(wanted string, names iter.Seq[string]) []string {
	type likeness struct {
		name  string
		edits int
	}
	var best []likeness
	wanted = strings.ToLower(wanted)
	limit := max(1, len(wanted)/3)
	var r rows
	for name := range names {
		edits := r.distance(wanted, strings.ToLower(name), limit)
		if edits > limit || edits >= len(wanted) || slices.Contains(best, likeness{name, edits}) {
			continue
		}
		best = append(best, likeness{name, edits})
		slices.SortFunc(best, func(a, b likeness) int {
			return cmp.Or(cmp.Compare(a.edits, b.edits), cmp.Compare(a.name, b.name))
		})
		if len(best) > most {
			best = best[:most]
			limit = best[most-1].edits
		}
	}
	found := make([]string, len(best))
	for i, like := range best {
		found[i] = like.name
	}
	return found
}

// Name is the first of Names, or empty when there is none.
func Name(wanted string, names iter.Seq[string]) string {
	if found := Names(wanted, names); len(found) > 0 {
		return found[0]
	}
	return ""
}

// Distance is the number of edits that turn a into b, or limit+1 if there are
// more than limit. An edit inserts, deletes or replaces a byte, or swaps two
// neighbours, the commonest slip of all.
func Distance(a, b string, limit int) int {
	var r rows
	return r.distance(a, b, limit)
}

// rows are those of the table that are still needed: the current one and two before it.
type rows [3][]int

// distance computes only the cells that near the diagonal.
func (r *rows) distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	for i := range r {
		r[i] = slices.Grow(r[i][:0], len(b)+1)[:len(b)+1]
	}
	before, previous, current := r[0], r[1], r[2]
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		from, to := max(1, i-limit), min(len(b), i+limit)
		current[from-1] = limit + 1
		if from == 1 {
			current[0] = i
		}
		least := current[from-1]
		for j := from; j <= to; j++ {
			cost := previous[j-1]
			if a[i-1] != b[j-1] {
				cost++
			}
			if j < i+limit {
				cost = min(cost, previous[j]+1)
			}
			cost = min(cost, current[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cost = min(cost, before[j-2]+1)
			}
			current[j] = cost
			least = min(least, cost)
		}
		if least > limit {
			return limit + 1
		}
		before, previous, current = previous, current, before
	}
	return min(previous[len(b)], limit+1)
}
