package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cyclonetix/cyclonetix/db"
	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// command lets a person ask something of a run, and the writer carry it out.
func (w *world) command(run workflow.RunID, kind engine.CommandKind, node int32) {
	w.Helper()
	w.must(w.backend.Command(w.ctx, run, engine.Command{Kind: kind, Node: node, Actor: "ann"}), "command")
	w.turn()
}

// end claims one task and reports how it ended.
func (w *world) end(session *agentSession, task string, result workflow.Result) {
	w.Helper()
	deliveries := w.wantClaim(session, 1, 0, task)
	report := reportOf(session, &deliveries[0])
	end := &report.Ends[0]
	result.StartTime, result.EndTime, result.Started = end.StartTime, end.EndTime, true
	end.Result = result
	w.must(session.Report(w.ctx, report, nil, nil), "report")
	w.turn()
}

var (
	completed = workflow.Result{Status: workflow.TaskCompleted}
	failed    = workflow.Result{Status: workflow.TaskFailed, Cause: workflow.CauseExit, Reason: "it said no"}
)

// states are the task runs of a run: name, status, cause and attempt.
func (w *world) states(run workflow.RunID) string {
	w.Helper()
	tasks, err := w.backend.TaskRuns(w.ctx, run)
	w.must(err, "read the task runs")
	texts := make([]string, len(tasks))
	for i := range tasks {
		texts[i] = strings.Trim(fmt.Sprintf("%s %s %s", tasks[i].Name, tasks[i].Status, tasks[i].Cause), " ")
		if tasks[i].Attempt > 0 {
			texts[i] += fmt.Sprintf(" %d", tasks[i].Attempt)
		}
	}
	return strings.Join(texts, ", ")
}

func (w *world) wantStates(run workflow.RunID, want string) {
	w.Helper()
	if got := w.states(run); got != want {
		w.Errorf("the task runs are %s\nshould be         %s", got, want)
	}
}

func (w *world) wantStatus(run workflow.RunID, want workflow.RunStatus) {
	w.Helper()
	if view := w.view(run); view.Status != want || view.EndTime.IsZero() == want.Ended() {
		w.Errorf("the run is %s, ended at %v; it should be %s", view.Status, view.EndTime, want)
	}
	live := ask[int](w, "SELECT count(*) FROM cyclonetix__state.live_runs WHERE run_id = $1", run.String()) == 1
	if live == want.Ended() {
		w.Errorf("the run is %s; it is live: %v", want, live)
	}
}

