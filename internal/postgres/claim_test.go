package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// specified is a plan of independent tasks; each text is a name, and after it priority, queue and required tags, where given.
func specified(tasks ...string) *workflow.Plan {
	names := make([]string, len(tasks))
	for i, task := range tasks {
		names[i] = strings.Fields(task)[0]
	}
	plan := planOf(names...)
	for i, task := range tasks {
		spec := plan.Specs[i]
		for _, word := range strings.Fields(task)[1:] {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "priority":
				_, _ = fmt.Sscan(value, &spec.Priority)
			case "queue":
				spec.Queue = value
			case "requires":
				spec.Requires = strings.Split(value, ",")
			}
		}
	}
	return plan
}

func (w *world) wantClaim(session *agentSession, want, slack int, names string) []engine.ClaimedDelivery {
	w.Helper()
	deliveries := w.claim(session, want, slack)
	if got := namesOf(deliveries); got != names {
		w.Fatalf("claimed is %q, should be %q", got, names)
	}
	return deliveries
}

func TestClaimByPriorityAndAge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(specified("a priority=3", "b priority=1", "c", "d priority=1 queue=other", "e priority=4"))
	w.start(specified("f priority=1", "g priority=3 queue=other"))
	session := w.agent("one")
	w.wantClaim(session, 2, 0, "b d")
	w.wantClaim(session, 1, 0, "f")
	w.wantClaim(session, 9, 0, "c a g e")
	w.wantClaim(session, 9, 0, "")
}

func TestClaimWhatIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(specified("a", "b queue=gpu", "c requires=eu", "d queue=gpu requires=eu,ssd", "e queue=mail"))
	w.wantClaim(agentOf(w, w.backend, engine.AgentInfo{ID: "mail", Queues: []string{"mail", "none"}}), 9, 0, "e")
	w.wantClaim(agentOf(w, w.backend, engine.AgentInfo{ID: "eu", Queues: []string{"gpu"}, Tags: []string{"eu"}}), 9, 0, "b")
	w.wantClaim(agentOf(w, w.backend, engine.AgentInfo{ID: "both", Tags: []string{"ssd", "x", "eu"}}), 9, 0, "a c d")
}

func TestClaimSplits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pack = 6
	run := w.start(planOf("a", "b", "c", "d", "e", "f"))
	origin := ask[int64](w, "SELECT id FROM cyclonetix__state.dispatches")
	one, two := w.agent("one"), w.agent("two")
	first := w.wantClaim(one, 2, 0, "a b")
	// The rest keeps its place and its number.
	if rest := ask[string](w, "SELECT id || ' ' || n || ' ' || length(members) FROM cyclonetix__state.dispatches WHERE claimed_by IS NULL"); rest != fmt.Sprintf("%d 4 %d", origin, 4*memberSize) {
		t.Errorf("the rest is %s", rest)
	}
	w.wantClaim(two, 1, 2, "c")               // three more do not fit into a slack of two
	second := w.wantClaim(two, 1, 2, "d e f") // two more do
	if first[0].ID == origin || second[0].ID != origin {
		t.Errorf("of delivery %d were claimed %d and %d", origin, first[0].ID, second[0].ID)
	}
	for node, task := range slices.Concat(first[0].Tasks, second[0].Tasks) {
		if task.Run.ID != run.ID || task.Attempt != 1 || task.Delivery != 1 || node < 2 && task.Node != int32(node) { //nolint:gosec // small
			t.Errorf("claimed is %+v", task)
		}
	}
	w.wantClaim(one, 9, 9, "")
}

// Members, and what belongs to them, come through any number of splits in order, each once.
func TestClaimSplitsAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.agent("one")
	rapid.Check(t, func(r *rapid.T) {
		w.pack = rapid.IntRange(1, 9).Draw(r, "pack")
		count := rapid.IntRange(1, 20).Draw(r, "tasks")
		names := make([]string, count)
		for i := range names {
			names[i] = fmt.Sprintf("t%d", i)
		}
		w.start(planOf(names...))
		var got []string
		for len(got) < count {
			want, slack := rapid.IntRange(1, 8).Draw(r, "want"), rapid.IntRange(0, 4).Draw(r, "slack")
			deliveries := w.claim(session, want, slack)
			if taken := strings.Fields(namesOf(deliveries)); len(taken) == 0 || len(taken) > want+slack {
				r.Fatalf("of %d + %d were claimed %v", want, slack, taken)
			}
			got = append(got, strings.Fields(namesOf(deliveries))...)
			w.complete(session, deliveries)
		}
		if !slices.Equal(got, names) {
			r.Fatalf("claimed is %v", got)
		}
		w.turn()
		if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.dispatches"); left != 0 {
			r.Fatalf("%d deliveries are left", left)
		}
	})
}

