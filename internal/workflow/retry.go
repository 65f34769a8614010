package workflow

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"time"
)

// retryDelay is the time before the given retry (1 is the first). It is
// jittered by ±20 %, but not above the bound, out of a hash of the task run and the
// retry, so that it is the same whoever computes it.
func retryDelay(retries Retries, run RunID, node int32, retry uint16) time.Duration {
	seconds := retries.DelaySeconds
	if seconds <= 0 {
		return 0
	}
	if retries.ExponentialBackoff {
		seconds *= math.Pow(2, float64(retry-1))
	}
	longest := (365 * 24 * time.Hour).Seconds()
	if retries.MaxDelaySeconds > 0 {
		longest = min(longest, retries.MaxDelaySeconds)
	}
	digest := fnv.New64a()
	var key [6]byte
	binary.BigEndian.PutUint32(key[:4], uint32(node)) //nolint:gosec // bits are all we want
	binary.BigEndian.PutUint16(key[4:], retry)
	digest.Write(run[:])
	digest.Write(key[:])
	jitter := 0.8 + 0.4*float64(digest.Sum64()>>11)/float64(1<<53)
	// Bounded before the jitter too, or all that came to the bound would start at once.
	return time.Duration(min(min(seconds, longest)*jitter, longest) * float64(time.Second))
}
