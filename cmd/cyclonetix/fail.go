package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/spec"
)

// The exit statuses.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell reports one that SIGINT ended
)

// usageError is a malformed command line.
type usageError struct {
	message string
	command string // whose --help says more
}

func (e *usageError) Error() string { return e.message }

func (e *usageError) Hint() string { return fmt.Sprintf("`%s --help` shows how it is used", e.command) }

// hintedError is an error with what to do about it.
type hintedError struct {
	error

	hint string
}

func (e *hintedError) Hint() string  { return e.hint }
func (e *hintedError) Unwrap() error { return e.error }

// withHint adds what to do about an error.
func withHint(err error, format string, arguments ...any) error {
	return &hintedError{err, fmt.Sprintf(format, arguments...)}
}

// statusError ends the program with a status; all is said already.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// report tells an error, and gives the exit status.
func (p *program) report(err error) int {
	var status statusError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	p.talk("%s %s", p.paint(p.err, red, "error:"), onceEach(err.Error()))
	if hint := hintOf(err); hint != "" {
		p.talk("%s %s", p.paint(p.err, dim, "hint:"), withoutLineEnd(hint))
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

func hintOf(err error) string {
	var hinted interface{ Hint() string }
	var problem spec.Problem
	switch {
	case errors.As(err, &hinted):
		return hinted.Hint()
	case errors.As(err, &problem):
		return problem.Hint
	}
	return ""
}

func withoutLineEnd(text string) string { return strings.TrimRight(text, "\n") }

// onceEach is text without lines that it had before: a driver that tries in several ways tells the same
// of each.
func onceEach(text string) string {
	var lines []string
	for line := range strings.SplitSeq(withoutLineEnd(text), "\n") {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
