package workflow

import (
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Folded updates come to the same for every task, whichever keys of the parameters concern it, and are not more than what was set.
func TestFoldUpdates(t *testing.T) {
	t.Parallel()
	names := rapid.SampledFrom([]string{"A", "B", "C"})
	values := rapid.Map(rapid.IntRange(0, 3), func(number int) Value {
		if number == 0 {
			return "null"
		}
		return Value(fmt.Sprint(number))
	})
	keys := []string{"task", "task:large", "group/task", "other"}
	update := rapid.Custom(func(t *rapid.T) ValueUpdate {
		return ValueUpdate{
			Variables:  rapid.MapOfN(names, values, 0, 3).Draw(t, "variables"),
			Parameters: rapid.MapOfN(rapid.SampledFrom(keys), rapid.MapOfN(names, values, 0, 3), 0, 3).Draw(t, "parameters"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		updates := rapid.SliceOfN(update, 0, 6).Draw(t, "updates")
		concerned := rapid.Permutation(keys).Draw(t, "keys")[:rapid.IntRange(0, len(keys)).Draw(t, "number of keys")]
		seen := func(updates []ValueUpdate) map[string]Value {
			bound := map[string]Value{}
			for _, update := range updates {
				maps.Copy(bound, update.Variables)
			}
			for _, update := range updates {
				for _, key := range concerned {
					maps.Copy(bound, update.Parameters[key])
				}
			}
			return bound
		}
		folded := FoldUpdates(updates)
		if difference := cmp.Diff(seen(updates), seen(folded)); difference != "" {
			t.Fatalf("%v folded are %v: %s", updates, folded, difference)
		}
		count := 0
		for _, update := range folded {
			count += len(update.Variables)
			for _, parameters := range update.Parameters {
				count += len(parameters)
			}
			if update.IsZero() {
				t.Fatalf("%v has an empty update", folded)
			}
		}
		if count > 3+3*len(keys) {
			t.Fatalf("%v folded are still %v", updates, folded)
		}
	})
}
