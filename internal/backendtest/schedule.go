package backendtest

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// someDate is a logical date.
var someDate = time.Date(2024, 3, 31, 1, 30, 0, 0, time.UTC)

var scheduleTests = []test{
	{name: "at first no schedule was carried out", run: func(w *world) {
		w.wantSchedules(nil)
		w.must(w.backend.SetScheduleStates(w.ctx, nil), "set no schedule states")
	}},
	{name: "how far a schedule was carried out never goes back", run: func(w *world) {
		set := func(hours map[string]int) {
			var states []engine.ScheduleState
			for dag, hour := range hours {
				states = append(states, engine.ScheduleState{DAG: dag, LastDate: someDate.Add(time.Duration(hour) * time.Hour)})
			}
			w.must(w.backend.SetScheduleStates(w.ctx, states), "set schedule states")
		}
		set(map[string]int{"a": 5, "b": 5})
		w.wantSchedules(map[string]int{"a": 5, "b": 5})
		set(map[string]int{"a": 3, "c": 1})
		w.wantSchedules(map[string]int{"a": 5, "b": 5, "c": 1})
		set(map[string]int{"a": 6, "b": 5, "c": 0})
		w.wantSchedules(map[string]int{"a": 6, "b": 5, "c": 1})
	}},
	{name: "of many who note how far a schedule was carried out the farthest counts", run: func(w *world) {
		const callers = 8
		var group sync.WaitGroup
		for caller := range callers {
			group.Go(func() {
				states := []engine.ScheduleState{
					{DAG: "a", LastDate: someDate.Add(time.Duration(caller) * time.Hour)}, {DAG: "b", LastDate: someDate.Add(time.Duration(callers-caller) * time.Hour)},
				}
				if caller%2 == 0 {
					slices.Reverse(states)
				}
				if err := w.backend.SetScheduleStates(w.ctx, states); err != nil {
					w.Errorf("set schedule states: %v", err)
				}
			})
		}
		group.Wait()
		w.wantSchedules(map[string]int{"a": callers - 1, "b": callers})
	}},
	{name: "a date has succeeded in the commit in which its run completes", run: func(w *world) {
		run := w.startDated("dag", someDate)
		w.wantSucceeded("dag", someDate, false)
		w.advance(run, nil, w.completed(member(run, 0)))
		if view := w.view(run.ID); view.Status != workflow.RunCompleted {
			w.Fatalf("the run is seen as %+v", view)
		}
		w.wantSucceeded("dag", someDate, true)
		w.wantSucceeded("dag", someDate.In(time.FixedZone("", 3600)), true)
		w.wantSucceeded("dag", someDate.Add(time.Microsecond), false)
		w.wantSucceeded("other", someDate, false)
		w.takeOver()
		w.wantSucceeded("dag", someDate, true)
	}},
	{name: "a date has not succeeded when its run failed, or its end was refused", run: func(w *world) {
		failed := w.startDated("dag", someDate)
		w.advance(failed, nil, w.failed(member(failed, 0), 1))
		w.wantSucceeded("dag", someDate, false)
		refused := w.startDated("dag", someDate)
		change := w.decide(refused, w.completed(member(refused, 0)))
		missing := engine.MailKey{Bucket: refused.ID.Bucket(), XID: 1, ID: 1 << 40}
		if _, err := w.writer.Commit(w.ctx, &engine.Commit{At: change.At, Changes: []*workflow.Change{change}, Mail: []engine.MailKey{missing}}); !errors.Is(err, engine.ErrRefused) {
			w.Fatalf("the commit gives %v", err)
		}
		w.wantSucceeded("dag", someDate, false)
	}},
	{name: "a date can succeed in a rerun, and more than once", run: func(w *world) {
		failed := w.startDated("dag", someDate)
		w.advance(failed, nil, w.failed(member(failed, 0), 1))
		for range 2 {
			rerun := w.startDated("dag", someDate)
			w.advance(rerun, nil, w.completed(member(rerun, 0)))
			w.wantSucceeded("dag", someDate, true)
		}
		w.advance(failed, nil, asked(workflow.EventRetry, 0))
		w.advance(failed, nil, w.completed(current(failed, 0)))
		w.wantSucceeded("dag", someDate, true)
	}},
	{name: "of many dates it is known which have runs", run: func(w *world) {
		hour := func(number int) time.Time { return someDate.Add(time.Duration(number) * time.Hour) }
		done := w.startDated("dag", hour(0))
		w.advance(done, nil, w.completed(member(done, 0)))
		failed := w.startDated("dag", hour(2))
		w.advance(failed, nil, w.failed(member(failed, 0), 1))
		w.startDated("other", hour(6))
		pending := submission(planOf("a"))
		pending.DAG, pending.Options.LogicalDate = "dag", hour(3)
		w.submit(pending)
		type test struct {
			dag       string
			date      int
			succeeded bool
			latest    int // -1 for none
		}
		tests := []test{
			{"dag", 3, false, 3}, {"dag", 0, true, 0}, {"dag", -1, false, -1}, {"dag", 1, false, 0}, {"dag", 2, false, 2}, {"dag", 9, false, 3},
			{"other", 5, false, -1}, {"other", 6, false, 6}, {"other", 0, false, -1}, {"nobody", 3, false, -1}, {"dag", 0, true, 0},
		}
		asked := make([]engine.LogicalDate, len(tests))
		for i, test := range tests {
			asked[i] = engine.LogicalDate{DAG: test.dag, Date: hour(test.date)}
		}
		states, err := w.backend.Dates(w.ctx, asked)
		w.must(err, "look for runs of dates")
		for i, test := range tests {
			want := time.Time{}
			if test.latest >= 0 {
				want = hour(test.latest)
			}
			if len(states) != len(tests) || states[i].Succeeded != test.succeeded || !states[i].Latest.Equal(want) {
				w.Fatalf("of %+v it is known %+v", test, states)
			}
		}
		states, err = w.backend.Dates(w.ctx, nil)
		w.must(err, "look for no dates")
		if len(states) != 0 {
			w.Errorf("of no dates it is known %+v", states)
		}
	}},
	{name: "logical date and the run that is repeated are seen", run: func(w *world) {
		former := w.submit(submission(planOf("a")))[0].ID
		of := submission(planOf("a"))
		of.Options.LogicalDate, of.RerunOf = someDate, former
		id := w.submit(of)[0].ID
		list, err := w.backend.Runs(w.ctx, engine.RunFilter{})
		w.must(err, "list runs")
		for _, view := range append(list.Runs, w.view(id), w.view(former)) {
			wantDate, wantRun := time.Time{}, workflow.RunID{}
			if view.ID == id {
				wantDate, wantRun = someDate, former
			}
			if !view.LogicalDate.Equal(wantDate) || view.RerunOf != wantRun {
				w.Errorf("run %s is seen with the logical date %v as a rerun of %s", view.ID, view.LogicalDate, view.RerunOf)
			}
		}
	}},
	{name: "options come with the submission, and after a takeover", run: func(w *world) {
		w.open()
		of := submission(planOf("a", "b: a"))
		of.Options = workflow.RunOptions{
			MaxParallel: 3, TimeoutSeconds: 1.5e6, OnFailure: workflow.OnFailureStop,
			Groups:      []workflow.RunGroup{{Name: "dag:x", MaxActive: 2}, {Name: "backfill:1", MaxActive: 7}},
			LogicalDate: someDate, After: someDate.Add(-time.Hour), Kept: []workflow.KeptNode{{Node: 0}}, GitRef: "v1",
		}
		answers := w.submit(of, submission(planOf("a")))
		for _, mail := range w.mail() {
			want := of.Options
			if mail.Run == answers[1].ID {
				want = workflow.RunOptions{}
			}
			if textOf(mail.Options) != textOf(want) {
				w.Errorf("the message says the options %s, should say %s", textOf(mail.Options), textOf(want))
			}
		}
		w.takeOver()
		for number, id := range []workflow.RunID{answers[0].ID, answers[1].ID} {
			want := []workflow.RunOptions{of.Options, {}}[number]
			if run := w.load(id); textOf(run.Options) != textOf(want) {
				w.Errorf("the run is loaded with the options %s, should have %s", textOf(run.Options), textOf(want))
			}
		}
	}},
	{name: "runs with the same pin are in one bucket", run: func(w *world) {
		buckets := w.open().Buckets()
		pinned := func(pin string) int {
			of := submission(planOf("a"))
			of.Pin = pin
			return w.submit(of)[0].ID.Bucket()
		}
		first := pinned("dag:x")
		for range 10 {
			if bucket := pinned("dag:x"); bucket != first {
				w.Fatalf("the buckets are %d and %d", first, bucket)
			}
		}
		w.takeOver()
		if bucket := pinned("dag:x"); bucket != first {
			w.Fatalf("the bucket was %d, and after a takeover is %d", first, bucket)
		}
		spread := map[int]bool{}
		for number := range 20 {
			bucket := pinned(strings.Repeat("y", number+1))
			spread[bucket] = true
			if !slices.Contains(buckets, bucket) {
				w.Fatalf("the bucket %d is nobody's", bucket)
			}
		}
		if len(spread) < 2 {
			w.Fatalf("all pins are in the bucket of one")
		}
	}},
}

