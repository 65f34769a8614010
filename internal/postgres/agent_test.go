package postgres

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func membersOf(orders []engine.Order) []int32 {
	nodes := make([]int32, len(orders))
	for i := range orders {
		nodes[i] = orders[i].Node
	}
	slices.Sort(nodes)
	return nodes
}

// An order to kill goes to whoever holds a part of the run's delivery, and stays until it was carried out.
func TestKillOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pack = 4
	run := w.start(planOf("a", "b", "c", "d"))
	w.start(planOf("other"))
	one, two, three := w.agent("one"), w.agent("two"), w.agent("three")
	w.wantClaim(one, 1, 0, "a")
	second := w.wantClaim(two, 2, 0, "b c")
	w.wantClaim(three, 2, 0, "d other")
	at := w.writer.Now()
	member := func(node int32) workflow.Member {
		return workflow.Member{Run: run.ID, Node: node, Attempt: 1, Delivery: 1}
	}
	commit := func() {
		t.Helper()
		_, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Orders: []engine.KillOrder{{Member: member(1)}, {Member: member(2)}}})
		w.must(err, "commit")
	}
	for _, session := range []*agentSession{one, two, three} {
		hush(session.Wake())
	}
	commit()
	for _, session := range []*agentSession{one, two, three} {
		w.hears(session.Wake(), "an order")
	}
	claim, err := two.Claim(w.ctx, 1, 0, workflow.Resources{})
	w.must(err, "claim")
	if got := membersOf(claim.Orders); !slices.Equal(got, []int32{1, 2}) || claim.Orders[0].Kind != engine.OrderKill || claim.Orders[0].Run != run.ID || claim.Orders[0].Attempt != 1 || claim.Orders[0].Delivery != 1 {
		t.Fatalf("with a claim come the orders %+v", claim.Orders)
	}
	orders, err := two.Beat(w.ctx)
	if err != nil || len(orders) != 2 {
		t.Fatalf("with a beat come the orders %+v, %v", orders, err)
	}
	// They are forgotten with the report of what was done, its logs, and its ends.
	report := reportOf(two, &second[0])
	w.must(two.Report(w.ctx, report, nil, []int64{orders[0].ID, orders[1].ID}), "report")
	if orders, err := two.Beat(w.ctx); err != nil || len(orders) > 0 {
		t.Fatalf("then come the orders %+v, %v", orders, err)
	}
	// Those who hold none of the two get them as well, which does no harm; those of other runs get none.
	if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.orders WHERE agent NOT IN ($1, $2)", one.incarnation, three.incarnation); left != 0 {
		t.Errorf("%d orders are for others", left)
	}
	w.must(three.Close(w.ctx), "close")
	w.exec("DELETE FROM cyclonetix__state.orders")
	commit()
	if lost := ask[int](w, "SELECT count(*) FROM cyclonetix__state.orders WHERE agent = $1", three.incarnation); lost != 0 {
		t.Errorf("%d orders are for a dead agent", lost)
	}
}

// A cancel against a claim: what was not claimed is withdrawn, whole, and the rest is known to be claimed.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pack = 4
	run := w.start(planOf("a", "b", "c", "d"))
	session := w.agent("one")
	w.wantClaim(session, 1, 0, "a")
	result, err := w.writer.Commit(w.ctx, &engine.Commit{At: w.writer.Now(), Withdraw: []workflow.RunID{run.ID}})
	w.must(err, "commit")
	if len(result.Withdrawn) != 1 || len(result.Withdrawn[0].Members) != 3 || result.Withdrawn[0].Members[0].Node != 1 || result.Withdrawn[0].Class.Queue != workflow.DefaultQueue {
		t.Fatalf("withdrawn is %+v", result.Withdrawn)
	}
	w.wantClaim(session, 9, 0, "")
	deliveries, err := w.writer.Dispatched(w.ctx)
	if err != nil || len(deliveries) != 1 || !deliveries[0].Claimed || deliveries[0].Members[0].Node != 0 {
		t.Errorf("in the table is %+v, %v", deliveries, err)
	}
}

