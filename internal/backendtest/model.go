package backendtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/orchestrator"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

var (
	modelSeeds = flag.Int("backendtest.seeds", 12, "number of scripts of the model test")
	modelFirst = flag.Int("backendtest.first", 0, "seed of the first script of the model test")
)

// runModel plays scripts on a backend and on package memory, with a real orchestrator and scripted
// agents, and checks that
//
//   - every run ends, and as the rules say;
//   - no task starts before what it depends on completed;
//   - a transition happens once, and a member is claimed once;
//   - the queue is empty when everything has ended.
func runModel(t *testing.T, newBackend func(t testing.TB, options Options) engine.Backend) {
	scripts := rapid.Custom(drawScript)
	for seed := *modelFirst; seed < *modelFirst+*modelSeeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			script := scripts.Example(seed)
			reference := memory.New(memory.Options{})
			t.Cleanup(reference.Close)
			backends := []engine.Backend{newBackend(t, Options{}), reference}
			endings := make([][]ending, len(backends))
			var plays sync.WaitGroup
			for number, backend := range backends {
				plays.Go(func() { endings[number] = newPlay(t, seed, &script, backend).run() })
			}
			plays.Wait()
			for number := range script.runs {
				if t.Failed() || script.runs[number].cancel >= 0 {
					continue
				}
				if one, other := endings[0][number], endings[1][number]; !reflect.DeepEqual(one, other) {
					t.Errorf("run %d ends as\n%+v, and in memory as\n%+v", number, one, other)
				}
			}
		})
	}
}

// play is a script on a backend.
type play struct {
	testing.TB
	script  *script
	backend engine.Backend // itself
	ledger  *ledger        // on it
	faulty  engine.Backend // on that
	fleet   *fleet
	plan    Plan
	ctx     context.Context //nolint:containedctx // that of the play
	end     context.CancelFunc

	mutex   sync.Mutex
	random  *rand.Rand
	numbers map[workflow.RunID]int
	ids     []workflow.RunID
	chaos   []chaos // that did not happen yet
	kill    []context.CancelFunc
	lives   int // of agents
	doing   sync.WaitGroup
	restart chan struct{}
	started func()          // called when all runs are submitted
	refused int             // the number of a run whose end is not the rules' matter
	asked   map[asking]bool // of persons
}

func newPlay(t testing.TB, seed int, script *script, backend engine.Backend) *play {
	p := &play{
		TB: t, script: script, backend: backend, ledger: newLedger(backend),
		random: rand.New(rand.NewPCG(uint64(seed), 1)), numbers: map[workflow.RunID]int{}, //nolint:gosec // chance, no secret
		ids: make([]workflow.RunID, len(script.runs)), kill: make([]context.CancelFunc, len(script.agents)), restart: make(chan struct{}, 10),
		started: func() {}, refused: -1, asked: map[asking]bool{},
	}
	for number, run := range script.runs {
		if run.cancel >= 0 {
			p.chaos = append(p.chaos, chaos{claims: run.cancel, kind: "cancel", agent: number})
		}
		if run.pause > 0 {
			p.chaos = append(p.chaos, chaos{claims: run.pause, kind: "pause", agent: number})
		}
	}
	p.chaos = append(p.chaos, script.chaos...)
	p.plan = p.chance
	p.fleet = newFleet()
	p.wrap(func(backend engine.Backend) engine.Backend { return backend })
	p.fleet.behave, p.fleet.parents, p.fleet.onClaim = p.behave, p.parents, p.claimed
	p.ctx, p.end = context.WithCancel(context.Background())
	return p
}

// wrap lets the orchestrator and the agents see the backend through a wrapper, besides the planned faults.
func (p *play) wrap(with func(engine.Backend) engine.Backend) {
	p.faulty = Faulty(with(p.ledger), func(call string) Fault { return p.plan(call) })
	p.fleet.backend = p.faulty
}

// chance lets some calls fail.
func (p *play) chance(string) Fault {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.random.IntN(100) >= p.script.faults {
		return None
	}
	return []Fault{Before, Unknown, After, After}[p.random.IntN(4)]
}

