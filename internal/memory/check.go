package memory

import (
	"fmt"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// refuse is the error of content that can't be stored, however often it is tried.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", engine.ErrRefused, fmt.Sprintf(format, args...))
}

// check says what a database would have against the commit. When it finds nothing,
// all of the commit can be stored.
func (b *Backend) check(commit *engine.Commit) error {
	changed := map[workflow.RunID]bool{}
	for _, change := range commit.Changes {
		if changed[change.ID] {
			return refuse("run %s is changed twice", change.ID)
		}
		changed[change.ID] = true
		stored, ok := b.runs[change.ID]
		switch {
		case !ok:
			return refuse("there is no run %s", change.ID)
		case stored.state.Status.Ended() && !change.Empty():
			return refuse("run %s has ended", change.ID)
		}
		if err := stored.check(change); err != nil {
			return err
		}
	}
	for _, refused := range commit.Refused {
		if changed[refused.ID] {
			return refuse("run %s is changed and refused", refused.ID)
		}
	}
	for index := range commit.Dispatches {
		if err := b.checkDispatch(&commit.Dispatches[index]); err != nil {
			return err
		}
	}
	return b.checkMail(commit)
}

// checkMail sees to it that each message is there, and answered once.
func (b *Backend) checkMail(commit *engine.Commit) error {
	answered := map[engine.MailKey]bool{}
	check := func(keys []engine.MailKey) error {
		for _, key := range keys {
			if _, found := b.find(key); !found || answered[key] {
				return refuse("there is no message %v", key)
			}
			answered[key] = true
		}
		return nil
	}
	for _, refused := range commit.Refused {
		if err := check(refused.Mail); err != nil {
			return err
		}
	}
	return check(commit.Mail)
}

func (b *Backend) checkDispatch(dispatch *engine.Dispatch) error {
	if len(dispatch.Members) == 0 {
		return refuse("a delivery of the queue %q has no members", dispatch.Class.Queue)
	}
	if dispatch.Priority < 1 || dispatch.Priority > workflow.MaxPriority {
		return refuse("a delivery of the queue %q has the priority %d", dispatch.Class.Queue, dispatch.Priority)
	}
	for _, member := range dispatch.Members {
		if b.specs[member.Spec] == nil || b.runs[member.Run] == nil {
			return refuse("a delivery has the member %s of no stored run or specification", workflow.TaskRunID(member.Run, member.Node))
		}
	}
	return nil
}

func (r *run) check(change *workflow.Change) error {
	written := map[int32]bool{}
	for index := range change.Tasks {
		row := &change.Tasks[index]
		if row.Node < 0 || int(row.Node) >= len(r.plan.nodes) || written[row.Node] {
			return refuse("%s is unknown, or written twice", workflow.TaskRunID(r.id, row.Node))
		}
		written[row.Node] = true
		if err := checkTask(row, r.row(row.Node)); err != nil {
			return fmt.Errorf("task run %s: %w", workflow.TaskRunID(r.id, row.Node), err)
		}
	}
	type key struct {
		node    int32
		attempt uint16
	}
	superseded := map[key]bool{}
	for _, attempt := range change.Attempts {
		known := superseded[key{attempt.Node, attempt.Attempt}]
		for _, earlier := range r.attempts[attempt.Node] {
			known = known || earlier.Attempt == attempt.Attempt
		}
		if known || attempt.Attempt < 1 || !attempt.Status.Ended() {
			return refuse("attempt %d of %s can't be superseded as %s", attempt.Attempt, workflow.TaskRunID(r.id, attempt.Node), attempt.Status)
		}
		superseded[key{attempt.Node, attempt.Attempt}] = true
	}
	if change.Run != nil {
		if err := checkState(change.Run); err != nil {
			return fmt.Errorf("run %s: %w", r.id, err)
		}
	}
	return nil
}

// checkTask compares the row with the one that it replaces.
func checkTask(row *workflow.TaskChange, stored workflow.TaskChange) error {
	exists := stored.Status != workflow.TaskPending
	switch {
	case row.First && exists:
		return refuse("its row is not the first")
	case !row.First && !exists:
		return refuse("it has no row yet")
	case stored.Status.Ended():
		return refuse("it has ended")
	case exists && row.Status.Ended() && (row.Attempt != stored.Attempt || row.Delivery != stored.Delivery):
		return refuse("attempt %d, delivery %d ends, but %d, %d is stored", row.Attempt, row.Delivery, stored.Attempt, stored.Delivery)
	case row.Status == workflow.TaskPending || row.Status == workflow.TaskRunning:
		return refuse("%s is never stored", row.Status)
	case row.Status.Ended() == row.EndTime.IsZero():
		return refuse("it is %s, and its end time is %v", row.Status, row.EndTime)
	case (row.Attempt == 0) != (row.Delivery == 0):
		return refuse("it has the attempt %d and the delivery %d", row.Attempt, row.Delivery)
	case row.Attempt == 0 && (!row.QueuedTime.IsZero() || !row.StartTime.IsZero() || !row.Status.Ended() ||
		row.Status == workflow.TaskCompleted || row.Status == workflow.TaskFailed):
		return refuse("it is %s without an attempt", row.Status)
	case row.Status == workflow.TaskCompleted && row.StartTime.IsZero():
		return refuse("it completed without a start")
	case !row.StartTime.IsZero() && row.Agent == 0:
		return refuse("it was started by nobody")
	}
	return nil
}

func checkState(state *workflow.RunChange) error {
	switch {
	case state.Status.Ended() == state.EndTime.IsZero():
		return refuse("it is %s, and its end time is %v", state.Status, state.EndTime)
	case (state.Status == workflow.RunPending) != state.StartTime.IsZero():
		return refuse("it is %s, and its start time is %v", state.Status, state.StartTime)
	case state.Status == workflow.RunCancelled && state.CancelTime.IsZero():
		return refuse("nobody cancelled it")
	case state.Completed < 0 || state.Failed < 0 || state.Completed+state.Failed > state.Total:
		return refuse("%d completed and %d failed of %d", state.Completed, state.Failed, state.Total)
	}
	return nil
}
