package workflow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// expect checks one expectation of a scenario.
func (s *scenario) expect(words []string) error {
	if len(words) == 0 {
		return errors.New("the expectation is not complete")
	}
	args := &arguments{words: words[1:]}
	var err error
	switch words[0] {
	case "run":
		if want := args.next(); args.err == nil && s.live.Status.String() != want {
			err = fmt.Errorf("the run is %v", s.live.Status)
		}
	case "queue":
		err = s.expectMembers("the queue is", s.change.Queue, words[1:])
	case "withdraw":
		err = s.expectMembers("the withdrawn members are", s.change.Withdraw, words[1:])
	case "hold":
		err = s.expectMembers("the held members are", s.change.Hold, words[1:])
	case "items":
		err = s.expectNodes("the nodes whose items are asked for are", s.change.Items, words[1:])
	case "reset":
		err = s.expectNodes("the reset nodes are", s.change.Reset, words[1:])
	case "added":
		var nodes []int32
		for _, node := range s.change.Nodes {
			nodes = append(nodes, node.Number)
		}
		err = s.expectNodes("the added nodes are", nodes, words[1:])
	case "outputs":
		var nodes []int32
		for _, output := range s.change.Outputs {
			nodes = append(nodes, output.Node)
		}
		err = s.expectNodes("the nodes that gave something are", nodes, words[1:])
	case "needs":
		name := args.next()
		if node := slices.Index(s.names, name); node < 0 {
			err = fmt.Errorf("there is no task %q", name)
		} else {
			err = s.expectNodes(name+" needs", s.live.Graph.Parents(int32(node)), args.words)
		}
	case "superseded":
		err = s.expectSuperseded(args, false)
	case "retired":
		err = s.expectSuperseded(args, true)
	case "timers":
		err = s.expectTimers(args)
	case "counts":
		err = s.expectCounts(strings.Join(words[1:], " "))
	case "events":
		err = s.expectEvents(words[1:])
	case "values":
		err = s.expectValues(words[1:])
	case "version":
		if want := args.number(); want != int(s.live.Version) {
			err = fmt.Errorf("the version is %d", s.live.Version)
		}
	case "reason":
		err = s.expectReason(args)
	case "nothing":
		if !s.change.Empty() || s.change.More {
			err = fmt.Errorf("there is a change: %+v", s.change)
		}
	case "more":
		s.cutSeen = true
		if !s.change.More {
			err = errors.New("the change was not cut")
		}
	default:
		err = s.expectTasks(words)
	}
	return errors.Join(err, args.err)
}

func (s *scenario) expectNodes(what string, nodes []int32, want []string) error {
	var names []string
	for _, node := range nodes {
		names = append(names, s.names[node])
	}
	return expectWords(what, names, want)
}

func expectWords(what string, got, want []string) error {
	if slices.Equal(got, want) {
		return nil
	}
	if len(got) == 0 {
		got = []string{"none"}
	}
	return fmt.Errorf("%s %s", what, strings.Join(got, " "))
}

func (s *scenario) expectMembers(what string, members []Member, words []string) error {
	want := make([]Member, 0, len(words))
	for _, word := range words {
		member, err := s.member(word)
		if err != nil {
			return err
		}
		member.Run = s.live.ID
		want = append(want, member)
	}
	if slices.Equal(members, want) {
		return nil
	}
	texts := make([]string, 0, len(members))
	for _, member := range members {
		texts = append(texts, fmt.Sprintf("%s@%d/%d", s.names[member.Node], member.Attempt, member.Delivery))
	}
	if len(texts) == 0 {
		texts = []string{"none"}
	}
	return fmt.Errorf("%s %s", what, strings.Join(texts, " "))
}

// expectTasks checks the rows of tasks: NAME… STATUS [attempt N] [delivery N] [cause C] [exit N].
func (s *scenario) expectTasks(words []string) error {
	var names []string
	for len(words) > 0 && slices.Contains(s.names, words[0]) {
		names, words = append(names, words[0]), words[1:]
	}
	switch {
	case len(names) == 0:
		return fmt.Errorf("there is no task %q", words[0])
	case len(words) == 0:
		return errors.New("the expectation is not complete")
	}
	for _, name := range names {
		node := int32(slices.Index(s.names, name))
		state := s.live.Nodes[node]
		if state.Status.String() != words[0] {
			return fmt.Errorf("%s is %v", name, state.Status)
		}
		row := s.rows.tasks[node]
		if err := expectFields(name, words[1:], state.Attempt, state.Delivery, row.Cause, row.ExitCode); err != nil {
			return err
		}
	}
	return nil
}

