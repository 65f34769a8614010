package workflow

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestScenarios runs the rules of the engine, each told by a file of
// testdata/*.scenario. A file starts with prose (lines with #), then says the graph:
//
//	task NAME [needs NAME…] [retries N] [delay D] [backoff] [max D]
//	limit [rows N] [rescues N]
//
// and then what happens, a line for each call of Advance, with what is expected of it:
//
//	start                                  the run was submitted
//	end TASK STATUS [cause C] [exit N]     an attempt ended; STATUS is completed, failed or cancelled
//	lost TASK                              the agent died that held it
//	return TASK started|unstarted          an agent that stops handed it back
//	timer TASK                             its timer is due
//	cancel by NAME                         someone wants the run cancelled
//	withdraw TASK                          it was taken out of the queue before it was claimed
//	count                                  the counts should be written
//	advance                                nothing happened: work goes on after a cut
//
// TASK is a name with @ATTEMPT/DELIVERY, both of which are 1 when left out. Several
// events of one call are joined by a semicolon. Between the calls:
//
//	at +D                                  time passes
//	restore                                the writer crashes; the run is restored from its rows
//
// Expectations speak of the state, or, from "expect queue" on, of the last call alone:
//
//	expect run STATUS
//	expect TASK… STATUS [attempt N] [delivery N] [cause C] [exit N]
//	expect superseded TASK STATUS [cause C] [exit N]      a row of the attempts
//	expect timers [TASK D…D]…              how long they still have; a missing list is none
//	expect queue [TASK…]                   what is to be dispatched, in order
//	expect withdraw [TASK…]
//	expect counts TOTAL COMPLETED FAILED   or: expect counts none
//	expect cancel by NAME                  the event that is kept
//	expect nothing                         there is nothing to commit
//	expect more                            the change was cut
//
// After every call it is checked that Advance left the run alone, that the rows obey
// what a database would demand, and that the run restored from them equals the live one.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no scenarios in testdata (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".scenario"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := runScenario(file, string(text)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A scenario that expects what is wrong fails, and the error says where.
func TestScenarioErrors(t *testing.T) {
	t.Parallel()
	const graph = "# prose\ntask a\ntask b needs a\n"
	for _, test := range []struct{ text, want string }{
		{"task a", "x:1: a scenario begins with prose"},
		{graph + "start\nexpect run completed", "x:5: the run is running"},
		{graph + "start\nexpect a completed", "x:5: a is queued"},
		{graph + "start\nexpect a queued attempt 2", "x:5: a has the attempt 1"},
		{graph + "start\nexpect queue b", "x:5: the queue is a@1/1"},
		{graph + "start\nexpect queue", "x:5: the queue is a@1/1"},
		{graph + "start\nexpect withdraw a", "x:5: the withdrawn members are none"},
		{graph + "start\nexpect nothing", "x:5: there is a change"},
		{graph + "start\nexpect more", "x:5: the change was not cut"},
		{graph + "start\nexpect timers a 1s…2s", "x:5: a has no timer"},
		{graph + "start\nexpect superseded a failed", "x:5: a@1/1 is not superseded"},
		{graph + "start\nexpect counts none", "x:5: the counts are 2 0 0"},
		{graph + "start\nexpect cancel by ann", "x:5: nobody cancelled"},
		{graph + "task c\nlimit rows 1\nstart\nstart", "x:7: the call before was cut"},
		{graph + "restart", `x:4: unknown word "restart"`},
		{graph + "end c completed", `x:4: there is no task "c"`},
		{graph + "end a@one completed", `x:4: "a@one" does not name an attempt`},
		{graph + "end a running", `x:4: an attempt does not end as "running"`},
		{graph + "expect b", "x:4: the expectation is not complete"},
		{"# prose\ntask a needs b\n", `x:2: there is no task "b"`},
		{"# prose\ntask a soon", `x:2: unknown word "soon"`},
	} {
		err := runScenario("x", test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("scenario\n%s\ngives the error %v, want %s", test.text, err, test.want)
		}
	}
}

// scenario is a run under test, with the rows of its changes.
type scenario struct {
	names  []string
	nodes  []Node
	specs  []Scheduling
	limits Limits

	live    *Run
	rows    *rows
	now     time.Time
	left    []Event // that the last call had no room for
	change  *Change // of the last call
	cutSeen bool    // a cut of it was expected
}

var scenarioStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func runScenario(file, text string) error {
	if !strings.HasPrefix(text, "# ") {
		return fmt.Errorf("%s:1: a scenario begins with prose that says the rule: # …", file)
	}
	s := &scenario{limits: DefaultLimits, rows: newRows(), now: scenarioStart, change: &Change{}}
	scanner := bufio.NewScanner(strings.NewReader(text))
	for line := 1; scanner.Scan(); line++ {
		content, _, _ := strings.Cut(scanner.Text(), "#")
		words := strings.Fields(content)
		if len(words) == 0 {
			continue
		}
		if err := s.line(words); err != nil {
			return fmt.Errorf("%s:%d: %w", file, line, err)
		}
	}
	return nil
}

func (s *scenario) line(words []string) error {
	switch words[0] {
	case "task":
		return s.task(words[1:])
	case "limit":
		return s.limit(words[1:])
	}
	if s.live == nil {
		graph, err := NewGraph(s.nodes, s.specs)
		if err != nil {
			return err
		}
		s.live = NewRun(NewRunID(scenarioStart, 7), "test", graph, false)
		s.live.ID = RunID{15: 1} // so that the jitter of retries is the same each time
	}
	switch words[0] {
	case "at":
		passed, err := time.ParseDuration(strings.TrimPrefix(strings.Join(words[1:], ""), "+"))
		s.now = s.now.Add(passed)
		return err
	case "restore":
		return s.restore()
	case "expect":
		return s.expect(words[1:])
	}
	return s.step(words)
}

