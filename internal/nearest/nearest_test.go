package nearest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNames(t *testing.T) {
	t.Parallel()
	known := []string{"fetch_tables", "fetch_table", "clean", "Clean2", "report", "a", "train-small", "train-large", "prod"}
	for wanted, want := range map[string][]string{
		"fetch_tabels": {"fetch_tables", "fetch_table"},
		"CLEAN":        {"clean", "Clean2"},
		"clear":        {"clean"},
		"claen":        {"clean"},
		"pord":         {"prod"},
		"repotr":       {"report"},
		"train-smal":   {"train-small"},
		"b":            {},
		"":             {},
		"zzzzzz":       {},
	} {
		if diff := cmp.Diff(want, Names(wanted, slices.Values(known))); diff != "" {
			t.Errorf("%s: %s", wanted, diff)
		}
	}
	if got := Name("CLEAN", slices.Values(known)); got != "clean" {
		t.Errorf("got %q", got)
	}
	if got := Name("b", slices.Values(known)); got != "" {
		t.Errorf("got %q", got)
	}
	if got := Names("aaaa", slices.Values([]string{"aaa5", "aaa4", "aaa3", "aaa2", "aaaa"})); !slices.Equal(got, []string{"aaaa", "aaa2", "aaa3"}) {
		t.Errorf("got %v", got)
	}
}

// TestDistance compares with the plain definition.
func TestDistance(t *testing.T) {
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
		cost = min(cost, plain(a[1:], b)+1, plain(a, b[1:])+1)
		if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
			cost = min(cost, plain(a[2:], b[2:])+1)
		}
		return cost
	}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[ab]{0,7}`)
		a, b, limit := word.Draw(t, "a"), word.Draw(t, "b"), rapid.IntRange(0, 8).Draw(t, "limit")
		var r rows
		r.distance("some other use", "of the rows", 5)
		if got, want := r.distance(a, b, limit), min(plain(a, b), limit+1); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}

func BenchmarkNames(b *testing.B) {
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("pipeline_%06d_step", i*7919%100_000)
	}
	for b.Loop() {
		if len(Names("pipeline_00700_step", slices.Values(names))) != 3 {
			b.Fatal("no names")
		}
	}
}
