package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/memory"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// world is a cluster in memory whose loop is turned by hand: nothing happens by itself, and no time passes.
type world struct {
	rapid.TB
	ctx     context.Context
	now     time.Time
	backend *memory.Backend
	options Options
	writer  engine.Writer // without faults
	loop    *loop

	// before is asked before each call of the writer, and after when it was done: an error is what the loop sees
	// instead. Both may be nil.
	before, after func(call string, commit *engine.Commit) error
	listeners     func() error   // asked before who waits for runs is read; nil for none
	broken        workflow.RunID // can't be loaded
	// stored are the commits that were stored, and withdrawn what they took out of the queue.
	stored    []*engine.Commit
	withdrawn [][]engine.Delivery
}

func newWorld(t rapid.TB) *world {
	w := &world{TB: t, ctx: context.Background(), now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.options = Options{ID: "test", Limits: workflow.DefaultLimits}
	w.backend = memory.New(memory.Options{Clock: func() time.Time { return w.now }})
	return w
}

// started is a world with a loop that has taken over.
func started(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.open()
	w.tick()
	w.settle()
	return w
}

func (w *world) must(err error, doing string) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", doing, err)
	}
}

// open starts a loop; the former one, if there is any, is no more.
func (w *world) open() {
	w.Helper()
	if w.writer != nil {
		w.must(w.writer.Close(w.ctx), "close the writer")
	}
	writers, err := w.backend.OpenWriters(w.ctx, "test", 1)
	w.must(err, "open a writer")
	w.writer = writers[0]
	w.loop = newLoop(&tape{Writer: w.writer, world: w}, New(w.backend, w.options).options)
}

// turn is one turn of the loop.
func (w *world) turn() error { return w.loop.step(w.ctx, false) }

// tick is one turn of the loop a second later, with a tick.
func (w *world) tick() {
	w.Helper()
	w.now = w.now.Add(time.Second)
	w.must(w.loop.step(w.ctx, true), "tick")
}

// mostTurns bounds what a test may need, so that a loop that never rests fails a test.
const mostTurns = 20_000

// settle turns the loop until nothing is left to do, and once more for what was rung.
func (w *world) settle() {
	w.Helper()
	for turns := 0; ; turns++ {
		w.must(w.turn(), "turn")
		if !w.loop.busy() {
			w.must(w.turn(), "turn")
			if !w.loop.busy() && !w.awaitAnswer() {
				return
			}
		}
		if turns > mostTurns {
			w.Fatalf("the loop does not rest: %d runs have work, %d messages are read", len(w.loop.work), len(w.loop.mail))
		}
	}
}

// awaitAnswer waits until a question of the loop is answered; false when there is none.
func (w *world) awaitAnswer() bool {
	if len(w.loop.asking) == 0 {
		return false
	}
	<-w.loop.questions.ready
	return true
}

// tape is the writer that the loop sees.
type tape struct {
	engine.Writer
	world *world
}

