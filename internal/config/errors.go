package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Error is one thing that is wrong.
type Error struct {
	// Where is "FILE:LINE:COLUMN", "FILE", the name of a variable, or a flag with its dashes.
	Where string
	// Text says what is wrong and what would be right. It holds no secrets.
	Text string

	line, column int
}

func (e Error) Error() string { return e.Where + ": " + e.Text }

// Place takes Where apart: line and column are 0 where it is not in a file.
func (e Error) Place() (name string, line, column int) {
	return strings.TrimSuffix(e.Where, fmt.Sprintf(":%d:%d", e.line, e.column)), e.line, e.column
}

// Errors is all that is wrong, a line each: what is in the file first, in its order.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.Is and errors.As the single ones.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// Warning is a setting that is fine and does nothing.
type Warning struct {
	Where, Text string
}

func (w Warning) String() string { return w.Where + ": " + w.Text }

// place is where a value was set.
type place struct {
	name         string // of the file, variable or flag
	line, column int    // in a file
}

func (p place) String() string {
	if p.line == 0 {
		return p.name
	}
	return fmt.Sprintf("%s:%d:%d", p.name, p.line, p.column)
}

func (p place) errorf(format string, args ...any) Error {
	return Error{Where: p.String(), Text: redact(fmt.Sprintf(format, args...)), line: p.line, column: p.column}
}

// sortErrors puts what is in the file first, by place; the rest keeps its order.
func sortErrors(errs []Error) {
	slices.SortStableFunc(errs, func(a, b Error) int {
		if (a.line == 0) != (b.line == 0) {
			return cmp.Compare(b.line, a.line)
		}
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
}

var (
	userInURL     = regexp.MustCompile(`://[^\s]*@`)
	passwordInURL = regexp.MustCompile(`(?i)(password|passwd|secret|token)=[^&\s"']*`)
)

// redact takes passwords in URLs out of a text, which may have come there by a wrong key or a
// missing space.
func redact(s string) string {
	return passwordInURL.ReplaceAllString(userInURL.ReplaceAllString(s, "://…@"), "$1=…")
}