// wantRestored compares the run in memory with what another writer would load. Only what a writer acts on is stored.
func (w *world) wantRestored(id workflow.RunID) {
	w.Helper()
	stored, err := w.writer.loadRuns(w.ctx, []workflow.RunID{id}, w.runs[id] == nil)
	w.must(err, "load")
	if len(stored) != 1 {
		w.Fatalf("%d runs are loaded", len(stored))
	}
	live := w.runs[id]
	if live == nil {
		return
	}
	one, other := live.Nodes, stored[0].Nodes
	if len(one) != len(other) || live.Version != stored[0].Version || live.Stop != stored[0].Stop || live.Status != stored[0].Status || live.Values() != stored[0].Values() {
		w.Fatalf("restored is %+v\nlive %+v", stored[0], live)
	}
	for number := range one {
		a, b := one[number], other[number]
		if a.Status != b.Status || a.Attempt != b.Attempt || a.Delivery != b.Delivery || a.Cause != b.Cause || !a.Status.Ended() && (a.Retried != b.Retried || a.Rescued != b.Rescued) {
			w.Errorf("node %d is restored as %+v, and is %+v", number, b, a)
		}
		if difference := cmp.Diff(live.Graph.Parents(int32(number)), stored[0].Graph.Parents(int32(number))); difference != "" {
			w.Errorf("the parents of node %d: %s", number, difference)
		}
		if live.Graph.Scheduling(int32(number)).Spec != stored[0].Graph.Scheduling(int32(number)).Spec {
			w.Errorf("node %d has another specification", number)
		}
	}
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := planOf("a", "b", "c: a b")
	plan.Specs[0].Approval, plan.Specs[1].Approval = &workflow.Approval{TimeoutSeconds: 100}, &workflow.Approval{}
	run := w.start(plan).ID
	w.wantStates(run, "a waiting approval 1, b waiting approval 1, c pending")
	w.wantRestored(run)
	if timers := ask[string](w, "SELECT string_agg(concat(node, ' ', kind), ',') FROM cyclonetix__state.timers"); timers != "0 2" {
		t.Errorf("the timers are %s", timers)
	}
	w.command(run, engine.CommandApprove, 0)
	w.command(run, engine.CommandReject, 1)
	w.wantStates(run, "a queued 1, b failed rejected 1, c upstream_failed upstream")
	w.drain(w.agent("one"))
	w.wantStates(run, "a completed 1, b failed rejected 1, c upstream_failed upstream")
	w.wantStatus(run, workflow.RunFailed)
	if timers := ask[int](w, "SELECT count(*) FROM cyclonetix__state.timers"); timers != 0 {
		t.Errorf("%d timers are left", timers)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a", "b", "c: a")).ID
	session := w.agent("one")
	deliveries := w.wantClaim(session, 1, 0, "a")
	w.command(run, engine.CommandPause, workflow.RunNode)
	w.wantStates(run, "a running 1, b waiting paused 1, c pending")
	w.wantStatus(run, workflow.RunPaused)
	w.wantRestored(run)
	if list := w.list(engine.RunFilter{Status: []workflow.RunStatus{workflow.RunPaused}}); len(list.Runs) != 1 || list.Total != 1 {
		t.Errorf("paused runs are %+v", list)
	}
	w.complete(session, deliveries)
	w.turn()
	w.wantClaim(session, 5, 0, "")
	w.command(run, engine.CommandResume, workflow.RunNode)
	w.wantStates(run, "a completed 1, b queued 1, c queued 1")
	w.drain(session)
	w.wantStatus(run, workflow.RunCompleted)
}

// What has ended lives again, more than once, and ends again.
func TestReopenedRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := planOf("a", "b: a", "c: b")
	plan.Specs[0].Retries = workflow.Retries{Count: 1}
	of := submission(plan)
	of.Options.TimeoutSeconds = 1000
	w.takeOver()
	run := w.submit(of)[0].ID
	w.turn()
	session := w.agent("one")
	w.end(session, "a", failed)
	w.end(session, "a", failed)
	w.wantStates(run, "a failed exit 2, b upstream_failed upstream, c upstream_failed upstream")
	w.wantStatus(run, workflow.RunFailed)

	w.command(run, engine.CommandRetry, 0)
	w.wantStates(run, "a queued 3, b pending, c pending")
	w.wantStatus(run, workflow.RunRunning)
	w.wantRestored(run)
	if retried := w.runs[run].Nodes[0].Retried; retried != 0 {
		t.Errorf("it used up %d retries", retried)
	}
	if kept := ask[string](w, `SELECT string_agg(concat(attempt, ' ', status, ' ', cause, ' ', reason, ' ', retired, ' ', agent = $1, ' ', queued_time IS NOT NULL), ', ' ORDER BY attempt)
		FROM cyclonetix__state.attempts`, session.incarnation); kept != "1 11 1 it said no 0 t t, 2 11 1 it said no 1 t t" {
		t.Errorf("the attempts are %s", kept)
	}
	if timers := ask[string](w, "SELECT string_agg(concat(node, ' ', kind), ',') FROM cyclonetix__state.timers"); timers != "-1 3" {
		t.Errorf("the timers are %s", timers)
	}
	w.end(session, "a", failed) // and the retry that it has again
	w.wantStates(run, "a queued 4, b pending, c pending")
	w.wantRestored(run)
	w.end(session, "a", completed)
	w.end(session, "b", failed)
	w.wantStatus(run, workflow.RunFailed)

	w.command(run, engine.CommandSkip, 1) // it counts as absent, so c has nothing left to wait for
	w.wantStates(run, "a completed 4, b skipped skip 1, c skipped trigger_rule")
	w.wantStatus(run, workflow.RunCompleted)
	if view := w.view(run); view.Reason != "" || view.TaskCount != 3 || view.CompletedTasks != 1 || view.FailedTasks != 0 {
		t.Errorf("the run is %+v", view)
	}
	w.command(run, engine.CommandRetry, 0)
	w.wantStates(run, "a queued 5, b skipped skip 1, c skipped trigger_rule")
	w.drain(session)
	w.wantStatus(run, workflow.RunCompleted)
}

