package backendtest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// patience bounds every wait, so that a broken backend fails a test instead of hanging it.
const patience = 20 * time.Second

// world is a backend under test, with a writer that is moved by hand.
type world struct {
	testing.TB
	ctx     context.Context //nolint:containedctx // that of the test
	backend engine.Backend
	writer  engine.Writer
	// deliveries are the ids under which members were dispatched.
	deliveries map[workflow.Member]int64
}

func newWorld(t testing.TB, backend engine.Backend) *world {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	return &world{TB: t, ctx: ctx, backend: backend, deliveries: map[workflow.Member]int64{}}
}

// must ends the test on an error.
func (w *world) must(err error, doing string) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", doing, err)
	}
}

// eventually waits until the condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("it never happens that %s", what)
		}
	}
}

// rings waits for a ring.
func (w *world) rings(bell <-chan struct{}, what string) {
	w.Helper()
	select {
	case <-bell:
	case <-time.After(patience):
		w.Fatalf("no ring tells of %s", what)
	}
}

// quiet takes rings away that came already.
func quiet(bell <-chan struct{}) {
	for {
		select {
		case <-bell:
		default:
			return
		}
	}
}

// open takes the buckets.
func (w *world) open() engine.Writer {
	w.Helper()
	writers, err := w.backend.OpenWriters(w.ctx, "test", 1)
	w.must(err, "open a writer")
	writer := writers[0]
	w.Cleanup(func() { _ = writer.Close(context.WithoutCancel(w.ctx)) })
	w.must(writer.Recover(w.ctx), "recover")
	w.writer = writer
	return writer
}

// planOf makes a plan of nodes in the form "name" or "name: parent parent". Each has a specification of its own.
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
		plan.Nodes = append(plan.Nodes, node)
		plan.Specs = append(plan.Specs, &workflow.TaskSpec{
			TaskID: name, Command: "run " + name, Queue: workflow.DefaultQueue, Priority: workflow.DefaultPriority,
		})
	}
	return plan
}

// submission is an ordinary one of a plan.
func submission(plan *workflow.Plan) engine.Submission {
	return engine.Submission{DAG: "dag", Plan: plan, Actor: "ann", Cause: "test", Revision: 1}
}

func (w *world) submit(submissions ...engine.Submission) []engine.Submitted {
	w.Helper()
	submitted, err := w.backend.Submit(w.ctx, submissions)
	w.must(err, "submit")
	if len(submitted) != len(submissions) {
		w.Fatalf("%d submissions have %d answers", len(submissions), len(submitted))
	}
	return submitted
}

// mail reads all unread mail.
func (w *world) mail() []engine.Mail {
	w.Helper()
	var all []engine.Mail
	for {
		mail, err := w.writer.ReadMail(w.ctx, true, 1000)
		w.must(err, "read mail")
		if len(mail) == 0 {
			return all
		}
		all = append(all, mail...)
	}
}

func keysOf(mail []engine.Mail) []engine.MailKey {
	keys := make([]engine.MailKey, len(mail))
	for index := range mail {
		keys[index] = mail[index].Key
	}
	return keys
}

// mailOf reads all unread mail, which should be one message of that kind.
func (w *world) mailOf(kind engine.MailKind) engine.Mail {
	w.Helper()
	mail := w.mail()
	if len(mail) != 1 || mail[0].Kind != kind {
		w.Fatalf("the mail should be one message of kind %d, and is %+v", kind, mail)
	}
	return mail[0]
}

// start submits a run, and lets it start.
func (w *world) start(plan *workflow.Plan) *workflow.Run {
	w.Helper()
	return w.startOf(submission(plan))
}

func (w *world) startOf(of engine.Submission) *workflow.Run {
	w.Helper()
	if w.writer == nil {
		w.open()
	}
	id := w.submit(of)[0].ID
	mail := w.mailOf(engine.MailSubmit)
	if mail.Run != id {
		w.Fatalf("the mail is of the run %s, not %s", mail.Run, id)
	}
	graph, err := w.writer.Graph(w.ctx, mail.Plan)
	w.must(err, "load the graph")
	run := workflow.NewRun(id, mail.DAG, graph, mail.HasValues)
	run.Options = mail.Options
	w.advance(run, []engine.MailKey{mail.Key}, workflow.Event{Kind: workflow.EventStart})
	return run
}

// advance lets events happen to a run, and commits what follows: all in one commit where the rules allow that, and the
// first change is given. Each member gets a delivery of its own.
func (w *world) advance(run *workflow.Run, answered []engine.MailKey, events ...workflow.Event) *workflow.Change {
	w.Helper()
	var first *workflow.Change
	for more := true; more; {
		change, used := workflow.Advance(run, w.now(), events, workflow.DefaultLimits)
		commit := &engine.Commit{At: change.At, Changes: []*workflow.Change{change}, Dispatches: w.dispatchesOf(run, change)}
		events, more = events[used:], change.More
		if !more {
			commit.Mail = answered
		}
		w.commit(commit)
		run.Apply(change)
		first = cmp.Or(first, change)
	}
	return first
}

