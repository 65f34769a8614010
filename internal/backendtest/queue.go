package backendtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var queueTests = []test{
	{name: "work is claimed by priority, then by age", run: func(w *world) {
		plan := planOf("a", "b", "c", "d", "e")
		for number, priority := range []int{3, 1, 2, 1, 4} {
			plan.Specs[number].Priority = priority
		}
		w.start(plan)
		later := planOf("f")
		later.Specs[0].Priority = 1
		w.start(later)
		session := w.agent("one")
		w.wantNames(w.claim(session, 2, 0), "b d")
		w.wantNames(w.claim(session, 3, 0), "f c a")
		w.wantNames(w.claim(session, 3, 0), "e")
		w.wantNames(w.claim(session, 3, 0), "")
	}},
	{name: "an agent gets what its queues and tags allow", run: func(w *world) {
		plan := planOf("plain", "gpu", "tagged", "both")
		plan.Specs[1].Queue = "gpu"
		plan.Specs[2].Requires = []string{"eu"}
		plan.Specs[3].Requires = []string{"eu", "ssd"}
		w.start(plan)
		w.wantNames(w.claim(w.agentOf(engine.AgentInfo{ID: "none", Queues: []string{"another"}, Tags: []string{"eu", "ssd"}}), 9, 0), "")
		w.wantNames(w.claim(w.agentOf(engine.AgentInfo{ID: "gpu", Queues: []string{"gpu", "another"}}), 9, 0), "gpu")
		w.wantNames(w.claim(w.agentOf(engine.AgentInfo{ID: "plain", Queues: []string{"default"}}), 9, 0), "plain")
		w.wantNames(w.claim(w.agentOf(engine.AgentInfo{ID: "eu", Tags: []string{"x", "eu"}}), 9, 0), "tagged")
		w.wantNames(w.claim(w.agentOf(engine.AgentInfo{ID: "all", Tags: []string{"ssd", "eu"}}), 9, 0), "both")
	}},
	{name: "a claim takes as many tasks as it asks for, and what is too large is split", run: func(w *world) {
		w.startPacked(6)
		one, other := w.agent("one"), w.agent("other")
		first := w.claim(one, 2, 0)
		w.wantNames(first, "t0 t1")
		rest := w.claim(other, 9, 0)
		w.wantNames(rest, "t2 t3 t4 t5")
		if len(first) != 1 || len(rest) != 1 || first[0].ID == rest[0].ID {
			w.Fatalf("the parts are %+v and %+v", first, rest)
		}
		deliveries := w.dispatched()
		if len(deliveries) != 2 {
			w.Fatalf("the queue holds %+v", deliveries)
		}
		for _, delivery := range deliveries {
			if !delivery.Claimed || len(delivery.Members) != map[int64]int{first[0].ID: 2, rest[0].ID: 4}[delivery.ID] {
				w.Errorf("a part is %+v", delivery)
			}
		}
	}},
	{name: "what is left of a split delivery keeps its place", run: func(w *world) {
		w.startPacked(4)
		w.start(planOf("later"))
		session := w.agent("one")
		w.wantNames(w.claim(session, 1, 0), "t0")
		w.wantNames(w.claim(session, 2, 0), "t1 t2")
		w.wantNames(w.claim(session, 2, 0), "t3 later")
	}},
	{name: "with slack the last delivery is taken whole", run: func(w *world) {
		w.startPacked(4)
		w.start(planOf("later"))
		w.wantNames(w.claim(w.agent("one"), 2, 1), "t0 t1")
		w.wantNames(w.claim(w.agent("other"), 1, 1), "t2 t3")
	}},
	{name: "a member is claimed once, whoever asks", run: func(w *world) {
		const agents, members = 4, 40
		w.startPacked(members)
		var group sync.WaitGroup
		var mutex sync.Mutex
		claimed := map[workflow.Member]int{}
		for number := range agents {
			session := w.agent(fmt.Sprintf("agent-%d", number))
			group.Go(func() {
				for range members {
					claim, err := session.Claim(w.ctx, 1+number, 0, workflow.Resources{})
					if err != nil {
						w.Errorf("claim: %v", err)
						return
					}
					mutex.Lock()
					for _, delivery := range claim.Deliveries {
						for _, task := range delivery.Tasks {
							claimed[task.Member]++
						}
					}
					mutex.Unlock()
				}
			})
		}
		group.Wait()
		if len(claimed) != members {
			w.Errorf("%d of %d members were claimed", len(claimed), members)
		}
		for member, times := range claimed {
			if times != 1 {
				w.Errorf("%v was claimed %d times", member, times)
			}
		}
	}},
	{name: "a claim says all that is needed to run a task", run: func(w *world) {
		of := submission(planOf("a"))
		of.Name = "named"
		of.Values = workflow.RunValues{
			Variables:  map[string]workflow.Value{"V": `"1"`, "N": `[1,2]`},
			Parameters: map[string]map[string]workflow.Value{"a": {"P": `2`}},
			Env:        map[string]string{"E": "3"},
		}
		of.Plan.Specs[0] = &workflow.TaskSpec{
			TaskID: "a", Command: "echo \"$P\"\n", Queue: "default", Priority: 1, TimeoutSeconds: 1.5,
			Retries: workflow.Retries{Count: 2, DelaySeconds: 1}, Parameters: map[string]workflow.Value{"P": `"x"`}, Env: map[string]string{"A": "b"},
		}
		body, _ := of.Plan.Specs[0].Encode()
		run := w.startOf(of)
		deliveries := w.claim(w.agent("one"), 1, 0)
		if len(deliveries) != 1 || len(deliveries[0].Tasks) != 1 {
			w.Fatalf("claimed is %+v", deliveries)
		}
		delivery, task := deliveries[0], deliveries[0].Tasks[0]
		if delivery.ID != w.deliveries[member(run, 0)] || delivery.ReplyTo != w.writer.ReplyTo(run.ID.Bucket()) || task.Member != member(run, 0) {
			w.Errorf("the delivery is %+v", delivery)
		}
		if since := w.now().Sub(delivery.ClaimedAt); since < -patience || since > patience {
			w.Errorf("it was claimed %v ago", since)
		}
		if got, _ := task.Spec.Encode(); string(got) != string(body) {
			w.Errorf("the specification is %s, should be %s", got, body)
		}
		if task.Run.ID != run.ID || task.Run.Name != "named" || task.Run.DAG != "dag" {
			w.Errorf("the run is %+v", task.Run)
		}
		if values := task.Run.Values; values == nil || values.Env["E"] != "3" || values.Parameters["a"]["P"] != "2" ||
			values.Variables["V"] != `"1"` || values.Variables["N"] != `[1,2]` {
			w.Errorf("the values are %+v", values)
		}
	}},
	{name: "a run without name and values is told by its UUID", run: func(w *world) {
		run := w.start(planOf("a"))
		task := w.claim(w.agent("one"), 1, 0)[0].Tasks[0]
		if task.Run.Name != run.ID.String() || task.Run.DAG != "dag" || task.Run.Values != nil && !task.Run.Values.IsZero() {
			w.Fatalf("the run is %+v", task.Run)
		}
	}},
	{name: "new work rings agents that serve it", run: func(w *world) {
		w.open()
		session := w.agent("one")
		w.tick()
		w.wantNames(w.claim(session, 1, 0), "")
		quiet(session.Wake())
		w.start(planOf("a"))
		w.rings(session.Wake(), "work")
		w.wantNames(w.claim(session, 1, 0), "a")
	}},
	{name: "what is removed is gone, claimed or not", run: func(w *world) {
		run := w.start(planOf("a", "b"))
		session := w.agent("one")
		w.wantNames(w.claim(session, 1, 0), "a")
		w.commit(&engine.Commit{Remove: w.keys(member(run, 0), member(run, 1))})
		if left := w.dispatched(); len(left) > 0 {
			w.Fatalf("the queue holds %+v", left)
		}
		w.wantNames(w.claim(session, 1, 0), "")
		w.commit(&engine.Commit{Remove: w.keys(member(run, 0))}) // once more does no harm
	}},
	{name: "a withdrawal takes out what nobody claimed of a run, and tells what that was", run: func(w *world) {
		run := w.start(planOf("a", "b", "c"))
		w.start(planOf("other"))
		session := w.agent("one")
		w.wantNames(w.claim(session, 1, 0), "a")
		withdrawn := w.commit(&engine.Commit{Withdraw: []workflow.RunID{run.ID}}).Withdrawn
		if len(withdrawn) != 2 {
			w.Fatalf("withdrawn is %+v", withdrawn)
		}
		for _, got := range withdrawn {
			node := got.Members[0].Node
			if got.ID != w.deliveries[member(run, node)] || got.Claimed || got.Class.Queue != "default" || got.Priority != workflow.DefaultPriority ||
				len(got.Members) != 1 || got.Members[0].Member != member(run, node) || got.Members[0].Spec != run.Graph.Scheduling(node).Spec ||
				got.Members[0].DAG != "dag" || node == 0 {
				w.Errorf("withdrawn is %+v", got)
			}
		}
		w.wantNames(w.claim(session, 9, 0), "other")
		if again := w.commit(&engine.Commit{Withdraw: []workflow.RunID{run.ID}}).Withdrawn; len(again) > 0 {
			w.Errorf("withdrawn once more is %+v", again)
		}
	}},
	{name: "a withdrawal leaves the part of a delivery that was claimed before", run: func(w *world) {
		run := w.startPacked(4)
		session := w.agent("one")
		w.wantNames(w.claim(session, 1, 0), "t0")
		withdrawn := w.commit(&engine.Commit{Withdraw: []workflow.RunID{run.ID}}).Withdrawn
		if len(withdrawn) != 1 || len(withdrawn[0].Members) != 3 || withdrawn[0].Members[0].Member != member(run, 1) {
			w.Fatalf("withdrawn is %+v", withdrawn)
		}
		if left := w.dispatched(); len(left) != 1 || !left[0].Claimed || left[0].Members[0].Member != member(run, 0) {
			w.Fatalf("left is %+v", left)
		}
	}},
	{name: "a withdrawal gives back the members of other runs in the same delivery", run: func(w *world) {
		one, other := w.shared()
		withdrawn := w.commit(&engine.Commit{Withdraw: []workflow.RunID{one.ID}}).Withdrawn
		if len(withdrawn) != 1 || len(withdrawn[0].Members) != 2 || withdrawn[0].Members[1].Member != member(other, 0) ||
			withdrawn[0].Members[1].Spec != other.Graph.Scheduling(0).Spec {
			w.Fatalf("withdrawn is %+v", withdrawn)
		}
	}},
	{name: "the queue is seen as the writer put it there", run: func(w *world) {
		plan := planOf("a", "b")
		plan.Specs[1].Queue, plan.Specs[1].Priority, plan.Specs[1].Requires = "gpu", 4, []string{"eu", "ssd"}
		of := submission(plan)
		of.Name = "named"
		run := w.startOf(of)
		deliveries := w.dispatched()
		if len(deliveries) != 2 {
			w.Fatalf("the queue holds %+v", deliveries)
		}
		for _, delivery := range deliveries {
			node := delivery.Members[0].Node
			want := []engine.Class{{Queue: "default"}, {Queue: "gpu", Requires: "eu,ssd"}}[node]
			member := engine.DispatchMember{Member: member(run, node), Spec: run.Graph.Scheduling(node).Spec, DAG: "dag", Values: 1}
			if delivery.Class != want || delivery.Priority != plan.Specs[node].Priority || delivery.Claimed ||
				!slices.Equal(delivery.Members, []engine.DispatchMember{member}) {
				w.Errorf("the delivery is %+v", delivery)
			}
		}
	}},
	{name: "a delivery may hold members of several runs", run: func(w *world) {
		one, other := w.shared()
		deliveries := w.claim(w.agent("one"), 2, 0)
		w.wantNames(deliveries, "a b")
		if tasks := deliveries[0].Tasks; tasks[0].Run.ID != one.ID || tasks[1].Run.ID != other.ID {
			w.Fatalf("claimed is %+v", tasks)
		}
	}},
}

