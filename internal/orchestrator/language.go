package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// Language knows the definitions, for what a run needs of them while it runs.
type Language interface {
	// Plan plans tasks together, with all that they depend on, by the definitions of the revision. Found are those
	// that can be planned: of the others the plan has nothing. Unusable says for people why one of them can't be, where
	// there is such a task. Error: when the definitions can't be read.
	Plan(ctx context.Context, revision int64, tasks []string) (plan *workflow.Plan, found map[string]bool, unusable map[string]string, err error)
	// Items gives the specifications of the node that stands for all items of a task, and of each item. What is
	// wrong with the reference is the problem, for people; an error is one of outputs.
	Items(spec *workflow.TaskSpec, run *engine.RunDetails, outputs func(tasks []string) (map[string]workflow.Value, error)) (
		group *workflow.TaskSpec, items []*workflow.TaskSpec, problem string, err error)
}

// answerers is how many questions are answered at once: each takes a few reads, and the backend's connections are there
// for the loop, too.
const answerers = 4

// questions are what runs have to be told beside their memory. They are answered beside the loop, so that one
// run's large answer delays no other; runs take turns, so that neither does one that asks a lot.
type questions struct {
	writer   engine.Writer
	language Language
	options  Options

	mutex   sync.Mutex
	waiting map[workflow.RunID][]*question
	turns   []workflow.RunID // those in waiting, in the order of their turns
	busy    int              // answerers at work
	answers []answer
	ready   chan struct{} // there are answers
	over    context.Context
	end     context.CancelFunc
}

// question is an event that lacks what find gives.
type question struct {
	answer

	find  func(ctx context.Context) (*workflow.Known, error)
	delay time.Duration // before it is asked again
}

// answer is an event that knows what it needs.
type answer struct {
	run   workflow.RunID
	event workflow.Event
	from  *letter
}

func newQuestions(writer engine.Writer, options Options) *questions {
	q := &questions{
		writer: writer, language: options.Language, options: options, ready: make(chan struct{}, 1),
		waiting: map[workflow.RunID][]*question{},
	}
	q.over, q.end = context.WithCancel(context.Background())
	return q
}

// anew forgets the questions of a memory that is thrown away.
func (q *questions) anew() *questions {
	q.end()
	return newQuestions(q.writer, q.options)
}

// ask answers by find, again and again while the backend fails. What will never be found is a problem of the answer.
func (q *questions) ask(run workflow.RunID, event workflow.Event, from *letter, find func(ctx context.Context) (*workflow.Known, error)) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.queue(&question{answer: answer{run, event, from}, find: find, delay: firstDelay})
}

// queue lets a question wait for its turn. The mutex is held.
func (q *questions) queue(asked *question) {
	if len(q.waiting[asked.run]) == 0 {
		q.turns = append(q.turns, asked.run)
	}
	q.waiting[asked.run] = append(q.waiting[asked.run], asked)
	if q.busy < answerers {
		q.busy++
		go q.work()
	}
}

// next takes a question of the run whose turn it is; nil when none waits.
func (q *questions) next() *question {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if len(q.turns) == 0 || q.over.Err() != nil {
		q.busy--
		return nil
	}
	run := q.turns[0]
	q.turns = q.turns[1:]
	asked := q.waiting[run][0]
	if q.waiting[run] = q.waiting[run][1:]; len(q.waiting[run]) > 0 {
		q.turns = append(q.turns, run)
	} else {
		delete(q.waiting, run)
	}
	return asked
}

// work answers questions until none waits. One that can't be answered now is put aside for a while, so that it holds up
// no others.
func (q *questions) work() {
	for asked := q.next(); asked != nil; asked = q.next() {
		known, err := asked.find(q.over)
		switch {
		case err == nil:
			asked.event.Known = known
		case isForGood(err):
			q.options.Logger.Error("what a run needs to know can't be read", "run", asked.run, "node", asked.event.Node, "error", err)
			asked.event.Known = &workflow.Known{Problem: reasonOf("it can't be read", err)}
		default:
			q.askLater(asked, err)
			continue
		}
		q.give(asked.answer)
	}
}

func (q *questions) askLater(asked *question, err error) {
	if q.over.Err() != nil {
		return
	}
	delay := asked.delay
	asked.delay = min(2*delay, lastDelay)
	q.options.Logger.Warn("what a run needs to know can't be read; trying again", "run", asked.run, "error", err, "delay", delay)
	go func() {
		if sleep(q.over, delay) {
			q.mutex.Lock()
			defer q.mutex.Unlock()
			q.queue(asked)
		}
	}()
}

// isForGood tells of an error that the same question gives however often it is asked: what is stored is gone or damaged.
func isForGood(err error) bool {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return true
	}
	return errors.Is(err, engine.ErrRefused) || errors.Is(err, engine.ErrNotFound) || errors.Is(err, engine.ErrGone)
}

func (q *questions) give(answered answer) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.answers = append(q.answers, answered)
	select {
	case q.ready <- struct{}{}:
	default:
	}
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
	writer, language, options := l.writer, l.options.Language, &e.run.Options
	priority, gitRef := options.Priority, options.GitRef
	l.questions.ask(end.Run, event, from, func(ctx context.Context) (*workflow.Known, error) {
		details, err := writer.Details(ctx, end.Run)
		if err != nil {
			return nil, err //nolint:wrapcheck // the backend says what it did
		}
		known := &workflow.Known{Names: details.Names, Plans: map[string]*workflow.KnownPlan{}}
		if int(end.Node) >= len(details.Names) {
			return known, nil
		}
		unknown := workflow.UnknownNames(details.Names, end.Node, end.Evaluation)
		if len(unknown) == 0 {
			return known, nil
		}
		plan, found, unusable, err := language.Plan(ctx, details.Revision, unknown)
		known.Unusable = unusable
		if err != nil || len(found) == 0 {
			return known, err //nolint:wrapcheck // it says what it did
		}
		together := knownPlan(plan, priority, gitRef)
		for name := range found {
			known.Plans[name] = together
		}
		return known, nil
	})
	return true
}

// knownPlan prepares the specifications of a plan. A priority and a revision that were asked for with the run win over theirs.
func knownPlan(plan *workflow.Plan, priority int, gitRef string) *workflow.KnownPlan {
	known := &workflow.KnownPlan{Plan: plan, Specs: make([]*workflow.NewSpec, len(plan.Specs))}
	for i, spec := range plan.Specs {
		spec = spec.WithGitRef(gitRef)
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

func (noLanguage) Plan(context.Context, int64, []string) (*workflow.Plan, map[string]bool, map[string]string, error) {
	return nil, nil, nil, nil
}

func (noLanguage) Items(*workflow.TaskSpec, *engine.RunDetails, func([]string) (map[string]workflow.Value, error)) (
	*workflow.TaskSpec, []*workflow.TaskSpec, string, error,
) {
	return nil, nil, "this orchestrator has no definitions", nil
}

// answered fires when a question was answered.
func (l *loop) answered() <-chan struct{} { return l.questions.ready }
