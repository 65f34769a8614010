package backendtest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var mailTests = []test{
	{name: "mail is given once, and again after recovering", run: func(w *world) {
		w.open()
		w.submit(submission(planOf("a")))
		first := w.mailOf(engine.MailSubmit)
		if again := w.mail(); len(again) > 0 {
			w.Fatalf("it is given again: %+v", again)
		}
		w.must(w.writer.Recover(w.ctx), "recover")
		if second := w.mailOf(engine.MailSubmit); second.Key != first.Key {
			w.Fatalf("after recovering the message is %+v", second)
		}
		w.commit(&engine.Commit{Mail: []engine.MailKey{first.Key}})
		w.must(w.writer.Recover(w.ctx), "recover")
		if left := w.mail(); len(left) > 0 {
			w.Fatalf("answered mail is there: %+v", left)
		}
	}},
	{name: "mail is read oldest first, as much as is asked for", run: func(w *world) {
		run := w.start(planOf("a"))
		for number := range 5 {
			w.must(w.backend.Cancel(w.ctx, run.ID, fmt.Sprint(number)), "cancel")
		}
		var actors []string
		// A read may give less than there is: what other transactions may still write before is waited for.
		w.eventually("all mail is read", func() bool {
			mail, err := w.writer.ReadMail(w.ctx, false, 2)
			w.must(err, "read mail")
			if len(mail) > 2 {
				w.Fatalf("%d messages are given, not 2", len(mail))
			}
			for _, message := range mail {
				actors = append(actors, message.Actor)
			}
			return len(actors) >= 5
		})
		if !slices.Equal(actors, []string{"0", "1", "2", "3", "4"}) {
			w.Fatalf("the mail came in the order %v", actors)
		}
	}},
	{name: "mail is not lost when many write and one reads", run: func(w *world) {
		const writers, each = 6, 30
		w.open()
		var group sync.WaitGroup
		runs := w.submit(submission(planOf("a")), submission(planOf("a")), submission(planOf("a")))
		for writer := range writers {
			group.Go(func() {
				for number := range each {
					if err := w.backend.Cancel(w.ctx, runs[number%len(runs)].ID, fmt.Sprintf("%d.%d", writer, number)); err != nil {
						w.Errorf("cancel: %v", err)
					}
				}
			})
		}
		seen := map[string]int{}
		w.eventually("all mail has come", func() bool {
			mail, err := w.writer.ReadMail(w.ctx, false, 20)
			w.must(err, "read mail")
			for _, message := range mail {
				if message.Kind == engine.MailCancel {
					seen[message.Actor]++
				}
			}
			w.commit(&engine.Commit{Mail: keysOf(mail)})
			return len(seen) == writers*each
		})
		group.Wait()
		for actor, times := range seen {
			if times != 1 {
				w.Errorf("the message %s was given %d times", actor, times)
			}
		}
	}},
	{name: "a report reaches its writer whole", run: func(w *world) {
		run := w.start(planOf("a", "b", "c", "d"))
		session := w.agent("one")
		deliveries := w.claim(session, 4, 0)
		quiet(w.writer.Wake())
		at := w.now()
		report := &engine.Report{
			ReplyTo: w.writer.ReplyTo(run.ID.Bucket()), Agent: session.Incarnation(), Done: []int64{deliveries[0].ID, deliveries[2].ID},
			Ends: []engine.End{
				{Member: member(run, 0), Result: workflow.Result{
					Status: workflow.TaskCompleted, Started: true, ExitCode: new(int32(0)), StartTime: at, EndTime: at.Add(time.Second), Agent: session.Incarnation(),
				}},
				{Member: member(run, 1), Result: workflow.Result{
					Status: workflow.TaskFailed, Cause: workflow.CauseTimeout, Started: true, Reason: "it ran for 1 s; \"timeout_seconds\" is 1",
					StartTime: at, EndTime: at.Add(1234567 * time.Microsecond), Agent: session.Incarnation(),
				}},
			},
			Returns: []engine.Return{
				{Member: member(run, 2)},
				{Member: member(run, 3), Started: true, StartTime: at, EndTime: at.Add(time.Millisecond)},
			},
		}
		w.must(session.Report(w.ctx, report, nil, nil), "report")
		w.rings(w.writer.Wake(), "a report")
		got := w.mailOf(engine.MailReport).Report
		if got == nil || got.Agent != report.Agent || got.ReplyTo != report.ReplyTo || !slices.Equal(got.Done, report.Done) ||
			len(got.Ends) != 2 || len(got.Returns) != 2 {
			w.Fatalf("the report came as %+v", got)
		}
		for index, want := range report.Ends {
			if end := got.Ends[index]; end.Member != want.Member || !sameResult(end.Result, want.Result) {
				w.Errorf("an end came as %+v, was %+v", end, want)
			}
		}
		for index, want := range report.Returns {
			if back := got.Returns[index]; back.Member != want.Member || back.Started != want.Started ||
				!sameTime(back.StartTime, want.StartTime) || !sameTime(back.EndTime, want.EndTime) {
				w.Errorf("a return came as %+v, was %+v", back, want)
			}
		}
	}},
	{name: "a report that says nothing is no message", run: func(w *world) {
		w.open()
		w.must(w.agent("one").Report(w.ctx, &engine.Report{ReplyTo: w.writer.Buckets()[0]}, nil, nil), "report")
		if mail := w.mail(); len(mail) > 0 {
			w.Fatalf("the mail is %+v", mail)
		}
	}},
	{name: "a report of an old attempt or delivery changes nothing", run: func(w *world) {
		run := w.start(planOf("a", "b"))
		lost := w.completed(member(run, 0))
		lost.Kind = workflow.EventLost
		w.advance(run, nil, lost, workflow.Event{Kind: workflow.EventReturn, Node: 1, Attempt: 1, Delivery: 1})
		session := w.agent("late")
		w.must(session.Report(w.ctx, &engine.Report{ReplyTo: w.writer.ReplyTo(run.ID.Bucket()), Agent: session.Incarnation(), Ends: []engine.End{
			{Member: member(run, 0), Result: w.result(workflow.Result{Status: workflow.TaskCompleted})},
			{Member: member(run, 1), Result: w.result(workflow.Result{Status: workflow.TaskFailed})},
		}}, nil, nil), "report")
		mail := w.mailOf(engine.MailReport)
		var events []workflow.Event
		for _, end := range mail.Report.Ends {
			events = append(events, workflow.Event{Kind: workflow.EventEnd, Node: end.Node, Attempt: end.Attempt, Delivery: end.Delivery, Result: end.Result})
		}
		change := w.advance(run, []engine.MailKey{mail.Key}, events...)
		if !change.Empty() {
			w.Fatalf("it changes %+v", change)
		}
		if err := difference(run, w.load(run.ID)); err != nil {
			w.Fatalf("the stored run differs: %v", err)
		}
	}},
}

func sameResult(one, other workflow.Result) bool {
	if (one.ExitCode == nil) != (other.ExitCode == nil) || one.ExitCode != nil && *one.ExitCode != *other.ExitCode {
		return false
	}
	return one.Status == other.Status && one.Cause == other.Cause && one.Reason == other.Reason && one.Agent == other.Agent &&
		sameTime(one.StartTime, other.StartTime) && sameTime(one.EndTime, other.EndTime)
}