// However many agents cut at the same deliveries: nobody gets what another has.
func TestAgentsNeverShare(t *testing.T) {
	t.Parallel()
	const rounds, tasks, agents = 6, 200, 6
	w := newWorld(t, func(o *Options) { o.MaxConnections = agents + 2 })
	w.pack = 40
	w.takeOver()
	sessions := make([]*agentSession, agents)
	for i := range sessions {
		sessions[i] = w.agent(fmt.Sprint(i))
	}
	for round := range rounds {
		run := w.start(wide(tasks))
		var mutex sync.Mutex
		holders := map[workflow.Member]int64{}
		var group sync.WaitGroup
		start := make(chan struct{})
		for number, session := range sessions {
			group.Go(func() {
				<-start
				for empty := 0; empty < 3; {
					claim, err := session.Claim(w.ctx, 1+(number+round)%4, number%2, workflow.Resources{})
					if err != nil {
						t.Error(err)
						return
					}
					if len(claim.Deliveries) == 0 {
						empty++
					}
					mutex.Lock()
					for _, delivery := range claim.Deliveries {
						for _, task := range delivery.Tasks {
							if other, taken := holders[task.Member]; taken {
								t.Errorf("%v was claimed by %d and by %d", task.Member, other, session.Incarnation())
							}
							holders[task.Member] = session.Incarnation()
						}
					}
					mutex.Unlock()
				}
			})
		}
		close(start)
		group.Wait()
		// One who found all rows locked by others may have left something.
		for _, delivery := range w.claim(sessions[0], tasks, tasks) {
			for _, task := range delivery.Tasks {
				if _, taken := holders[task.Member]; taken {
					t.Errorf("%v was claimed twice", task.Member)
				}
				holders[task.Member] = 0
			}
		}
		if len(holders) != tasks {
			t.Fatalf("%d of %d tasks of run %s were claimed", len(holders), tasks, run.ID)
		}
	}
}

func TestClaimOfADeadAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(planOf("a"))
	session := w.agent("one")
	w.must(w.backend.endAgent(w.ctx, session.incarnation, "lost"), "declare it dead")
	if _, err := session.Claim(w.ctx, 1, 0, workflow.Resources{}); !errors.Is(err, engine.ErrAgentLost) || errors.Is(err, engine.ErrUncertain) {
		t.Errorf("a claim says: %v", err)
	}
	if _, err := session.Beat(w.ctx); !errors.Is(err, engine.ErrAgentLost) {
		t.Errorf("a beat says: %v", err)
	}
	w.wantClaim(w.agent("two"), 1, 0, "a")
}