// A run that ended by a time-out or a cancel lives again without that.
func TestReopenedRunForgetsWhyItEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	of := submission(planOf("a", "b"))
	of.Options = workflow.RunOptions{TimeoutSeconds: 1000, OnFailure: workflow.OnFailureStop}
	w.takeOver()
	run := w.submit(of)[0].ID
	w.turn()
	w.must(w.decide(&engine.Commit{At: w.writer.Now()}, []workflow.RunID{run}, map[workflow.RunID][]workflow.Event{
		run: {{Kind: workflow.EventTimer, Node: workflow.RunNode, Timer: workflow.TimerRun}},
	}), "commit")
	view := w.view(run)
	if w.wantStatus(run, workflow.RunFailed); !strings.Contains(view.Reason, "timeout_seconds") || ask[int](w, "SELECT stop FROM cyclonetix__state.run_states") != int(workflow.CauseRunTimeout) {
		t.Errorf("the run is %+v", view)
	}
	w.wantStates(run, "a cancelled run_timeout 1, b cancelled run_timeout 1")
	w.command(run, engine.CommandRetry, 0)
	if view := w.view(run); view.Reason != "" || ask[int](w, "SELECT stop FROM cyclonetix__state.run_states") != 0 {
		t.Errorf("the run that lives again is %+v", view)
	}
	w.wantRestored(run)
	w.must(w.backend.Cancel(w.ctx, run, "ann"), "cancel")
	w.turn()
	w.wantStatus(run, workflow.RunCancelled)
	w.command(run, engine.CommandRetry, 1)
	if view := w.view(run); !view.CancelTime.IsZero() || view.Status != workflow.RunRunning {
		t.Errorf("the run that lives again is %+v", view)
	}
	w.drain(w.agent("one"))
	w.wantStates(run, "a cancelled cancel 2, b completed 2")
	// a did not run again; that nobody cancelled the run itself since then is no contradiction.
	w.wantStatus(run, workflow.RunCancelled)
}

// Only what has ended is reopened, and only what has a row is reset or retired.
func TestWrongControl(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a", "b"))
	session := w.agent("one")
	w.end(session, "a", completed)
	at := w.writer.Now()
	for name, change := range map[string]*workflow.Change{
		"reopening what lives":             {Run: &workflow.RunChange{Status: workflow.RunRunning, StartTime: at, Total: 2, Reopened: true}},
		"resetting what has no row":        {Reset: []int32{0, 7}},
		"resetting what is queued":         {Reset: []int32{1}},
		"retiring what is queued":          {Retire: []int32{1}},
		"retiring what has no row":         {Retire: []int32{7}},
		"writing an ended row anew":        {Tasks: []workflow.TaskChange{{Node: 0, Status: workflow.TaskQueued, Attempt: 2, Delivery: 1, QueuedTime: at}}},
		"an update without a version":      {Updates: []workflow.PointUpdate{{}}},
		"an output of no node":             {Outputs: []workflow.Output{{Node: 7, Body: "{}"}}},
		"an output that is no object":      {Outputs: []workflow.Output{{Node: 0, Body: "1"}}},
		"an output that is no JSON":        {Outputs: []workflow.Output{{Node: 0, Body: "{"}}},
		"a node of no specification":       {Nodes: []workflow.GrownNode{{Number: 2, Node: workflow.Node{Name: "c", Spec: 2}}}},
		"details that are no JSON":         {Events: []workflow.RunEvent{{Kind: "evaluate", At: at, Detail: "{"}}},
		"a timer of the run for a retry":   {SetTimers: []workflow.Timer{{Node: workflow.RunNode, Kind: workflow.TimerRetry, Due: at}}},
		"a version that goes back":         {Run: &workflow.RunChange{Status: workflow.RunRunning, StartTime: at, Total: 2, Version: -1}},
		"a stop for a reason that is none": {Run: &workflow.RunChange{Status: workflow.RunRunning, StartTime: at, Total: 2, Stop: workflow.CauseExit}},
	} {
		change.ID = run.ID
		_, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Changes: []*workflow.Change{change}})
		if !errors.Is(err, engine.ErrRefused) || errors.Is(err, engine.ErrUncertain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.drain(session)
	w.wantStatus(run.ID, workflow.RunCompleted)
	// And the other way round: what has ended changes only when it is reopened.
	change := &workflow.Change{ID: run.ID, Run: &workflow.RunChange{Status: workflow.RunRunning, StartTime: at, Total: 2}}
	if _, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Changes: []*workflow.Change{change}}); !errors.Is(err, engine.ErrRefused) {
		t.Errorf("a run that ended goes on: %v", err)
	}
	if _, err := w.writer.LoadEnded(w.ctx, workflow.NewRunID(at, 1)); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("a run that is not there: %v", err)
	}
}

func TestCommandErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	live := w.start(planOf("a")).ID
	done := w.start(planOf("b")).ID
	session := w.agent("one")
	w.wantClaim(session, 1, 0, "a")
	w.end(session, "b", completed)
	old := w.makeOld(40, false, "old")
	bare := w.makeOld(20, false, "bare")
	w.must(w.backend.DropPartitions(w.ctx, w.backend.clock.now().AddDate(0, 0, -30)), "drop partitions")
	kinds := []engine.CommandKind{engine.CommandPause, engine.CommandResume, engine.CommandApprove, engine.CommandReject, engine.CommandRetry, engine.CommandSkip}
	for name, test := range map[string]struct {
		run    workflow.RunID
		node   int32
		all    error // of all kinds
		after  error // of those that an ended run can't do
		noTask error // of those that are of a task run
	}{
		"a live run":                  {run: live},
		"a run that ended":            {run: done, after: engine.ErrEnded},
		"no run":                      {run: workflow.NewRunID(w.writer.Now(), 1), all: engine.ErrNotFound},
		"no task run":                 {run: live, node: 1, noTask: engine.ErrNotFound},
		"a run that was dropped":      {run: old, all: engine.ErrGone},
		"a run without its task runs": {run: bare, all: engine.ErrGone, after: engine.ErrEnded},
	} {
		for _, kind := range kinds {
			want := test.all
			if kind != engine.CommandPause && kind != engine.CommandResume && test.noTask != nil {
				want = test.noTask
			}
			if !kind.OfEnded() && test.after != nil {
				want = test.after
			}
			err := w.backend.Command(w.ctx, test.run, engine.Command{Kind: kind, Node: test.node, Actor: "ann"})
			if !errors.Is(err, want) || want == nil && err != nil || errors.Is(err, engine.ErrUncertain) {
				t.Errorf("%s, command %d: %v, should be %v", name, kind, err, want)
			}
		}
	}
	var unknown *engine.UnknownRunError
	if err := w.backend.Command(w.ctx, workflow.NewRunID(w.writer.Now(), 1), engine.Command{Kind: engine.CommandPause}); !errors.As(err, &unknown) {
		t.Errorf("an unknown run: %v", err)
	}
	got := map[engine.CommandKind]engine.Command{}
	mail, err := w.writer.ReadMail(w.ctx, true, 100)
	w.must(err, "read mail")
	for i := range mail {
		if mail[i].Kind == engine.MailCommand && mail[i].Run == live {
			got[mail[i].Command.Kind] = *mail[i].Command
		}
	}
	if len(got) != len(kinds) || got[engine.CommandSkip] != (engine.Command{Kind: engine.CommandSkip, Actor: "ann"}) {
		t.Errorf("the writer reads %+v", got)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := planOf("a", "b: a", "c: a")
	plan.Specs[0].Retries, plan.Specs[1].Approval = workflow.Retries{Count: 1}, &workflow.Approval{}
	run := w.start(plan).ID
	session := w.agent("one")
	w.end(session, "a", failed)
	w.end(session, "a", completed)
	w.command(run, engine.CommandApprove, 1)
	w.end(session, "c", failed)
	running := w.wantClaim(session, 1, 0, "b")
	w.command(run, engine.CommandPause, workflow.RunNode)
	w.command(run, engine.CommandResume, workflow.RunNode)
	w.complete(session, running)
	w.turn()
	w.command(run, engine.CommandRetry, 2)
	events := func() (got []string) {
		t.Helper()
		all, err := w.backend.Events(w.ctx, run)
		w.must(err, "read the events")
		if !slices.IsSortedFunc(all, func(a, b engine.EventView) int { return a.At.Compare(b.At) }) {
			t.Error("they are not in order")
		}
		for _, event := range all {
			text := event.Kind
			if event.Node != workflow.RunNode {
				text = event.Name + " " + text
			}
			for _, more := range []string{event.Cause.String(), event.Actor, event.Reason} {
				if more != "" {
					text += " " + more
				}
			}
			if event.Attempt > 0 {
				text += fmt.Sprintf(" %d", event.Attempt)
			}
			got = append(got, text)
		}
		return got
	}
	want := []string{
		"pending ann", "running", "a queued 1", "a running 1", "a failed exit it said no 1", "a queued 2", "a running 2", "a completed 2",
		"b waiting approval 1", "c queued 1", "b approve ann", "b queued 1", "c running 1", "c failed exit it said no 1", "b running 1",
		"pause ann", "resume ann", "b completed 1", "c retry ann", "c queued 2",
	}
	// Reports give times of their own, so what different commits and agents did may overlap: compare what happened to each.
	got := events()
	if difference := cmp.Diff(byNode(want), byNode(got)); difference != "" {
		t.Errorf("the events of nodes: %s", difference)
	}
	w.wantClaim(session, 1, 0, "c")
	if got := events(); !slices.Contains(got, "c running 2") {
		t.Errorf("what an agent claimed is not running: %v", got)
	}
	if unknown, err := w.backend.Events(w.ctx, workflow.NewRunID(w.writer.Now(), 1)); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("of no run there are %v, %v", unknown, err)
	}
	// A person reads the same in SQL, of one partition.
	if count := ask[int](w, "SELECT count(*) FROM cyclonetix.events WHERE run_uuid = $1", run.String()); count != len(want)+1 {
		t.Errorf("in SQL there are %d events", count)
	}
}