func (p *play) run() []ending {
	defer func() {
		p.end()
		p.doing.Wait()
		p.fleet.agents.Wait()
	}()
	p.doing.Go(p.orchestrate)
	for number := range p.script.agents {
		p.hire(number)
	}
	for number := range p.script.runs {
		p.submit(number)
	}
	p.claimed(0)
	p.started()
	if !p.await("every run ends", p.allEnded) || !p.await("the queue empties", p.queueEmpty) {
		p.explain()
	}
	var endings []ending
	for number := range p.script.runs {
		endings = append(endings, p.ending(number))
	}
	for _, complaint := range append(p.fleet.complaints(), p.ledgerComplaints()...) {
		p.Errorf("%s", complaint)
	}
	return endings
}

// orchestrate runs an orchestrator after the other.
func (p *play) orchestrate() {
	for p.ctx.Err() == nil {
		ctx, stop := context.WithCancel(p.ctx)
		var running sync.WaitGroup
		running.Go(func() {
			conductor := orchestrator.New(p.faulty, orchestrator.Options{
				ID: "model", Limits: p.script.limits, TickInterval: 20 * time.Millisecond, Language: scriptLanguage{}, Schedules: p.faulty,
			})
			err := conductor.Run(ctx, nil)
			for errors.Is(err, engine.ErrWriterExists) && ctx.Err() == nil {
				// The former one is not gone for good: what watches over an orchestrator starts it once more.
				pause(ctx, nil, 20*time.Millisecond)
				err = conductor.Run(ctx, nil)
			}
			if err != nil && ctx.Err() == nil {
				p.Errorf("the orchestrator ends: %v", err)
			}
		})
		select {
		case <-p.ctx.Done():
		case <-p.restart:
		}
		stop()
		running.Wait()
	}
}

// hire starts an agent, under a new name each time.
func (p *play) hire(number int) {
	ctx, kill := context.WithCancel(p.ctx)
	p.mutex.Lock()
	p.kill[number] = kill
	p.lives++
	info := p.script.agents[number]
	info.ID = fmt.Sprintf("%s.%d", info.ID, p.lives)
	p.mutex.Unlock()
	p.fleet.run(ctx, info)
}

// submit starts a run, as often as it takes.
func (p *play) submit(number int) {
	of := submission(p.script.runs[number].plan)
	of.Options = p.script.runs[number].options
	of.IdempotencyKey = fmt.Sprintf("%p-%d", p, number)
	// The fleet may see its members before this knows the id, so it waits here.
	p.mutex.Lock()
	defer p.mutex.Unlock()
	faulty := Faulty(p.ledger, func(string) Fault { return []Fault{None, Before, After}[p.random.IntN(3)] })
	for p.ctx.Err() == nil {
		submitted, err := faulty.Submit(p.ctx, []engine.Submission{of})
		if err == nil {
			p.ids[number] = submitted[0].ID
			p.numbers[submitted[0].ID] = number
			return
		}
		if !errors.Is(err, ErrInjected) {
			p.Errorf("submit: %v", err)
			return
		}
	}
}

// submitted tells that all runs are known.
func (p *play) submitted() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.numbers) == len(p.ids)
}

func (p *play) behave(member workflow.Member) (behaviour, bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	number, ok := p.numbers[member.Run]
	if !ok {
		return behaviour{}, false
	}
	run := &p.script.runs[number]
	if run.acts == nil {
		return run.nodes[member.Node], true
	}
	name, _ := p.nodeOf(member)
	return run.behaviour(name), true
}

func (p *play) parents(member workflow.Member) []int32 {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	run := &p.script.runs[p.numbers[member.Run]]
	if run.acts == nil {
		return run.plan.Nodes[member.Node].Dependencies
	}
	_, parents := p.nodeOf(member)
	return parents
}

// claimed lets happen what was to happen after so many claims.
func (p *play) claimed(total int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	var later []chaos
	for _, event := range p.chaos {
		if event.claims > total || (event.kind == "cancel" || event.kind == "pause") && p.ids[event.agent].IsZero() {
			later = append(later, event)
			continue
		}
		p.doing.Go(func() { p.happen(event) })
	}
	p.chaos = later
}