// decide is what follows from the events, uncut.
func (w *world) decide(run *workflow.Run, events ...workflow.Event) *workflow.Change {
	w.Helper()
	change, used := workflow.Advance(run, w.now(), events, workflow.DefaultLimits)
	if used != len(events) || change.More {
		w.Fatal("the change was cut")
	}
	return change
}

// now is the writer's time as it is stored: in microseconds.
func (w *world) now() time.Time { return w.writer.Now().Truncate(time.Microsecond) }

// dispatchesOf puts what a change queues into deliveries of its own, as the run will be after the change.
func (w *world) dispatchesOf(run *workflow.Run, change *workflow.Change) []engine.Dispatch {
	after := workflow.Run{ID: run.ID, DAG: run.DAG, Graph: change.GraphOf(run), HasValues: run.HasValues, Version: run.Version}
	if change.Run != nil {
		after.Version = change.Run.Version
	}
	return w.dispatches(&after, change.Queue, 1)
}

// dispatches puts members into deliveries of the given size, apart by class and priority.
func (w *world) dispatches(run *workflow.Run, members []workflow.Member, size int) []engine.Dispatch {
	var dispatches []engine.Dispatch
	for _, member := range members {
		scheduling := run.Graph.Scheduling(member.Node)
		class := engine.Class{Queue: scheduling.Queue, Requires: strings.Join(scheduling.Requires, ","), Resources: scheduling.Resources}
		place := slices.IndexFunc(dispatches, func(d engine.Dispatch) bool {
			return d.Class == class && d.Priority == scheduling.Priority && len(d.Members) < size
		})
		if place < 0 {
			place = len(dispatches)
			dispatches = append(dispatches, engine.Dispatch{Class: class, Priority: scheduling.Priority})
		}
		dispatches[place].Members = append(dispatches[place].Members, engine.DispatchMember{
			Member: member, Spec: scheduling.Spec, DAG: run.DAG, Values: run.Values(),
		})
	}
	return dispatches
}

// keys are those of the deliveries that hold the members.
func (w *world) keys(members ...workflow.Member) []engine.DeliveryKey {
	keys := make([]engine.DeliveryKey, len(members))
	for i, member := range members {
		keys[i] = engine.DeliveryKey{ReplyTo: w.writer.ReplyTo(member.Run.Bucket()), ID: w.deliveries[member]}
	}
	return keys
}

// commit stores a commit that is in order.
func (w *world) commit(commit *engine.Commit) engine.CommitResult {
	w.Helper()
	if commit.At.IsZero() {
		commit.At = w.now()
	}
	result, err := w.writer.Commit(w.ctx, commit)
	w.must(err, "commit")
	if len(result.Dispatched) != len(commit.Dispatches) {
		w.Fatalf("%d deliveries have %d ids", len(commit.Dispatches), len(result.Dispatched))
	}
	for index, id := range result.Dispatched {
		for _, member := range commit.Dispatches[index].Members {
			w.deliveries[member.Member] = id
		}
	}
	return result
}

// agent registers an agent with some slots that serves everything.
func (w *world) agent(id string) engine.AgentSession {
	w.Helper()
	return w.agentOf(engine.AgentInfo{ID: id})
}

func (w *world) agentOf(info engine.AgentInfo) engine.AgentSession {
	w.Helper()
	if info.Slots == 0 {
		info.Slots = 4
	}
	if info.HeartbeatInterval == 0 {
		info.HeartbeatInterval = 10 * time.Second
	}
	info.Version = "1.0"
	session, err := w.backend.OpenAgent(w.ctx, info)
	w.must(err, "register an agent")
	w.Cleanup(func() { _ = session.Close(context.WithoutCancel(w.ctx)) })
	return session
}

func (w *world) claim(session engine.AgentSession, want, slack int) []engine.ClaimedDelivery {
	w.Helper()
	claim, err := session.Claim(w.ctx, want, slack, workflow.Resources{})
	w.must(err, "claim")
	return claim.Deliveries
}

// claimWith claims up to nine tasks with so much free.
func (w *world) claimWith(session engine.AgentSession, free workflow.Resources) []engine.ClaimedDelivery {
	w.Helper()
	claim, err := session.Claim(w.ctx, 9, 0, free)
	w.must(err, "claim")
	return claim.Deliveries
}

