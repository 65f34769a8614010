package backendtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// nodeCommands are those that are asked of one task run.
var nodeCommands = []engine.CommandKind{engine.CommandApprove, engine.CommandReject, engine.CommandRetry, engine.CommandSkip}

var commandTests = []test{
	{name: "a command reaches the bucket's writer", run: func(w *world) {
		run := w.start(planOf("a", "b: a"))
		for kind := engine.CommandPause; kind <= engine.CommandSkip; kind++ {
			command := engine.Command{Kind: kind, Node: 1, Actor: "ben"}
			if kind == engine.CommandPause || kind == engine.CommandResume {
				command.Node = workflow.RunNode
			}
			quiet(w.writer.Wake())
			w.must(w.backend.Command(w.ctx, run.ID, command), "command")
			w.rings(w.writer.Wake(), "a command")
			mail := w.mailOf(engine.MailCommand)
			if mail.Run != run.ID || mail.Key.Bucket != run.ID.Bucket() || mail.Command == nil || *mail.Command != command {
				w.Fatalf("the message of %+v is %+v with %+v", command, mail, mail.Command)
			}
			w.commit(&engine.Commit{Mail: []engine.MailKey{mail.Key}})
		}
		w.takeOver()
		if left := w.mail(); len(left) > 0 {
			w.Fatalf("answered mail is there: %+v", left)
		}
	}},
	{name: "a command that nobody answered is there after a takeover", run: func(w *world) {
		run := w.start(planOf("a"))
		w.must(w.backend.Command(w.ctx, run.ID, engine.Command{Kind: engine.CommandSkip, Actor: "ben"}), "command")
		before := w.mailOf(engine.MailCommand)
		w.takeOver()
		if after := w.mailOf(engine.MailCommand); after.Key != before.Key || *after.Command != *before.Command {
			w.Fatalf("the message is %+v, was %+v", after, before)
		}
	}},
	{name: "commands are read in the order in which they came", run: func(w *world) {
		run := w.start(planOf("a"))
		var want, got []engine.CommandKind
		for number := range 12 {
			kind := []engine.CommandKind{engine.CommandPause, engine.CommandResume, engine.CommandSkip}[number%3]
			w.must(w.backend.Command(w.ctx, run.ID, engine.Command{Kind: kind, Actor: "ben"}), "command")
			want = append(want, kind)
		}
		for _, mail := range w.mail() {
			got = append(got, mail.Command.Kind)
		}
		if textOf(got) != textOf(want) {
			w.Fatalf("the commands are %v, should be %v", got, want)
		}
	}},
	{name: "a run that is unknown can't be commanded", run: func(w *world) {
		unknown := workflow.NewRunID(w.open().Now(), 1)
		for kind := engine.CommandPause; kind <= engine.CommandSkip; kind++ {
			err := w.backend.Command(w.ctx, unknown, engine.Command{Kind: kind, Actor: "ben"})
			if !errors.Is(err, engine.ErrNotFound) || !strings.Contains(err.Error(), unknown.String()) {
				w.Errorf("command %d of an unknown run gives %v", kind, err)
			}
		}
		w.wantNoMail()
	}},
	{name: "a task run that is unknown can't be commanded", run: func(w *world) {
		run := w.start(planOf("a", "b"))
		for _, kind := range nodeCommands {
			for _, node := range []int32{workflow.RunNode, 2, 1 << 20, -7} {
				if err := w.backend.Command(w.ctx, run.ID, engine.Command{Kind: kind, Node: node, Actor: "ben"}); !errors.Is(err, engine.ErrNotFound) {
					w.Errorf("command %d of the unknown node %d gives %v", kind, node, err)
				}
			}
		}
		w.wantNoMail()
	}},
	{name: "a task run that was added can be commanded", run: func(w *world) {
		run := w.start(deciding(planOf("choose"), 0))
		w.advance(run, nil, w.evaluated(run, 0, choosing("extra"), planOf("extra")))
		w.must(w.backend.Command(w.ctx, run.ID, engine.Command{Kind: engine.CommandSkip, Node: 1, Actor: "ben"}), "command")
		w.mailOf(engine.MailCommand)
	}},
	{name: "of a run that has ended, a task run can be retried or skipped, and nothing else", run: func(w *world) {
		run := w.start(planOf("a"))
		w.advance(run, nil, w.failed(member(run, 0), 1))
		for kind := engine.CommandPause; kind <= engine.CommandSkip; kind++ {
			err := w.backend.Command(w.ctx, run.ID, engine.Command{Kind: kind, Actor: "ben"})
			if !kind.OfEnded() && !errors.Is(err, engine.ErrEnded) || kind.OfEnded() && err != nil {
				w.Errorf("command %d of a run that has ended gives %v", kind, err)
			}
		}
		mail := w.mail()
		if len(mail) != 2 || mail[0].Command.Kind != engine.CommandRetry || mail[1].Command.Kind != engine.CommandSkip {
			w.Fatalf("the mail is %+v", mail)
		}
	}},
	{name: "the command of a refused run is kept aside with its mail", run: func(w *world) {
		run := w.start(planOf("a"))
		w.must(w.backend.Command(w.ctx, run.ID, engine.Command{Kind: engine.CommandSkip, Actor: "ben"}), "command")
		mail := w.mailOf(engine.MailCommand)
		w.commit(&engine.Commit{Refused: []engine.RefusedRun{{ID: run.ID, Reason: "it can't be stored", Mail: []engine.MailKey{mail.Key}}}})
		w.takeOver()
		w.wantNoMail()
	}},
}

func (w *world) wantNoMail() {
	w.Helper()
	if mail := w.mail(); len(mail) > 0 {
		w.Fatalf("the mail is %+v", mail)
	}
}

// RunGone tests what becomes of a run when retention has dropped its history. drop lets the backend forget runs that
// ended as if they were old; each implementation has its own way, so it calls this itself.
func RunGone(t testing.TB, backend engine.Backend, drop func(run workflow.RunID)) {
	t.Helper()
	w := newWorld(t, backend)
	run, live := w.start(planOf("a")), w.start(planOf("a"))
	w.advance(run, nil, w.failed(member(run, 0), 1))
	w.commit(&engine.Commit{Remove: w.keys(member(run, 0))})
	drop(run.ID)
	if _, err := backend.FindRun(w.ctx, run.ID.String()); !errors.Is(err, engine.ErrGone) || errors.Is(err, engine.ErrNotFound) {
		t.Errorf("finding a run whose history is gone gives %v", err)
	}
	if err := backend.Cancel(w.ctx, run.ID, "ben"); !errors.Is(err, engine.ErrGone) {
		t.Errorf("cancelling it gives %v", err)
	}
	for _, kind := range []engine.CommandKind{engine.CommandRetry, engine.CommandSkip} {
		if err := backend.Command(w.ctx, run.ID, engine.Command{Kind: kind, Actor: "ben"}); !errors.Is(err, engine.ErrGone) {
			t.Errorf("command %d of a run whose history is gone gives %v", kind, err)
		}
	}
	w.wantNoMail()
	if _, err := w.writer.LoadEnded(w.ctx, run.ID); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("loading it gives %v", err)
	}
	if _, err := backend.Given(w.ctx, run.ID); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("its values give %v", err)
	}
	w.wantStored(live)
	w.must(backend.Command(w.ctx, live.ID, engine.Command{Kind: engine.CommandPause, Node: workflow.RunNode, Actor: "ben"}), "command the other run")
}
