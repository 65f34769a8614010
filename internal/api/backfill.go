package api

import (
	"time"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// MaxBackfill is the largest number of runs of one backfill.
const MaxBackfill = 100_000

// Backfill asks for a run of a DAG for each of its scheduled times in a range, or for each day where it has no
// schedule. A time that has a run, whoever made it, gets no other, so that the same request again goes on where
// the first one stopped.
type Backfill struct {
	DAGID string `json:"dag_id"`
	// StartDate and EndDate bound the logical dates, both included: a day (2026-01-31) in the schedule's zone, which counts
	// from its first moment or to its end, or a time (RFC 3339).
	StartDate string `json:"start_date"`
	EndDate   string `json:"end_date"`
	// Context is the id of the context for all tasks; empty for that of the DAG.
	Context string `json:"context,omitempty"`
	// MaxParallel is how many runs of the backfill may be under way at once; 0 for no bound but the DAG's own.
	MaxParallel int `json:"max_parallel,omitempty"`
	// Offset passes over the first dates, and Limit bounds how many are looked at; 0 is all of them.
	Offset int `json:"offset,omitempty"`
	Limit  int `json:"limit,omitempty"`
}

// Backfilled is the answer to a Backfill.
type Backfilled struct {
	Success bool   `json:"success"`
	DAGID   string `json:"dag_id"`
	// Total is the number of dates in the range that have come.
	Total  int `json:"total"`
	Limit  int `json:"limit"`
	Offset int `json:"offset"`
	// Runs are those of the dates that were looked at, the earliest date first.
	Runs []BackfillRun `json:"runs"`
}

// BackfillRun is the run of a date.
type BackfillRun struct {
	RunID       string    `json:"run_id"`
	LogicalDate time.Time `json:"logical_date"`
	// Status is that of a run that was there already, else pending.
	Status workflow.RunStatus `json:"status"`
	// Existing tells that the run was there already.
	Existing bool `json:"existing,omitempty"`
}
