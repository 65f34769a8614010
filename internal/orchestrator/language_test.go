package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// book is a language of plans by name.
type book struct {
	plans    map[string]*workflow.Plan
	failures int // of the next questions
	damaged  error
}

var errBook = errors.New("the book is not at hand")

func (b *book) Plan(_ context.Context, _ int64, tasks []string) (*workflow.Plan, map[string]bool, map[string]string, error) {
	if b.failures > 0 {
		b.failures--
		return nil, nil, nil, errBook
	}
	for _, task := range tasks { // a test names one at a time
		if plan := b.plans[task]; plan != nil {
			return plan, map[string]bool{task: true}, nil, b.damaged
		}
	}
	return nil, nil, nil, b.damaged
}

func (b *book) Items(spec *workflow.TaskSpec, run *engine.RunDetails, outputs func([]string) (map[string]workflow.Value, error)) (
	*workflow.TaskSpec, []*workflow.TaskSpec, string, error,
) {
	found, err := outputs([]string{"list"})
	if err != nil {
		return nil, nil, "", err
	}
	var content struct{ Items []workflow.Value }
	if json.Unmarshal([]byte(found["list"]), &content) != nil {
		return nil, nil, "it has no items in " + run.DAG, nil //nolint:nilerr // what a user gave
	}
	group := *spec
	group.ForEach = &workflow.ForEach{}
	items := make([]*workflow.TaskSpec, len(content.Items))
	for i, value := range content.Items {
		item := *spec
		item.ForEach, item.Item = nil, &workflow.Item{Value: value, Index: i}
		items[i] = &item
	}
	return &group, items, "", nil
}

// evaluating is a plan whose node with the name is an evaluation point.
func evaluating(plan *workflow.Plan, name string) *workflow.Plan {
	for _, spec := range plan.Specs {
		if spec.TaskID == name {
			spec.EvaluationPoint = true
		}
	}
	return plan
}

// choose reports that evaluation points ended, and what goes on.
func (h *hand) choose(next []string, members ...workflow.Member) {
	h.Helper()
	report := h.letGo(members)
	for _, member := range members {
		result := h.result(workflow.TaskCompleted)
		result.Evaluation = &workflow.Evaluation{NextTasks: next, Chosen: true}
		report.Ends = append(report.Ends, engine.End{Member: member, Result: result})
	}
	h.report(report)
}

func TestEvaluationPointAddsATask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Language = &book{plans: map[string]*workflow.Plan{"extra": planOf("a", "own", "extra: a own")}, failures: 2}
	w.open()
	w.tick()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	id := w.submit(evaluating(planOf("a", "check: a", "b: check", "c: b"), "check"))[0]
	w.settle()
	h.end(workflow.TaskCompleted, h.claim(9)...)
	w.settle()
	h.choose([]string{"extra"}, h.claim(9)...)
	w.settle()
	h.work()
	w.ends(id, workflow.RunCompleted)
	want := map[string]workflow.TaskStatus{
		"a": workflow.TaskCompleted, "check": workflow.TaskCompleted, "b": workflow.TaskSkipped, "c": workflow.TaskSkipped,
		"own": workflow.TaskCompleted, "extra": workflow.TaskCompleted,
	}
	if got := w.statuses(id); !maps.Equal(got, want) {
		t.Errorf("the task runs are %v", got)
	}
	w.atRest()
}

// A priority that was asked for with the run is also that of tasks which are added.
func TestPriorityOfAnAddedTask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Language = &book{plans: map[string]*workflow.Plan{"extra": planOf("own", "extra: own")}}
	w.open()
	w.tick()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	id := w.start(evaluating(planOf("check"), "check"), workflow.RunOptions{Priority: 4})
	w.settle()
	h.choose([]string{"extra"}, h.claim(9)...)
	w.settle()
	views, err := w.backend.TaskRuns(w.ctx, id)
	w.must(err, "list the task runs")
	if len(views) != 3 || views[1].Priority != 4 || views[2].Priority != 4 {
		t.Errorf("the task runs are %+v", views)
	}
	h.work()
	w.ends(id, workflow.RunCompleted)
}

// A revision that was asked for with the run is also that of tasks which are added.
func TestGitRefOfAnAddedTask(t *testing.T) {
	t.Parallel()
	extra := planOf("extra")
	extra.Specs[0].Git = &workflow.Git{Repository: "/srv/git/a", Ref: "main"}
	w := newWorld(t)
	w.options.Language = &book{plans: map[string]*workflow.Plan{"extra": extra}}
	w.open()
	w.tick()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	w.start(evaluating(planOf("check"), "check"), workflow.RunOptions{GitRef: "v1"})
	w.settle()
	h.choose([]string{"extra"}, h.claim(9)...)
	w.settle()
	claim, err := h.session.Claim(w.ctx, 9, 0, workflow.Resources{})
	w.must(err, "claim")
	if len(claim.Deliveries) != 1 || *claim.Deliveries[0].Tasks[0].Spec.Git != (workflow.Git{Repository: "/srv/git/a", Ref: "v1"}) {
		t.Errorf("the agent gets %+v", claim.Deliveries)
	}
	if extra.Specs[0].Git.Ref != "main" {
		t.Error("the definition was changed")
	}
}

func TestUnknownNextTaskFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Language = &book{}
	w.open()
	w.tick()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	id := w.submit(evaluating(planOf("check", "b: check"), "check"))[0]
	w.settle()
	h.choose([]string{"nobody"}, h.claim(9)...)
	w.settle()
	w.ends(id, workflow.RunFailed)
	w.atRest()
}

func TestQuestionThatCanNeverBeAnsweredFailsItsTask(t *testing.T) {
	t.Parallel()
	syntax := json.Unmarshal([]byte("{"), new(map[string]int))
	for _, damaged := range []error{engine.ErrRefused, &engine.UnknownRunError{ID: "x"}, fmt.Errorf("read: %w", engine.ErrGone), fmt.Errorf("read: %w", syntax)} {
		w := newWorld(t)
		w.options.Language = &book{damaged: damaged}
		w.open()
		w.tick()
		h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
		id := w.submit(evaluating(planOf("check", "b: check"), "check"))[0]
		w.settle()
		h.choose([]string{"other"}, h.claim(9)...)
		w.settle()
		w.ends(id, workflow.RunFailed)
		views, err := w.backend.TaskRuns(w.ctx, id)
		w.must(err, "list the task runs")
		if reason := views[0].Reason; !strings.Contains(reason, damaged.Error()) {
			t.Errorf("the reason is %q, should be %v", reason, damaged)
		}
		w.atRest()
	}
}

// Whoever asks a lot waits for their own answers only, and takes no more of the backend than others.
func TestQuestionsTakeTurns(t *testing.T) {
	t.Parallel()
	q := newQuestions(nil, Options{})
	defer q.end()
	many, few := workflow.RunID{1}, workflow.RunID{2}
	var mutex sync.Mutex
	var order []workflow.RunID
	release := make(chan struct{})
	ask := func(run workflow.RunID) {
		q.ask(run, workflow.Event{}, nil, func(context.Context) (*workflow.Known, error) {
			mutex.Lock()
			order = append(order, run)
			mutex.Unlock()
			<-release
			return &workflow.Known{}, nil
		})
	}
	for range 100 {
		ask(many)
	}
	for range 3 {
		ask(few)
	}
	q.mutex.Lock()
	if q.busy != answerers {
		t.Errorf("%d are answered at once", q.busy)
	}
	q.mutex.Unlock()
	close(release)
	answered := 0
	for answered < 103 {
		<-q.ready
		answered += len(q.take())
	}
	last := 0
	for i, run := range order {
		if run == few {
			last = i
		}
	}
	if last > answerers+2*3 {
		t.Errorf("the last of three questions is the %d. that is answered", last)
	}
}

// A loop goes round, over takeovers, until it is left.
func TestLoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Language = &book{}
	w.open()
	w.tick()
	h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
	id := w.submit(evaluating(planOf("train", "check: train", "deploy: check"), "check"))[0]
	const turns = 5
	for turn := range turns {
		w.settle()
		h.end(workflow.TaskCompleted, h.claim(9)...)
		w.settle()
		next := []string{"train"}
		if turn == turns-1 {
			next = []string{"deploy"}
		}
		h.choose(next, h.claim(9)...)
		if turn == 2 {
			w.settle()
			w.open()
			w.tick()
		}
	}
	h.work()
	w.ends(id, workflow.RunCompleted)
	want := map[string]workflow.TaskStatus{"train": workflow.TaskCompleted, "check": workflow.TaskCompleted, "deploy": workflow.TaskCompleted}
	for turn := 2; turn <= turns; turn++ {
		want[fmt.Sprintf("train#%d", turn)], want[fmt.Sprintf("check#%d", turn)] = workflow.TaskCompleted, workflow.TaskCompleted
	}
	if got := w.statuses(id); !maps.Equal(got, want) {
		t.Errorf("the task runs are %v", got)
	}
	w.atRest()
}

func TestItemsOfAnOutput(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		output workflow.Value
		items  int
		want   workflow.RunStatus
	}{
		"three": {`{"items": [1, "two", null]}`, 3, workflow.RunCompleted},
		"none":  {`{"items": []}`, 0, workflow.RunCompleted},
		"wrong": {`{"items": 7}`, 0, workflow.RunFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.options.Language = &book{}
			w.open()
			w.tick()
			h := w.hire(engine.AgentInfo{ID: "one", Slots: 9})
			plan := planOf("list", "each: list", "sum: each")
			plan.Specs[1].ForEach = &workflow.ForEach{Reference: "${tasks.list.items}"}
			id := w.submit(plan)[0]
			w.settle()
			members := h.claim(9)
			report := h.letGo(members)
			result := h.result(workflow.TaskCompleted)
			result.Output = test.output
			report.Ends = append(report.Ends, engine.End{Member: members[0], Result: result})
			h.report(report)
			for range 3 {
				w.must(w.turn(), "turn")
			}
			w.open()
			w.tick()
			w.settle()
			if members := h.claim(9); test.items > 0 && len(members) != test.items {
				t.Fatalf("%d items start", len(members))
			} else if test.items > 0 {
				h.end(workflow.TaskCompleted, members...)
			} else {
				h.handBack(members...)
			}
			h.work()
			w.ends(id, test.want)
			w.atRest()
		})
	}
}