// wantSchedules compares the schedule states, in hours after someDate.
func (w *world) wantSchedules(hours map[string]int) {
	w.Helper()
	states, err := w.backend.ScheduleStates(w.ctx)
	w.must(err, "read the schedule states")
	for _, state := range states {
		hour, ok := hours[state.DAG]
		if want := someDate.Add(time.Duration(hour) * time.Hour); !ok || !state.LastDate.Equal(want) {
			w.Errorf("the state of %s is %v, should be %v", state.DAG, state.LastDate, want)
		}
	}
	if len(states) != len(hours) {
		w.Fatalf("the states are %+v, should be of %v", states, hours)
	}
}

// startDated starts a run of a DAG for a logical date.
func (w *world) startDated(dag string, date time.Time) *workflow.Run {
	w.Helper()
	of := submission(planOf("a"))
	of.DAG, of.Options.LogicalDate = dag, date
	return w.startOf(of)
}

func (w *world) wantSucceeded(dag string, date time.Time, want bool) {
	w.Helper()
	states, err := w.backend.Dates(w.ctx, []engine.LogicalDate{{DAG: dag, Date: date}})
	w.must(err, "look for a run of a date")
	if states[0].Succeeded != want {
		w.Fatalf("that %s succeeded for %v is %v", dag, date, states[0].Succeeded)
	}
}
