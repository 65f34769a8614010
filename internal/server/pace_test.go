package server

import (
	"fmt"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	p := newPace()
	p.now = func() time.Time { return now }
	allowed := func(address string) (count int) {
		for p.allows(address) {
			count++
		}
		return count
	}
	if got := allowed("192.0.2.1:1"); got != webhooksAtOnce {
		t.Errorf("%d calls at once", got)
	}
	now = now.Add(time.Second)
	if got := allowed("192.0.2.1:2"); got != webhooksPerSecond {
		t.Errorf("%d calls after a second, from another port", got)
	}
	now = now.Add(time.Hour)
	if got := allowed("[::ffff:192.0.2.1]:2"); got != webhooksAtOnce {
		t.Errorf("%d calls after an hour, by the same address in another form", got)
	}
	if allowed("[2001:db8::1]:1"); p.allows("[2001:db8::2]:1") || !p.allows("[2001:db8:0:1::1]:1") {
		t.Error("addresses of one network are told apart, or those of two are not")
	}

	// However many call, what is remembered is bounded, and nobody who rested is refused for it.
	for i := range 3 * mostCallers {
		p.allows(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	if len(p.callers) > mostCallers+1 {
		t.Errorf("%d are remembered", len(p.callers))
	}
	now = now.Add(time.Minute)
	if got := allowed("198.51.100.1:1"); got != webhooksAtOnce || len(p.callers) > 10 {
		t.Errorf("%d calls, %d are remembered", got, len(p.callers))
	}
}