// byNode groups texts that begin with the name of a node.
func byNode(events []string) map[string][]string {
	groups := map[string][]string{}
	for _, event := range events {
		node, rest, _ := strings.Cut(event, " ")
		if len(node) > 1 {
			node, rest = "the run", event
		}
		groups[node] = append(groups[node], rest)
	}
	return groups
}

// Many things may happen to a run at one instant.
func TestEventsAtOneInstant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(planOf("a"))
	at := w.writer.Now()
	events := slices.Repeat([]workflow.RunEvent{{Kind: "skip", Actor: "ann", At: at, Node: 0}, {Kind: "evaluate", At: at, Node: 0, Detail: `{"x": 1}`}}, 3)
	for range 2 {
		_, err := w.writer.Commit(w.ctx, &engine.Commit{At: at, Changes: []*workflow.Change{{ID: run.ID, Events: events}}})
		w.must(err, "commit")
	}
	all, err := w.backend.Events(w.ctx, run.ID)
	w.must(err, "read")
	var got []string
	for _, event := range all {
		if event.At.Equal(at) {
			got = append(got, event.Kind+string(event.Detail))
		}
	}
	if want := slices.Repeat([]string{"skip", `evaluate{"x": 1}`}, 6); !slices.Equal(got, want) {
		t.Errorf("the events are %q", got)
	}
}

// What retention would drop stays when a run in it lives again while it is being taken out of sight.
func TestRunThatIsReopenedWhileItIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.takeOver()
	id := w.makeOld(40, false, "old")
	reader, err := w.sql.Begin(w.ctx)
	w.must(err, "begin")
	_, err = reader.Exec(w.ctx, "SELECT FROM cyclonetix__state.runs")
	w.must(err, "read")
	dropped := make(chan error, 1)
	go func() { dropped <- w.backend.DropPartitions(w.ctx, w.backend.clock.now().AddDate(0, 0, -30)) }()
	// The one who drops waits for the reader, and has looked for live runs before.
	w.eventually("a partition is being detached", func() bool {
		return ask[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%DETACH%' AND wait_event_type = 'Lock'") == 1
	})
	// Its row is seen no longer, so the run can't be reopened any more; one who began earlier could.
	reopen := func() error {
		return interpretError(w.backend.queries.ReopenRun(w.ctx, w.backend.on(w.sql), db.ReopenRunParams{RunID: db.UUID(id), Bucket: 5}))
	}
	if err := reopen(); !errors.Is(err, engine.ErrRefused) {
		t.Errorf("a run that is being dropped lives again: %v", err)
	}
	w.exec("UPDATE cyclonetix__state.run_states SET status = 1, end_time = NULL WHERE run_id = $1", id.String())
	w.exec("INSERT INTO cyclonetix__state.live_runs (bucket, run_id) VALUES (5, $1)", id.String())
	w.must(reader.Rollback(w.ctx), "end the reader")
	w.must(<-dropped, "drop partitions")
	if view := w.view(id); view.Status != workflow.RunRunning || view.Name != "old" {
		t.Errorf("the run is %+v", view)
	}
	for _, table := range partitionedTables {
		if !slices.Contains(w.partitionNames(table.name), table.name+"_"+partitionSuffix(Day.floor(id.Time()))) {
			t.Errorf("the partition of %s is gone", table.name)
		}
	}
	if err := w.backend.Command(w.ctx, id, engine.Command{Kind: engine.CommandPause, Node: workflow.RunNode}); err != nil {
		t.Errorf("it can't be commanded: %v", err)
	}
}
