package spec

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

const maxNearest = 3

// nearest gives up to three of the names that look most like the wanted one,
// the likeliest first. Case does not count. A name that takes more edits than a
// third of its length is no likeness.
func nearest(wanted string, names iter.Seq[string]) []string {
	type likeness struct {
		name  string
		edits int
	}
	var best []likeness
	wanted = strings.ToLower(wanted)
	limit := max(1, len(wanted)/3)
	var rows [2][]int
	for name := range names {
		edits := editDistance(wanted, strings.ToLower(name), limit, &rows)
		if edits > limit || edits >= len(wanted) {
			continue
		}
		best = append(best, likeness{name, edits})
		slices.SortFunc(best, func(a, b likeness) int {
			return cmp.Or(cmp.Compare(a.edits, b.edits), cmp.Compare(a.name, b.name))
		})
		if len(best) > maxNearest {
			best = best[:maxNearest]
			limit = best[maxNearest-1].edits
		}
	}
	found := make([]string, len(best))
	for i, like := range best {
		found[i] = like.name
	}
	return found
}

// editDistance is the number of insertions, deletions and replacements of bytes
// that turn a into b, or limit+1 if there are more than limit: only the cells
// that near the diagonal are computed. The rows are scratch space.
func editDistance(a, b string, limit int, rows *[2][]int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	for i := range rows {
		rows[i] = slices.Grow(rows[i][:0], len(b)+1)[:len(b)+1]
	}
	previous, current := rows[0], rows[1]
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
			current[j] = cost
			least = min(least, cost)
		}
		if least > limit {
			return limit + 1
		}
		previous, current = current, previous
	}
	return min(previous[len(b)], limit+1)
}
