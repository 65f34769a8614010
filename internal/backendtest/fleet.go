package backendtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// behaviour is how the attempts of a node go.
type behaviour struct {
	// failures is the number of attempts that fail first; always is all of them.
	failures int
	// returns is how often the node is handed back.
	returns int
	// slow is how many rounds of its agent an attempt takes.
	slow int
	// evaluation is the result of an attempt that completes; nil for none.
	evaluation *workflow.Evaluation
	// ruled tells that ends of other kinds than completing let it start, too.
	ruled bool
}

const always = 1 << 20

// fleet are scripted agents, and what they know together.
type fleet struct {
	backend engine.Backend
	// behave gives the behaviour of a member; false for one of a run that nobody submitted.
	behave func(workflow.Member) (behaviour, bool)
	// parents are the nodes that a member waits for.
	parents func(workflow.Member) []int32
	// onClaim is called with the number of members that were claimed so far.
	onClaim func(total int)

	mutex     sync.Mutex
	claimed   map[workflow.Member]int
	completed map[taskRun]bool
	returned  map[taskRun]int
	wrong     []string

	agents sync.WaitGroup
}

func newFleet() *fleet {
	return &fleet{
		claimed: map[workflow.Member]int{}, completed: map[taskRun]bool{}, returned: map[taskRun]int{},
		onClaim: func(int) {},
	}
}

// fleetBeat is the interval of the fleet's agents: short, so that the dead are found soon.
const fleetBeat = 100 * time.Millisecond

// run lets an agent work until the context ends: without a word then, as if it had been killed.
func (f *fleet) run(ctx context.Context, info engine.AgentInfo) {
	info.HeartbeatInterval = fleetBeat
	f.agents.Go(func() {
		for ctx.Err() == nil {
			session, err := f.backend.OpenAgent(ctx, info)
			if err != nil {
				pause(ctx, nil, 5*time.Millisecond)
				continue
			}
			(&puppet{fleet: f, session: session, slots: info.Slots}).work(ctx)
		}
	})
}

// puppet is one registration of a scripted agent.
type puppet struct {
	fleet   *fleet
	session engine.AgentSession
	slots   int
	held    []*heldTask
	obeyed  []int64
	last    *engine.Report
	// open is how many members of each delivery are not reported.
	open map[int64]int
}

type heldTask struct {
	workflow.Member
	delivery int64
	replyTo  int
	began    time.Time
	rounds   int
	killed   bool
}

func (p *puppet) work(ctx context.Context) {
	p.open = map[int64]int{}
	beaten := time.Time{}
	for ctx.Err() == nil {
		claim, err := p.session.Claim(ctx, p.slots-len(p.held), 0, workflow.Resources{})
		if errors.Is(err, engine.ErrAgentLost) {
			return
		}
		if err == nil {
			p.hold(claim.Deliveries)
			p.obey(claim.Orders)
		}
		if time.Since(beaten) > fleetBeat/4 {
			orders, err := p.session.Beat(ctx)
			if errors.Is(err, engine.ErrAgentLost) {
				return
			}
			p.obey(orders)
			beaten = time.Now()
		}
		if !p.report(ctx) && len(p.held) == 0 {
			pause(ctx, p.session.Wake(), fleetBeat/5)
		}
	}
}

// pause waits for a ring, but not for long.
func pause(ctx context.Context, bell <-chan struct{}, longest time.Duration) {
	select {
	case <-ctx.Done():
	case <-bell:
	case <-time.After(longest):
	}
}

func (p *puppet) hold(deliveries []engine.ClaimedDelivery) {
	for _, delivery := range deliveries {
		p.open[delivery.ID] = len(delivery.Tasks)
		for _, task := range delivery.Tasks {
			how, known := p.fleet.claim(&task)
			if known {
				p.held = append(p.held, &heldTask{Member: task.Member, delivery: delivery.ID, replyTo: delivery.ReplyTo, began: delivery.ClaimedAt, rounds: how.slow})
			}
		}
	}
}

