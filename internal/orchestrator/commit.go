package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// advance lets the runs with work decide, as many as go into one commit.
func (l *loop) advance(at time.Time) (changes []*workflow.Change, of []*entry, used []int) {
	if len(l.refused) > 0 {
		return nil, nil, nil // they go first, and alone: else two runs that are to blame could undo each other's end for ever
	}
	rows, tried := 0, 0
	apart := len(l.suspects) > 0 && slices.ContainsFunc(l.work, func(e *entry) bool { return l.suspects[e.run.ID] })
	rest := l.work[:0]
	for i, e := range l.work {
		if rows >= commitRows || apart && tried >= l.most {
			rest = append(rest, l.work[i:]...)
			break
		}
		if apart && !l.suspects[e.run.ID] {
			rest = append(rest, e)
			continue
		}
		e.queued = false
		if l.runs[e.run.ID] != e {
			continue
		}
		change, count, err := l.decide(e, at)
		if err != nil {
			l.refuse(e, err)
			continue
		}
		rows += len(change.Tasks) + len(change.Withdraw)
		if !change.Empty() {
			tried++
		}
		changes, of, used = append(changes, change), append(of, e), append(used, count)
	}
	clear(l.work[len(rest):])
	l.work = rest
	return changes, of, used
}

// decide lets the rules decide; a panic in them stops its run and no other.
func (l *loop) decide(e *entry, at time.Time) (change *workflow.Change, used int, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			l.options.Logger.Error("the rules failed", "run", e.run.ID, "error", reason, "stack", string(debug.Stack()))
			err = fmt.Errorf("the rules failed: %v", reason)
		}
	}()
	change, used = workflow.Advance(e.run, at, e.events, l.options.Limits)
	return change, used, nil
}

// refuse fails a run that can't be moved on, and keeps its messages aside.
func (l *loop) refuse(e *entry, reason error) {
	l.options.Logger.Error("a run can't be moved on and is failed", "run", e.run.ID, "error", reason)
	refused := engine.RefusedRun{ID: e.run.ID, Reason: reasonOf("it can't be moved on", reason)}
	for _, from := range e.letters {
		if from != nil && (from.kind == engine.MailSubmit || from.kind == engine.MailCancel || from.kind == engine.MailCommand) && from.key != (engine.MailKey{}) {
			refused.Mail = append(refused.Mail, from.key)
			from.key = engine.MailKey{}
		}
	}
	l.refused = append(l.refused, refused)
	l.gate.leave(e.run.ID)
	l.dispatcher.forget(e)
	l.withdraw = append(l.withdraw, e.run.Queued()...)
	l.drop(e)
}

// commit stores what follows from the events, if anything does.
func (l *loop) commit(ctx context.Context) error {
	at := l.writer.Now()
	changes, of, used := l.advance(at)
	commit := &engine.Commit{At: at, Mail: l.consumed, Remove: l.remove, Orders: l.orders, Refused: l.refused, ReadMail: mailLimit}
	var completed []completion
	for i, change := range changes {
		if !change.Empty() {
			commit.Changes = append(commit.Changes, change)
		}
		if change.Run != nil && change.Run.Status == workflow.RunCompleted && of[i].run.Status != workflow.RunCompleted {
			completed = append(completed, completion{change, of[i].run.DAG, len(change.Jobs)})
		}
		for k := range used[i] {
			if from := of[i].letters[k]; from != nil && from.open == 1 && from.key != (engine.MailKey{}) {
				commit.Mail, commit.Remove = append(commit.Mail, from.key), append(commit.Remove, from.remove...)
				from.open, from.key = 0, engine.MailKey{}
			} else if from != nil {
				from.open--
			}
		}
		l.withdraw, l.hold = append(l.withdraw, change.Withdraw...), append(l.hold, change.Hold...)
		l.dispatcher.take(of[i], change)
	}
	// Withdrawing comes before picking, so that no commit dispatches what it withdraws.
	wanted := l.dispatcher.withdraw(l, commit, l.withdraw, l.hold)
	l.dispatcher.pick(commit, at, l.writer.ReplyTo)
	l.consumed, l.remove, l.orders, l.refused, l.withdraw, l.hold = nil, nil, nil, nil, nil, nil
	if !worthwhile(commit) {
		l.apply(changes, of, used)
		return nil
	}
	started := time.Now()
	l.tell(commit, completed)
	result, err := l.send(ctx, commit, completed)
	if err != nil {
		return l.failed(err, commit)
	}
	l.options.Observer.Committed(time.Since(started), commit.Changes)
	l.acquit(commit)
	l.apply(changes, of, used)
	l.settleWithdrawn(wanted, result.Withdrawn)
	l.mail = append(l.mail, result.Mail...)
	return nil
}

func worthwhile(commit *engine.Commit) bool {
	return len(commit.Changes)+len(commit.Dispatches)+len(commit.Remove)+len(commit.Withdraw)+len(commit.Orders)+len(commit.Mail)+
		len(commit.Refused) > 0 || commit.Backlog != nil
}

