package backendtest

import (
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var viewTests = []test{
	{name: "a run that is not there is an error that names it", run: func(w *world) {
		for _, id := range []string{"nobody", "", workflow.NewRunID(time.Now(), 1).String()} {
			_, err := w.backend.FindRun(w.ctx, id)
			var unknown *engine.UnknownRunError
			if !errors.Is(err, engine.ErrNotFound) || !errors.As(err, &unknown) || unknown.ID != id {
				w.Errorf("finding %q gives %v", id, err)
			}
		}
	}},
	{name: "a backend that works answers", run: func(w *world) {
		w.must(w.backend.Ping(w.ctx), "ping")
	}},
	{name: "what a pending run needs in order to begin", run: func(w *world) {
		of := submission(planOf("a"))
		of.DAG, of.Pin = "daily", "dag/daily"
		of.Options.Groups = []workflow.RunGroup{{Name: "dag/daily", MaxActive: 1}}
		of.Options.After = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		run := w.submit(of)[0].ID
		check := func(orchestrated bool) {
			pending, err := w.backend.Pending(w.ctx, run)
			w.must(err, "read what it needs")
			if pending.Orchestrated != orchestrated || !slices.Equal(pending.Groups, of.Options.Groups) || !pending.After.Equal(of.Options.After) {
				w.Errorf("it needs %+v", pending)
			}
		}
		check(false)
		w.open()
		check(true)
		w.must(w.writer.Close(w.ctx), "close")
		check(false)
		if _, err := w.backend.Pending(w.ctx, workflow.NewRunID(time.Now(), 1)); !errors.Is(err, engine.ErrNotFound) {
			w.Errorf("an unknown run gives %v", err)
		}
	}},
	{name: "runs are listed newest first, in pages, with their number", run: func(w *world) {
		var ids []workflow.RunID
		for range 5 {
			ids = append(ids, w.submit(submission(planOf("a")))[0].ID)
			time.Sleep(2 * time.Millisecond) // the ids of one millisecond have no order
		}
		slices.Reverse(ids)
		for _, page := range []struct{ limit, offset int }{{0, 0}, {2, 0}, {2, 2}, {2, 4}, {2, 5}, {10, 1}} {
			list, err := w.backend.Runs(w.ctx, engine.RunFilter{Limit: page.limit, Offset: page.offset})
			w.must(err, "list runs")
			want := ids[page.offset:]
			if page.limit > 0 {
				want = want[:min(page.limit, len(want))]
			}
			if got := idsOf(list); !slices.Equal(got, want) || list.Total != 5 || !list.TotalExact {
				w.Errorf("limit %d, offset %d gives %v of %d, should be %v of 5", page.limit, page.offset, got, list.Total, want)
			}
		}
	}},
	{name: "runs are filtered by status, DAG and time", run: func(w *world) {
		running := w.start(planOf("a"))
		failed := w.start(planOf("a"))
		w.advance(failed, nil, w.failed(member(failed, 0), 1))
		time.Sleep(2 * time.Millisecond)
		of := submission(planOf("a"))
		of.DAG = "other"
		answer := w.submit(of)[0]
		pending, middle := answer.ID, answer.ID.Time()
		for _, test := range []struct {
			name   string
			filter engine.RunFilter
			want   []workflow.RunID
		}{
			{"running", engine.RunFilter{Status: []workflow.RunStatus{workflow.RunRunning}}, []workflow.RunID{running.ID}},
			{"failed or pending", engine.RunFilter{Status: []workflow.RunStatus{workflow.RunFailed, workflow.RunPending}}, []workflow.RunID{pending, failed.ID}},
			{"completed", engine.RunFilter{Status: []workflow.RunStatus{workflow.RunCompleted}}, nil},
			{"of another DAG", engine.RunFilter{DAG: "other"}, []workflow.RunID{pending}},
			{"of no DAG", engine.RunFilter{DAG: "nothing"}, nil},
			{"since", engine.RunFilter{Since: middle}, []workflow.RunID{pending}},
			{"until", engine.RunFilter{Until: middle, DAG: "dag", Status: []workflow.RunStatus{workflow.RunFailed}}, []workflow.RunID{failed.ID}},
			{"in no time", engine.RunFilter{Since: middle.Add(time.Hour)}, nil},
		} {
			list, err := w.backend.Runs(w.ctx, test.filter)
			w.must(err, "list runs")
			if got := idsOf(list); !slices.Equal(got, test.want) || list.Total != len(test.want) {
				w.Errorf("%s: the list is %v of %d, should be %v", test.name, got, list.Total, test.want)
			}
		}
	}},
	{name: "the newest runs by outcome are listed", run: func(w *world) {
		var ids []workflow.RunID
		var times []time.Time
		for number := range 6 {
			of := submission(planOf("a"))
			if number%2 == 0 {
				of.DAG, of.Task = "", "a"
			}
			made := w.submit(of)[0]
			ids, times = append(ids, made.ID), append(times, made.ID.Time())
			time.Sleep(2 * time.Millisecond) // the ids of one millisecond have no order
		}
		for _, test := range []struct {
			since time.Time
			limit int
			want  []workflow.RunID
		}{
			{times[0], 9, []workflow.RunID{ids[4], ids[2], ids[0]}},
			{times[0], 2, []workflow.RunID{ids[4], ids[2]}},
			{times[1], 9, []workflow.RunID{ids[4], ids[2]}},
			{times[5], 9, nil},
		} {
			views, err := w.backend.Outcomes(w.ctx, test.since, test.limit)
			w.must(err, "list runs by outcome")
			if got := idsOf(engine.RunList{Runs: views}); !slices.Equal(got, test.want) {
				w.Errorf("since %v, at most %d: the list is %v, should be %v", test.since, test.limit, got, test.want)
			}
		}
	}},
	{name: "what was asked for with a run is read again", run: func(w *world) {
		one, half, queue, ref := 1, 0.5, "gpu", "v1"
		full := submission(planOf("a"))
		full.Request = engine.Request{
			Context: "prod", Priority: &one, MaxParallel: &one, TimeoutSeconds: &half, Queue: &queue, Retries: &one, RetryDelaySeconds: &half, IgnoreDependencies: true,
			GitRef: &ref,
		}
		for _, of := range []engine.Submission{full, submission(planOf("a"))} {
			if got := w.view(w.submit(of)[0].ID).Request; got == nil || !reflect.DeepEqual(*got, of.Request) {
				w.Errorf("%s was asked for, and is read as %s", textOf(of.Request), textOf(got))
			}
		}
	}},
	{name: "the run that another repeats is named as people name it", run: func(w *world) {
		of := submission(planOf("a"))
		plain := w.submit(of)[0]
		of.Name = "mine"
		named := w.submit(of)[0]
		of.Name, of.RerunOf = "", workflow.NewRunID(w.open().Now(), 1) // one that retention has dropped
		gone := w.submit(of)[0]
		for _, test := range []struct {
			of   workflow.RunID
			name string
		}{{plain.ID, plain.Name}, {named.ID, "mine"}, {gone.ID, gone.Name}, {of.RerunOf, of.RerunOf.String()}, {workflow.RunID{}, ""}} {
			of.RerunOf = test.of
			if view := w.view(w.submit(of)[0].ID); view.RerunOf != test.of || view.RerunOfName != test.name {
				w.Errorf("a run that repeats %s is seen as one of %s, %q", test.of, view.RerunOf, view.RerunOfName)
			}
		}
	}},
	{name: "a task run is seen alone as among the others", run: func(w *world) {
		run := w.start(planOf("a", "b", "c: a", "d: b"))
		session := w.agent("one")
		w.claim(session, 1, 0)
		w.advance(run, nil, w.failed(member(run, 1), 3))
		for _, listed := range w.tasks(run.ID) {
			alone, err := w.backend.TaskRun(w.ctx, run.ID, listed.Node)
			w.must(err, "read a task run")
			if !reflect.DeepEqual(alone, listed) {
				w.Errorf("it is seen as %+v, and among the others as %+v", alone, listed)
			}
		}
	}},
	{name: "a task run that is not there is an error", run: func(w *world) {
		run := w.start(planOf("a"))
		for _, of := range []struct {
			run  workflow.RunID
			node int32
		}{{run.ID, 1}, {run.ID, -1}, {workflow.NewRunID(w.now(), 1), 0}} {
			if view, err := w.backend.TaskRun(w.ctx, of.run, of.node); !errors.Is(err, engine.ErrNotFound) {
				w.Errorf("task run %s gives %+v, %v", workflow.TaskRunID(of.run, of.node), view, err)
			}
		}
	}},
	{name: "all task runs are seen, those that are pending too", run: func(w *world) {
		plan := planOf("a", "b: a", "c: b")
		plan.Specs[0].Queue, plan.Specs[0].Priority = "gpu", 1
		plan.Nodes[0].Name = "group/a"
		id := w.submit(submission(plan))[0].ID
		for number, task := range w.tasks(id) {
			if task.Node != int32(number) || task.Status != workflow.TaskPending || task.Attempt != 0 || !task.QueuedTime.IsZero() || //nolint:gosec // small
				!task.StartTime.IsZero() || !task.EndTime.IsZero() || task.ExitCode != nil || task.AgentID != "" {
				w.Errorf("a pending task run is seen as %+v", task)
			}
		}
		if tasks := w.tasks(id); len(tasks) != 3 || tasks[0].Name != "group/a" || tasks[0].TaskID != "a" || tasks[0].Queue != "gpu" || tasks[0].Priority != 1 {
			w.Errorf("the task runs are %+v", tasks)
		}
	}},
	{name: "a claimed task run is running at once, on its agent", run: func(w *world) {
		run := w.start(planOf("a", "b"))
		if tasks := w.tasks(run.ID); tasks[0].Status != workflow.TaskQueued || tasks[0].QueuedTime.IsZero() || tasks[0].Attempt != 1 || !tasks[0].StartTime.IsZero() {
			w.Errorf("a queued task run is seen as %+v", tasks[0])
		}
		claimed := w.claim(w.agent("one"), 1, 0)[0]
		tasks := w.tasks(run.ID)
		if task := tasks[0]; task.Status != workflow.TaskRunning || task.AgentID != "one" || !sameTime(task.StartTime, claimed.ClaimedAt) || !task.EndTime.IsZero() {
			w.Errorf("a claimed task run is seen as %+v", task)
		}
		if tasks[1].Status != workflow.TaskQueued {
			w.Errorf("the other is seen as %+v", tasks[1])
		}
	}},
	{name: "the end of a task run is seen with its times, cause and agent", run: func(w *world) {
		plan := planOf("a", "b: a", "c")
		plan.Specs[2].Retries = workflow.Retries{Count: 1, DelaySeconds: 100}
		run := w.start(plan)
		session := w.agent("one")
		w.claim(session, 9, 0)
		end := w.failed(member(run, 0), 3)
		end.Result.Agent, end.Result.Reason = session.Incarnation(), "it went wrong"
		change := w.advance(run, nil, end, w.failed(member(run, 2), 1))
		w.commit(&engine.Commit{Remove: w.keys(member(run, 0), member(run, 2))})
		tasks := w.tasks(run.ID)
		if task := tasks[0]; task.Status != workflow.TaskFailed || task.Attempt != 1 || task.ExitCode == nil || *task.ExitCode != 3 || task.AgentID != "one" ||
			task.Cause != workflow.CauseExit || task.Reason != "it went wrong" || task.QueuedTime.IsZero() ||
			!sameTime(task.StartTime, end.Result.StartTime) || !sameTime(task.EndTime, end.Result.EndTime) {
			w.Errorf("the failed task run is seen as %+v", task)
		}
		if task := tasks[1]; task.Status != workflow.TaskUpstreamFailed || task.Cause != workflow.CauseUpstream || task.Attempt != 0 ||
			!sameTime(task.EndTime, change.At) || !task.StartTime.IsZero() || task.AgentID != "" {
			w.Errorf("the task run behind it is seen as %+v", task)
		}
		if task := tasks[2]; task.Status != workflow.TaskWaiting || task.Attempt != 1 || !task.EndTime.IsZero() {
			w.Errorf("the one that waits is seen as %+v", task)
		}
	}},
	{name: "a cancelled run is seen with the time of the cancel", run: func(w *world) {
		run := w.start(planOf("a", "b: a"))
		change := w.advance(run, nil, workflow.Event{Kind: workflow.EventCancel, Actor: "ben"})
		if view := w.view(run.ID); view.Status != workflow.RunRunning || !sameTime(view.CancelTime, change.At) {
			w.Errorf("while it is being cancelled the run is seen as %+v", view)
		}
		w.advance(run, nil, workflow.Event{Kind: workflow.EventWithdraw, Attempt: 1, Delivery: 1})
		if view := w.view(run.ID); view.Status != workflow.RunCancelled || view.EndTime.IsZero() {
			w.Errorf("the cancelled run is seen as %+v", view)
		}
		for _, task := range w.tasks(run.ID) {
			if task.Status != workflow.TaskCancelled || task.Cause != workflow.CauseCancel {
				w.Errorf("its task run is seen as %+v", task)
			}
		}
	}},
	{name: "the graph of a run is kept", run: func(w *world) {
		plan := planOf("a", "b: a", "c: a b")
		plan.Nodes[2].Name = "group/c"
		nodes, err := w.backend.Plan(w.ctx, w.submit(submission(plan))[0].ID)
		w.must(err, "read the plan")
		if len(nodes) != 3 {
			w.Fatalf("the plan is %+v", nodes)
		}
		for number, node := range nodes {
			if node.Node != int32(number) || node.Name != plan.Nodes[number].Name || node.TaskID != plan.Specs[number].TaskID || //nolint:gosec // small
				!slices.Equal(node.Dependencies, plan.Nodes[number].Dependencies) {
				w.Errorf("node %d is %+v", number, node)
			}
		}
	}},
	{name: "the depth of a queue counts what waits, there and in the writer's memory", run: func(w *world) {
		w.startPacked(5)
		w.agentOf(engine.AgentInfo{ID: "gpu", Queues: []string{"gpu"}})
		session := w.agent("one")
		w.wantNames(w.claim(session, 2, 0), "t0 t1")
		oldest := w.now().Add(-time.Hour)
		w.commit(&engine.Commit{Backlog: []engine.Backlog{
			{Queue: "default", Priority: 1, Waiting: 10, Oldest: oldest}, {Queue: "default", Priority: 2, Waiting: 100}, {Queue: "other", Priority: 2, Waiting: 7},
		}})
		w.commit(&engine.Commit{Backlog: []engine.Backlog{{Queue: "default", Priority: 2, Waiting: 20}}})
		w.commit(&engine.Commit{})
		want := map[string]engine.QueueView{
			"default": {Name: "default", Depth: 33, Running: 2, Consumers: 1},
			"other":   {Name: "other", Depth: 7, Consumers: 1}, "gpu": {Name: "gpu", Consumers: 2},
		}
		queues, err := w.backend.Queues(w.ctx)
		w.must(err, "list the queues")
		for _, queue := range queues {
			if queue.Name == "default" && !sameTime(queue.Oldest, oldest) || queue.Name == "gpu" && !queue.Oldest.IsZero() {
				w.Errorf("the oldest of %s is of %v", queue.Name, queue.Oldest)
			}
			queue.Oldest = time.Time{}
			if queue != want[queue.Name] {
				w.Errorf("the queue is %+v, should be %+v", queue, want[queue.Name])
			}
			delete(want, queue.Name)
		}
		if len(want) > 0 {
			w.Errorf("missing are %+v", want)
		}
	}},
	{name: "agents are seen with what they are and hold", run: func(w *world) {
		w.startPacked(5)
		session := w.agentOf(engine.AgentInfo{ID: "one", Queues: []string{"default"}, Tags: []string{"eu"}, Slots: 8})
		w.claim(session, 3, 0)
		agents := w.agents()
		if len(agents) != 1 {
			w.Fatalf("the agents are %+v", agents)
		}
		agent := agents[0]
		if agent.ID != "one" || agent.Incarnation != session.Incarnation() || agent.Status != "live" || !slices.Equal(agent.Queues, []string{"default"}) ||
			!slices.Equal(agent.Tags, []string{"eu"}) || agent.Slots != 8 || agent.Running != 3 || agent.Version != "1.0" ||
			agent.RegisteredAt.IsZero() || agent.LastHeartbeat.IsZero() {
			w.Fatalf("the agent is %+v", agent)
		}
		time.Sleep(2 * time.Millisecond)
		_, err := session.Beat(w.ctx)
		w.must(err, "beat")
		if later := w.agents()[0]; !later.LastHeartbeat.After(agent.LastHeartbeat) {
			w.Errorf("after a beat the last is of %v, before of %v", later.LastHeartbeat, agent.LastHeartbeat)
		}
	}},
}

func idsOf(list engine.RunList) []workflow.RunID {
	var ids []workflow.RunID
	for _, view := range list.Runs {
		ids = append(ids, view.ID)
	}
	return ids
}
