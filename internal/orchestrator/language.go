package orchestrator

import (
	"context"
	"slices"
	"sync"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Language knows the definitions, for what a run needs of them while it runs.
type Language interface {
	// Plan plans the task with all that it depends on, by the definitions of the revision; nil
	// when there is no such task. Error: when the definitions can't be read now.
	Plan(ctx context.Context, revision int64, task string) (*workflow.Plan, error)
	// Items gives the specifications of the node that stands for all items of a task, and of each item. What is
	// wrong with the reference is the problem, for people; an error is one of outputs.
	Items(spec *workflow.TaskSpec, run *engine.RunDetails, outputs func(tasks []string) (map[string]workflow.Value, error)) (
		group *workflow.TaskSpec, items []*workflow.TaskSpec, problem string, err error)
}

// questions are what runs have to be told beside their memory. They are answered beside the loop, so that one
// run's large answer delays no other.
type questions struct {
	writer   engine.Writer
	language Language
	options  Options

	mutex   sync.Mutex
	answers []answer
	asked   int           // questions without an answer
	ready   chan struct{} // there are answers
	over    context.Context
	end     context.CancelFunc
}

// answer is an event that knows what it needs.
type answer struct {
	run   workflow.RunID
	event workflow.Event
	from  *letter
}

func newQuestions(writer engine.Writer, options Options) *questions {
	q := &questions{writer: writer, language: options.Language, options: options, ready: make(chan struct{}, 1)}
	q.over, q.end = context.WithCancel(context.Background())
	return q
}

// anew forgets the questions of a memory that is thrown away.
func (q *questions) anew() *questions {
	q.end()
	return newQuestions(q.writer, q.options)
}

// ask answers by find, again and again while the backend fails.
func (q *questions) ask(run workflow.RunID, event workflow.Event, from *letter, find func(ctx context.Context) (*workflow.Known, error)) {
	q.mutex.Lock()
	q.asked++
	q.mutex.Unlock()
	go func() {
		for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
			known, err := find(q.over)
			if err == nil {
				event.Known = known
				break
			}
			if q.over.Err() == nil {
				q.options.Logger.Warn("what a run needs to know can't be read; trying again", "run", run, "error", err, "delay", delay)
			}
			if !sleep(q.over, delay) {
				return
			}
		}
		q.mutex.Lock()
		defer q.mutex.Unlock()
		q.asked--
		q.answers = append(q.answers, answer{run, event, from})
		select {
		case q.ready <- struct{}{}:
		default:
		}
	}()
}

func (q *questions) take() []answer {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	answers := q.answers
	q.answers = nil
	return answers
}

// hearAnswers gives runs the events that they had questions about.
func (l *loop) hearAnswers(ctx context.Context) error {
	l.heard = append(l.heard, l.questions.take()...)
	var absent []workflow.RunID
	for _, heard := range l.heard {
		if l.runs[heard.run] == nil && !slices.Contains(absent, heard.run) {
			absent = append(absent, heard.run)
		}
	}
	if err := l.load(ctx, absent); err != nil {
		return err
	}
	for _, heard := range l.heard {
		if l.asking[heard.run]--; l.asking[heard.run] == 0 {
			delete(l.asking, heard.run)
		}
		l.deliver(heard.run, heard.event, heard.from)
		l.close(heard.from)
	}
	l.heard = nil
	return nil
}

// askNames asks for the names of a run's nodes, and for tasks that it does not have, when an evaluation point
// names tasks. It is false when nothing has to be asked.
func (l *loop) askNames(end *engine.End, from *letter) bool {
	e := l.runs[end.Run]
	if e == nil || !end.Evaluation.NamesTasks() || int(end.Node) >= e.run.Graph.Len() || !e.run.Graph.Scheduling(end.Node).EvaluationPoint {
		return false
	}
	event := workflow.Event{Kind: workflow.EventEnd, Node: end.Node, Attempt: end.Attempt, Delivery: end.Delivery, Result: end.Result}
	from.open++
	l.asking[end.Run]++
	writer, language, priority := l.writer, l.options.Language, e.run.Options.Priority
	l.questions.ask(end.Run, event, from, func(ctx context.Context) (*workflow.Known, error) {
		details, err := writer.Details(ctx, end.Run)
		if err != nil {
			return nil, err //nolint:wrapcheck // the backend says what it did
		}
		known := &workflow.Known{Names: details.Names, Plans: map[string]*workflow.KnownPlan{}}
		if int(end.Node) >= len(details.Names) {
			return known, nil
		}
		for _, name := range workflow.UnknownNames(details.Names, end.Node, end.Evaluation) {
			plan, err := language.Plan(ctx, details.Revision, name)
			if err != nil {
				return nil, err //nolint:wrapcheck // it says what it did
			}
			if plan != nil {
				known.Plans[name] = knownPlan(plan, priority)
			}
		}
		return known, nil
	})
	return true
}

// knownPlan prepares the specifications of a plan. A priority that was asked for with the run wins over theirs.
func knownPlan(plan *workflow.Plan, priority int) *workflow.KnownPlan {
	known := &workflow.KnownPlan{Plan: plan, Specs: make([]*workflow.NewSpec, len(plan.Specs))}
	for i, spec := range plan.Specs {
		if priority != 0 {
			changed := *spec
			changed.Priority = priority
			spec = &changed
		}
		known.Specs[i] = workflow.NewSpecOf(spec)
	}
	return known
}

// askItems asks for the items of tasks that are ready for them.
func (l *loop) askItems(e *entry, change *workflow.Change) {
	for _, node := range change.Items {
		id, hash := e.run.ID, e.run.Graph.Scheduling(node).Spec
		event := workflow.Event{Kind: workflow.EventItems, Node: node}
		l.asking[id]++
		writer, language := l.writer, l.options.Language
		l.questions.ask(id, event, nil, func(ctx context.Context) (*workflow.Known, error) {
			details, err := writer.Details(ctx, id)
			if err != nil {
				return nil, err //nolint:wrapcheck // the backend says what it did
			}
			spec, err := writer.Spec(ctx, hash)
			if err != nil {
				return nil, err //nolint:wrapcheck // the backend says what it did
			}
			group, items, problem, err := language.Items(spec, details, func(tasks []string) (map[string]workflow.Value, error) {
				return writer.Outputs(ctx, id, tasks)
			})
			if err != nil {
				return nil, err //nolint:wrapcheck // it says what it did
			}
			known := &workflow.Known{Names: details.Names, Problem: problem}
			if problem == "" {
				known.Group = workflow.NewSpecOf(group)
				for _, item := range items {
					known.Items = append(known.Items, workflow.NewSpecOf(item))
				}
			}
			return known, nil
		})
	}
}

// noLanguage is what an orchestrator without definitions knows: nothing.
type noLanguage struct{}

func (noLanguage) Plan(context.Context, int64, string) (*workflow.Plan, error) { return nil, nil } //nolint:nilnil // there is no such task

func (noLanguage) Items(*workflow.TaskSpec, *engine.RunDetails, func([]string) (map[string]workflow.Value, error)) (
	*workflow.TaskSpec, []*workflow.TaskSpec, string, error,
) {
	return nil, nil, "this orchestrator has no definitions", nil
}

// answered fires when a question was answered.
func (l *loop) answered() <-chan struct{} { return l.questions.ready }
