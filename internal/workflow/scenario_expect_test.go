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
	case "superseded":
		err = s.expectSuperseded(args)
	case "timers":
		err = s.expectTimers(args)
	case "counts":
		err = s.expectCounts(strings.Join(words[1:], " "))
	case "cancel":
		args.expect("by")
		err = s.expectCancel(args.next())
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

func (s *scenario) expectSuperseded(args *arguments) error {
	member, err := s.member(args.next())
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s@%d/%d", s.names[member.Node], member.Attempt, member.Delivery)
	row, ok := s.rows.attempts[attemptKey{member.Node, member.Attempt}]
	if !ok {
		return fmt.Errorf("%s is not superseded", name)
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
		due, ok := s.rows.timers[timerKey{int32(slices.Index(s.names, name)), TimerRetry}]
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

func (s *scenario) expectCancel(actor string) error {
	if len(s.rows.events) == 0 {
		return errors.New("nobody cancelled")
	}
	if event := s.rows.events[0]; event.Kind != "cancel" || event.Actor != actor || len(s.rows.events) > 1 {
		return fmt.Errorf("the events are %+v", s.rows.events)
	}
	return nil
}
