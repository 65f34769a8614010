package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// LogQuery says which part of a log to give.
type LogQuery struct {
	// After is the place to go on from, the Next of an earlier answer; empty for the beginning.
	After string
	// Tail leaves the last so many lines; 0 for all.
	Tail int
	// Since leaves what was printed at that time or later; zero for all.
	Since time.Time
}

// MaxTail is the largest LogQuery.Tail.
const MaxTail = 100_000

// Logs is a part of the log of a task run.
type Logs struct {
	TaskRunID string              `json:"task_run_id"`
	Status    workflow.TaskStatus `json:"status"`
	Logs      []LogEntry          `json:"logs"`
	// HasMore tells that there is more after Next already. A task run that has not ended may print
	// more in any case.
	HasMore bool `json:"has_more"`
	// Next is the place to go on from.
	Next      string    `json:"next"`
	StartTime time.Time `json:"start_time,omitzero"`
	EndTime   time.Time `json:"end_time,omitzero"`
}

// LogEntry is a piece of what a task run printed: some lines, or a part of a long one.
type LogEntry struct {
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"` // "stdout", "stderr", or "agent" for what the agent has to say
	Attempt int       `json:"attempt"`
	// Text is what was printed, with its line ends. Over HTTP, bytes that are not UTF-8 become U+FFFD.
	Text string `json:"text"`
	// Place is the place after this entry.
	Place string `json:"place"`
}

func entryOf(chunk *engine.LogChunk) LogEntry {
	return LogEntry{
		Time: utc(chunk.Time), Stream: chunk.Stream.String(), Attempt: int(chunk.Attempt), Text: string(chunk.Body),
		Place: formatPlace(engine.LogPlace{Attempt: chunk.Attempt, Seq: chunk.Seq}),
	}
}

func formatPlace(place engine.LogPlace) string {
	return fmt.Sprintf("%d.%d", place.Attempt, place.Seq)
}

func parsePlace(text string) (engine.LogPlace, error) {
	if text == "" {
		return beginning, nil
	}
	attemptText, seqText, _ := strings.Cut(text, ".")
	attempt, err := strconv.ParseUint(attemptText, 10, 16)
	seq, seqErr := strconv.ParseInt(seqText, 10, 32)
	if err != nil || seqErr != nil {
		return engine.LogPlace{}, badField("after", fmt.Sprintf("%q is not a place in a log: use the %q of an earlier answer", text, "next"))
	}
	return engine.LogPlace{Attempt: uint16(attempt), Seq: int32(seq)}, nil
}

// beginning is before everything: attempts count from 1.
var beginning = engine.LogPlace{}
