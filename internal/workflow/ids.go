package workflow

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxBuckets is the largest number of buckets: a bucket is 12 bits of a RunID.
const MaxBuckets = 4096

// RunID is a UUIDv7 (RFC 9562) whose 12 bits rand_a hold the run's bucket, so
// that anyone who has the id can tell which bucket owns the run. Its first 48
// bits are the database's time in milliseconds at creation; partitions are
// ranges of it.
type RunID [16]byte

// NewRunID makes an id for a run created at the given time (of the database's
// clock) in the given bucket (0 to MaxBuckets-1).
func NewRunID(at time.Time, bucket int) RunID {
	var id RunID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000|uint64(bucket&(MaxBuckets-1))) //nolint:gosec // times are after 1970
	_, _ = rand.Read(id[8:])                                                                            // never fails, see crypto/rand
	id[8] = id[8]&0x3f | 0x80
	return id
}

// FirstRunID is the smallest id of a run created at or after the given time:
// the bound of a partition.
func FirstRunID(at time.Time) RunID {
	var id RunID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16) //nolint:gosec // times are after 1970
	return id
}

// Bucket is the bucket that owns the run.
func (id RunID) Bucket() int {
	return int(binary.BigEndian.Uint16(id[6:8]) & (MaxBuckets - 1))
}

// Time is the creation time in the id, in milliseconds.
func (id RunID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC() //nolint:gosec // 48 bits
}

// IsZero tells whether the id was never set.
func (id RunID) IsZero() bool { return id == RunID{} }

// String is the usual form of a UUID.
func (id RunID) String() string { return formatUUID(id) }

// MarshalText makes RunID a string in JSON.
func (id RunID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (id *RunID) UnmarshalText(text []byte) error {
	parsed, err := ParseRunID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ParseRunID reads the usual form of a UUID.
func ParseRunID(text string) (RunID, error) {
	raw, err := parseUUID(text)
	if err != nil {
		return RunID{}, fmt.Errorf("run id %q is not a UUID", text)
	}
	return raw, nil
}

// TaskRunID names a task run to the outside: the run's UUID, a dot, the node's number.
func TaskRunID(run RunID, node int32) string {
	return run.String() + "." + strconv.FormatInt(int64(node), 10)
}

// ParseTaskRunID is the inverse of TaskRunID.
func ParseTaskRunID(text string) (RunID, int32, error) {
	runText, nodeText, found := strings.Cut(text, ".")
	if found {
		run, err := ParseRunID(runText)
		node, nodeErr := strconv.ParseInt(nodeText, 10, 32)
		if err == nil && nodeErr == nil && node >= 0 {
			return run, int32(node), nil
		}
	}
	return RunID{}, 0, fmt.Errorf("%q is not the id of a task run: it has the form RUN_UUID.NODE", text)
}

// Hash names a piece of content (a task's specification, a plan): the first 16
// bytes of its SHA-256. It has the size of a UUID, and is stored as one.
type Hash [16]byte

// HashOf is the hash of the given parts, in order.
func HashOf(parts ...[]byte) Hash {
	digest := sha256.New()
	for _, part := range parts {
		digest.Write(part)
	}
	var hash Hash
	copy(hash[:], digest.Sum(nil))
	return hash
}

// IsZero tells whether the hash was never set.
func (h Hash) IsZero() bool { return h == Hash{} }

// String is the usual form of a UUID.
func (h Hash) String() string { return formatUUID(h) }

func formatUUID(raw [16]byte) string {
	var text [36]byte
	hex.Encode(text[:8], raw[:4])
	hex.Encode(text[9:13], raw[4:6])
	hex.Encode(text[14:18], raw[6:8])
	hex.Encode(text[19:23], raw[8:10])
	hex.Encode(text[24:], raw[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

func parseUUID(text string) (raw [16]byte, err error) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return raw, fmt.Errorf("%q is not a UUID", text)
	}
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(raw[:], []byte(digits)); err != nil {
		return [16]byte{}, fmt.Errorf("%q is not a UUID", text)
	}
	return raw, nil
}
