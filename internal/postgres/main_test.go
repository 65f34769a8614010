package postgres

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/pgtest"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == childArgument {
		beChild()
	}
	os.Exit(pgtest.Run(m))
}

// patience bounds every wait, so that a broken backend fails a test instead of hanging it.
const patience = 20 * time.Second

// migrated is the template of a database with the schema.
func migrated(url string) error { return MigrateUp(context.Background(), Options{URL: url}) }

// world is a backend on a database of its own, with a writer that is moved by hand.
type world struct {
	testing.TB
	ctx     context.Context //nolint:containedctx // that of the test
	options Options
	backend *Backend
	writer  *Writer
	// sql is the tester's own way to the database.
	sql  *pgxpool.Pool
	runs map[workflow.RunID]*workflow.Run
	// pack is the number of members that turn puts into a delivery.
	pack int
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	return worldOn(t, pgtest.NewDatabase(t, migrated), change...)
}

func worldOn(t testing.TB, url string, change ...func(*Options)) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience)
	t.Cleanup(cancel)
	w := &world{TB: t, ctx: ctx, options: Options{URL: url, PreparedStatements: true}, runs: map[workflow.RunID]*workflow.Run{}, pack: 1}
	for _, c := range change {
		c(&w.options)
	}
	pool, err := pgxpool.New(ctx, url)
	w.must(err, "connect")
	t.Cleanup(pool.Close)
	w.sql = pool
	w.backend = w.open()
	return w
}

// open opens another backend on the database, as another process would.
func (w *world) open(change ...func(*Options)) *Backend {
	w.Helper()
	options := w.options
	for _, c := range change {
		c(&options)
	}
	backend, err := Open(w.ctx, options)
	w.must(err, "open the backend")
	w.Cleanup(backend.Close)
	return backend
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

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	_, err := w.sql.Exec(w.ctx, sql, args...)
	w.must(err, sql)
}

// ask gives the one value that a statement selects.
func ask[T any](w *world, sql string, args ...any) T {
	w.Helper()
	var value T
	w.must(w.sql.QueryRow(w.ctx, sql, args...).Scan(&value), sql)
	return value
}

// askAll gives the values of a statement that selects one column.
func askAll[T any](w *world, sql string, args ...any) []T {
	w.Helper()
	rows, err := w.sql.Query(w.ctx, sql, args...)
	w.must(err, sql)
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	w.must(err, sql)
	return values
}

// takeOver opens a writer.
func (w *world) takeOver() *Writer {
	w.Helper()
	w.writer = writerOf(w, w.backend)
	return w.writer
}

