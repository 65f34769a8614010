package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kind says what a definition defines.
type Kind string

// The kinds of definitions. A file's kind follows from its directory.
const (
	KindTask         Kind = "task"
	KindDAG          Kind = "dag"
	KindContext      Kind = "context"
	KindParameterSet Kind = "parameter_set"

	kindGroup Kind = "group" // a DAG in a DAG
)

// Kinds are all of them, in the order in which definitions are listed.
var Kinds = []Kind{KindTask, KindDAG, KindContext, KindParameterSet}

// noun is the kind as messages call it.
func (k Kind) noun() string {
	switch k {
	case KindDAG:
		return "DAG"
	case KindParameterSet:
		return "parameter set"
	default:
		return string(k)
	}
}

// Problem is one thing that is wrong with a definition or a file.
type Problem struct {
	File string
	// Line and Column count from 1, columns in characters. Both are 0 where the
	// problem is one of the whole file, or of a definition that came from no file.
	Line, Column int
	// Kind and ID name the definition that has the problem, where it is known.
	Kind Kind
	ID   string
	// Message says what is wrong; it names the ids, so that it stands without a position.
	Message string
	// Hint says what to do about it; it may be empty.
	Hint string
	// Cause is the typed error behind the message (UnknownError, CycleError), or nil.
	Cause error
}

// Error is the message behind "file:line:column: ", without the hint.
func (p Problem) Error() string {
	switch {
	case p.File == "":
		return p.Message
	case p.Line == 0:
		return p.File + ": " + p.Message
	default:
		return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	}
}

// Unwrap gives the cause.
func (p Problem) Unwrap() error { return p.Cause }

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// UnknownError tells that there is no definition of this kind with this id.
// For a parameter, Kind is "parameter"; for a DAG in a DAG that another one there
// depends on, it is "group".
type UnknownError struct {
	Kind Kind
	ID   string
	// Nearest are up to three known ids that look like it, the likeliest first.
	Nearest []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("unknown %s %q%s", e.Kind.noun(), e.ID, didYouMean(e.Nearest))
}

// CycleError tells that definitions need each other in a circle.
type CycleError struct {
	Kind Kind
	// Path goes round once: its first and last ids are the same.
	Path []string
}

func (e *CycleError) Error() string {
	path := strings.Join(e.Path, " -> ")
	switch e.Kind {
	case KindContext:
		return "contexts extend each other in a cycle: " + path
	case KindDAG:
		return "DAGs hold each other in a cycle: " + path
	case kindListener:
		return "DAGs start each other in a cycle: " + path
	case kindGroup:
		return "groups depend on each other in a cycle: " + path
	default:
		return "tasks depend on each other in a cycle: " + path
	}
}

// didYouMean is the end of a message that offers the nearest names.
func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	var text strings.Builder
	text.WriteString(": did you mean ")
	for i, name := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			text.WriteString(" or ")
		default:
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%q", name)
	}
	text.WriteString("?")
	return text.String()
}
