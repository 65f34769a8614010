package backendtest

import (
	"errors"
	"strings"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var submitTests = []test{
	{name: "a submitted run is pending and can be found at once", run: func(w *world) {
		of := submission(planOf("a", "b: a"))
		of.Context, of.Revision = "production", 7
		answer := w.submit(of)[0]
		if answer.ID.IsZero() || answer.Name != answer.ID.String() || answer.Existing || answer.CreatedAt.IsZero() {
			w.Fatalf("the answer is %+v", answer)
		}
		view := w.view(answer.ID)
		if view.ID != answer.ID || view.Name != answer.Name || view.Status != workflow.RunPending || view.DAG != "dag" || view.ByOutcome ||
			view.Context != "production" || view.TaskCount != 2 || view.Actor != "ann" || view.Cause != "test" || view.Revision != 7 {
			w.Fatalf("the run is seen as %+v", view)
		}
		if !view.StartTime.IsZero() || !view.EndTime.IsZero() || !view.CancelTime.IsZero() || !sameTime(view.CreatedAt, answer.CreatedAt) {
			w.Fatalf("the run is seen with the times %+v", view)
		}
	}},
	{name: "a run by outcome is found under its task", run: func(w *world) {
		of := submission(planOf("a"))
		of.DAG, of.Task = "", "a"
		if view := w.view(w.submit(of)[0].ID); view.DAG != "a" || !view.ByOutcome {
			w.Fatalf("the run is seen as %+v", view)
		}
	}},
	{name: "a custom run id names the run to the outside", run: func(w *world) {
		of := submission(planOf("a"))
		of.Name = "nightly-1"
		answer := w.submit(of)[0]
		view, err := w.backend.FindRun(w.ctx, "nightly-1")
		w.must(err, "find the run by its name")
		if answer.Name != "nightly-1" || view.ID != answer.ID || view.Name != "nightly-1" {
			w.Fatalf("the answer is %+v, the view %+v", answer, view)
		}
		if view := w.view(answer.ID); view.Name != "nightly-1" {
			w.Fatalf("by its UUID the run is called %q", view.Name)
		}
	}},
	{name: "a custom run id is used once", run: func(w *world) {
		of := submission(planOf("a"))
		of.Name = "nightly-1"
		w.submit(of)
		if _, err := w.backend.Submit(w.ctx, []engine.Submission{of}); !errors.Is(err, engine.ErrNameTaken) {
			w.Fatalf("the second run of that id gives %v", err)
		}
	}},
	{name: "submissions are stored all or none", run: func(w *world) {
		taken, fresh := submission(planOf("a")), submission(planOf("b"))
		taken.Name, fresh.Name = "taken", "fresh"
		w.submit(taken)
		if _, err := w.backend.Submit(w.ctx, []engine.Submission{fresh, taken}); !errors.Is(err, engine.ErrNameTaken) {
			w.Fatalf("the answer is %v", err)
		}
		if _, err := w.backend.FindRun(w.ctx, "fresh"); !errors.Is(err, engine.ErrNotFound) {
			w.Fatalf("a run of a refused submission is there: %v", err)
		}
		w.open()
		w.mailOf(engine.MailSubmit)
	}},
	{name: "one idempotency key is one run", run: func(w *world) {
		of := submission(planOf("a"))
		of.IdempotencyKey, of.Name = "key", "mine"
		first := w.submit(of)[0]
		second := w.submit(of)[0]
		if first.Existing || !second.Existing || second.ID != first.ID || second.Name != "mine" || !sameTime(second.CreatedAt, first.CreatedAt) {
			w.Fatalf("the answers are %+v and %+v", first, second)
		}
		w.open()
		w.mailOf(engine.MailSubmit)
	}},
	{name: "one idempotency key is one run, whoever comes first", run: func(w *world) {
		const callers = 8
		answers := make([]engine.Submitted, callers)
		var group sync.WaitGroup
		for caller := range callers {
			group.Go(func() {
				of := submission(planOf("a"))
				of.IdempotencyKey = "key"
				submitted, err := w.backend.Submit(w.ctx, []engine.Submission{of})
				if err != nil {
					w.Errorf("submit: %v", err)
					return
				}
				answers[caller] = submitted[0]
			})
		}
		group.Wait()
		made := 0
		for _, answer := range answers {
			if answer.ID != answers[0].ID {
				w.Errorf("the runs are %s and %s", answer.ID, answers[0].ID)
			}
			if !answer.Existing {
				made++
			}
		}
		if made != 1 {
			w.Errorf("%d callers made the run", made)
		}
	}},
	{name: "a submission tells the run's bucket all that its writer needs", run: func(w *world) {
		w.open()
		plain, named, valued := submission(planOf("a")), submission(planOf("a")), submission(planOf("b", "c: b"))
		named.Name = "named"
		valued.Values = workflow.RunValues{Env: map[string]string{"A": "1"}}
		quiet(w.writer.Wake())
		answers := w.submit(plain, named, valued)
		w.rings(w.writer.Wake(), "a submission")
		told := map[workflow.RunID]engine.Mail{}
		for _, mail := range w.mail() {
			told[mail.Run] = mail
		}
		if len(told) != len(answers) {
			w.Fatalf("%d runs are told of: %+v", len(told), told)
		}
		for index, answer := range answers {
			mail := told[answer.ID]
			if mail.Kind != engine.MailSubmit || mail.Key.Bucket != answer.ID.Bucket() || mail.DAG != "dag" || mail.HasValues != (index > 0) {
				w.Errorf("the message of submission %d is %+v", index, mail)
			}
			graph, err := w.writer.Graph(w.ctx, mail.Plan)
			w.must(err, "load the graph")
			if want := []int{1, 1, 2}[index]; graph.Len() != want {
				w.Errorf("the graph of submission %d has %d nodes", index, graph.Len())
			}
		}
	}},
	{name: "runs that nobody takes up are bounded", options: Options{MaxPendingSubmits: 2}, run: func(w *world) {
		w.submit(submission(planOf("a")), submission(planOf("a")))
		if _, err := w.backend.Submit(w.ctx, []engine.Submission{submission(planOf("a"))}); !errors.Is(err, engine.ErrTooManyPending) {
			w.Fatalf("the third run gives %v", err)
		}
		w.open()
		w.commit(&engine.Commit{Mail: keysOf(w.mail())})
		w.submit(submission(planOf("a")))
	}},
	{name: "a plan is the same for all its runs", run: func(w *world) {
		w.open()
		w.submit(submission(planOf("a", "b: a")), submission(planOf("a", "b: a")), submission(planOf("a", "b")))
		plans := map[workflow.Hash]int{}
		for _, mail := range w.mail() {
			plans[mail.Plan]++
		}
		if len(plans) != 2 {
			w.Fatalf("the plans are %v", plans)
		}
	}},
	{name: "a cancel is told to the run's bucket", run: func(w *world) {
		run := w.start(planOf("a"))
		quiet(w.writer.Wake())
		w.must(w.backend.Cancel(w.ctx, run.ID, "ben"), "cancel")
		w.rings(w.writer.Wake(), "a cancel")
		if mail := w.mailOf(engine.MailCancel); mail.Run != run.ID || mail.Actor != "ben" || mail.Key.Bucket != run.ID.Bucket() {
			w.Fatalf("the message is %+v", mail)
		}
	}},
	{name: "a run that is unknown or has ended can't be cancelled", run: func(w *world) {
		unknown := workflow.NewRunID(w.open().Now(), 1)
		if err := w.backend.Cancel(w.ctx, unknown, "ann"); !errors.Is(err, engine.ErrNotFound) || !strings.Contains(err.Error(), unknown.String()) {
			w.Errorf("cancelling an unknown run gives %v", err)
		}
		run := w.start(planOf("a"))
		w.advance(run, nil, w.completed(member(run, 0)))
		if err := w.backend.Cancel(w.ctx, run.ID, "ann"); !errors.Is(err, engine.ErrEnded) {
			w.Errorf("cancelling a run that has ended gives %v", err)
		}
		if mail := w.mail(); len(mail) > 0 {
			w.Errorf("it is told all the same: %+v", mail)
		}
	}},
}