func (s *scenario) task(words []string) error {
	if len(words) == 0 {
		return errors.New("a task has a name")
	}
	node := Node{Name: words[0], Spec: int32(len(s.specs))}
	spec := Scheduling{Queue: DefaultQueue, Priority: DefaultPriority}
	args := arguments{words: words[1:]}
	for args.more() {
		switch word := args.next(); word {
		case "needs":
			for args.more() && slices.Contains(s.names, args.peek()) {
				node.Dependencies = append(node.Dependencies, int32(slices.Index(s.names, args.next())))
			}
			if args.more() && !slices.Contains([]string{"retries", "delay", "backoff", "max"}, args.peek()) {
				return fmt.Errorf("there is no task %q above", args.peek())
			}
		case "retries":
			spec.Retries.Count = args.number()
		case "delay":
			spec.Retries.DelaySeconds = args.duration().Seconds()
		case "backoff":
			spec.Retries.ExponentialBackoff = true
		case "max":
			spec.Retries.MaxDelaySeconds = args.duration().Seconds()
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	s.names, s.nodes, s.specs = append(s.names, node.Name), append(s.nodes, node), append(s.specs, spec)
	return args.err
}

func (s *scenario) limit(words []string) error {
	args := arguments{words: words}
	for args.more() {
		switch word := args.next(); word {
		case "rows":
			s.limits.Rows = args.number()
		case "rescues":
			s.limits.MaxRescues = args.number()
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	return args.err
}

func (s *scenario) restore() error {
	restored, err := s.rows.restore(s.live.ID, s.live.Graph)
	if err != nil {
		return err
	}
	s.live, s.left = restored, nil
	return nil
}

// step calls Advance with the events of the line, and commits what follows.
func (s *scenario) step(words []string) error {
	events, err := s.events(words)
	if err != nil {
		return err
	}
	if s.change.More && !s.cutSeen {
		return errors.New("the call before was cut: say so by expect more")
	}
	events = append(s.left, events...)
	before := cloneRun(s.live)
	change, used := Advance(s.live, s.now, events, s.limits)
	if !reflect.DeepEqual(before, s.live) {
		return fmt.Errorf("the run was changed before the commit: it was %+v, and is %+v", before, s.live)
	}
	if err := s.rows.commit(change); err != nil {
		return fmt.Errorf("the change can't be stored: %w", err)
	}
	s.live.Apply(change)
	restored, err := s.rows.restore(s.live.ID, s.live.Graph)
	if err != nil {
		return err
	}
	if err := sameRun(s.live, restored); err != nil {
		return fmt.Errorf("the run that is restored from its rows is another one: %w", err)
	}
	s.change, s.left, s.cutSeen = change, events[used:], false
	return nil
}

// cloneRun is a copy that shares nothing but the graph with the run.
func cloneRun(run *Run) *Run {
	clone := *run
	clone.Nodes = slices.Clone(run.Nodes)
	clone.backlog.ready = slices.Clone(run.backlog.ready)
	clone.backlog.doomed = slices.Clone(run.backlog.doomed)
	return &clone
}

func (s *scenario) events(words []string) ([]Event, error) {
	var events []Event
	for text := range strings.SplitSeq(strings.Join(words, " "), ";") {
		args := arguments{words: strings.Fields(text)}
		word := args.next()
		if word == "advance" && len(words) == 1 {
			return nil, args.err
		}
		event, err := s.event(word, &args)
		if err != nil {
			return nil, err
		}
		if args.more() {
			return nil, fmt.Errorf("unknown word %q", args.peek())
		}
		events = append(events, event)
	}
	return events, nil
}

func (s *scenario) event(word string, args *arguments) (event Event, err error) {
	switch word {
	case "start":
		return Event{Kind: EventStart}, nil
	case "count":
		return Event{Kind: EventCount}, nil
	case "cancel":
		args.expect("by")
		event.Kind, event.Actor = EventCancel, args.next()
		return event, args.err
	}
	kinds := map[string]EventKind{
		"end": EventEnd, "lost": EventLost, "return": EventReturn, "timer": EventTimer, "withdraw": EventWithdraw,
	}
	kind, ok := kinds[word]
	if !ok {
		return event, fmt.Errorf("unknown word %q", word)
	}
	member, err := s.member(args.next())
	if err != nil {
		return event, err
	}
	event = Event{Kind: kind, Node: member.Node, Attempt: member.Attempt, Delivery: member.Delivery}
	switch kind {
	case EventEnd:
		event.Result = Result{Started: true, StartTime: s.now.Add(-time.Second), EndTime: s.now, Agent: 9}
		err = s.result(&event.Result, args)
	case EventLost:
		event.Result = Result{StartTime: s.now.Add(-time.Second), Agent: 9}
	case EventReturn:
		started := args.next()
		if started != "started" && started != "unstarted" {
			return event, fmt.Errorf("a task is handed back started or unstarted, not %q", started)
		}
		event.Result = Result{Started: started == "started", Agent: 9}
		if event.Result.Started {
			event.Result.StartTime, event.Result.EndTime = s.now.Add(-time.Second), s.now
		}
	case EventTimer:
		event.Timer = TimerRetry
	case EventStart, EventCancel, EventWithdraw, EventCount:
	}
	return event, errors.Join(err, args.err)
}

func (s *scenario) result(result *Result, args *arguments) error {
	word := args.next()
	status, err := ParseTaskStatus(word)
	if err != nil || status != TaskCompleted && status != TaskFailed && status != TaskCancelled {
		return fmt.Errorf("an attempt does not end as %q", word)
	}
	result.Status = status
	for args.more() {
		switch word := args.next(); word {
		case "cause":
			if err := result.Cause.UnmarshalText([]byte(args.next())); err != nil {
				return err
			}
		case "exit":
			code := int32(args.number())
			result.ExitCode = &code
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	return nil
}

// member reads NAME, NAME@ATTEMPT or NAME@ATTEMPT/DELIVERY.
func (s *scenario) member(text string) (Member, error) {
	name, numbers, named := strings.Cut(text, "@")
	node := slices.Index(s.names, name)
	if node < 0 {
		return Member{}, fmt.Errorf("there is no task %q", name)
	}
	member := Member{Node: int32(node), Attempt: 1, Delivery: 1}
	if !named {
		return member, nil
	}
	first, second, _ := strings.Cut(numbers+"/1", "/")
	second, _, _ = strings.Cut(second, "/")
	attempt, err := strconv.ParseUint(first, 10, 16)
	delivery, err2 := strconv.ParseUint(second, 10, 16)
	if err != nil || err2 != nil {
		return Member{}, fmt.Errorf("%q does not name an attempt: NAME@ATTEMPT/DELIVERY", text)
	}
	member.Attempt, member.Delivery = uint16(attempt), uint16(delivery)
	return member, nil
}

// arguments are the words of a line that are still to be read. The first error stays.
type arguments struct {
	words []string
	err   error
}

func (a *arguments) more() bool { return len(a.words) > 0 && a.err == nil }

func (a *arguments) peek() string { return a.words[0] }

func (a *arguments) next() string {
	if len(a.words) == 0 {
		a.err = errors.Join(a.err, errors.New("the line ends too early"))
		return ""
	}
	word := a.words[0]
	a.words = a.words[1:]
	return word
}

func (a *arguments) expect(want string) {
	if word := a.next(); word != want && a.err == nil {
		a.err = fmt.Errorf("%q stands where %q should", word, want)
	}
}

func (a *arguments) number() int {
	number, err := strconv.Atoi(a.next())
	a.err = errors.Join(a.err, err)
	return number
}

func (a *arguments) duration() time.Duration {
	duration, err := time.ParseDuration(a.next())
	a.err = errors.Join(a.err, err)
	return duration
}
