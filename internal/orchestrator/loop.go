package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	// mailLimit is how many messages one read takes.
	mailLimit = 4000
	// commitRows is the number of task rows after which no further run joins a commit, so
	// that a flood from one side delays others by tens of milliseconds.
	commitRows = 6000
	// loadPage is how many live runs are loaded at once after a takeover.
	loadPage = 100
	// keptNodes is the number of nodes in the memory of a writer above which quiet runs leave it.
	keptNodes = 2_000_000
)

// loop is the memory of a writer and what it does with it. One goroutine uses it.
type loop struct {
	writer  engine.Writer
	options Options

	// owned are the writer's buckets.
	owned     map[int]bool
	recovered bool
	runs      map[workflow.RunID]*entry
	work      []*entry // entries with events, or with more to settle, in order
	nodes     int      // in memory
	turns     int64

	remove   []engine.DeliveryKey // deliveries done with
	consumed []engine.MailKey     // messages that are answered by the next commit
	mail     []engine.Mail        // read, not yet opened
	withdraw []workflow.Member    // must not start any more: killed where an agent has claimed them
	hold     []workflow.Member    // shall not start for now: left alone where an agent has claimed them
	orders   []engine.KillOrder
	refused  []engine.RefusedRun
	// homeless are members that were taken out of the queue with others, and whose runs are not in memory.
	homeless []workflow.Member
	stale    map[*entry]struct{} // runs whose stored counts are behind

	dispatcher *dispatcher
	timers     timers
	takeover   *takeover
	gate       *gate
	questions  *questions
	heard      []answer // answers that no run has yet
	// asking counts the questions of runs that are not answered: an end may be among what waits for that.
	asking map[workflow.RunID]int
	// suspects are the runs of commits that were refused, and that were not committed since. They are committed apart
	// from others, at most so many at once: the number halves with each refusal and doubles with each success.
	suspects map[workflow.RunID]bool
	most     int
}

// entry is a run in memory.
type entry struct {
	run *workflow.Run
	// graph is the run's, or, while a change is being committed that lets it grow, the one it will have.
	graph *workflow.Graph
	// values is what deliveries tell of the run's values: those that it will have, like graph.
	values int32
	// events have come and are not committed; letters are the messages that they came in (nil for none).
	events  []workflow.Event
	letters []*letter
	queued  bool // in loop.work
	more    bool
	used    int64 // the turn in which something happened last
	// inFlight is the number of its members in the table or with agents.
	inFlight int
	queues   []*runQueue
	lanes    []*lane // of the graph's specifications
	// missing are members that were stored as queued and are in no delivery, by node. They are put into the queue
	// when all events that had come are accounted for: one of them may have been their end.
	missing []workflow.Member
}

// misses tells whether what is queued of the node is in no delivery, and does not wait either.
func (e *entry) misses(node int32) bool {
	place, found := slices.BinarySearchFunc(e.missing, node, func(member workflow.Member, node int32) int { return cmp.Compare(member.Node, node) })
	return found && e.holds(e.missing[place])
}

// holds tells whether the member is what is queued of its node.
func (e *entry) holds(member workflow.Member) bool {
	if int(member.Node) >= len(e.run.Nodes) {
		return false
	}
	state := &e.run.Nodes[member.Node]
	return state.Status == workflow.TaskQueued && state.Attempt == member.Attempt && state.Delivery == member.Delivery
}

// letter is a message some of whose events are not committed yet.
type letter struct {
	key    engine.MailKey
	kind   engine.MailKind
	open   int
	remove []engine.DeliveryKey
}

func newLoop(writer engine.Writer, options Options) *loop {
	l := &loop{
		writer: writer, options: options, dispatcher: newDispatcher(), suspects: map[workflow.RunID]bool{},
		questions: newQuestions(writer, options), owned: map[int]bool{},
	}
	for _, bucket := range writer.Buckets() {
		l.owned[bucket] = true
	}
	l.forget()
	return l
}

// forget throws the memory away.
func (l *loop) forget() {
	*l = loop{
		writer: l.writer, options: l.options, runs: map[workflow.RunID]*entry{}, stale: map[*entry]struct{}{},
		dispatcher: l.dispatcher.anew(), timers: newTimers(), gate: newGate(), asking: map[workflow.RunID]int{}, suspects: l.suspects, most: l.most,
		questions: l.questions.anew(), owned: l.owned,
	}
}