// claim checks that a member may start.
func (f *fleet) claim(task *engine.ClaimedTask) (behaviour, bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	how, known := f.behave(task.Member)
	if !known {
		f.report("a member of an unknown run is claimed: %+v", task.Member)
		return how, false
	}
	f.claimed[task.Member]++
	if times := f.claimed[task.Member]; times > 1 {
		f.report("%+v is claimed %d times", task.Member, times)
	}
	for _, parent := range f.parents(task.Member) {
		if !how.ruled && !f.completed[taskRun{task.Run.ID, parent}] {
			f.report("%+v starts before node %d completed, which it depends on", task.Member, parent)
		}
	}
	f.onClaim(len(f.claimed))
	return how, true
}

func (f *fleet) report(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

func (p *puppet) obey(orders []engine.Order) {
	for _, order := range orders {
		for _, task := range p.held {
			task.killed = task.killed || task.Member == order.Member
		}
		p.obeyed = append(p.obeyed, order.ID)
	}
}

// report tells how members ended that have taken their rounds and report to one bucket; the others have their turn. After an error it is sent until it is stored, and
// now and then once more after that.
func (p *puppet) report(ctx context.Context) bool {
	report := &engine.Report{ReplyTo: -1, Agent: p.session.Incarnation()}
	var left []*heldTask
	for _, task := range p.held {
		task.rounds--
		if task.rounds >= 0 && !task.killed || report.ReplyTo >= 0 && report.ReplyTo != task.replyTo {
			left = append(left, task)
			continue
		}
		report.ReplyTo = task.replyTo
		p.end(report, task)
		if p.open[task.delivery]--; p.open[task.delivery] == 0 {
			report.Done = append(report.Done, task.delivery)
			delete(p.open, task.delivery)
		}
	}
	p.held = left
	report.ReplyTo = max(0, report.ReplyTo)
	if len(report.Ends)+len(report.Returns)+len(p.obeyed) == 0 {
		return false
	}
	p.send(ctx, report)
	if p.last != nil && len(report.Ends)%2 == 1 {
		p.send(ctx, p.last) // a report that comes twice, and late
	}
	p.last = report
	return true
}

func (p *puppet) send(ctx context.Context, report *engine.Report) {
	for ctx.Err() == nil {
		err := p.session.Report(ctx, report, nil, p.obeyed)
		if err == nil {
			p.obeyed = nil
			return
		}
		pause(ctx, nil, time.Millisecond)
	}
}

// end says how the attempt ended.
func (p *puppet) end(report *engine.Report, task *heldTask) {
	f := p.fleet
	f.mutex.Lock()
	defer f.mutex.Unlock()
	how, _ := f.behave(task.Member)
	key := taskRun{task.Run, task.Node}
	result := workflow.Result{Started: true, StartTime: task.began, EndTime: task.began.Add(time.Millisecond), Agent: p.session.Incarnation()}
	switch {
	case task.killed:
		result.Status, result.Cause = workflow.TaskCancelled, workflow.CauseCancel
	case f.returned[key] < how.returns:
		f.returned[key]++
		back := engine.Return{Member: task.Member}
		if f.returned[key]%2 == 0 {
			back.Started, back.StartTime, back.EndTime = true, result.StartTime, result.EndTime
		}
		report.Returns = append(report.Returns, back)
		return
	case int(task.Attempt) <= how.failures:
		result.Status, result.Cause, result.ExitCode = workflow.TaskFailed, workflow.CauseExit, new(int32(3))
	default:
		result.Status, result.ExitCode, result.Evaluation = workflow.TaskCompleted, new(int32(0)), how.evaluation
		f.completed[key] = true
	}
	report.Ends = append(report.Ends, engine.End{Member: task.Member, Result: result})
}

// complaints are what the agents found wrong.
func (f *fleet) complaints() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return slices.Clone(f.wrong)
}
