package workflow

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRunID(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMilli(rapid.Int64Range(0, 1<<48-1).Draw(t, "milliseconds")).UTC()
		bucket := rapid.IntRange(0, MaxBuckets-1).Draw(t, "bucket")
		id := NewRunID(at, bucket)
		if id.Bucket() != bucket || !id.Time().Equal(at) {
			t.Fatalf("%v holds the bucket %d and the time %v, should be %d and %v", id, id.Bucket(), id.Time(), bucket, at)
		}
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Fatalf("%v is not a UUIDv7", id)
		}
		if first := FirstRunID(at); bytes.Compare(first[:], id[:]) > 0 {
			t.Fatalf("%v is below the first id %v of its time", id, first)
		}
		if next := FirstRunID(at.Add(time.Millisecond)); at.UnixMilli() < 1<<48-1 && bytes.Compare(next[:], id[:]) <= 0 {
			t.Fatalf("%v is not below the first id %v of the next millisecond", id, next)
		}
		parsed, err := ParseRunID(id.String())
		if err != nil || parsed != id {
			t.Fatalf("%v is read as %v, %v", id, parsed, err)
		}
		node := rapid.Int32Range(0, 1<<31-1).Draw(t, "node")
		run, gotNode, err := ParseTaskRunID(TaskRunID(id, node))
		if err != nil || run != id || gotNode != node {
			t.Fatalf("%s is read as %v, %d, %v", TaskRunID(id, node), run, gotNode, err)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "0198c6f0-0000-7000-8000-00000000000", "0198c6f0-0000-7000-8000-0000000000000", "0198c6f0x0000-7000-8000-000000000000", "0198c6fg-0000-7000-8000-000000000000"} {
		if id, err := ParseRunID(text); err == nil {
			t.Errorf("%q is read as the run %v", text, id)
		}
	}
	const run = "0198c6f0-0000-7000-8000-000000000000"
	for _, text := range []string{run, run + ".", run + ".-1", run + ".x", run + ".4294967296", "x.1", ".1"} {
		if id, node, err := ParseTaskRunID(text); err == nil {
			t.Errorf("%q is read as the task run %v.%d", text, id, node)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"nightly-1": true, "a.b_C": true, "": false, "a b": false, "a/b": false, "ä": false,
		"0198c6f0-0000-7000-8000-000000000000": false,
		string(bytes.Repeat([]byte("a"), 200)): true, string(bytes.Repeat([]byte("a"), 201)): false,
	} {
		if ValidRunName(text) != want {
			t.Errorf("that %q is a valid name of a run is %v, should be %v", text, !want, want)
		}
	}
}

func TestStatusTexts(t *testing.T) {
	t.Parallel()
	for status := range runStatusNames {
		var back RunStatus
		if text, err := json.Marshal(status); err != nil || json.Unmarshal(text, &back) != nil || back != status {
			t.Errorf("the run status %v comes back from JSON as %v", status, back)
		}
	}
	for status := range taskStatusNames {
		var back TaskStatus
		if text, err := json.Marshal(status); err != nil || json.Unmarshal(text, &back) != nil || back != status {
			t.Errorf("the task status %v comes back from JSON as %v", status, back)
		}
	}
	for cause := range causeNames {
		var back Cause
		if text, err := json.Marshal(cause); err != nil || json.Unmarshal(text, &back) != nil || back != cause {
			t.Errorf("the cause %v comes back from JSON as %v", cause, back)
		}
	}
	if _, err := ParseRunStatus("queued"); err == nil {
		t.Error("queued passes for a run status")
	}
	if _, err := ParseTaskStatus("paused"); err == nil {
		t.Error("paused passes for a task status")
	}
}

func TestValueEnv(t *testing.T) {
	t.Parallel()
	for value, want := range map[Value]string{
		StringValue("a \"b\"\n"): "a \"b\"\n", "12": "12", "true": "true", "null": "null", `{"a":[1]}`: `{"a":[1]}`, `""`: "",
	} {
		if got := value.Env(); got != want {
			t.Errorf("%s reaches a command as %q, should be %q", value, got, want)
		}
	}
}