// Whoever declares an agent dead waits for its claim, and then sees what it took; or the claim finds nothing.
func TestDeathAgainstClaim(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	session := w.agent("one")
	// The claim was first: it is under way, with its answer sent and its commit not yet.
	claiming, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	if _, err := w.backend.queries.ClaimDispatches(w.ctx, w.backend.on(claiming), claimParams(session, 1)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.backend.endAgent(w.ctx, session.incarnation, "lost") }()
	w.eventually("the death waits", func() bool {
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
	w.must(claiming.Commit(w.ctx), "commit the claim")
	w.must(<-ended, "declare it dead")
	w.must(w.backend.tellLost(w.ctx), "tell")
	mail := w.read(true, 10)
	if len(mail) != 1 || mail[0].Kind != engine.MailLost || len(mail[0].Lost.Members) != 1 || mail[0].Lost.Agent != session.incarnation {
		t.Fatalf("told is %+v", mail)
	}
	w.must(w.answer(mail), "answer")
	if state := w.run(run.ID).Nodes[0]; state.Status != workflow.TaskQueued || state.Attempt != 2 || state.Rescued != 1 {
		t.Errorf("the task is %+v", state)
	}

	// The death was first: the claim waits for it, and takes nothing.
	second := w.agent("two")
	dying, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	_, err = dying.Exec(w.ctx, "UPDATE cyclonetix__state.agents SET status = 'lost', ended_at = now() WHERE incarnation = $1", second.incarnation)
	w.must(err, "declare it dead")
	claimed := make(chan error, 1)
	go func() {
		claim, err := second.Claim(w.ctx, 1, 0, workflow.Resources{})
		if err == nil {
			err = fmt.Errorf("it claimed %d deliveries", len(claim.Deliveries))
		}
		claimed <- err
	}()
	w.eventually("the claim waits", func() bool {
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
	w.must(dying.Commit(w.ctx), "commit the death")
	if err := <-claimed; !errors.Is(err, engine.ErrAgentLost) {
		t.Errorf("the claim says: %v", err)
	}
	w.wantClaim(w.agent("three"), 1, 0, "a")
}

// A claim that hangs, because its agent froze while it was sent the answer, does not hold up the judge.
func TestFrozenClaimHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(planOf("a"))
	session := w.agent("one")
	frozen, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	defer frozen.Rollback(w.ctx) //nolint:errcheck // its session is ended
	if _, err := w.backend.queries.ClaimDispatches(w.ctx, w.backend.on(frozen), claimParams(session, 1)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w.must(w.backend.endAgent(w.ctx, session.incarnation, "lost"), "declare it dead")
	if took := time.Since(start); took > 1500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	w.wantClaim(w.agent("two"), 1, 0, "a")
}

// A claim that took nothing because another holds what there is comes again at once, but not for ever.
func TestClaimWhileAnotherHoldsAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(specified("a"))
	session := w.agent("one")
	other, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	defer other.Rollback(w.ctx) //nolint:errcheck // it writes nothing
	_, err = other.Exec(w.ctx, "SELECT FROM cyclonetix__state.dispatches FOR UPDATE")
	w.must(err, "hold the delivery")
	select {
	case <-session.Wake(): // of the registration
	default:
	}
	times := 0
	for again := true; again; times++ {
		w.wantClaim(session, 1, 0, "")
		select {
		case <-session.Wake():
		default:
			again = false
		}
	}
	if times != 1+mostMissed {
		t.Errorf("it claims %d times, should %d times", times, 1+mostMissed)
	}
	w.wantClaim(session, 1, 0, "")
	w.must(other.Rollback(w.ctx), "let it go")
	<-session.Wake()
	w.wantClaim(session, 1, 0, "a")
	w.wantClaim(session, 1, 0, "")
	select {
	case <-session.Wake():
		t.Error("it claims again, and there is nothing")
	default:
	}
}

// An idle agent costs the server no write, whether there is nothing at all or nothing for it.
func TestEmptyClaimWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	session := agentOf(w, w.backend, engine.AgentInfo{ID: "one", Queues: []string{"mine"}})
	check := func() {
		t.Helper()
		locked := `SELECT coalesce(sum(xmax::text::bigint), 0)::bigint FROM cyclonetix__state.agents`
		before := ask[int64](w, locked)
		for range 5 {
			w.wantClaim(session, 4, 0, "")
		}
		// A lock on the agent's row would show, and with it the number of a transaction, and WAL.
		if after := ask[int64](w, locked); after != before {
			t.Error("the agent's row was locked")
		}
	}
	check()
	w.start(specified("a queue=others", "b queue=mine requires=tag"))
	check()
}

func claimParams(session *agentSession, want int32) db.ClaimDispatchesParams {
	return db.ClaimDispatchesParams{Agent: session.incarnation, Want: want, Most: want, After: session.lastClaim}
}

// The connection breaks at any moment of a claim: what was taken is found again, and nothing is taken twice.
func TestClaimsThatBreakOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.open() // the agent has a connection of its own
	config := other.pool.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "claims"
	pool, err := poolOf(w.ctx, config)
	w.must(err, "connect")
	other.pool.Close()
	other.pool = pool
	w.takeOver()
	w.pack = 7
	session := agentOf(w, other, engine.AgentInfo{ID: "one"})
	failures := 0
	rapid.Check(t, func(r *rapid.T) {
		count := rapid.IntRange(1, 30).Draw(r, "tasks")
		run := w.start(wide(count))
		got := map[workflow.Member]bool{}
		for tries := 0; len(got) < count; tries++ {
			if tries > 1000 {
				r.Fatalf("only %d of %d are ever claimed", len(got), count)
			}
			killed := make(chan error, 1)
			breaks := tries < 3
			if breaks {
				delay := time.Duration(rapid.IntRange(0, 1500).Draw(r, "microseconds")) * time.Microsecond
				go func() {
					time.Sleep(delay)
					_, err := w.sql.Exec(w.ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'claims'`)
					killed <- err
				}()
			}
			claim, err := session.Claim(w.ctx, rapid.IntRange(1, 9).Draw(r, "want"), 0, workflow.Resources{})
			if breaks {
				w.must(<-killed, "end the connection")
			}
			if err != nil {
				if errors.Is(err, engine.ErrAgentLost) || errors.Is(err, engine.ErrRefused) {
					r.Fatal(err)
				}
				failures++
				continue
			}
			for i := range claim.Deliveries {
				for _, task := range claim.Deliveries[i].Tasks {
					if got[task.Member] || task.Run.ID != run.ID {
						r.Fatalf("%v is given twice", task.Member)
					}
					got[task.Member] = true
				}
				// Not by the session, whose connection may be broken still.
				report := packReport(reportOf(session, &claim.Deliveries[i]))
				w.exec("INSERT INTO cyclonetix__state.mailbox (bucket, kind, body) VALUES ($1, 2, $2)", claim.Deliveries[i].ReplyTo, report)
			}
			// Some are reported and still in the table, others are gone.
			if rapid.Bool().Draw(r, "the writer turns") {
				w.turn()
			}
		}
		w.turn()
		if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.dispatches"); left != 0 {
			r.Fatalf("%d deliveries are left", left)
		}
	})
	t.Logf("%d claims failed", failures)
}

// A claim whose answer is lost is found by its time, which is later than the one before even if the clock was set back.
func TestLostClaimAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(planOf("a", "b"))
	session := w.agent("one")
	w.wantClaim(session, 1, 0, "a")
	ahead := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	session.lastClaim = ahead // as if the clock had stood there
	cable := w.throughCutter()
	cable.set(false, true)
	if _, err := session.Claim(w.ctx, 1, 0, workflow.Resources{}); !errors.Is(err, engine.ErrUncertain) {
		t.Fatalf("the claim says: %v", err)
	}
	cable.set(false, false)
	found := w.wantClaim(session, 1, 0, "b")
	if !found[0].ClaimedAt.After(ahead) {
		t.Errorf("it is of %v", found[0].ClaimedAt)
	}
	w.wantClaim(session, 1, 0, "")
}

// The values of a run reach its tasks, whatever the session has known and forgotten of other runs.
func TestClaimKeepsValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	with := submission(planOf("a", "b"))
	with.Name, with.Values = "named", workflow.RunValues{Env: map[string]string{"K": "V"}}
	w.submit(with)
	w.turn()
	session := w.agent("one")
	check := func(deliveries []engine.ClaimedDelivery) {
		t.Helper()
		for _, delivery := range deliveries {
			for _, task := range delivery.Tasks {
				if named := task.Run.Name == "named"; named != (task.Run.Values.Env["K"] == "V") || named != (task.Spec.TaskID != "c") {
					t.Errorf("task %s is of run %+v", task.Spec.TaskID, task.Run)
				}
			}
		}
	}
	check(w.wantClaim(session, 1, 0, "a"))
	// It is full now, and makes room in the middle of a claim that needs what it knows.
	for number := len(session.runs); number <= maxKnownRuns; number++ {
		id := workflow.NewRunID(time.Now(), 0)
		session.runs[id] = knownRun{RunInfo: &engine.RunInfo{ID: id}}
	}
	w.start(planOf("c"))
	check(w.wantClaim(session, 2, 0, "b c"))
}

// A delivery that can't be read stops neither its agent nor its writer, and what it held is queued anew.
func TestDamagedDelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	damaged := w.start(planOf("damaged"))
	w.exec(`UPDATE cyclonetix__state.dispatches SET members = '\xffff00000000000000010001'`)
	w.start(planOf("good"))
	w.start(planOf("classless"))
	w.exec("UPDATE cyclonetix__state.dispatches SET class = -1 WHERE id = (SELECT max(id) FROM cyclonetix__state.dispatches)")
	if deliveries, err := w.writer.Dispatched(w.ctx); err != nil || len(deliveries) != 1 {
		t.Fatalf("the writer finds %+v, %v", deliveries, err)
	}
	session := w.agent("one")
	w.wantClaim(session, 9, 9, "good")
	// The writer gives up what it believes, and then all is in order.
	if mail, err := w.writer.ReadMail(w.ctx, true, 100); !errors.Is(err, engine.ErrFenced) {
		t.Fatalf("the writer reads %+v, %v", mail, err)
	}
	w.must(w.writer.Close(w.ctx), "close")
	w.takeOver()
	if mail := w.turn(); len(mail) != 1 || mail[0].Kind != engine.MailLost || len(mail[0].Lost.Members) != 0 {
		t.Fatalf("the next one reads %+v", mail)
	}
	deliveries, err := w.writer.Dispatched(w.ctx)
	w.must(err, "load the queue")
	for _, delivery := range deliveries {
		if delivery.Members[0].Run == damaged.ID {
			t.Errorf("the damaged delivery is there still: %+v", delivery)
		}
	}
	runs, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{damaged.ID})
	if err != nil || len(runs) != 1 || len(runs[0].Queued()) != 1 {
		t.Errorf("its run is %+v, %v", runs, err)
	}
}

// What can't be run because it is damaged fails, and holds up nothing else.
func TestClaimOfDamagedTasks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	broken := submission(planOf("x", "y"))
	broken.Values = workflow.RunValues{Env: map[string]string{"K": "V"}}
	id := w.submit(broken)[0].ID
	gone := w.submit(submission(planOf("z")))[0].ID
	w.pack = 3
	w.turn()
	w.start(planOf("good"))
	w.exec(`UPDATE cyclonetix__state.runs SET run_values = '"text"' WHERE run_id = $1`, id.String())
	w.exec("DELETE FROM cyclonetix__state.task_specs WHERE task_id = 'z'")
	session := w.agent("one")
	deliveries := w.claim(session, 9, 0)
	if got := namesOf(deliveries); got != "good" {
		t.Fatalf("claimed is %q", got)
	}
	w.complete(session, deliveries)
	w.turn()
	for _, run := range []workflow.RunID{id, gone} {
		if view := w.view(run); view.Status != workflow.RunFailed {
			t.Errorf("run %s is %s", run, view.Status)
		}
	}
	if left := ask[int](w, "SELECT count(*) FROM cyclonetix__state.dispatches"); left != 0 {
		t.Errorf("%d deliveries are left", left)
	}
}

// An agent that comes back under its name before anyone noticed its death replaces its former life.
func TestAgentReplacesItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(planOf("a"))
	former := w.agent("one")
	w.wantClaim(former, 1, 0, "a")
	next := agentOf(w, w.open(), engine.AgentInfo{ID: "one"})
	if _, err := former.Beat(w.ctx); !errors.Is(err, engine.ErrAgentLost) {
		t.Errorf("the former life hears: %v", err)
	}
	w.turn()
	deliveries := w.wantClaim(next, 1, 0, "a")
	if deliveries[0].Tasks[0].Attempt != 2 {
		t.Errorf("it has attempt %d", deliveries[0].Tasks[0].Attempt)
	}
	// Many at once: one of them lives.
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			session, err := w.backend.OpenAgent(w.ctx, engine.AgentInfo{ID: "one", Slots: 1, HeartbeatInterval: time.Minute, Version: "1"})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = session.Close(context.WithoutCancel(w.ctx)) })
		})
	}
	group.Wait()
	if live := ask[int](w, "SELECT count(*) FROM cyclonetix__state.agents WHERE status = 'live'"); live != 1 {
		t.Errorf("%d of them live", live)
	}
}
