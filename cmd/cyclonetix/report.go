package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cyclonetix/cyclonetix/internal/spec"
)

// report is what was found in definitions.
type report struct {
	problems []spec.Problem
	warnings []spec.Problem // of what works, but not as one may think
}

func (r *report) sort() {
	slices.SortStableFunc(r.problems, func(a, b spec.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// summary counts what was found.
func (r *report) summary() string {
	text := "no problems"
	if len(r.problems) > 0 {
		text = count(len(r.problems), "problem")
	}
	if len(r.warnings) > 0 {
		text += ", " + count(len(r.warnings), "warning")
	}
	return text
}

// showReport tells what was found, each on a line that editors understand.
func (p *program) showReport(r *report) {
	p.showProblems("", r.problems)
	p.showProblems("warning: ", r.warnings)
	if len(r.problems) > 0 {
		p.talk("%s", r.summary())
	}
}

func (p *program) showProblems(prefix string, problems []spec.Problem) {
	for _, problem := range problems {
		problem.Message = prefix + problem.Message
		fmt.Fprintln(p.out, problem.Error())
		p.showHint(problem.Hint)
	}
}

// showHint tells what to do about the line before.
func (p *program) showHint(hint string) {
	if hint != "" {
		fmt.Fprintf(p.out, "  %s %s\n", p.paint(p.out, dim, "hint:"), withoutLineEnd(hint))
	}
}

// problemJSON is a problem as JSON.
type problemJSON struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Kind    string `json:"kind,omitempty"`
	ID      string `json:"id,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func problemsJSON(problems []spec.Problem) []problemJSON {
	list := make([]problemJSON, len(problems))
	for i, problem := range problems {
		list[i] = problemJSON{problem.File, problem.Line, problem.Column, string(problem.Kind), problem.ID, problem.Message, problem.Hint}
	}
	return list
}

func (p *program) writeReport(definitions int, r *report) error {
	err := writeJSON(p.out, struct {
		Definitions int           `json:"definitions"`
		Problems    []problemJSON `json:"problems"`
		Warnings    []problemJSON `json:"warnings"`
	}{definitions, problemsJSON(r.problems), problemsJSON(r.warnings)})
	if err == nil && len(r.problems) > 0 {
		return statusError(exitFailed)
	}
	return err
}