// names are the task ids of what was claimed, in order.
func names(deliveries []engine.ClaimedDelivery) string {
	var all []string
	for _, delivery := range deliveries {
		for _, task := range delivery.Tasks {
			all = append(all, task.Spec.TaskID)
		}
	}
	return strings.Join(all, " ")
}

// wantNames compares what was claimed.
func (w *world) wantNames(deliveries []engine.ClaimedDelivery, want string) {
	w.Helper()
	if got := names(deliveries); got != want {
		w.Fatalf("claimed is %q, should be %q", got, want)
	}
}

// ended is the event of an attempt that ended now, as an agent would report it.
func (w *world) ended(member workflow.Member, result workflow.Result) workflow.Event {
	return workflow.Event{Kind: workflow.EventEnd, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery, Result: w.result(result)}
}

// result fills the times and the agent of a result.
func (w *world) result(result workflow.Result) workflow.Result {
	now := w.now()
	result.Started, result.StartTime, result.EndTime = true, now.Add(-time.Millisecond), now
	if result.Agent == 0 {
		result.Agent = 1
	}
	return result
}

func (w *world) completed(member workflow.Member) workflow.Event {
	return w.ended(member, workflow.Result{Status: workflow.TaskCompleted, ExitCode: new(int32(0))})
}

func (w *world) failed(member workflow.Member, code int32) workflow.Event {
	return w.ended(member, workflow.Result{Status: workflow.TaskFailed, Cause: workflow.CauseExit, ExitCode: new(code)})
}

// member is the first attempt of a node.
func member(run *workflow.Run, node int32) workflow.Member {
	return workflow.Member{Run: run.ID, Node: node, Attempt: 1, Delivery: 1}
}

// load gives the run as it is stored.
func (w *world) load(id workflow.RunID) *workflow.Run {
	w.Helper()
	runs, err := w.writer.LoadRuns(w.ctx, []workflow.RunID{id})
	w.must(err, "load the run")
	if len(runs) != 1 {
		w.Fatalf("%d runs are loaded, not one", len(runs))
	}
	return runs[0]
}

// difference says how a stored run differs from the one in memory.
func difference(live, stored *workflow.Run) error {
	total, completed, failed := live.Counts()
	storedTotal, storedCompleted, storedFailed := stored.Counts()
	switch {
	case live.ID != stored.ID || live.DAG != stored.DAG || live.HasValues != stored.HasValues:
		return fmt.Errorf("it is %s of %q with values %v, should be %s of %q, %v", stored.ID, stored.DAG, stored.HasValues, live.ID, live.DAG, live.HasValues)
	case live.Status != stored.Status:
		return fmt.Errorf("it is %s, should be %s", stored.Status, live.Status)
	case !sameTime(live.StartTime, stored.StartTime) || !sameTime(live.CancelTime, stored.CancelTime):
		return fmt.Errorf("its times are %v and %v, should be %v and %v", stored.StartTime, stored.CancelTime, live.StartTime, live.CancelTime)
	case total != storedTotal || completed != storedCompleted || failed != storedFailed:
		return fmt.Errorf("it counts %d, %d, %d, should be %d, %d, %d", storedTotal, storedCompleted, storedFailed, total, completed, failed)
	case live.Stop != stored.Stop || live.Version != stored.Version:
		return fmt.Errorf("it stops because of %q at version %d, should of %q at %d", stored.Stop, stored.Version, live.Stop, live.Version)
	case textOf(live.Options) != textOf(stored.Options):
		return fmt.Errorf("its options are %s, should be %s", textOf(stored.Options), textOf(live.Options))
	}
	for node := range live.Nodes {
		one, other := live.Nodes[node], stored.Nodes[node]
		if one.Status == workflow.TaskSkipped {
			one.Retried = other.Retried // it never runs again
		}
		if one.Status != other.Status || one.Attempt != other.Attempt || one.Delivery != other.Delivery ||
			one.Retried != other.Retried || one.Rescued != other.Rescued || one.Cause != other.Cause {
			return fmt.Errorf("node %d is %+v, should be %+v", node, other, one)
		}
		if err := nodeDifference(live.Graph, stored.Graph, int32(node)); err != nil { //nolint:gosec // a node number
			return err
		}
	}
	return nil
}

// nodeDifference says how a node differs in two graphs.
func nodeDifference(live, stored *workflow.Graph, node int32) error {
	if !slices.Equal(live.Parents(node), stored.Parents(node)) || !slices.Equal(live.Dependents(node), stored.Dependents(node)) {
		return fmt.Errorf("node %d is between %v and %v, should be between %v and %v", node,
			stored.Parents(node), stored.Dependents(node), live.Parents(node), live.Dependents(node))
	}
	one, other := *live.Scheduling(node), *stored.Scheduling(node)
	if !slices.Equal(one.Requires, other.Requires) {
		return fmt.Errorf("node %d requires %v, should require %v", node, other.Requires, one.Requires)
	}
	one.Requires, other.Requires = nil, nil
	if !reflect.DeepEqual(one, other) {
		return fmt.Errorf("node %d has the specification %+v, should have %+v", node, other, one)
	}
	return nil
}

