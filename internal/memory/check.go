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
	added := map[workflow.Hash]bool{} // specifications that come with this commit
	for _, change := range commit.Changes {
		if changed[change.ID] {
			return refuse("run %s is changed twice", change.ID)
		}
		changed[change.ID] = true
		stored, ok := b.runs[change.ID]
		if !ok {
			return refuse("there is no run %s", change.ID)
		}
		if err := stored.check(change); err != nil {
			return err
		}
		for _, spec := range change.Specs {
			added[spec.Scheduling.Spec] = true
		}
	}
	for _, refused := range commit.Refused {
		if changed[refused.ID] {
			return refuse("run %s is changed and refused", refused.ID)
		}
	}
	for index := range commit.Dispatches {
		if err := b.checkDispatch(&commit.Dispatches[index], added); err != nil {
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

func (b *Backend) checkDispatch(dispatch *engine.Dispatch, added map[workflow.Hash]bool) error {
	if len(dispatch.Members) == 0 {
		return refuse("a delivery of the queue %q has no members", dispatch.Class.Queue)
	}
	if dispatch.Priority < 1 || dispatch.Priority > workflow.MaxPriority {
		return refuse("a delivery of the queue %q has the priority %d", dispatch.Class.Queue, dispatch.Priority)
	}
	if !dispatch.Class.Resources.IsZero() && len(dispatch.Members) != 1 {
		return refuse("a delivery of tasks with resources holds %d members", len(dispatch.Members))
	}
	for _, member := range dispatch.Members {
		if b.specs[member.Spec] == nil && !added[member.Spec] || b.runs[member.Run] == nil {
			return refuse("a delivery has the member %s of no stored run or specification", workflow.TaskRunID(member.Run, member.Node))
		}
	}
	return nil
}