func writerOf(w *world, backend *Backend) *Writer {
	w.Helper()
	opened, err := backend.OpenWriters(w.ctx, "test", 1)
	w.must(err, "open a writer")
	writer := opened[0].(*Writer) //nolint:forcetypeassert // its only type
	w.Cleanup(func() { _ = writer.Close(context.WithoutCancel(w.ctx)) })
	w.must(writer.Recover(w.ctx), "recover")
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

// wide is a plan of tasks that depend on nothing and share a specification.
func wide(count int) *workflow.Plan {
	plan := planOf("t")
	for len(plan.Nodes) < count {
		plan.Nodes = append(plan.Nodes, workflow.Node{Name: "t" + string(rune('0'+len(plan.Nodes)%10)) + strings.Repeat("x", len(plan.Nodes)/10)})
	}
	return plan
}

func submission(plan *workflow.Plan) engine.Submission {
	return engine.Submission{DAG: "dag", Plan: plan, Actor: "ann", Cause: "test", Revision: 1}
}

func (w *world) submit(submissions ...engine.Submission) []engine.Submitted {
	w.Helper()
	submitted, err := w.backend.Submit(w.ctx, submissions)
	w.must(err, "submit")
	return submitted
}

// start submits a run and lets the writer start it.
func (w *world) start(plan *workflow.Plan) *workflow.Run {
	w.Helper()
	if w.writer == nil {
		w.takeOver()
	}
	id := w.submit(submission(plan))[0].ID
	w.turn()
	return w.runs[id]
}

// turn answers all mail that there is, as an orchestrator would, and gives what it was.
func (w *world) turn() []engine.Mail {
	w.Helper()
	mail, err := w.writer.ReadMail(w.ctx, true, 10_000)
	w.must(err, "read mail")
	w.must(w.answer(mail), "commit")
	return mail
}

// answer decides what follows from mail, and commits it; memory follows the commit.
func (w *world) answer(mail []engine.Mail) error {
	w.Helper()
	if err := w.load(mail); err != nil {
		return err
	}
	commit := &engine.Commit{At: w.writer.Now()}
	events := map[workflow.RunID][]workflow.Event{}
	var order []workflow.RunID
	happen := func(id workflow.RunID, event workflow.Event) {
		if w.runs[id] == nil {
			return
		}
		if events[id] == nil {
			order = append(order, id)
		}
		events[id] = append(events[id], event)
	}
	for i := range mail {
		letter := &mail[i]
		commit.Mail = append(commit.Mail, letter.Key)
		switch letter.Kind {
		case engine.MailSubmit:
			if w.runs[letter.Run] != nil && w.runs[letter.Run].Status == workflow.RunPending {
				w.runs[letter.Run].Options = letter.Options
			}
			happen(letter.Run, workflow.Event{Kind: workflow.EventStart})
		case engine.MailCancel:
			happen(letter.Run, workflow.Event{Kind: workflow.EventCancel, Actor: letter.Actor})
		case engine.MailCommand:
			if w.runs[letter.Run] == nil && letter.Command.Kind.OfEnded() {
				run, err := w.writer.LoadEnded(w.ctx, letter.Run)
				w.must(err, "load an ended run")
				w.runs[letter.Run] = run
			}
			kind := map[engine.CommandKind]workflow.EventKind{
				engine.CommandPause: workflow.EventPause, engine.CommandResume: workflow.EventResume, engine.CommandApprove: workflow.EventApprove,
				engine.CommandReject: workflow.EventReject, engine.CommandRetry: workflow.EventRetry, engine.CommandSkip: workflow.EventSkip,
			}[letter.Command.Kind]
			happen(letter.Run, workflow.Event{Kind: kind, Node: letter.Command.Node, Actor: letter.Command.Actor})
		case engine.MailReport:
			for _, id := range letter.Report.Done {
				commit.Remove = append(commit.Remove, engine.DeliveryKey{ReplyTo: letter.Key.Bucket, ID: id})
			}
			for _, end := range letter.Report.Ends {
				happen(end.Run, workflow.Event{Kind: workflow.EventEnd, Node: end.Node, Attempt: end.Attempt, Delivery: end.Delivery, Result: end.Result, Known: w.known(&end)})
			}
		case engine.MailLost:
			commit.Remove = append(commit.Remove, engine.DeliveryKey{ReplyTo: letter.Key.Bucket, ID: letter.Lost.ID})
			for _, member := range letter.Lost.Members {
				happen(member.Run, workflow.Event{
					Kind: workflow.EventLost, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery,
					Result: workflow.Result{StartTime: letter.Lost.ClaimedAt, Agent: letter.Lost.Agent},
				})
			}
		}
	}
	return w.decide(commit, order, events)
}

// decide commits what follows from events of runs, in the given order.
func (w *world) decide(commit *engine.Commit, order []workflow.RunID, events map[workflow.RunID][]workflow.Event) error {
	w.Helper()
	for _, id := range order {
		run := w.runs[id]
		change, _ := workflow.Advance(run, commit.At, events[id], workflow.DefaultLimits)
		commit.Changes = append(commit.Changes, change)
		dispatches := w.dispatchesOf(run, change.GraphOf(run), change.Queue)
		if change.Run != nil && change.Run.Version > run.Version {
			for i := range dispatches {
				for k := range dispatches[i].Members {
					dispatches[i].Members[k].Values = change.Run.Version + 1
				}
			}
		}
		commit.Dispatches = append(commit.Dispatches, dispatches...)
		if len(change.Withdraw)+len(change.Hold) > 0 {
			commit.Withdraw = append(commit.Withdraw, id)
		}
	}
	result, err := w.writer.Commit(w.ctx, commit)
	if err != nil {
		return err
	}
	withdrawn := map[workflow.RunID][]workflow.Event{}
	for i := range result.Withdrawn {
		for _, member := range result.Withdrawn[i].Members {
			withdrawn[member.Run] = append(withdrawn[member.Run], workflow.Event{
				Kind: workflow.EventWithdraw, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery,
			})
		}
	}
	for i, id := range order {
		w.runs[id].Apply(commit.Changes[i])
		if w.runs[id].Status.Ended() {
			delete(w.runs, id)
		}
	}
	if len(withdrawn) == 0 {
		return nil
	}
	return w.decide(&engine.Commit{At: w.writer.Now()}, slices.Collect(maps.Keys(withdrawn)), withdrawn)
}

// known is what an evaluation's result needs beside the run's memory.
func (w *world) known(end *engine.End) *workflow.Known {
	w.Helper()
	if end.Evaluation == nil {
		return nil
	}
	details, err := w.writer.Details(w.ctx, end.Run)
	w.must(err, "load details")
	known := &workflow.Known{Names: details.Names, Plans: map[string]*workflow.KnownPlan{}}
	for _, name := range workflow.UnknownNames(details.Names, end.Node, end.Evaluation) {
		plan := planOf(name)
		known.Plans[name] = &workflow.KnownPlan{Plan: plan, Specs: []*workflow.NewSpec{workflow.NewSpecOf(plan.Specs[0])}}
	}
	return known
}

// load loads the runs that mail speaks of and that are not in memory.
func (w *world) load(mail []engine.Mail) error {
	var ids []workflow.RunID
	for i := range mail {
		letter := &mail[i]
		ids = append(ids, letter.Run)
		if letter.Report != nil {
			for _, end := range letter.Report.Ends {
				ids = append(ids, end.Run)
			}
		}
		if letter.Lost != nil {
			for _, member := range letter.Lost.Members {
				ids = append(ids, member.Run)
			}
		}
	}
	ids = slices.DeleteFunc(ids, func(id workflow.RunID) bool { return id.IsZero() || w.runs[id] != nil })
	runs, err := w.writer.LoadRuns(w.ctx, ids)
	if err != nil {
		return err //nolint:wrapcheck // the test says what it did
	}
	for _, run := range runs {
		if w.runs[run.ID] == nil {
			w.runs[run.ID] = run
		}
	}
	return nil
}

// run gives a live run, from memory or as it is stored.
func (w *world) run(id workflow.RunID) *workflow.Run {
	w.Helper()
	w.must(w.load([]engine.Mail{{Run: id}}), "load a run")
	return w.runs[id]
}

// dispatches puts members into deliveries, apart by class and priority.
func (w *world) dispatches(run *workflow.Run, members []workflow.Member) []engine.Dispatch {
	return w.dispatchesOf(run, run.Graph, members)
}

func (w *world) dispatchesOf(run *workflow.Run, graph *workflow.Graph, members []workflow.Member) []engine.Dispatch {
	var dispatches []engine.Dispatch
	for _, member := range members {
		scheduling := graph.Scheduling(member.Node)
		class := engine.Class{Queue: scheduling.Queue, Requires: strings.Join(scheduling.Requires, ","), Resources: scheduling.Resources}
		place := slices.IndexFunc(dispatches, func(d engine.Dispatch) bool {
			return d.Class == class && d.Priority == scheduling.Priority && len(d.Members) < w.pack
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

// agent registers an agent that serves everything.
func (w *world) agent(id string) *agentSession {
	w.Helper()
	return agentOf(w, w.backend, engine.AgentInfo{ID: id})
}

func agentOf(w *world, backend *Backend, info engine.AgentInfo) *agentSession {
	w.Helper()
	if info.Slots == 0 {
		info.Slots = 4
	}
	if info.HeartbeatInterval == 0 {
		info.HeartbeatInterval = 10 * time.Second
	}
	info.Version = "1.0"
	opened, err := backend.OpenAgent(w.ctx, info)
	w.must(err, "register an agent")
	session := opened.(*agentSession) //nolint:forcetypeassert // its only type
	w.Cleanup(func() { _ = session.Close(context.WithoutCancel(w.ctx)) })
	return session
}

func (w *world) claim(session engine.AgentSession, want, slack int) []engine.ClaimedDelivery {
	w.Helper()
	claim, err := session.Claim(w.ctx, want, slack, workflow.Resources{})
	w.must(err, "claim")
	return claim.Deliveries
}

// namesOf are the task ids of what was claimed, in order.
func namesOf(deliveries []engine.ClaimedDelivery) string {
	var names []string
	for _, delivery := range deliveries {
		for _, task := range delivery.Tasks {
			names = append(names, task.Spec.TaskID)
		}
	}
	return strings.Join(names, " ")
}

// complete reports all tasks of deliveries as completed.
func (w *world) complete(session *agentSession, deliveries []engine.ClaimedDelivery) {
	w.Helper()
	for i := range deliveries {
		report := reportOf(session, &deliveries[i])
		w.must(session.Report(w.ctx, report, nil, nil), "report")
	}
}

// reportOf is a report that all tasks of a delivery completed.
func reportOf(session *agentSession, delivery *engine.ClaimedDelivery) *engine.Report {
	report := &engine.Report{ReplyTo: delivery.ReplyTo, Agent: session.Incarnation(), Done: []int64{delivery.ID}}
	code := int32(0)
	for _, task := range delivery.Tasks {
		report.Ends = append(report.Ends, engine.End{Member: task.Member, Result: workflow.Result{
			Status: workflow.TaskCompleted, Started: true, ExitCode: &code, StartTime: delivery.ClaimedAt, EndTime: delivery.ClaimedAt.Add(time.Millisecond),
		}})
	}
	return report
}

// drain lets an agent and the writer work until nothing is left.
func (w *world) drain(session *agentSession) {
	w.Helper()
	for {
		deliveries := w.claim(session, 100, 100)
		w.complete(session, deliveries)
		if mail := w.turn(); len(mail) == 0 && len(deliveries) == 0 {
			return
		}
	}
}

func (w *world) view(id workflow.RunID) engine.RunView {
	w.Helper()
	view, err := w.backend.FindRun(w.ctx, id.String())
	w.must(err, "find the run")
	return view
}

func poolOf(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	return pgxpool.NewWithConfig(ctx, config) //nolint:wrapcheck // the test says what it did
}

// declareDead declares the writer dead, as another orchestrator would.
func (w *world) declareDead() {
	w.Helper()
	w.must(w.backend.declareWriterDead(w.ctx, w.writer.number), "declare the writer dead")
}

// shift lets the writer believe in another number of its last commit than is stored.
func (w *world) shift(by int64) { w.writer.seq += by }

// inStep tells whether the number of the writer's last commit is the one that is stored.
func (w *world) inStep() bool {
	w.Helper()
	return ask[int64](w, "SELECT seq FROM cyclonetix__state.writers WHERE writer = $1", w.writer.number) == w.writer.seq
}