// textOf is content as JSON, to be compared.
func textOf(content any) string {
	text, err := json.Marshal(content)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// sameTime compares times as they are stored: in microseconds.
func sameTime(one, other time.Time) bool {
	return one.IsZero() == other.IsZero() && one.Sub(other).Abs() <= time.Microsecond
}

// view is the run as people see it.
func (w *world) view(id workflow.RunID) engine.RunView {
	w.Helper()
	view, err := w.backend.FindRun(w.ctx, id.String())
	w.must(err, "find the run")
	return view
}

// tasks are the run's task runs as people see them.
func (w *world) tasks(id workflow.RunID) []engine.TaskRunView {
	w.Helper()
	tasks, err := w.backend.TaskRuns(w.ctx, id)
	w.must(err, "list the task runs")
	return tasks
}

// dispatched are the deliveries in the queue.
func (w *world) dispatched() []engine.Delivery {
	w.Helper()
	deliveries, err := w.writer.Dispatched(w.ctx)
	w.must(err, "load the queue")
	return deliveries
}

// tick polls as a writer does.
func (w *world) tick() engine.Tick {
	w.Helper()
	tick, err := w.writer.Tick(w.ctx)
	w.must(err, "tick")
	return tick
}

// takeOver lets another writer take the buckets, which knows what is stored and no more.
func (w *world) takeOver() {
	w.Helper()
	w.must(w.writer.Close(w.ctx), "close the writer")
	w.open()
}

// wantStored compares the run with what is stored of it, and gives that: what a successor goes on with.
func (w *world) wantStored(run *workflow.Run) *workflow.Run {
	w.Helper()
	stored, err := w.stored(run)
	if err != nil {
		w.Fatalf("the stored run differs: %v", err)
	}
	return stored
}

// stored gives what is stored of a run, and says how that differs from the run.
func (w *world) stored(run *workflow.Run) (*workflow.Run, error) {
	w.Helper()
	if !run.Status.Ended() {
		stored := w.load(run.ID)
		return stored, difference(run, stored)
	}
	stored, err := w.writer.LoadEnded(w.ctx, run.ID)
	w.must(err, "load the run, which has ended")
	return stored, difference(run, stored)
}

// details are what the writer reads of a run beside its memory.
func (w *world) details(id workflow.RunID) *engine.RunDetails {
	w.Helper()
	details, err := w.writer.Details(w.ctx, id)
	w.must(err, "load the details of the run")
	return details
}

// evaluated is the event of an evaluation point that completed with a result. plans are of tasks that the run does not have.
func (w *world) evaluated(run *workflow.Run, node int32, evaluation workflow.Evaluation, plans ...*workflow.Plan) workflow.Event {
	w.Helper()
	event := w.completed(current(run, node))
	event.Result.Evaluation = &evaluation
	event.Known = &workflow.Known{Names: w.details(run.ID).Names, Plans: map[string]*workflow.KnownPlan{}}
	for _, plan := range plans {
		known := &workflow.KnownPlan{Plan: plan}
		for _, spec := range plan.Specs {
			known.Specs = append(known.Specs, workflow.NewSpecOf(spec))
		}
		event.Known.Plans[plan.Nodes[len(plan.Nodes)-1].Name] = known
	}
	return event
}

// choosing is the result of an evaluation point that names what goes on.
func choosing(names ...string) workflow.Evaluation {
	return workflow.Evaluation{Chosen: true, NextTasks: names}
}

// current is the member that is queued of a node.
func current(run *workflow.Run, node int32) workflow.Member {
	state := run.Nodes[node]
	return workflow.Member{Run: run.ID, Node: node, Attempt: state.Attempt, Delivery: state.Delivery}
}

// asked is the event of someone who wants something of a node.
func asked(kind workflow.EventKind, node int32) workflow.Event {
	return workflow.Event{Kind: kind, Node: node, Actor: "ann"}
}

// statuses are those of a run's task runs, by name, as "name status".
func (w *world) statuses(id workflow.RunID) string {
	w.Helper()
	var all []string
	for _, task := range w.tasks(id) {
		all = append(all, fmt.Sprintf("%s %s", task.Name, task.Status))
	}
	return strings.Join(all, ", ")
}

func (w *world) wantStatuses(id workflow.RunID, want string) {
	w.Helper()
	if got := w.statuses(id); got != want {
		w.Fatalf("the task runs are %q, should be %q", got, want)
	}
}
