package backendtest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var writerTests = []test{
	{name: "there is one writer, and a second orchestrator is told who", run: func(w *world) {
		w.open()
		second, err := w.backend.OpenWriters(w.ctx, "second", 1)
		if !errors.Is(err, engine.ErrWriterExists) || !strings.Contains(err.Error(), "test") {
			w.Fatalf("a second writer gives %v, %v", second, err)
		}
		w.commit(&engine.Commit{})
	}},
	{name: "a writer owns all buckets, and wants its reports in some of them", run: func(w *world) {
		writer := w.open()
		buckets := writer.Buckets()
		if len(buckets) == 0 {
			w.Fatalf("it owns nothing")
		}
		for _, bucket := range buckets {
			if to := writer.ReplyTo(bucket); !slices.Contains(buckets, to) || writer.ReplyTo(to) != to {
				w.Fatalf("the buckets are %v, reports on %d go to %d, and on that to %d", buckets, bucket, to, writer.ReplyTo(to))
			}
		}
		for range 20 {
			if id := w.submit(submission(planOf("a")))[0].ID; !slices.Contains(buckets, id.Bucket()) {
				w.Fatalf("run %s belongs to the bucket %d of nobody", id, id.Bucket())
			}
		}
	}},
	{name: "a writer that gave its buckets up is fenced, and another takes them", run: func(w *world) {
		run := w.start(planOf("a"))
		old := w.writer
		w.must(old.Close(w.ctx), "close the writer")
		change := w.decide(run, w.completed(member(run, 0)))
		if _, err := old.Commit(w.ctx, &engine.Commit{At: change.At, Changes: []*workflow.Change{change}}); !errors.Is(err, engine.ErrFenced) {
			w.Fatalf("a commit of the old writer gives %v", err)
		}
		if err := old.Recover(w.ctx); !errors.Is(err, engine.ErrFenced) {
			w.Fatalf("the old writer recovers: %v", err)
		}
		w.open()
		if _, err := old.Commit(w.ctx, &engine.Commit{At: change.At, Changes: []*workflow.Change{change}}); !errors.Is(err, engine.ErrFenced) {
			w.Fatalf("a commit of the old writer beside the new one gives %v", err)
		}
		if err := difference(run, w.load(run.ID)); err != nil {
			w.Fatalf("the new writer finds another run: %v", err)
		}
		w.advance(run, nil, w.completed(member(run, 0)))
	}},
	{name: "a successor finds the deliveries of its predecessor", run: func(w *world) {
		w.start(planOf("a", "b"))
		before := w.dispatched()
		w.must(w.writer.Close(w.ctx), "close the writer")
		w.open()
		after := w.dispatched()
		if len(before) != 2 || len(after) != 2 {
			w.Fatalf("there were %d deliveries, and are %d", len(before), len(after))
		}
		session := w.agent("one")
		for _, delivery := range w.claim(session, 2, 0) {
			if want := w.writer.ReplyTo(delivery.Tasks[0].Member.Run.Bucket()); delivery.ReplyTo != want {
				w.Errorf("delivery %d replies to %d, not to %d", delivery.ID, delivery.ReplyTo, want)
			}
		}
	}},
	{name: "live runs are listed in pages, each once", run: func(w *world) {
		w.open()
		want := map[workflow.RunID]bool{}
		for range 7 {
			want[w.submit(submission(planOf("a")))[0].ID] = true
		}
		ended := w.submit(submission(planOf("a")))[0].ID
		w.endPending(ended)
		got := map[workflow.RunID]bool{}
		after := workflow.RunID{}
		for {
			page, err := w.writer.LiveRuns(w.ctx, after, 3)
			w.must(err, "list live runs")
			if len(page) == 0 {
				break
			}
			if len(page) > 3 {
				w.Fatalf("a page of 3 holds %d", len(page))
			}
			for _, id := range page {
				if got[id] || !want[id] {
					w.Fatalf("%s is listed twice, or is not live", id)
				}
				got[id] = true
			}
			after = page[len(page)-1]
		}
		if len(got) != len(want) {
			w.Fatalf("%d of %d live runs are listed", len(got), len(want))
		}
	}},
	{name: "a run that has ended, or is not there, is not loaded", run: func(w *world) {
		w.open()
		pending, ended := w.submit(submission(planOf("a")))[0].ID, w.submit(submission(planOf("a")))[0].ID
		w.endPending(ended)
		unknown := workflow.NewRunID(w.now(), 3)
		runs, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{ended, unknown, pending})
		w.must(err, "load runs")
		if len(runs) != 1 || runs[0].ID != pending || runs[0].Status != workflow.RunPending {
			w.Fatalf("loaded are %+v", runs)
		}
	}},
	{name: "timers are told when they are due, until they are dropped", run: func(w *world) {
		plan := planOf("soon", "late")
		plan.Specs[0].Retries = workflow.Retries{Count: 1, DelaySeconds: 0.3}
		plan.Specs[1].Retries = workflow.Retries{Count: 1, DelaySeconds: 1000}
		run := w.start(plan)
		w.advance(run, nil, w.failed(member(run, 0), 1), w.failed(member(run, 1), 1))
		var due []engine.DueTimer
		w.eventually("a timer is due", func() bool {
			due = w.tick().Due
			return len(due) > 0
		})
		if len(due) != 1 || due[0].Run != run.ID || due[0].Node != 0 || due[0].Kind != workflow.TimerRetry || due[0].Due.IsZero() {
			w.Fatalf("due are %+v", due)
		}
		if left := due[0].Due.Sub(w.now()); left > time.Second {
			w.Fatalf("a timer is due in %v", left)
		}
		if again := w.tick().Due; len(again) != 1 {
			w.Fatalf("a timer that nobody answered is told as %+v", again)
		}
		w.advance(run, nil, workflow.Event{Kind: workflow.EventTimer, Node: 0, Timer: workflow.TimerRetry})
		if again := w.tick().Due; len(again) != 0 {
			w.Fatalf("a timer that was dropped is told: %+v", again)
		}
	}},
	{name: "a tick tells which agents live", run: func(w *world) {
		w.open()
		info := engine.AgentInfo{ID: "one", Queues: []string{"gpu", "cpu"}, Tags: []string{"a"}, Slots: 3, HeartbeatInterval: 7 * time.Second}
		w.agentOf(info)
		gone := w.agent("gone")
		w.must(gone.Close(w.ctx), "close an agent")
		agents := w.tick().Agents
		if len(agents) != 1 || agents[0].ID != "one" || agents[0].Slots != 3 || agents[0].HeartbeatInterval != info.HeartbeatInterval ||
			!slices.Equal(slices.Sorted(slices.Values(agents[0].Queues)), []string{"cpu", "gpu"}) || !slices.Equal(agents[0].Tags, info.Tags) {
			w.Fatalf("the agents are %+v", agents)
		}
	}},
	{name: "a tick tells of mail that no ring told of", run: func(w *world) {
		w.submit(submission(planOf("a")))
		w.open()
		if !w.tick().MailWaits {
			w.Fatal("it does not")
		}
		w.commit(&engine.Commit{Mail: keysOf(w.mail())})
		w.eventually("no mail waits", func() bool { return !w.tick().MailWaits })
	}},
}

// endPending cancels a run that nobody started.
func (w *world) endPending(id workflow.RunID) {
	w.Helper()
	run := w.load(id)
	w.advance(run, nil, workflow.Event{Kind: workflow.EventCancel, Actor: "ann"})
	if !run.Status.Ended() {
		w.Fatalf("a cancelled run that never started is %s", run.Status)
	}
}