// send commits, again and again while nothing is wrong but the backend, or definitions were published meanwhile.
func (l *loop) send(ctx context.Context, commit *engine.Commit, completed []completion) (engine.CommitResult, error) {
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		result, err := l.commitOnce(ctx, commit)
		if errors.Is(err, engine.ErrOutdated) {
			var listeners engine.Listeners
			if listeners, err = l.writer.Listeners(ctx); err == nil {
				l.listeners = listeners
				l.tell(commit, completed)
				continue
			}
		}
		if err == nil || ctx.Err() != nil || errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrUncertain) || errors.Is(err, engine.ErrRefused) {
			return result, err //nolint:wrapcheck // the backend says what it did
		}
		l.options.Logger.Warn("a commit failed; trying again", "error", err, "delay", delay)
		if !sleep(ctx, delay) {
			return result, ctx.Err() //nolint:wrapcheck // says it all
		}
	}
}

// stopGrace is how long a commit that is under way may go on when the orchestrator is told to stop.
const stopGrace = 500 * time.Millisecond

// commitOnce does not break off a commit that is under way: its outcome would be uncertain, and its locks would be in
// the way of giving the buckets up.
func (l *loop) commitOnce(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })
	defer stop()
	return l.writer.Commit(whole, commit) //nolint:wrapcheck // the backend says what it did
}

// failed throws the memory away. When the content was refused, the runs of the commit are committed apart, in smaller
// and smaller groups, until the one that is to blame stands alone and is failed. So each is tried again at least
// once with a memory that is what is stored.
func (l *loop) failed(err error, commit *engine.Commit) error {
	if !errors.Is(err, engine.ErrRefused) {
		l.forget()
		return err
	}
	if len(commit.Changes) == 0 {
		l.forget()
		return err
	}
	if len(commit.Changes) > 1 || !l.suspects[commit.Changes[0].ID] {
		l.options.Logger.Warn("a commit was refused; looking for the run that is to blame", "runs", len(commit.Changes), "error", err)
		for _, change := range commit.Changes {
			l.suspects[change.ID] = true
		}
		l.most = max(1, len(commit.Changes)/2)
		l.forget()
		return nil
	}
	blamed := commit.Changes[0].ID
	delete(l.suspects, blamed)
	l.options.Logger.Error("a run can't be committed and is failed", "run", blamed, "error", err)
	l.forget()
	l.refused = append(l.refused, engine.RefusedRun{ID: blamed, Reason: reasonOf("it could not be committed", err)})
	return nil
}

// acquit clears the suspects that were committed. A suspect that has nothing to commit stays one and delays nobody.
func (l *loop) acquit(commit *engine.Commit) {
	if len(l.suspects) == 0 {
		return
	}
	l.most = min(2*l.most, 1<<30)
	for _, change := range commit.Changes {
		delete(l.suspects, change.ID)
	}
}

func (l *loop) apply(changes []*workflow.Change, of []*entry, used []int) {
	for i, change := range changes {
		e := of[i]
		before := e.run.Status
		e.run.Apply(change)
		l.gate.changed(e.run, before, change)
		e.events, e.letters = slices.Delete(e.events, 0, used[i]), slices.Delete(e.letters, 0, used[i])
		e.used, e.more = l.turns, change.More
		l.askItems(e, change)
		l.timers.changed(change, change.At)
		switch {
		case e.run.Status.Ended():
			l.drop(e)
			continue
		case e.run.CountsStale():
			l.stale[e] = struct{}{}
		default:
			delete(l.stale, e)
		}
		if e.more || len(e.events) > 0 {
			l.enqueue(e)
			continue
		}
		if l.asking[e.run.ID] > 0 {
			continue // what is missing may be what the question is about
		}
		for _, member := range e.missing {
			switch {
			case !e.holds(member):
			case e.run.Status == workflow.RunPaused:
				l.dispatcher.count(e, member.Node, 1) // as if it had been in the table: its end takes it out of the count
				l.withdrawn(member)
			default:
				l.dispatcher.push(e, member, time.Time{})
			}
		}
		e.missing = nil
	}
}

// settleWithdrawn answers those who wanted members withdrawn: they are out of the queue, or an agent claimed them and is told to kill them.
func (l *loop) settleWithdrawn(wanted map[workflow.Member]bool, withdrawn []engine.Delivery) {
	for i := range withdrawn {
		for k := range withdrawn[i].Members {
			member := withdrawn[i].Members[k].Member
			if _, ok := wanted[member]; ok {
				delete(wanted, member)
				l.withdrawn(member)
			} else if e := l.runs[member.Run]; e != nil {
				l.putBack(e, member)
			} else {
				l.homeless = append(l.homeless, member)
			}
		}
	}
	for member, kill := range wanted {
		if kill {
			l.orders = append(l.orders, engine.KillOrder{Member: member})
		}
	}
}

// putBack queues a member anew that was taken out of the table with others.
func (l *loop) putBack(e *entry, member workflow.Member) {
	if e.run.Status == workflow.RunPaused && e.holds(member) {
		l.withdrawn(member)
		return
	}
	l.dispatcher.putBack(e, member)
}

func (l *loop) withdrawn(member workflow.Member) {
	l.deliver(member.Run, workflow.Event{Kind: workflow.EventWithdraw, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery}, nil)
}