// A report that is sent again, because its answer was lost, changes nothing.
func TestReportTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a", "b: a"))
	session := w.agent("one")
	deliveries := w.wantClaim(session, 1, 0, "a")
	report := reportOf(session, &deliveries[0])
	logs := []engine.LogChunk{{Run: run.ID, Attempt: 1, Seq: 1, Time: w.writer.Now(), Stream: engine.StreamStdout, Body: []byte("once")}}
	cable := w.throughCutter()
	cable.set(false, true)
	if err := session.Report(w.ctx, report, logs, []int64{1}); !errors.Is(err, engine.ErrUncertain) {
		t.Fatalf("the report says: %v", err)
	}
	cable.set(false, false)
	w.must(session.Report(w.ctx, report, logs, []int64{1}), "report again")
	w.turn()
	w.must(session.Report(w.ctx, report, logs, []int64{1}), "and again")
	w.turn()
	w.drain(session)
	view := w.view(run.ID)
	if view.Status != workflow.RunCompleted || view.CompletedTasks != 2 {
		t.Errorf("the run is %+v", view)
	}
	if chunks, err := w.backend.Logs(w.ctx, run.ID, 0, engine.LogPlace{}, 10); err != nil || len(chunks) != 1 {
		t.Errorf("the log has %d chunks, %v", len(chunks), err)
	}
	if rows := ask[int](w, "SELECT count(*) FROM cyclonetix__state.dispatches"); rows != 0 {
		t.Errorf("%d deliveries are left", rows)
	}
}

// Chunks come in the order of attempts and numbers, page by page, however they were written.
func TestLogsInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a", "b"))
	session := w.agent("one")
	at := w.writer.Now()
	chunk := func(node int32, attempt uint16, seq int32) engine.LogChunk {
		return engine.LogChunk{
			Run: run.ID, Node: node, Attempt: attempt, Seq: seq, Time: at.Add(time.Duration(seq)), Stream: engine.Stream(1 + seq%3), Body: []byte{0, 0xff, byte(attempt), byte(seq)},
		}
	}
	w.must(session.WriteLogs(w.ctx, []engine.LogChunk{chunk(0, 2, 1), chunk(0, 1, 9), chunk(1, 1, 1)}), "write")
	w.must(session.WriteLogs(w.ctx, nil), "write nothing")
	w.must(session.Report(w.ctx, &engine.Report{}, []engine.LogChunk{chunk(0, 1, 3), chunk(0, 1, 10), chunk(0, 1, 9), chunk(0, 1, 3)}, nil), "report")
	var places []engine.LogPlace
	var after engine.LogPlace
	for {
		page, err := w.backend.Logs(w.ctx, run.ID, 0, after, 2)
		w.must(err, "read")
		if len(page) == 0 {
			break
		}
		for _, got := range page {
			after = engine.LogPlace{Attempt: got.Attempt, Seq: got.Seq}
			places = append(places, after)
			if want := chunk(0, got.Attempt, got.Seq); !slices.Equal(got.Body, want.Body) || got.Stream != want.Stream || got.Run != run.ID || got.Time.Sub(want.Time).Abs() > time.Microsecond {
				t.Errorf("a chunk came as %+v", got)
			}
		}
	}
	if want := []engine.LogPlace{{Attempt: 1, Seq: 3}, {Attempt: 1, Seq: 9}, {Attempt: 1, Seq: 10}, {Attempt: 2, Seq: 1}}; !slices.Equal(places, want) {
		t.Errorf("the places are %v", places)
	}
}