// busy tells whether there is something to do at once.
func (l *loop) busy() bool {
	return !l.recovered || len(l.mail) > 0 || len(l.work) > 0 || len(l.consumed) > 0 || len(l.remove) > 0 || len(l.withdraw) > 0 || len(l.hold) > 0 ||
		len(l.orders) > 0 || len(l.refused) > 0 || len(l.homeless) > 0 || l.takeover != nil || l.gate.dirty || l.dispatcher.ready()
}

// step does one turn: everything that has come goes into one commit.
func (l *loop) step(ctx context.Context, tick bool) error {
	if !l.recovered {
		if err := l.recover(ctx); err != nil {
			return err
		}
	}
	if tick {
		if err := l.tick(ctx); err != nil {
			return err
		}
	}
	l.turns++
	if len(l.mail) == 0 {
		mail, err := l.writer.ReadMail(ctx, false, mailLimit)
		if err != nil {
			return err //nolint:wrapcheck // the backend says what it did
		}
		l.mail = mail
	}
	if err := l.bringHome(ctx); err != nil {
		return err
	}
	if err := l.openMail(ctx); err != nil {
		return err
	}
	if err := l.hearAnswers(ctx); err != nil {
		return err
	}
	if err := l.takeOver(ctx); err != nil {
		return err
	}
	if err := l.openGate(ctx); err != nil {
		return err
	}
	l.fireTimers()
	return l.commit(ctx)
}

// bringHome queues members anew whose runs had left memory, or were not yet in it.
func (l *loop) bringHome(ctx context.Context) error {
	if len(l.homeless) == 0 {
		return nil
	}
	var absent []workflow.RunID
	for _, member := range l.homeless {
		if l.runs[member.Run] == nil && !slices.Contains(absent, member.Run) {
			absent = append(absent, member.Run)
		}
	}
	if err := l.load(ctx, absent); err != nil {
		return err
	}
	for _, member := range l.homeless {
		if e := l.runs[member.Run]; e != nil {
			l.putBack(e, member)
		}
	}
	l.homeless = nil
	return nil
}

// openMail turns messages into events of runs, which it loads where they are not in memory.
func (l *loop) openMail(ctx context.Context) error {
	if err := l.load(ctx, l.strangers(l.mail)); err != nil {
		return err
	}
	for i := range l.mail {
		mail := &l.mail[i]
		open := &letter{key: mail.Key, kind: mail.Kind, open: 1}
		switch mail.Kind {
		case engine.MailSubmit:
			if err := l.submitted(ctx, mail, open); err != nil {
				return err
			}
		case engine.MailCancel:
			l.deliver(mail.Run, workflow.Event{Kind: workflow.EventCancel, Actor: mail.Actor}, open)
		case engine.MailCommand:
			if err := l.command(ctx, mail.Run, mail.Command, open); err != nil {
				return err
			}
		case engine.MailReport:
			l.report(mail.Report, open)
		case engine.MailLost:
			l.lost(mail.Lost, open)
		}
		l.close(open)
		l.mail[i] = engine.Mail{}
	}
	l.mail = nil
	return nil
}

