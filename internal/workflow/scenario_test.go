package workflow

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestScenarios runs the rules of the engine, each told by a file of
// testdata/*.scenario. A file starts with prose (lines with #), then says the graph:
//
//	task NAME [needs NAME…] [retries N] [delay D] [backoff] [max D] [rule RULE] [eval]
//	          [approval [D]] [each N|reference]
//	define NAME …                          a task that is not in the run, told in the same way
//	limit [rows N] [rescues N] [tasks N]   tasks is max_dynamic_tasks
//	option on_failure stop | option timeout D | option kept NAME… | option unneeded NAME… | option unchosen NAME…
//
// and then what happens, a line for each call of Advance, with what is expected of it:
//
//	start                                  the run was submitted
//	end TASK STATUS [cause C] [exit N]     an attempt ended; STATUS is completed, failed or cancelled
//	    [output K=V] [next NAME,…|none] [set K=V] [set TASK.K=V] [meta K=V]     the last three: as an evaluation point
//	    [unreadable]                                      what next names can never be looked up
//	lost TASK                              the agent died that held it
//	return TASK started|unstarted          an agent that stops handed it back
//	timer TASK [approval] | timer run      its timer is due
//	cancel|pause|resume by NAME            someone wants that
//	approve|reject|retry|skip TASK by NAME
//	withdraw TASK                          it was taken out of the queue before it was claimed
//	items TASK N | items TASK problem      its items are known
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
//	expect retired TASK STATUS [cause C] [exit N]         one that had ended for good
//	expect timers [TASK[/approval]|run D…D]…              how long they still have; a missing list is none
//	expect needs TASK [TASK…]              what it waits for
//	expect values [K=V|TASK.K=V]…          all that evaluation points changed
//	expect version N
//	expect reason run|TASK TEXT            words that are in the reason
//	expect queue [TASK…]                   what is to be dispatched, in order
//	expect withdraw [TASK…]
//	expect hold [TASK…]
//	expect items [TASK…]                   whose items are asked for
//	expect added [TASK…]                   new nodes, or with other parents
//	expect reset [TASK…]                   whose rows go
//	expect outputs [TASK…]
//	expect counts TOTAL COMPLETED FAILED   or: expect counts none
//	expect events [KIND[/TASK][/NAME]]…    that are kept
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
		{graph + "task c\nlimit rows 1\nstart\nstart", "x:7: the call before was cut"},
		{graph + "restart", `x:4: unknown word "restart"`},
		{graph + "end c completed", `x:4: there is no task "c"`},
		{graph + "end a@one completed", `x:4: "a@one" does not name an attempt`},
		{graph + "end a running", `x:4: an attempt does not end as "running"`},
		{graph + "expect b", "x:4: the expectation is not complete"},
		{graph + "start\nexpect hold a", "x:5: the held members are none"},
		{graph + "start\nexpect events pause/ann", "x:5: the events are none"},
		{graph + "start\nexpect added c", "x:5: the added nodes are none"},
		{graph + "start\nexpect reset b", "x:5: the reset nodes are none"},
		{graph + "start\nexpect items b", "x:5: the nodes whose items are asked for are none"},
		{graph + "start\nexpect outputs b", "x:5: the nodes that gave something are none"},
		{graph + "start\nexpect needs b", "x:5: b needs a"},
		{graph + "start\nexpect values k=v", "x:5: the values are none"},
		{graph + "start\nexpect version 1", "x:5: the version is 0"},
		{graph + "start\nexpect reason run too late", `x:5: the reason is ""`},
		{graph + "start\nexpect retired a failed", "x:5: a@1/1 is not superseded"},
		{graph + "option colour red", `x:4: unknown word "colour"`},
		{"# prose\ntask a rule sometimes", `x:2: there is no rule "sometimes"`},
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
	tasks   scenarioTasks
	limits  Limits
	options RunOptions

	names   []string // of the nodes
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
	s := &scenario{limits: DefaultLimits, now: scenarioStart, change: &Change{}}
	scanner := bufio.NewScanner(strings.NewReader(text))
	for line := 1; scanner.Scan(); line++ {
		content := scanner.Text()
		if strings.HasPrefix(content, "#") {
			continue
		}
		content, _, _ = strings.Cut(content, " # ")
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
		return s.tasks.add(words[1:], true)
	case "define":
		return s.tasks.add(words[1:], false)
	case "limit":
		return s.limit(words[1:])
	case "option":
		return s.option(words[1:])
	}
	if s.live == nil {
		if err := s.begin(); err != nil {
			return err
		}
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

// begin makes the run.
func (s *scenario) begin() error {
	plan := s.tasks.plan(s.tasks.inRun)
	specs := make([]Scheduling, len(plan.Specs))
	for i, spec := range plan.Specs {
		specs[i] = spec.Scheduling
	}
	graph, err := NewGraph(plan.Nodes, specs)
	if err != nil {
		return err
	}
	for _, node := range plan.Nodes {
		s.names = append(s.names, node.Name)
	}
	for i := range s.options.Kept {
		s.options.Kept[i].Node = int32(slices.Index(s.names, s.tasks.kept[i]))
	}
	s.live = NewRun(RunID{15: 1}, "test", graph, false) // the jitter of retries is the same each time
	s.live.Options, s.rows = s.options, newRows(graph, s.options)
	return nil
}

func (s *scenario) limit(words []string) error {
	args := arguments{words: words}
	for args.more() {
		switch word := args.next(); word {
		case "rows":
			s.limits.Rows = args.number()
		case "rescues":
			s.limits.MaxRescues = args.number()
		case "tasks":
			s.limits.MaxDynamicTasks = args.number()
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	return args.err
}

func (s *scenario) option(words []string) error {
	args := arguments{words: words}
	switch word := args.next(); word {
	case "on_failure":
		s.options.OnFailure = OnFailure(args.next())
	case "timeout":
		s.options.TimeoutSeconds = args.duration().Seconds()
	case "kept", "unneeded", "unchosen":
		for args.more() {
			s.tasks.kept = append(s.tasks.kept, args.next())
			kept := KeptNode{From: RunID{15: 9}}
			if word != "kept" {
				kept.From, kept.NotChosen = RunID{}, word == "unchosen"
			}
			s.options.Kept = append(s.options.Kept, kept)
		}
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	return args.err
}

func (s *scenario) restore() error {
	restored, err := s.rows.restore(s.live.ID)
	if err != nil {
		return err
	}
	s.live, s.left = restored, nil
	return nil
}

// step calls Advance with the events of the line.
func (s *scenario) step(words []string) error {
	events, err := s.events(words)
	if err != nil {
		return err
	}
	if s.change.More && !s.cutSeen {
		return errors.New("the call before was cut: say so by expect more")
	}
	return s.call(append(s.left, events...))
}

// call calls Advance, commits what follows, and checks everything.
func (s *scenario) call(events []Event) error {
	before := cloneRun(s.live)
	change, used := Advance(s.live, s.now, events, s.limits)
	if !reflect.DeepEqual(before, s.live) {
		return fmt.Errorf("the run was changed before the commit: it was %+v, and is %+v", before, s.live)
	}
	if err := s.rows.commit(change); err != nil {
		return fmt.Errorf("the change can't be stored: %w", err)
	}
	s.live.Apply(change)
	for _, node := range change.Nodes {
		for len(s.names) <= int(node.Number) {
			s.names = append(s.names, "")
		}
		s.names[node.Number] = node.Name
	}
	restored, err := s.rows.restore(s.live.ID)
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
	if run.backlog.decided != nil {
		clone.backlog.decided = run.backlog.decided.kept()
	}
	return &clone
}
