package orchestrator

import (
	"context"
	"errors"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// letter is a message some of whose events are not committed yet.
type letter struct {
	key    engine.MailKey
	kind   engine.MailKind
	open   int
	remove []engine.DeliveryKey
}

// openMail turns messages into events of runs, which it loads where they are not in memory.
func (l *loop) openMail(ctx context.Context) error {
	if err := l.load(ctx, l.strangers(l.mail)); err != nil {
		return err
	}
	for i := range l.mail {
		mail := &l.mail[i]
		open := &letter{key: mail.Key, kind: mail.Kind, open: 1}
		switch mail.Kind {
		case engine.MailSubmit:
			if err := l.submitted(ctx, mail, open); err != nil {
				return err
			}
		case engine.MailCancel:
			l.deliver(mail.Run, workflow.Event{Kind: workflow.EventCancel, Actor: mail.Actor}, open)
		case engine.MailCommand:
			if err := l.command(ctx, mail.Run, mail.Command, open); err != nil {
				return err
			}
		case engine.MailReport:
			l.report(mail.Report, open)
		case engine.MailLost:
			l.lost(mail.Lost, open)
		}
		l.close(open)
		l.mail[i] = engine.Mail{}
	}
	l.mail = nil
	return nil
}

// strangers are the runs that messages speak of and that are not in memory.
func (l *loop) strangers(mail []engine.Mail) []workflow.RunID {
	var ids []workflow.RunID
	seen := map[workflow.RunID]bool{}
	add := func(id workflow.RunID) {
		if l.runs[id] == nil && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	submitted := map[workflow.RunID]bool{}
	for i := range mail {
		switch mail[i].Kind {
		case engine.MailSubmit:
			submitted[mail[i].Run] = true
		case engine.MailCancel, engine.MailCommand:
			if !submitted[mail[i].Run] {
				add(mail[i].Run)
			}
		case engine.MailReport:
			for k := range mail[i].Report.Ends {
				add(mail[i].Report.Ends[k].Run)
			}
			for k := range mail[i].Report.Returns {
				add(mail[i].Report.Returns[k].Run)
			}
		case engine.MailLost:
			for _, member := range mail[i].Lost.Members {
				add(member.Run)
			}
		}
	}
	return ids
}

func (l *loop) submitted(ctx context.Context, mail *engine.Mail, open *letter) error {
	if l.runs[mail.Run] == nil {
		graph, err := l.writer.Graph(ctx, mail.Plan)
		if errors.Is(err, engine.ErrRefused) || errors.Is(err, engine.ErrNotFound) {
			l.refused = append(l.refused, engine.RefusedRun{ID: mail.Run, Reason: reasonOf("its plan can't be read", err), Mail: []engine.MailKey{mail.Key}})
			open.key = engine.MailKey{}
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // the backend says what it did
		}
		run := workflow.NewRun(mail.Run, mail.DAG, graph, mail.HasValues)
		run.Options = mail.Options
		l.insert(run)
		if l.takeover != nil {
			l.takeover.done[mail.Run] = true
		}
	}
	if run := l.runs[mail.Run].run; run.Status == workflow.RunPending && gated(run) {
		l.gate.add(run) // the message has done its work: a pending run is found again without it
		return nil
	}
	l.deliver(mail.Run, workflow.Event{Kind: workflow.EventStart}, open)
	return nil
}

// deliver gives an event to a run. A run that is not in memory now has ended: nothing follows.
func (l *loop) deliver(id workflow.RunID, event workflow.Event, from *letter) {
	e := l.runs[id]
	if e == nil {
		return
	}
	if from != nil {
		from.open++
	}
	e.events, e.letters = append(e.events, event), append(e.letters, from)
	l.enqueue(e)
}

// close notes that an event of the message was committed or means nothing; after the last one the message is answered.
func (l *loop) close(from *letter) {
	if from == nil {
		return
	}
	from.open--
	if from.open == 0 && from.key != (engine.MailKey{}) {
		l.consumed = append(l.consumed, from.key)
		l.remove = append(l.remove, from.remove...)
	}
}

func (l *loop) report(report *engine.Report, from *letter) {
	for _, id := range report.Done {
		from.remove = append(from.remove, engine.DeliveryKey{ReplyTo: from.key.Bucket, ID: id})
	}
	for i := range report.Ends {
		end := &report.Ends[i]
		if end.Evaluation != nil && l.askNames(end, from) {
			continue
		}
		l.deliver(end.Run, workflow.Event{Kind: workflow.EventEnd, Node: end.Node, Attempt: end.Attempt, Delivery: end.Delivery, Result: end.Result}, from)
	}
	for i := range report.Returns {
		back := &report.Returns[i]
		l.deliver(back.Run, workflow.Event{
			Kind: workflow.EventReturn, Node: back.Node, Attempt: back.Attempt, Delivery: back.Delivery,
			Result: workflow.Result{Started: back.Started, StartTime: back.StartTime, EndTime: back.EndTime, Agent: report.Agent},
		}, from)
	}
}

func (l *loop) lost(lost *engine.LostDelivery, from *letter) {
	from.remove = append(from.remove, engine.DeliveryKey{ReplyTo: from.key.Bucket, ID: lost.ID})
	for _, member := range lost.Members {
		l.deliver(member.Run, workflow.Event{
			Kind: workflow.EventLost, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery,
			Result: workflow.Result{StartTime: lost.ClaimedAt, Agent: lost.Agent},
		}, from)
	}
}

// command turns what a person asks into an event. A run that has ended is loaded when it may live again.
func (l *loop) command(ctx context.Context, id workflow.RunID, command *engine.Command, from *letter) error {
	kinds := map[engine.CommandKind]workflow.EventKind{
		engine.CommandPause: workflow.EventPause, engine.CommandResume: workflow.EventResume, engine.CommandApprove: workflow.EventApprove,
		engine.CommandReject: workflow.EventReject, engine.CommandRetry: workflow.EventRetry, engine.CommandSkip: workflow.EventSkip,
	}
	kind, known := kinds[command.Kind]
	if !known {
		return nil
	}
	if l.runs[id] == nil && command.Kind.OfEnded() && !l.isRefused(id) {
		run, err := l.writer.LoadEnded(ctx, id)
		switch {
		case errors.Is(err, engine.ErrNotFound), errors.Is(err, engine.ErrRefused):
			l.options.Logger.Warn("a run that has ended can't live again", "run", id, "error", err)
			return nil
		case err != nil:
			return err //nolint:wrapcheck // the backend says what it did
		}
		l.insert(run)
	}
	l.deliver(id, workflow.Event{Kind: kind, Node: command.Node, Actor: command.Actor}, from)
	return nil
}