func (p *play) happen(event chaos) {
	switch event.kind {
	case "kill":
		p.mutex.Lock()
		kill := p.kill[event.agent]
		p.mutex.Unlock()
		kill()
		p.hire(event.agent)
	case "restart":
		p.restart <- struct{}{}
	case "pause":
		p.pauseRun(p.ids[event.agent])
	case "cancel":
		for p.ctx.Err() == nil {
			err := p.faulty.Cancel(p.ctx, p.ids[event.agent], "ann")
			if err == nil || errors.Is(err, engine.ErrEnded) {
				return
			}
		}
	}
}

// await polls until the condition holds.
func (p *play) await(what string, holds func() bool) bool {
	for deadline := time.Now().Add(2 * patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Errorf("it never happens that %s", what)
			return false
		}
	}
	return true
}

func (p *play) allEnded() bool {
	all := true
	for number, id := range p.ids {
		view, err := p.backend.FindRun(p.ctx, id.String()) // first: a run that ends after this may be what a person waits for
		content := p.persons(number)
		if err != nil {
			p.Errorf("find the run %s: %v", id, err)
			return true
		}
		all = all && content && view.Status.Ended()
	}
	return all
}

func (p *play) queueEmpty() bool {
	queues, err := p.backend.Queues(p.ctx)
	if err != nil {
		p.Errorf("list the queues: %v", err)
		return true
	}
	for _, queue := range queues {
		if queue.Depth+queue.Running > 0 {
			return false
		}
	}
	return true
}

// ending reads how a run ended, and compares it with the rules.
func (p *play) ending(number int) ending {
	run := &p.script.runs[number]
	view, err := p.backend.FindRun(p.ctx, p.ids[number].String())
	if err != nil {
		p.Errorf("find run %d: %v", number, err)
	}
	tasks, err := p.backend.TaskRuns(p.ctx, p.ids[number])
	if err != nil {
		p.Errorf("list the task runs of run %d: %v", number, err)
	}
	end := ending{status: view.Status, completed: view.CompletedTasks, failed: view.FailedTasks}
	for _, task := range tasks {
		exit := int32(-1)
		if task.ExitCode != nil {
			exit = *task.ExitCode
		}
		end.tasks = append(end.tasks, taskEnding{task.Name, task.Status, task.Cause, exit})
	}
	if run.acts != nil {
		end.sort()
	}
	if number == p.refused {
		return end
	}
	if !view.CancelTime.IsZero() {
		if err := run.check(end); err != nil {
			p.Errorf("the cancelled run %d: %v", number, err)
		}
		return end
	}
	if want := run.expected(); !reflect.DeepEqual(end, want) {
		p.Errorf("run %d ends as\n%+v, should as\n%+v", number, end, want)
	}
	return end
}

func (p *play) ledgerComplaints() []string {
	p.ledger.mutex.Lock()
	defer p.ledger.mutex.Unlock()
	return p.ledger.wrong
}

// explain says where a play that does not end stands.
func (p *play) explain() {
	var text strings.Builder
	for number, id := range p.ids {
		view, err := p.backend.FindRun(p.ctx, id.String())
		fmt.Fprintf(&text, "run %d: %s, %d of %d completed, %v\n", number, view.Status, view.CompletedTasks, view.TaskCount, err)
		if tasks, err := p.backend.TaskRuns(p.ctx, id); err == nil && (!view.Status.Ended() || p.script.runs[number].acts != nil) {
			for _, task := range tasks {
				fmt.Fprintf(&text, "  %s: %s (%s), attempt %d, queue %s, agent %s\n", task.Name, task.Status, task.Cause, task.Attempt, task.Queue, task.AgentID)
			}
			if events, err := p.backend.Events(p.ctx, id); err == nil {
				for _, event := range events {
					fmt.Fprintf(&text, "    %s %s of %s %d, %s by %s: %s\n", event.At.Format("05.000000"), event.Kind, event.Name, event.Attempt, event.Cause, event.Actor, event.Reason)
				}
			}
		}
	}
	queues, err := p.backend.Queues(p.ctx)
	fmt.Fprintf(&text, "queues: %+v, %v\n", queues, err)
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "/orchestrator.") {
			fmt.Fprintf(&text, "%s\n\n", stack)
		}
	}
	p.Log(text.String())
}
