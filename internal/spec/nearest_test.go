package spec

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"fetch_tables", "fetch_table", "clean", "Clean2", "report", "a", "train-small", "train-large"}
	for wanted, want := range map[string][]string{
		"fetch_tabels": {"fetch_table", "fetch_tables"},
		"CLEAN":        {"clean", "Clean2"},
		"clear":        {"clean"},
		"repotr":       {"report"},
		"train-smal":   {"train-small"},
		"b":            {},
		"":             {},
		"zzzzzz":       {},
	} {
		if diff := cmp.Diff(want, nearest(wanted, slices.Values(known))); diff != "" {
			t.Errorf("%s: %s", wanted, diff)
		}
	}
	if got := nearest("aaaa", slices.Values([]string{"aaa5", "aaa4", "aaa3", "aaa2", "aaaa"})); !slices.Equal(got, []string{"aaaa", "aaa2", "aaa3"}) {
		t.Errorf("got %v", got)
	}
}

// TestEditDistance compares with the plain definition.
func TestEditDistance(t *testing.T) {
	t.Parallel()
	var plain func(a, b string) int
	plain = func(a, b string) int {
		if a == "" || b == "" {
			return len(a) + len(b)
		}
		cost := plain(a[1:], b[1:])
		if a[0] != b[0] {
			cost++
		}
		return min(cost, plain(a[1:], b)+1, plain(a, b[1:])+1)
	}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[ab]{0,7}`)
		a, b, limit := word.Draw(t, "a"), word.Draw(t, "b"), rapid.IntRange(0, 8).Draw(t, "limit")
		var rows [2][]int
		editDistance("some other use", "of the rows", 5, &rows)
		if got, want := editDistance(a, b, limit, &rows), min(plain(a, b), limit+1); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}

func BenchmarkNearest(b *testing.B) {
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("pipeline_%06d_step", i*7919%100_000)
	}
	for b.Loop() {
		if len(nearest("pipeline_00700_step", slices.Values(names))) != 3 {
			b.Fatal("no names")
		}
	}
}
