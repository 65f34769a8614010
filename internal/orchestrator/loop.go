package orchestrator

import (
	"context"
	"slices"

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
	// listeners are those by the definitions of a revision; a commit that ends runs is stored only when it is current.
	listeners engine.Listeners
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
		questions: l.questions.anew(), owned: l.owned, listeners: l.listeners,
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
