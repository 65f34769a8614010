package schedule

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// TestChangesInQuickSuccession has a zone that no country has: clocks go back by two hours, and half
// an hour later their zone gets another name. What was shown before the first change stays done.
func TestChangesInQuickSuccession(t *testing.T) {
	t.Parallel()
	back := at(t, "2026-05-01 10:00") // 12:00 → 10:00
	data := append([]byte("TZif"), make([]byte, 16)...)
	for _, count := range []uint32{0, 0, 0, 2, 3, 4} { // changes, kinds of time, bytes of names
		data = binary.BigEndian.AppendUint32(data, count)
	}
	data = binary.BigEndian.AppendUint32(data, uint32(back.Unix()))
	data = binary.BigEndian.AppendUint32(data, uint32(back.Add(30*time.Minute).Unix()))
	data = append(data, 1, 2)
	for i, offset := range []uint32{2 * hour, 0, 0} {
		data = append(binary.BigEndian.AppendUint32(data, offset), 0, byte(i))
	}
	zone, err := time.LoadLocationFromTZData("Test/Quick", append(data, "ABC\x00"...))
	if err != nil {
		t.Fatal(err)
	}
	s := mustParse(t, "15 10,11,12 * * *", "")
	s.location = zone
	want := []time.Time{at(t, "2026-05-01 08:15"), at(t, "2026-05-01 09:15"), at(t, "2026-05-01 12:15")}
	if got := slices.Collect(s.Between(at(t, "2026-05-01 00:00"), at(t, "2026-05-02 00:00"))); !slices.EqualFunc(got, want, time.Time.Equal) {
		t.Errorf("%v, not %v", got, want)
	}
	if previous, ok := s.Previous(want[2]); !ok || !previous.Equal(want[1]) {
		t.Errorf("before %s comes %s", want[2], previous)
	}
}
