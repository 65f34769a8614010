package orchestrator

import (
	"context"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// tick finds what no ring told: it is the safety net, and the heartbeat.
func (l *loop) tick(ctx context.Context) error {
	tick, err := l.writer.Tick(ctx)
	if err != nil {
		return err //nolint:wrapcheck // the backend says what it did
	}
	l.dispatcher.learn(tick.Agents)
	var asleep []workflow.RunID
	for _, timer := range tick.Due {
		l.timers.set(timer)
		if l.runs[timer.Run] == nil {
			asleep = append(asleep, timer.Run)
		}
	}
	if err := l.load(ctx, asleep); err != nil {
		return err
	}
	for e := range l.stale {
		l.deliver(e.run.ID, workflow.Event{Kind: workflow.EventCount}, nil)
	}
	l.dispatcher.flushBacklog = true
	l.gate.doubt()
	l.evict()
	return nil
}

// evict lets quiet runs leave memory when there is too much of it: those whose members are all with agents or in the queue.
func (l *loop) evict() {
	if l.nodes <= keptNodes {
		return
	}
	for _, e := range l.runs {
		if l.nodes <= keptNodes*3/4 {
			return
		}
		if !e.queued && !e.more && len(e.events) == 0 && len(e.queues) == 0 && len(e.missing) == 0 && l.turns-e.used > 100 && !e.run.CountsStale() {
			l.drop(e)
		}
	}
}

// takeover is the work after buckets were taken: every live run is looked at once, for members that
// waited in the memory of the former writer.
type takeover struct {
	dispatched map[workflow.Member]bool
	done       map[workflow.RunID]bool
	after      workflow.RunID
}

// recover builds the memory anew. All mail that is there comes first, because a report may
// have ended what otherwise looks as if it had never been put into the queue.
func (l *loop) recover(ctx context.Context) error {
	refused := l.refused
	l.forget()
	l.refused = refused
	if err := l.writer.Recover(ctx); err != nil {
		return err //nolint:wrapcheck // the backend says what it did
	}
	deliveries, err := l.writer.Dispatched(ctx)
	if err != nil {
		return err //nolint:wrapcheck // the backend says what it did
	}
	over := &takeover{dispatched: map[workflow.Member]bool{}, done: map[workflow.RunID]bool{}}
	for i := range deliveries {
		for k := range deliveries[i].Members {
			member := deliveries[i].Members[k].Member
			over.dispatched[member] = true
			if l.isRefused(member.Run) {
				l.withdraw = append(l.withdraw, member)
			}
		}
	}
	for {
		mail, err := l.writer.ReadMail(ctx, true, mailLimit)
		if err != nil {
			return err //nolint:wrapcheck // the backend says what it did
		}
		if len(mail) == 0 {
			break
		}
		l.mail = append(l.mail, mail...)
	}
	l.takeover, l.recovered = over, true
	l.dropRefused()
	return nil
}

// dropRefused takes the messages of runs that are refused out of the mail.
func (l *loop) dropRefused() {
	for i := range l.refused {
		refused := &l.refused[i]
		kept := l.mail[:0]
		for _, mail := range l.mail {
			if (mail.Kind == engine.MailSubmit || mail.Kind == engine.MailCancel) && mail.Run == refused.ID {
				refused.Mail = append(refused.Mail, mail.Key)
				continue
			}
			kept = append(kept, mail)
		}
		l.mail = kept
	}
}

// takeOver looks at the next live runs.
func (l *loop) takeOver(ctx context.Context) error {
	over := l.takeover
	if over == nil {
		return nil
	}
	ids, err := l.writer.LiveRuns(ctx, over.after, loadPage)
	if err != nil {
		return err //nolint:wrapcheck // the backend says what it did
	}
	if len(ids) == 0 {
		l.takeover = nil
		return nil
	}
	var unseen []workflow.RunID
	for _, id := range ids {
		if !over.done[id] && l.runs[id] == nil && !l.isRefused(id) {
			unseen = append(unseen, id)
		}
	}
	if err := l.load(ctx, unseen); err != nil {
		return err
	}
	over.after = ids[len(ids)-1] // only now: a page that could not be loaded is looked at again
	return nil
}

func (l *loop) isRefused(id workflow.RunID) bool {
	for i := range l.refused {
		if l.refused[i].ID == id {
			return true
		}
	}
	return false
}

// reconcile counts the members that are in deliveries, and notes those that are queued and in none.
func (t *takeover) reconcile(l *loop, e *entry) {
	t.done[e.run.ID] = true
	for _, member := range e.run.Queued() {
		if t.dispatched[member] {
			l.dispatcher.count(e, member.Node, 1)
		} else {
			e.missing = append(e.missing, member)
		}
	}
}