// strangers are the runs that messages speak of and that are not in memory.
func (l *loop) strangers(mail []engine.Mail) []workflow.RunID {
	var ids []workflow.RunID
	seen := map[workflow.RunID]bool{}
	add := func(id workflow.RunID) {
		if l.runs[id] == nil && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	submitted := map[workflow.RunID]bool{}
	for i := range mail {
		switch mail[i].Kind {
		case engine.MailSubmit:
			submitted[mail[i].Run] = true
		case engine.MailCancel, engine.MailCommand:
			if !submitted[mail[i].Run] {
				add(mail[i].Run)
			}
		case engine.MailReport:
			for k := range mail[i].Report.Ends {
				add(mail[i].Report.Ends[k].Run)
			}
			for k := range mail[i].Report.Returns {
				add(mail[i].Report.Returns[k].Run)
			}
		case engine.MailLost:
			for _, member := range mail[i].Lost.Members {
				add(member.Run)
			}
		}
	}
	return ids
}

func (l *loop) load(ctx context.Context, ids []workflow.RunID) error {
	for len(ids) > 0 {
		page := ids[:min(loadPage, len(ids))]
		ids = ids[len(page):]
		page = l.absent(page)
		if len(page) == 0 {
			continue
		}
		runs, err := l.writer.LoadRuns(ctx, page)
		if broken, ok := errors.AsType[*engine.BrokenRunError](err); ok {
			l.options.Logger.Error("a run can't be loaded and is failed", "run", broken.ID, "error", err)
			if err := l.withdrawStored(ctx, broken.ID); err != nil {
				return err
			}
			l.refused = append(l.refused, engine.RefusedRun{ID: broken.ID, Reason: reasonOf("it can't be loaded", broken.Err)})
			l.dropRefused()
			l.gate.leave(broken.ID)
			ids = append(page, ids...)
			continue
		}
		if err != nil {
			return err //nolint:wrapcheck // the backend says what it did
		}
		for _, run := range runs {
			l.adopt(run)
		}
	}
	return nil
}

// absent are those of the runs that may be loaded, once each: a run in memory twice would lose what waits there. One of
// another writer never is, whatever a message says.
func (l *loop) absent(ids []workflow.RunID) []workflow.RunID {
	absent := make([]workflow.RunID, 0, len(ids))
	for _, id := range ids {
		if !l.owned[id.Bucket()] {
			l.options.Logger.Error("a message on a run of another writer is left out", "run", id)
			continue
		}
		if l.runs[id] == nil && !l.isRefused(id) && !slices.Contains(absent, id) {
			absent = append(absent, id)
		}
	}
	return absent
}

// withdrawStored takes the members of a run that can't be loaded out of the queue.
func (l *loop) withdrawStored(ctx context.Context, id workflow.RunID) error {
	deliveries, err := l.writer.Dispatched(ctx)
	if err != nil {
		return err //nolint:wrapcheck // the backend says what it did
	}
	for i := range deliveries {
		for k := range deliveries[i].Members {
			if member := deliveries[i].Members[k].Member; member.Run == id {
				l.withdraw = append(l.withdraw, member)
			}
		}
	}
	return nil
}

// reasonOf is the reason of a run that is failed, in a form that every backend can store.
func reasonOf(what string, err error) string {
	return what + ": " + strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "\ufffd"), "\x00", "\ufffd")
}

// adopt takes a run that was stored into memory.
func (l *loop) adopt(run *workflow.Run) *entry {
	e := l.insert(run)
	if over := l.takeover; over != nil && !over.done[run.ID] {
		over.reconcile(l, e)
	} else {
		e.inFlight = len(run.Queued()) // it had left memory, which only runs do of which nothing waits there
	}
	switch run.Status {
	case workflow.RunRunning, workflow.RunPaused:
		// What a crash or an eviction cut off is found again from the states.
		e.more = true
		l.enqueue(e)
		l.gate.started(run)
	case workflow.RunPending:
		l.gate.add(run) // its submission was answered, so it waits for others; else that starts it
	case workflow.RunCompleted, workflow.RunFailed, workflow.RunCancelled:
	}
	return e
}

func (l *loop) insert(run *workflow.Run) *entry {
	e := &entry{run: run, graph: run.Graph, values: run.Values(), used: l.turns}
	l.runs[run.ID] = e
	l.nodes += len(run.Nodes)
	return e
}

func (l *loop) drop(e *entry) {
	if l.runs[e.run.ID] == e {
		delete(l.runs, e.run.ID)
		l.nodes -= len(e.run.Nodes)
	}
	delete(l.stale, e)
	for _, from := range e.letters {
		l.close(from)
	}
	e.events, e.letters, e.more = nil, nil, false
}

func (l *loop) enqueue(e *entry) {
	if !e.queued {
		e.queued = true
		l.work = append(l.work, e)
	}
}

func (l *loop) submitted(ctx context.Context, mail *engine.Mail, open *letter) error {
	if l.runs[mail.Run] == nil {
		graph, err := l.writer.Graph(ctx, mail.Plan)
		if errors.Is(err, engine.ErrRefused) || errors.Is(err, engine.ErrNotFound) {
			l.refused = append(l.refused, engine.RefusedRun{ID: mail.Run, Reason: reasonOf("its plan can't be read", err), Mail: []engine.MailKey{mail.Key}})
			open.key = engine.MailKey{}
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // the backend says what it did
		}
		run := workflow.NewRun(mail.Run, mail.DAG, graph, mail.HasValues)
		run.Options = mail.Options
		l.insert(run)
		if l.takeover != nil {
			l.takeover.done[mail.Run] = true
		}
	}
	if run := l.runs[mail.Run].run; run.Status == workflow.RunPending && gated(run) {
		l.gate.add(run) // the message has done its work: a pending run is found again without it
		return nil
	}
	l.deliver(mail.Run, workflow.Event{Kind: workflow.EventStart}, open)
	return nil
}