// startPacked starts a run of tasks t0, t1…, all in one delivery.
func (w *world) startPacked(count int) *workflow.Run {
	w.Helper()
	nodes := make([]string, count)
	for number := range nodes {
		nodes[number] = fmt.Sprintf("t%d", number)
	}
	w.open()
	id := w.submit(submission(planOf(nodes...)))[0].ID
	mail := w.mailOf(engine.MailSubmit)
	run := w.load(id)
	change := w.decide(run, workflow.Event{Kind: workflow.EventStart})
	w.commit(&engine.Commit{Changes: []*workflow.Change{change}, Dispatches: w.dispatches(run, change.Queue, count), Mail: []engine.MailKey{mail.Key}})
	run.Apply(change)
	if got := w.dispatched(); len(got) != 1 || len(got[0].Members) != count {
		w.Fatalf("the queue holds %d deliveries: %s", len(got), strings.Join(nodes, " "))
	}
	return run
}

// shared starts two runs, "a" and "b", with one delivery for both.
func (w *world) shared() (one, other *workflow.Run) {
	w.Helper()
	one, other = w.start(planOf("a")), w.start(planOf("b"))
	for w.writer.ReplyTo(one.ID.Bucket()) != w.writer.ReplyTo(other.ID.Bucket()) {
		w.commit(&engine.Commit{Refused: []engine.RefusedRun{{ID: other.ID, Reason: "its reports go elsewhere"}}, Remove: w.keys(member(other, 0))})
		other = w.start(planOf("b"))
	}
	w.commit(&engine.Commit{Remove: w.keys(member(one, 0), member(other, 0))})
	both := w.dispatches(one, []workflow.Member{member(one, 0)}, 1)
	both[0].Members = append(both[0].Members, w.dispatches(other, []workflow.Member{member(other, 0)}, 1)[0].Members...)
	w.commit(&engine.Commit{Dispatches: both})
	return one, other
}
