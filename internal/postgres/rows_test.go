package postgres

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// storedTaskRuns are the rows of a run, by node.
func (w *world) storedTaskRuns(run workflow.RunID) map[int32]workflow.TaskChange {
	w.Helper()
	rows, err := w.sql.Query(w.ctx, `SELECT node, status, attempt, delivery, queued_time, start_time, end_time, exit_code, coalesce(agent, 0), cause, coalesce(reason, '')
		FROM cyclonetix__state.task_runs WHERE run_id = $1`, run.String())
	w.must(err, "read the rows")
	defer rows.Close()
	stored := map[int32]workflow.TaskChange{}
	for rows.Next() {
		var row workflow.TaskChange
		var status, cause, attempt, delivery int16
		var queued, start, end *time.Time
		w.must(rows.Scan(&row.Node, &status, &attempt, &delivery, &queued, &start, &end, &row.ExitCode, &row.Agent, &cause, &row.Reason), "read a row")
		row.Status, row.Cause = workflow.TaskStatus(status), workflow.Cause(cause)
		row.Attempt, row.Delivery = uint16(attempt), uint16(delivery)
		row.QueuedTime, row.StartTime, row.EndTime = orZero(queued), orZero(start), orZero(end)
		stored[row.Node] = row
	}
	w.must(rows.Err(), "read the rows")
	return stored
}

// drawFirst draws the first row of a task run: queued, waiting for a person, or ended without an attempt.
func drawFirst(t *rapid.T, at time.Time) workflow.TaskChange {
	row := workflow.TaskChange{First: true, Attempt: 1, Delivery: 1, QueuedTime: at}
	switch rapid.IntRange(0, 3).Draw(t, "first") {
	case 0, 1:
		row.Status = workflow.TaskQueued
	case 2:
		row.Status, row.Cause = workflow.TaskWaiting, workflow.CauseApproval
	default:
		row = rapid.SampledFrom([]workflow.TaskChange{
			{Status: workflow.TaskCompleted, Cause: workflow.CauseGroup}, {Status: workflow.TaskCompleted, Cause: workflow.CauseKept},
			{Status: workflow.TaskSkipped, Cause: workflow.CauseNotChosen}, {Status: workflow.TaskSkipped, Cause: workflow.CauseTriggerRule},
			{Status: workflow.TaskSkipped, Cause: workflow.CauseKept}, {Status: workflow.TaskSkipped, Cause: workflow.CauseSkip, Reason: "skipped by ann"},
			{Status: workflow.TaskUpstreamFailed, Cause: workflow.CauseUpstream}, {Status: workflow.TaskCancelled, Cause: workflow.CauseCancel},
			{Status: workflow.TaskCancelled, Cause: workflow.CauseStopped}, {Status: workflow.TaskFailed, Cause: workflow.CauseEvaluation, Reason: "no list"},
		}).Draw(t, "end without an attempt")
		row.First, row.EndTime = true, at
	}
	return row
}