// deliver gives an event to a run. A run that is not in memory now has ended: nothing follows.
func (l *loop) deliver(id workflow.RunID, event workflow.Event, from *letter) {
	e := l.runs[id]
	if e == nil {
		return
	}
	if from != nil {
		from.open++
	}
	e.events, e.letters = append(e.events, event), append(e.letters, from)
	l.enqueue(e)
}

// close notes that an event of the message was committed or means nothing; after the last one the message is answered.
func (l *loop) close(from *letter) {
	if from == nil {
		return
	}
	from.open--
	if from.open == 0 && from.key != (engine.MailKey{}) {
		l.consumed = append(l.consumed, from.key)
		l.remove = append(l.remove, from.remove...)
	}
}

func (l *loop) report(report *engine.Report, from *letter) {
	for _, id := range report.Done {
		from.remove = append(from.remove, engine.DeliveryKey{ReplyTo: from.key.Bucket, ID: id})
	}
	for i := range report.Ends {
		end := &report.Ends[i]
		if end.Evaluation != nil && l.askNames(end, from) {
			continue
		}
		l.deliver(end.Run, workflow.Event{Kind: workflow.EventEnd, Node: end.Node, Attempt: end.Attempt, Delivery: end.Delivery, Result: end.Result}, from)
	}
	for i := range report.Returns {
		back := &report.Returns[i]
		l.deliver(back.Run, workflow.Event{
			Kind: workflow.EventReturn, Node: back.Node, Attempt: back.Attempt, Delivery: back.Delivery,
			Result: workflow.Result{Started: back.Started, StartTime: back.StartTime, EndTime: back.EndTime, Agent: report.Agent},
		}, from)
	}
}

func (l *loop) lost(lost *engine.LostDelivery, from *letter) {
	from.remove = append(from.remove, engine.DeliveryKey{ReplyTo: from.key.Bucket, ID: lost.ID})
	for _, member := range lost.Members {
		l.deliver(member.Run, workflow.Event{
			Kind: workflow.EventLost, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery,
			Result: workflow.Result{StartTime: lost.ClaimedAt, Agent: lost.Agent},
		}, from)
	}
}

func (l *loop) fireTimers() {
	now := l.writer.Now()
	for {
		timer, ok := l.timers.pop(now)
		if !ok {
			return
		}
		// A run that left memory comes back with the next tick, which finds the timer again if it still counts.
		l.deliver(timer.Run, workflow.Event{Kind: workflow.EventTimer, Node: timer.Node, Timer: timer.Kind}, nil)
	}
}

// advance lets the runs with work decide, as many as go into one commit.
func (l *loop) advance(at time.Time) (changes []*workflow.Change, of []*entry, used []int) {
	if len(l.refused) > 0 {
		return nil, nil, nil // they go first, and alone: else two runs that are to blame could undo each other's end for ever
	}
	rows, tried := 0, 0
	apart := len(l.suspects) > 0 && slices.ContainsFunc(l.work, func(e *entry) bool { return l.suspects[e.run.ID] })
	rest := l.work[:0]
	for i, e := range l.work {
		if rows >= commitRows || apart && tried >= l.most {
			rest = append(rest, l.work[i:]...)
			break
		}
		if apart && !l.suspects[e.run.ID] {
			rest = append(rest, e)
			continue
		}
		e.queued = false
		if l.runs[e.run.ID] != e {
			continue
		}
		change, count, err := l.decide(e, at)
		if err != nil {
			l.refuse(e, err)
			continue
		}
		rows += len(change.Tasks) + len(change.Withdraw)
		if !change.Empty() {
			tried++
		}
		changes, of, used = append(changes, change), append(of, e), append(used, count)
	}
	clear(l.work[len(rest):])
	l.work = rest
	return changes, of, used
}

// decide lets the rules decide; a panic in them stops its run and no other.
func (l *loop) decide(e *entry, at time.Time) (change *workflow.Change, used int, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			l.options.Logger.Error("the rules failed", "run", e.run.ID, "error", reason, "stack", string(debug.Stack()))
			err = fmt.Errorf("the rules failed: %v", reason)
		}
	}()
	change, used = workflow.Advance(e.run, at, e.events, l.options.Limits)
	return change, used, nil
}