// What a dead agent held is told once to its writer, whoever finds it and however often.
func TestLostAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pack = 2
	run := w.start(planOf("a", "b", "c"))
	session := w.agent("one")
	w.wantClaim(session, 3, 0, "a b c")
	w.exec("UPDATE cyclonetix__state.agents SET process = $1", deadProcess(t))
	for range 3 {
		if _, err := w.writer.Tick(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.must(w.backend.tellLost(w.ctx), "tell")
	}
	mail := w.read(true, 10)
	members := 0
	for i := range mail {
		if mail[i].Kind != engine.MailLost || mail[i].Lost.Agent != session.incarnation || mail[i].Lost.ClaimedAt.IsZero() {
			t.Fatalf("told is %+v", mail[i])
		}
		members += len(mail[i].Lost.Members)
	}
	if len(mail) != 2 || members != 3 {
		t.Fatalf("told is %+v", mail)
	}
	w.must(w.answer(mail), "answer")
	// One who died between declaring it dead and telling leaves that to the next sweep.
	next := w.agent("two")
	w.wantClaim(next, 3, 0, "a b c")
	w.must(w.backend.endAgent(w.ctx, next.incarnation, "lost"), "declare it dead")
	w.writer.group.sweptAt = time.Time{}
	tick, err := w.writer.Tick(w.ctx)
	if err != nil || len(tick.Agents) != 0 {
		t.Fatalf("the tick knows of %+v, %v", tick.Agents, err)
	}
	w.turn()
	for node, state := range w.run(run.ID).Nodes {
		if state.Attempt != 3 || state.Rescued != 2 {
			t.Errorf("node %d is %+v", node, state)
		}
	}
}

func TestTickKnowsAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	info := engine.AgentInfo{ID: "one", Queues: []string{"gpu", "mail"}, Tags: []string{"ssd", "eu"}, Slots: 3, Version: "1.0", HeartbeatInterval: 1500 * time.Millisecond}
	session := agentOf(w, w.backend, info)
	tick, err := w.writer.Tick(w.ctx)
	w.must(err, "tick")
	if len(tick.Agents) != 1 {
		t.Fatalf("the tick knows of %+v", tick.Agents)
	}
	if got := tick.Agents[0]; got.ID != info.ID || !slices.Equal(got.Queues, info.Queues) || !slices.Equal(got.Tags, []string{"eu", "ssd"}) || got.Slots != 3 || got.HeartbeatInterval != info.HeartbeatInterval {
		t.Errorf("the agent is %+v", got)
	}
	w.must(session.Close(w.ctx), "close")
	if tick, err := w.writer.Tick(w.ctx); err != nil || len(tick.Agents) != 0 {
		t.Errorf("then it knows of %+v, %v", tick.Agents, err)
	}
}

func TestDueTimers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a", "b"))
	at := w.writer.Now()
	soon, later := workflow.Timer{Node: 0, Kind: workflow.TimerRetry, Due: at}, workflow.Timer{Node: 1, Kind: workflow.TimerRetry, Due: at.Add(time.Hour)}
	commit := func(change *workflow.Change) {
		t.Helper()
		change.ID = run.ID
		_, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Changes: []*workflow.Change{change}})
		w.must(err, "commit")
	}
	due := func() []engine.DueTimer {
		t.Helper()
		tick, err := w.writer.Tick(w.ctx)
		w.must(err, "tick")
		return tick.Due
	}
	commit(&workflow.Change{SetTimers: []workflow.Timer{soon, later}})
	if got := due(); len(got) != 1 || got[0].Run != run.ID || got[0].Node != 0 || got[0].Kind != soon.Kind || !got[0].Due.Equal(soon.Due) {
		t.Errorf("due is %+v", got)
	}
	soon.Due, later.Due = later.Due, at
	commit(&workflow.Change{SetTimers: []workflow.Timer{soon, later}})
	if got := due(); len(got) != 1 || got[0].Node != 1 {
		t.Errorf("then due is %+v", got)
	}
	commit(&workflow.Change{DropTimers: []workflow.Timer{{Node: 1, Kind: workflow.TimerRetry}, {Node: 5, Kind: workflow.TimerRetry}}})
	if got := due(); len(got) != 0 {
		t.Errorf("at last due is %+v", got)
	}
}