// drawNext draws what may follow a row that has not ended.
func drawNext(t *rapid.T, at time.Time, former workflow.TaskChange) workflow.TaskChange {
	row := workflow.TaskChange{Attempt: former.Attempt, Delivery: former.Delivery}
	draw := rapid.IntRange(0, 5)
	if former.Status == workflow.TaskWaiting {
		draw = rapid.IntRange(0, 2) // what waits has no process that could end
	}
	switch draw.Draw(t, "next") {
	case 0:
		row.Status, row.QueuedTime = workflow.TaskQueued, at
		if rapid.Bool().Draw(t, "a new attempt") {
			row.Attempt, row.Delivery = row.Attempt+uint16(rapid.IntRange(1, 3).Draw(t, "attempts")), 1
		} else {
			row.Delivery++
		}
	case 1:
		row.Status = workflow.TaskWaiting
		if rapid.Bool().Draw(t, "paused") {
			row.Cause, row.QueuedTime = workflow.CausePaused, at
		}
	case 2:
		row.Status, row.Cause, row.EndTime = workflow.TaskCancelled, workflow.CauseCancel, at
		if former.Status == workflow.TaskWaiting {
			row = rapid.SampledFrom([]workflow.TaskChange{
				{Status: workflow.TaskFailed, Cause: workflow.CauseRejected, Reason: "rejected by ann"}, {Status: workflow.TaskSkipped, Cause: workflow.CauseSkip, Reason: "x"},
				{Status: workflow.TaskFailed, Cause: workflow.CauseTimeout, Reason: "nobody"}, {Status: workflow.TaskCancelled, Cause: workflow.CauseRunTimeout},
			}).Draw(t, "end of waiting")
			row.Attempt, row.Delivery, row.EndTime = former.Attempt, former.Delivery, at
		}
	default:
		row.Status = rapid.SampledFrom([]workflow.TaskStatus{workflow.TaskCompleted, workflow.TaskFailed, workflow.TaskCancelled}).Draw(t, "status")
		row.StartTime = at.Add(time.Duration(rapid.Int64Range(-1e6, 1e6).Draw(t, "start")) * time.Microsecond)
		row.EndTime = row.StartTime.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "duration")) * time.Microsecond)
		row.Agent = rapid.Int64Range(1, 1<<62).Draw(t, "agent")
		if row.Status != workflow.TaskCompleted {
			row.Cause = rapid.SampledFrom([]workflow.Cause{workflow.CauseExit, workflow.CauseSignal, workflow.CauseTimeout, workflow.CauseTooMany}).Draw(t, "cause")
			row.Reason = rapid.SampledFrom([]string{"", "it said no", "ünï\n'$1"}).Draw(t, "reason")
		}
		if rapid.Bool().Draw(t, "has an exit code") {
			code := rapid.Int32Range(0, 255).Draw(t, "exit code")
			row.ExitCode = &code
		}
	}
	return row
}

// Every valid row of a task run is read back as it was written, by people and, where it matters, by the next writer.
func TestTaskRunsAsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const nodes = 12
	plan := wide(nodes)
	drawn := map[workflow.TaskStatus]int{}
	rapid.Check(t, func(r *rapid.T) {
		run := w.submit(submission(plan))[0].ID
		if w.writer == nil {
			w.takeOver()
		}
		at := w.writer.Now()
		want := map[int32]workflow.TaskChange{}
		for turn := range rapid.IntRange(1, 4).Draw(r, "commits") {
			at = at.Add(time.Second)
			change := &workflow.Change{ID: run, At: at}
			if turn == 0 {
				change.Run = &workflow.RunChange{Status: workflow.RunRunning, StartTime: at, Total: nodes}
			}
			for node := range int32(nodes) {
				former, exists := want[node]
				var row workflow.TaskChange
				switch {
				case former.Status.Ended(), rapid.IntRange(0, 3).Draw(r, "left alone") == 0:
					continue
				case exists:
					row = drawNext(r, at, former)
				default:
					row = drawFirst(r, at)
				}
				row.Node = node
				change.Tasks = append(change.Tasks, row)
				drawn[row.Status]++
				row.First = false
				if row.QueuedTime.IsZero() {
					row.QueuedTime = former.QueuedTime
				}
				want[node] = row
			}
			_, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Changes: []*workflow.Change{change}})
			w.must(err, "commit")
		}
		if difference := cmp.Diff(want, w.storedTaskRuns(run)); difference != "" {
			r.Fatal(difference)
		}
		views, err := w.backend.TaskRuns(w.ctx, run)
		w.must(err, "read the views")
		loaded, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{run})
		w.must(err, "load")
		for node := range int32(nodes) {
			row, view, state := want[node], &views[node], loaded[0].Nodes[node]
			if view.Status != row.Status || view.Cause != row.Cause || view.Reason != row.Reason || view.Attempt != int(row.Attempt) || !view.StartTime.Equal(row.StartTime) || !view.EndTime.Equal(row.EndTime) {
				r.Fatalf("people see %+v of %+v", view, row)
			}
			if state.Status != row.Status || state.Attempt != row.Attempt || state.Delivery != row.Delivery || row.Status == workflow.TaskWaiting && state.Cause != row.Cause {
				r.Fatalf("a writer loads %+v of %+v", state, row)
			}
		}
	})
	for status := range map[workflow.TaskStatus]bool{
		workflow.TaskQueued: true, workflow.TaskWaiting: true, workflow.TaskCompleted: true, workflow.TaskFailed: true, workflow.TaskSkipped: true,
		workflow.TaskUpstreamFailed: true, workflow.TaskCancelled: true,
	} {
		if drawn[status] == 0 {
			t.Errorf("no row that is %s was drawn", status)
		}
	}
}
