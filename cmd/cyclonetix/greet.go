package main

import (
	"fmt"
)

// greet prints where the page is, what to try next, and how to open SQL.
func (s *stack) greet(url string) {
	line := func(name, content string) {
		fmt.Fprintf(s.out, "%s  %s\n", s.paint(s.out, dim, fmt.Sprintf("%-5s", name)), content)
	}
	if url != "" {
		line("page", s.paint(s.out, bold, url))
	}
	if task := s.published.suggestion(); task != "" {
		line("next", "cyclonetix schedule-task "+task+" --wait")
	} else {
		line("next", "put a task into "+s.settings.TaskDirectory+", then: cyclonetix schedule-task TASK --wait")
	}
	if s.settings.Backend == backendPostgres {
		line("sql", "cyclonetix sql")
	} else {
		line("sql", "not with this backend, which forgets everything at the end")
	}
}