// refuse fails a run that can't be moved on, and keeps its messages aside.
func (l *loop) refuse(e *entry, reason error) {
	l.options.Logger.Error("a run can't be moved on and is failed", "run", e.run.ID, "error", reason)
	refused := engine.RefusedRun{ID: e.run.ID, Reason: reasonOf("it can't be moved on", reason)}
	for _, from := range e.letters {
		if from != nil && (from.kind == engine.MailSubmit || from.kind == engine.MailCancel || from.kind == engine.MailCommand) && from.key != (engine.MailKey{}) {
			refused.Mail = append(refused.Mail, from.key)
			from.key = engine.MailKey{}
		}
	}
	l.refused = append(l.refused, refused)
	l.gate.leave(e.run.ID)
	l.dispatcher.forget(e)
	l.withdraw = append(l.withdraw, e.run.Queued()...)
	l.drop(e)
}

// commit stores what follows from the events, if anything does.
func (l *loop) commit(ctx context.Context) error {
	at := l.writer.Now()
	changes, of, used := l.advance(at)
	commit := &engine.Commit{At: at, Mail: l.consumed, Remove: l.remove, Orders: l.orders, Refused: l.refused, ReadMail: mailLimit}
	for i, change := range changes {
		if !change.Empty() {
			commit.Changes = append(commit.Changes, change)
		}
		for k := range used[i] {
			if from := of[i].letters[k]; from != nil && from.open == 1 && from.key != (engine.MailKey{}) {
				commit.Mail, commit.Remove = append(commit.Mail, from.key), append(commit.Remove, from.remove...)
				from.open, from.key = 0, engine.MailKey{}
			} else if from != nil {
				from.open--
			}
		}
		l.withdraw, l.hold = append(l.withdraw, change.Withdraw...), append(l.hold, change.Hold...)
		l.dispatcher.take(of[i], change)
	}
	// Withdrawing comes before picking, so that no commit dispatches what it withdraws.
	wanted := l.dispatcher.withdraw(l, commit, l.withdraw, l.hold)
	l.dispatcher.pick(commit, at, l.writer.ReplyTo)
	l.consumed, l.remove, l.orders, l.refused, l.withdraw, l.hold = nil, nil, nil, nil, nil, nil
	if !worthwhile(commit) {
		l.apply(changes, of, used)
		return nil
	}
	started := time.Now()
	result, err := l.send(ctx, commit)
	if err != nil {
		return l.failed(err, commit)
	}
	l.options.Observer.Committed(time.Since(started), commit.Changes)
	l.acquit(commit)
	l.apply(changes, of, used)
	l.settleWithdrawn(wanted, result.Withdrawn)
	l.mail = append(l.mail, result.Mail...)
	return nil
}

func worthwhile(commit *engine.Commit) bool {
	return len(commit.Changes)+len(commit.Dispatches)+len(commit.Remove)+len(commit.Withdraw)+len(commit.Orders)+len(commit.Mail)+
		len(commit.Refused) > 0 || commit.Backlog != nil
}

// send commits, again and again while nothing is wrong but the backend.
func (l *loop) send(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		result, err := l.commitOnce(ctx, commit)
		if err == nil || ctx.Err() != nil || errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrUncertain) || errors.Is(err, engine.ErrRefused) {
			return result, err //nolint:wrapcheck // the backend says what it did
		}
		l.options.Logger.Warn("a commit failed; trying again", "error", err, "delay", delay)
		if !sleep(ctx, delay) {
			return result, ctx.Err() //nolint:wrapcheck // says it all
		}
	}
}

// stopGrace is how long a commit that is under way may go on when the orchestrator is told to stop.
const stopGrace = 500 * time.Millisecond

// commitOnce does not break off a commit that is under way: its outcome would be uncertain, and its locks would be in
// the way of giving the buckets up.
func (l *loop) commitOnce(ctx context.Context, commit *engine.Commit) (engine.CommitResult, error) {
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })
	defer stop()
	return l.writer.Commit(whole, commit) //nolint:wrapcheck // the backend says what it did
}

// failed throws the memory away. When the content was refused, the runs of the commit are committed apart, in smaller
// and smaller groups, until the one that is to blame stands alone and is failed. So each is tried again at least
// once with a memory that is what is stored.
func (l *loop) failed(err error, commit *engine.Commit) error {
	if !errors.Is(err, engine.ErrRefused) {
		l.forget()
		return err
	}
	if len(commit.Changes) == 0 {
		l.forget()
		return err
	}
	if len(commit.Changes) > 1 || !l.suspects[commit.Changes[0].ID] {
		l.options.Logger.Warn("a commit was refused; looking for the run that is to blame", "runs", len(commit.Changes), "error", err)
		for _, change := range commit.Changes {
			l.suspects[change.ID] = true
		}
		l.most = max(1, len(commit.Changes)/2)
		l.forget()
		return nil
	}
	blamed := commit.Changes[0].ID
	delete(l.suspects, blamed)
	l.options.Logger.Error("a run can't be committed and is failed", "run", blamed, "error", err)
	l.forget()
	l.refused = append(l.refused, engine.RefusedRun{ID: blamed, Reason: reasonOf("it could not be committed", err)})
	return nil
}