func (s *scenario) expectSuperseded(args *arguments, retired bool) error {
	member, err := s.member(args.next())
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s@%d/%d", s.names[member.Node], member.Attempt, member.Delivery)
	row, ok := s.rows.attempts[attemptKey{member.Node, member.Attempt}]
	if !ok {
		return fmt.Errorf("%s is not superseded", name)
	}
	if row.retired != retired {
		return fmt.Errorf("that %s is retired is %v", name, row.retired)
	}
	if want := args.next(); row.Status.String() != want {
		return fmt.Errorf("%s is %v", name, row.Status)
	}
	return expectFields(name, args.words, row.Attempt, member.Delivery, row.Cause, row.ExitCode)
}

func expectFields(name string, words []string, attempt, delivery uint16, cause Cause, exit *int32) error {
	args := &arguments{words: words}
	for args.more() {
		switch word := args.next(); word {
		case "attempt":
			if args.number() != int(attempt) {
				return fmt.Errorf("%s has the attempt %d", name, attempt)
			}
		case "delivery":
			if args.number() != int(delivery) {
				return fmt.Errorf("%s has the delivery %d", name, delivery)
			}
		case "cause":
			if args.next() != cause.String() {
				return fmt.Errorf("%s has the cause %q", name, cause)
			}
		case "exit":
			switch code := args.number(); {
			case exit == nil:
				return fmt.Errorf("%s has no exit code", name)
			case int(*exit) != code:
				return fmt.Errorf("%s has the exit code %d", name, *exit)
			}
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	return args.err
}

// expectTimers checks all timers: how long each still has, as a range.
func (s *scenario) expectTimers(args *arguments) error {
	expected := 0
	for ; args.more(); expected++ {
		name := args.next()
		low, high, _ := strings.Cut(args.next(), "…")
		least, err := time.ParseDuration(low)
		most, err2 := time.ParseDuration(high)
		if err := errors.Join(err, err2, args.err); err != nil {
			return err
		}
		key := timerKey{RunNode, TimerRun}
		if name != "run" {
			task, approval := strings.CutSuffix(name, "/approval")
			key = timerKey{int32(slices.Index(s.names, task)), TimerRetry}
			if approval {
				key.kind = TimerApproval
			}
		}
		due, ok := s.rows.timers[key]
		if !ok {
			return fmt.Errorf("%s has no timer", name)
		}
		if left := due.Sub(s.now); left < least || left > most {
			return fmt.Errorf("the timer of %s has %v left", name, left)
		}
	}
	if len(s.rows.timers) != expected {
		return fmt.Errorf("there are %d timers", len(s.rows.timers))
	}
	return nil
}

func (s *scenario) expectCounts(want string) error {
	got := "none"
	if run := s.change.Run; run != nil {
		got = fmt.Sprintf("%d %d %d", run.Total, run.Completed, run.Failed)
	}
	if got != want {
		return fmt.Errorf("the counts are %s", got)
	}
	return nil
}

func (s *scenario) expectEvents(want []string) error {
	var got []string
	for _, event := range s.change.Events {
		text := event.Kind
		if event.Node != RunNode {
			text += "/" + s.names[event.Node]
		}
		if event.Actor != "" {
			text += "/" + event.Actor
		}
		got = append(got, text)
	}
	return expectWords("the events are", got, want)
}

// expectValues checks all that evaluation points changed.
func (s *scenario) expectValues(want []string) error {
	var got []string
	for name, value := range s.rows.update.Variables {
		got = append(got, name+"="+value.Env())
	}
	for task, parameters := range s.rows.update.Parameters {
		for name, value := range parameters {
			got = append(got, task+"."+name+"="+value.Env())
		}
	}
	slices.Sort(got)
	return expectWords("the values are", got, want)
}

func (s *scenario) expectReason(args *arguments) error {
	name := args.next()
	reason := s.rows.run.Reason
	if name != "run" {
		node := slices.Index(s.names, name)
		if node < 0 {
			return fmt.Errorf("there is no task %q", name)
		}
		reason = s.rows.tasks[int32(node)].Reason
	}
	if !args.more() || !strings.Contains(reason, strings.Join(args.words, " ")) {
		return fmt.Errorf("the reason is %q", reason)
	}
	return nil
}
