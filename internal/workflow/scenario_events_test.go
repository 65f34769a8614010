package workflow

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

var eventWords = map[string]EventKind{
	"start": EventStart, "count": EventCount, "cancel": EventCancel, "pause": EventPause, "resume": EventResume,
	"end": EventEnd, "lost": EventLost, "return": EventReturn, "timer": EventTimer, "withdraw": EventWithdraw,
	"approve": EventApprove, "reject": EventReject, "retry": EventRetry, "skip": EventSkip, "items": EventItems,
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
		if err := errors.Join(err, args.err); err != nil {
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
	kind, ok := eventWords[word]
	if !ok {
		return event, fmt.Errorf("unknown word %q", word)
	}
	event = Event{Kind: kind, Node: RunNode}
	switch kind {
	case EventStart, EventCount:
		return event, nil
	case EventCancel, EventPause, EventResume:
		event.Actor = args.actor()
		return event, nil
	case EventTimer:
		if args.more() && args.peek() == "run" {
			args.next()
			event.Timer = TimerRun
			return event, nil
		}
	default:
	}
	member, err := s.member(args.next())
	if err != nil {
		return event, err
	}
	event.Node, event.Attempt, event.Delivery = member.Node, member.Attempt, member.Delivery
	switch kind {
	case EventEnd:
		event.Result = Result{Started: true, StartTime: s.now.Add(-time.Second), EndTime: s.now, Agent: 9}
		err = s.result(&event, args)
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
		if args.more() && args.peek() == "approval" {
			args.next()
			event.Timer = TimerApproval
		}
	case EventItems:
		event.Known = s.items(event.Node, args.next())
	case EventApprove, EventReject, EventRetry, EventSkip:
		event.Actor = args.actor()
	default:
	}
	return event, err
}

// items are as many as the text says, or can't be told.
func (s *scenario) items(node int32, text string) *Known {
	count, err := strconv.Atoi(text)
	if err != nil {
		return &Known{Names: slices.Clone(s.names), Problem: "it is not a list"}
	}
	group, each := expandSpec(s.tasks.specs[BaseName(s.names[node])], itemValues(count))
	return &Known{Names: slices.Clone(s.names), Group: group, Items: each}
}

func (s *scenario) result(event *Event, args *arguments) error {
	result := &event.Result
	word := args.next()
	status, err := ParseTaskStatus(word)
	if err != nil || status != TaskCompleted && status != TaskFailed && status != TaskCancelled {
		return fmt.Errorf("an attempt does not end as %q", word)
	}
	result.Status = status
	evaluation, problem := &Evaluation{}, ""
	for args.more() {
		switch word := args.next(); word {
		case "unreadable":
			problem = "the definitions can't be read"
		case "cause":
			if err := result.Cause.UnmarshalText([]byte(args.next())); err != nil {
				return err
			}
		case "exit":
			code := int32(args.number())
			result.ExitCode = &code
		case "output":
			result.Output = args.object()
		case "next":
			result.Evaluation, evaluation.Chosen = evaluation, true
			if names := args.next(); names != "none" {
				evaluation.NextTasks = strings.Split(names, ",")
			}
		case "meta":
			result.Evaluation, evaluation.Metadata = evaluation, args.object()
		case "set":
			result.Evaluation = evaluation
			key, value, _ := strings.Cut(args.next(), "=")
			update := ValueUpdate{Variables: map[string]Value{key: StringValue(value)}}
			if task, parameter, ok := strings.Cut(key, "."); ok {
				update = ValueUpdate{Parameters: map[string]map[string]Value{task: {parameter: StringValue(value)}}}
			}
			evaluation.merge(&update)
		default:
			return fmt.Errorf("unknown word %q", word)
		}
	}
	if result.Evaluation != nil {
		if event.Known = s.known(event.Node, evaluation); problem != "" {
			event.Known = &Known{Problem: problem}
		}
	}
	return nil
}

func (s *scenario) known(point int32, evaluation *Evaluation) *Known {
	known := &Known{Names: slices.Clone(s.names), Plans: map[string]*KnownPlan{}}
	for _, name := range UnknownNames(known.Names, point, evaluation) {
		if s.tasks.specs[name] != nil {
			known.Plans[name] = s.tasks.plan([]string{name})
		}
	}
	return known
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

func (a *arguments) peek() string {
	if len(a.words) == 0 {
		return ""
	}
	return a.words[0]
}

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

func (a *arguments) actor() string {
	a.expect("by")
	return a.next()
}

// object reads K=V as a JSON object.
func (a *arguments) object() Value {
	key, value, _ := strings.Cut(a.next(), "=")
	return Value(fmt.Sprintf("{%q:%q}", key, value))
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
