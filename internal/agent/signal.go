package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// signal wakes whoever receives from the channel, which holds one element.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// closed tells whether the channel, which is never sent to, is closed.
func closed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// The first and the longest pause before something that failed is tried again.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// backoff gives growing pauses, jittered so that a cluster's agents do not come back as one.
type backoff struct{ pause time.Duration }

func (b *backoff) next() time.Duration {
	b.pause = min(max(2*b.pause, firstPause), longestPause)
	return b.pause/2 + rand.N(b.pause/2) //nolint:gosec // nobody gains by guessing it
}

// wait pauses; it reports false when ctx ended.
func (b *backoff) wait(ctx context.Context) bool {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