func (t *tape) around(call string, commit *engine.Commit, do func() error) error {
	if ask := t.world.before; ask != nil {
		if err := ask(call, commit); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if ask := t.world.after; ask != nil {
		return ask(call, commit)
	}
	return nil
}

func (t *tape) Recover(ctx context.Context) error {
	return t.around("Recover", nil, func() error { return t.Writer.Recover(ctx) })
}

func (t *tape) Dispatched(ctx context.Context) (deliveries []engine.Delivery, err error) {
	err = t.around("Dispatched", nil, func() (err error) {
		deliveries, err = t.Writer.Dispatched(ctx)
		return err
	})
	return deliveries, err
}

func (t *tape) LiveRuns(ctx context.Context, after workflow.RunID, limit int) (ids []workflow.RunID, err error) {
	err = t.around("LiveRuns", nil, func() (err error) {
		ids, err = t.Writer.LiveRuns(ctx, after, limit)
		return err
	})
	return ids, err
}

func (t *tape) LoadRuns(ctx context.Context, ids []workflow.RunID) (runs []*workflow.Run, err error) {
	err = t.around("LoadRuns", nil, func() (err error) {
		runs, err = t.Writer.LoadRuns(ctx, ids)
		return err
	})
	if slices.ContainsFunc(runs, func(run *workflow.Run) bool { return run.ID == t.world.broken }) {
		return nil, &engine.BrokenRunError{ID: t.world.broken, Err: errInjected}
	}
	return runs, err
}

func (t *tape) Listeners(ctx context.Context) (engine.Listeners, error) {
	if ask := t.world.listeners; ask != nil {
		if err := ask(); err != nil {
			return engine.Listeners{}, err
		}
	}
	return t.Writer.Listeners(ctx)
}

func (t *tape) Graph(ctx context.Context, plan workflow.Hash) (graph *workflow.Graph, err error) {
	err = t.around("Graph", nil, func() (err error) {
		graph, err = t.Writer.Graph(ctx, plan)
		return err
	})
	return graph, err
}

func (t *tape) ReadMail(ctx context.Context, sweep bool, limit int) (mail []engine.Mail, err error) {
	err = t.around("ReadMail", nil, func() (err error) {
		mail, err = t.Writer.ReadMail(ctx, sweep, limit)
		return err
	})
	return mail, err
}

func (t *tape) Tick(ctx context.Context) (tick engine.Tick, err error) {
	err = t.around("Tick", nil, func() (err error) {
		tick, err = t.Writer.Tick(ctx)
		return err
	})
	return tick, err
}

func (t *tape) Commit(ctx context.Context, commit *engine.Commit) (result engine.CommitResult, err error) {
	err = t.around("Commit", commit, func() (err error) {
		result, err = t.Writer.Commit(ctx, commit)
		if err == nil {
			t.world.stored, t.world.withdrawn = append(t.world.stored, commit), append(t.world.withdrawn, result.Withdrawn)
		}
		return err
	})
	if err != nil {
		return engine.CommitResult{}, err
	}
	return result, nil
}

// once makes a fault that happens the first time that the condition holds.
func once(err error, when func(call string, commit *engine.Commit) bool) func(string, *engine.Commit) error {
	done := false
	return func(call string, commit *engine.Commit) error {
		if done || !when(call, commit) {
			return nil
		}
		done = true
		return err
	}
}

// errInjected is an error of the backend that says nothing.
var errInjected = errors.New("injected")

var errDoubt = fmt.Errorf("%w: %w", engine.ErrUncertain, errInjected)

// task is an ordinary specification.
func task(id string) *workflow.TaskSpec {
	return &workflow.TaskSpec{TaskID: id, Command: "run " + id, Queue: workflow.DefaultQueue, Priority: workflow.DefaultPriority}
}

// planOf makes a plan of nodes in the form "name" or "name: parent parent", each with a specification of its own.
func planOf(nodes ...string) *workflow.Plan {
	plan := &workflow.Plan{}
	numbers := map[string]int32{}
	for number, text := range nodes {
		name, parents, _ := strings.Cut(text, ":")
		node := workflow.Node{Name: name, Spec: int32(number)} //nolint:gosec // small
		for parent := range strings.FieldsSeq(parents) {
			node.Dependencies = append(node.Dependencies, numbers[parent])
		}
		numbers[name] = int32(number) //nolint:gosec // small
		plan.Nodes, plan.Specs = append(plan.Nodes, node), append(plan.Specs, task(name))
	}
	return plan
}

// fan makes a plan of so many nodes that wait for nothing and share a specification.
func fan(count int, spec *workflow.TaskSpec) *workflow.Plan {
	plan := &workflow.Plan{Specs: []*workflow.TaskSpec{spec}, Nodes: make([]workflow.Node, count)}
	for number := range plan.Nodes {
		plan.Nodes[number].Name = fmt.Sprintf("%s-%d", spec.TaskID, number)
	}
	return plan
}

// submit starts runs of the plans.
func (w *world) submit(plans ...*workflow.Plan) []workflow.RunID {
	w.Helper()
	var ids []workflow.RunID
	for _, plan := range plans {
		submitted, err := w.backend.Submit(w.ctx, []engine.Submission{{DAG: "dag", Plan: plan, Actor: "ann", Cause: "test", Revision: 1}})
		w.must(err, "submit")
		ids = append(ids, submitted[0].ID)
		w.now = w.now.Add(time.Millisecond)
	}
	return ids
}

// start starts a run that is under rules.
func (w *world) start(plan *workflow.Plan, options workflow.RunOptions) workflow.RunID {
	w.Helper()
	submitted, err := w.backend.Submit(w.ctx, []engine.Submission{{
		DAG: "dag", Plan: plan, Options: options, Pin: "dag", Actor: "ann", Cause: "test", Revision: 1,
	}})
	w.must(err, "submit")
	w.now = w.now.Add(time.Millisecond)
	return submitted[0].ID
}

// command asks something of a run, or of one of its task runs.
func (w *world) command(id workflow.RunID, kind engine.CommandKind, node int32) {
	w.Helper()
	w.must(w.backend.Command(w.ctx, id, engine.Command{Kind: kind, Node: node, Actor: "ann"}), "command")
}

// statuses are those of the task runs, by name.
func (w *world) statuses(id workflow.RunID) map[string]workflow.TaskStatus {
	w.Helper()
	views, err := w.backend.TaskRuns(w.ctx, id)
	w.must(err, "list the task runs")
	statuses := make(map[string]workflow.TaskStatus, len(views))
	for i := range views {
		statuses[views[i].Name] = views[i].Status
	}
	return statuses
}

func (w *world) cancel(id workflow.RunID) {
	w.Helper()
	w.must(w.backend.Cancel(w.ctx, id, "ann"), "cancel")
}

func (w *world) view(id workflow.RunID) engine.RunView {
	w.Helper()
	view, err := w.backend.FindRun(w.ctx, id.String())
	w.must(err, "find the run")
	return view
}

// ends fails the test unless the run has ended so.
func (w *world) ends(id workflow.RunID, want workflow.RunStatus) {
	w.Helper()
	if view := w.view(id); view.Status != want {
		w.Fatalf("the run is %s (%s), should be %s", view.Status, view.Reason, want)
	}
}

// unread is all mail that is stored, read from outside.
func (w *world) unread() []engine.Mail {
	w.Helper()
	w.must(w.writer.Recover(w.ctx), "recover")
	mail, err := w.writer.ReadMail(w.ctx, true, 1<<20)
	w.must(err, "read mail")
	return mail
}

// queue gives what people see of the default queue.
func (w *world) queue() engine.QueueView {
	w.Helper()
	queues, err := w.backend.Queues(w.ctx)
	w.must(err, "list the queues")
	for _, queue := range queues {
		if queue.Name == workflow.DefaultQueue {
			return queue
		}
	}
	return engine.QueueView{}
}

// table gives the members that are in the table of deliveries.
func (w *world) table() []workflow.Member {
	w.Helper()
	deliveries, err := w.writer.Dispatched(w.ctx)
	w.must(err, "read the queue")
	var members []workflow.Member
	for i := range deliveries {
		for k := range deliveries[i].Members {
			members = append(members, deliveries[i].Members[k].Member)
		}
	}
	return members
}

// atRest checks what holds when all runs have ended and a tick has passed.
func (w *world) atRest() {
	w.Helper()
	w.tick()
	w.settle()
	w.balanced()
	w.inQueueOnce()
	if left := w.table(); len(left) > 0 {
		w.Errorf("the queue holds %+v", left)
	}
	if queue := w.queue(); queue.Depth+queue.Running > 0 {
		w.Errorf("the queue is seen as %+v", queue)
	}
	if len(w.loop.runs)+len(w.loop.stale)+w.loop.nodes > 0 {
		w.Errorf("%d runs with %d nodes are in memory, %d of them with old counts", len(w.loop.runs), w.loop.nodes, len(w.loop.stale))
	}
	if g := w.loop.gate; len(g.active)+len(g.inside)+len(g.waiting)+len(g.known)+len(g.dates) > 0 {
		w.Errorf("the gate still knows %+v", g)
	}
	if mail := w.unread(); len(mail) > 0 {
		w.Errorf("messages are unanswered: %+v", mail)
	}
}

// inQueueOnce checks that no member was put into the queue while it was there, or after it had been claimed.
func (w *world) inQueueOnce() {
	w.Helper()
	inside := map[workflow.Member]int{}
	for number, commit := range w.stored {
		for _, delivery := range w.withdrawn[number] {
			for k := range delivery.Members {
				inside[delivery.Members[k].Member]--
			}
		}
		for _, member := range membersOf(commit) {
			if inside[member]++; inside[member] > 1 {
				w.Errorf("%+v is in the queue %d times", member, inside[member])
			}
		}
	}
}

// dispatches counts how often members were put into the table.
func (w *world) dispatches() map[workflow.Member]int {
	counts := map[workflow.Member]int{}
	for _, commit := range w.stored {
		for i := range commit.Dispatches {
			for k := range commit.Dispatches[i].Members {
				counts[commit.Dispatches[i].Members[k].Member]++
			}
		}
	}
	return counts
}

// hand is an agent that does what the test says.
type hand struct {
	*world
	session engine.AgentSession
	held    []heldTask
	open    map[int64]int
	reports []*engine.Report
}

type heldTask struct {
	workflow.Member
	delivery int64
	replyTo  int
}

func (w *world) hire(info engine.AgentInfo) *hand {
	w.Helper()
	info.HeartbeatInterval = time.Hour
	if info.Slots == 0 {
		info.Slots = 4
	}
	session, err := w.backend.OpenAgent(w.ctx, info)
	w.must(err, "register an agent")
	return &hand{world: w, session: session, open: map[int64]int{}}
}

// claim takes members, as many as there are up to want.
func (h *hand) claim(want int) []workflow.Member {
	h.Helper()
	claim, err := h.session.Claim(h.ctx, want, 0, workflow.Resources{})
	h.must(err, "claim")
	var members []workflow.Member
	for _, delivery := range claim.Deliveries {
		h.open[delivery.ID] = len(delivery.Tasks)
		for _, task := range delivery.Tasks {
			h.held = append(h.held, heldTask{task.Member, delivery.ID, delivery.ReplyTo})
			members = append(members, task.Member)
		}
	}
	return members
}

// orders are those that wait for the agent.
func (h *hand) orders() []workflow.Member {
	h.Helper()
	orders, err := h.session.Beat(h.ctx)
	h.must(err, "beat")
	var members []workflow.Member
	for _, order := range orders {
		members = append(members, order.Member)
	}
	return members
}

// result is how an attempt ends that lasted a millisecond.
func (h *hand) result(status workflow.TaskStatus) workflow.Result {
	result := workflow.Result{
		Status: status, Started: true, StartTime: h.now, EndTime: h.now.Add(time.Millisecond), Agent: h.session.Incarnation(),
	}
	code := int32(0)
	switch status { //nolint:exhaustive // an agent reports no others
	case workflow.TaskFailed:
		code, result.Cause = 3, workflow.CauseExit
	case workflow.TaskCancelled:
		code, result.Cause = 143, workflow.CauseCancel
	}
	result.ExitCode = &code
	return result
}

// end reports that members ended, all in one report.
func (h *hand) end(status workflow.TaskStatus, members ...workflow.Member) {
	h.Helper()
	report := h.letGo(members)
	for _, member := range members {
		report.Ends = append(report.Ends, engine.End{Member: member, Result: h.result(status)})
	}
	h.report(report)
}

// handBack reports that members were not started.
func (h *hand) handBack(members ...workflow.Member) {
	h.Helper()
	report := h.letGo(members)
	for _, member := range members {
		report.Returns = append(report.Returns, engine.Return{Member: member})
	}
	h.report(report)
}

// letGo begins a report about members, which the agent does not hold any more.
func (h *hand) letGo(members []workflow.Member) *engine.Report {
	report := &engine.Report{ReplyTo: 0, Agent: h.session.Incarnation()}
	for _, member := range members {
		place := slices.IndexFunc(h.held, func(held heldTask) bool { return held.Member == member })
		if place < 0 {
			continue // it is an old one
		}
		held := h.held[place]
		h.held = slices.Delete(h.held, place, place+1)
		report.ReplyTo = held.replyTo
		if h.open[held.delivery]--; h.open[held.delivery] == 0 {
			report.Done = append(report.Done, held.delivery)
			delete(h.open, held.delivery)
		}
	}
	return report
}

func (h *hand) report(report *engine.Report) {
	h.Helper()
	h.must(h.session.Report(h.ctx, report, nil, nil), "report")
	h.reports = append(h.reports, report)
}

// work claims and completes everything, turning the loop, until nothing is left in the queue.
func (h *hand) work() {
	h.Helper()
	for rounds := 0; ; rounds++ {
		h.settle()
		members := h.claim(1 << 20)
		if len(members) == 0 {
			return
		}
		h.end(workflow.TaskCompleted, members...)
		if rounds > mostTurns {
			h.Fatalf("there is always more to do")
		}
	}
}
