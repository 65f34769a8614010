package backendtest

import (
	"errors"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// shortBeat is the interval of agents that are to be found dead.
const shortBeat = 50 * time.Millisecond

var agentTests = []test{
	{name: "each registration has a number of its own", run: func(w *world) {
		seen := map[int64]bool{0: true}
		for _, id := range []string{"one", "other", "one"} {
			session := w.agent(id)
			if seen[session.Incarnation()] {
				w.Fatalf("the number %d is given again", session.Incarnation())
			}
			seen[session.Incarnation()] = true
			if session.Poll() <= 0 {
				w.Errorf("an idle agent may sleep for %v", session.Poll())
			}
		}
	}},
	{name: "an agent learns which runs live", run: func(w *world) {
		ended, live := w.startFailed(), w.start(planOf("a"))
		pending := w.submit(submission(planOf("a")))[0].ID
		session := w.agent("one")
		for range 2 {
			got, err := session.LiveRuns(w.ctx, []workflow.RunID{ended.ID, live.ID, pending, workflow.NewRunID(w.now(), 1)})
			w.must(err, "look which runs live")
			if len(got) != 2 || !slices.Contains(got, live.ID) || !slices.Contains(got, pending) {
				w.Fatalf("live are %v of %v, %v and %v", got, ended.ID, live.ID, pending)
			}
			w.advance(live, nil, asked(workflow.EventPause, workflow.RunNode)) // it lives as long as that may take
		}
		if got, err := session.LiveRuns(w.ctx, nil); err != nil || len(got) > 0 {
			w.Errorf("of none live %v, %v", got, err)
		}
	}},
	{name: "an agent whose beat stands still for three intervals is lost, one that beats is not", run: func(w *world) {
		run := w.startPacked(3)
		silent, steady := w.agentOf(engine.AgentInfo{ID: "silent", HeartbeatInterval: shortBeat}), w.agent("steady")
		held := w.claim(silent, 2, 0)
		w.wantNames(held, "t0 t1")
		w.wantNames(w.claim(steady, 1, 0), "t2")
		began := time.Now()
		w.eventually("the silent agent is lost", func() bool {
			_, err := steady.Beat(w.ctx)
			w.must(err, "beat")
			return !slices.ContainsFunc(w.tick().Agents, func(agent engine.AgentInfo) bool { return agent.ID == "silent" })
		})
		if after := time.Since(began); after < 2*shortBeat {
			w.Errorf("it was lost after %v, and may be silent for three times %v", after, shortBeat)
		}
		if _, err := silent.Beat(w.ctx); !errors.Is(err, engine.ErrAgentLost) {
			w.Errorf("it beats, and is told %v", err)
		}
		w.wantNames(w.claim(steady, 9, 0), "")
		if _, err := silent.Claim(w.ctx, 9, 0, workflow.Resources{}); !errors.Is(err, engine.ErrAgentLost) {
			w.Errorf("it claims, and is told %v", err)
		}
		lost := w.awaitLost()
		if lost.ID != held[0].ID || lost.Agent != silent.Incarnation() || !sameTime(lost.ClaimedAt, held[0].ClaimedAt) ||
			!slices.Equal(lost.Members, []workflow.Member{member(run, 0), member(run, 1)}) {
			w.Errorf("the writer is told %+v, held was %+v", lost, held)
		}
		for _, agent := range w.agents() {
			if want := map[string]string{"silent": "lost", "steady": "live"}[agent.ID]; agent.Status != want {
				w.Errorf("the agent %s is seen as %s", agent.ID, agent.Status)
			}
		}
	}},
	{name: "what a lost agent held is told once", run: func(w *world) {
		w.start(planOf("a"))
		session := w.agent("one")
		held := w.claim(session, 1, 0)
		w.must(session.Close(w.ctx), "close")
		w.awaitLost()
		for range 3 {
			w.tick()
		}
		if mail := w.mail(); len(mail) > 0 {
			w.Fatalf("it is told again: %+v", mail)
		}
		w.must(w.writer.Recover(w.ctx), "recover")
		mail := w.mailOf(engine.MailLost)
		w.commit(&engine.Commit{Mail: []engine.MailKey{mail.Key}, Remove: []engine.DeliveryKey{{ReplyTo: held[0].ReplyTo, ID: held[0].ID}}})
		w.tick()
		if mail := w.mail(); len(mail) > 0 {
			w.Fatalf("after the answer it is told again: %+v", mail)
		}
	}},
	{name: "what a lost agent held is told even when the delivery is gone", run: func(w *world) {
		w.start(planOf("a"))
		session := w.agent("one")
		held := w.claim(session, 1, 0)
		w.must(session.Close(w.ctx), "close")
		w.eventually("the mail waits", func() bool { return w.tick().MailWaits })
		w.commit(&engine.Commit{Remove: []engine.DeliveryKey{{ReplyTo: held[0].ReplyTo, ID: held[0].ID}}})
		if mail := w.mailOf(engine.MailLost); mail.Lost == nil || len(mail.Lost.Members) > 0 {
			w.Fatalf("the message is %+v", mail)
		}
	}},
	{name: "an agent that stops leaves what it holds to others", run: func(w *world) {
		run := w.startPacked(2)
		session := w.agent("one")
		w.claim(session, 1, 0)
		w.must(session.Close(w.ctx), "close")
		w.must(session.Close(w.ctx), "close once more")
		if lost := w.awaitLost(); !slices.Equal(lost.Members, []workflow.Member{member(run, 0)}) || lost.Agent != session.Incarnation() {
			w.Fatalf("the writer is told %+v", lost)
		}
		if _, err := session.Claim(w.ctx, 1, 0, workflow.Resources{}); !errors.Is(err, engine.ErrAgentLost) {
			w.Errorf("it claims, and is told %v", err)
		}
		if agents := w.agents(); len(agents) != 1 || agents[0].Status != "stopped" {
			w.Errorf("the agents are seen as %+v", agents)
		}
	}},
	{name: "an agent that registers again replaces its former self", run: func(w *world) {
		w.start(planOf("a"))
		former := w.agent("one")
		w.claim(former, 1, 0)
		latter := w.agent("one")
		if _, err := former.Beat(w.ctx); !errors.Is(err, engine.ErrAgentLost) {
			w.Errorf("the former beats, and is told %v", err)
		}
		if lost := w.awaitLost(); lost.Agent != former.Incarnation() {
			w.Errorf("the writer is told %+v", lost)
		}
		_, err := latter.Beat(w.ctx)
		w.must(err, "beat of the latter")
	}},
	{name: "a report of a lost agent is stored: its writer knows what counts", run: func(w *world) {
		run := w.start(planOf("a"))
		session := w.agent("one")
		w.claim(session, 1, 0)
		w.must(session.Close(w.ctx), "close")
		w.awaitLost()
		report := &engine.Report{ReplyTo: w.writer.ReplyTo(run.ID.Bucket()), Agent: session.Incarnation(), Ends: []engine.End{
			{Member: member(run, 0), Result: w.result(workflow.Result{Status: workflow.TaskCompleted})},
		}}
		w.must(session.Report(w.ctx, report, nil, nil), "report")
		w.mailOf(engine.MailReport)
	}},
	{name: "a kill order reaches who holds the member, until it was carried out", run: func(w *world) {
		run := w.startPacked(3)
		one, other := w.agent("one"), w.agent("other")
		w.wantNames(w.claim(one, 1, 0), "t0")
		w.wantNames(w.claim(other, 2, 0), "t1 t2")
		quiet(other.Wake())
		w.commit(&engine.Commit{Orders: []engine.KillOrder{{Member: member(run, 2)}}})
		w.rings(other.Wake(), "an order")
		claim, err := other.Claim(w.ctx, 1, 0, workflow.Resources{})
		w.must(err, "claim")
		orders, err := other.Beat(w.ctx)
		w.must(err, "beat")
		if !slices.Equal(orders, claim.Orders) || len(orders) != 1 || orders[0].Kind != engine.OrderKill || orders[0].Member != member(run, 2) {
			w.Fatalf("the orders are %+v with the claim, and %+v with the beat", claim.Orders, orders)
		}
		w.must(other.Report(w.ctx, &engine.Report{ReplyTo: w.writer.ReplyTo(run.ID.Bucket())}, nil, []int64{orders[0].ID}), "report")
		orders, err = other.Beat(w.ctx)
		w.must(err, "beat")
		if len(orders) > 0 {
			w.Fatalf("an order that was carried out is given again: %+v", orders)
		}
	}},
	{name: "logs are read in their order, from any place on", run: func(w *world) {
		run := w.start(planOf("a", "b"))
		session := w.agent("one")
		at := w.now()
		chunk := func(node int32, attempt uint16, seq int32, stream engine.Stream, body string) engine.LogChunk {
			return engine.LogChunk{Run: run.ID, Node: node, Attempt: attempt, Seq: seq, Time: at, Stream: stream, Body: []byte(body)}
		}
		w.must(session.WriteLogs(w.ctx, []engine.LogChunk{
			chunk(0, 1, 1, engine.StreamStdout, "one\n"), chunk(0, 1, 2, engine.StreamStderr, "two\x00\xff\n"), chunk(1, 1, 1, engine.StreamStdout, "other\n"),
		}), "write logs")
		w.must(session.WriteLogs(w.ctx, nil), "write no logs")
		last := []engine.LogChunk{chunk(0, 2, 1, engine.StreamAgent, "four\n"), chunk(0, 1, 7, engine.StreamStdout, "three\n")}
		report := &engine.Report{ReplyTo: w.writer.ReplyTo(run.ID.Bucket()), Agent: session.Incarnation(), Ends: []engine.End{
			{Member: member(run, 0), Result: w.result(workflow.Result{Status: workflow.TaskCompleted})},
		}}
		w.must(session.Report(w.ctx, report, last, nil), "report with logs")
		w.must(session.Report(w.ctx, report, last, nil), "the same again")
		want := []string{"one\n", "two\x00\xff\n", "three\n", "four\n"}
		for _, from := range []struct {
			after engine.LogPlace
			limit int
			want  []string
		}{
			{engine.LogPlace{}, 100, want}, {engine.LogPlace{}, 2, want[:2]}, {engine.LogPlace{Attempt: 1, Seq: 2}, 100, want[2:]},
			{engine.LogPlace{Attempt: 1, Seq: 3}, 1, want[2:3]}, {engine.LogPlace{Attempt: 2, Seq: 1}, 100, nil},
		} {
			chunks, err := w.backend.Logs(w.ctx, run.ID, 0, from.after, from.limit)
			w.must(err, "read logs")
			var got []string
			for _, chunk := range chunks {
				got = append(got, string(chunk.Body))
			}
			if !slices.Equal(got, from.want) {
				w.Errorf("the log after %+v is %q, should be %q", from.after, got, from.want)
			}
		}
		chunks, err := w.backend.Logs(w.ctx, run.ID, 0, engine.LogPlace{}, 2)
		w.must(err, "read logs")
		if second := chunks[1]; second.Stream != engine.StreamStderr || second.Attempt != 1 || second.Seq != 2 || second.Node != 0 ||
			second.Run != run.ID || !sameTime(second.Time, at) {
			w.Errorf("a chunk is %+v", second)
		}
	}},
}

// awaitLost waits for the message of a lost delivery.
func (w *world) awaitLost() *engine.LostDelivery {
	w.Helper()
	var found *engine.LostDelivery
	w.eventually("the writer is told of a lost delivery", func() bool {
		w.tick()
		for _, mail := range w.mail() {
			if mail.Kind == engine.MailLost {
				found = mail.Lost
			}
		}
		return found != nil
	})
	return found
}

func (w *world) agents() []engine.AgentView {
	w.Helper()
	agents, err := w.backend.Agents(w.ctx)
	w.must(err, "list the agents")
	return agents
}