// acquit clears the suspects that were committed. A suspect that has nothing to commit stays one and delays nobody.
func (l *loop) acquit(commit *engine.Commit) {
	if len(l.suspects) == 0 {
		return
	}
	l.most = min(2*l.most, 1<<30)
	for _, change := range commit.Changes {
		delete(l.suspects, change.ID)
	}
}

func (l *loop) apply(changes []*workflow.Change, of []*entry, used []int) {
	for i, change := range changes {
		e := of[i]
		before := e.run.Status
		e.run.Apply(change)
		l.gate.changed(e.run, before, change)
		e.events, e.letters = slices.Delete(e.events, 0, used[i]), slices.Delete(e.letters, 0, used[i])
		e.used, e.more = l.turns, change.More
		l.askItems(e, change)
		l.timers.changed(change, change.At)
		switch {
		case e.run.Status.Ended():
			l.drop(e)
			continue
		case e.run.CountsStale():
			l.stale[e] = struct{}{}
		default:
			delete(l.stale, e)
		}
		if e.more || len(e.events) > 0 {
			l.enqueue(e)
			continue
		}
		if l.asking[e.run.ID] > 0 {
			continue // what is missing may be what the question is about
		}
		for _, member := range e.missing {
			switch {
			case !e.holds(member):
			case e.run.Status == workflow.RunPaused:
				l.dispatcher.count(e, member.Node, 1) // as if it had been in the table: its end takes it out of the count
				l.withdrawn(member)
			default:
				l.dispatcher.push(e, member, time.Time{})
			}
		}
		e.missing = nil
	}
}

// settleWithdrawn answers those who wanted members withdrawn: they are out of the queue, or an agent claimed them and is told to kill them.
func (l *loop) settleWithdrawn(wanted map[workflow.Member]bool, withdrawn []engine.Delivery) {
	for i := range withdrawn {
		for k := range withdrawn[i].Members {
			member := withdrawn[i].Members[k].Member
			if _, ok := wanted[member]; ok {
				delete(wanted, member)
				l.withdrawn(member)
			} else if e := l.runs[member.Run]; e != nil {
				l.putBack(e, member)
			} else {
				l.homeless = append(l.homeless, member)
			}
		}
	}
	for member, kill := range wanted {
		if kill {
			l.orders = append(l.orders, engine.KillOrder{Member: member})
		}
	}
}

// putBack queues a member anew that was taken out of the table with others.
func (l *loop) putBack(e *entry, member workflow.Member) {
	if e.run.Status == workflow.RunPaused && e.holds(member) {
		l.withdrawn(member)
		return
	}
	l.dispatcher.putBack(e, member)
}

// command turns what a person asks into an event. A run that has ended is loaded when it may live again.
func (l *loop) command(ctx context.Context, id workflow.RunID, command *engine.Command, from *letter) error {
	kinds := map[engine.CommandKind]workflow.EventKind{
		engine.CommandPause: workflow.EventPause, engine.CommandResume: workflow.EventResume, engine.CommandApprove: workflow.EventApprove,
		engine.CommandReject: workflow.EventReject, engine.CommandRetry: workflow.EventRetry, engine.CommandSkip: workflow.EventSkip,
	}
	kind, known := kinds[command.Kind]
	if !known {
		return nil
	}
	if l.runs[id] == nil && command.Kind.OfEnded() && !l.isRefused(id) {
		run, err := l.writer.LoadEnded(ctx, id)
		switch {
		case errors.Is(err, engine.ErrNotFound), errors.Is(err, engine.ErrRefused):
			l.options.Logger.Warn("a run that has ended can't live again", "run", id, "error", err)
			return nil
		case err != nil:
			return err //nolint:wrapcheck // the backend says what it did
		}
		l.insert(run)
	}
	l.deliver(id, workflow.Event{Kind: kind, Node: command.Node, Actor: command.Actor}, from)
	return nil
}

func (l *loop) withdrawn(member workflow.Member) {
	l.deliver(member.Run, workflow.Event{Kind: workflow.EventWithdraw, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery}, nil)
}
