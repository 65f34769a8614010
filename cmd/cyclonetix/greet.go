package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
		line("next", calledAs()+" schedule-task "+task+" --wait")
	} else {
		line("next", "put a task into "+s.settings.TaskDirectory+", then: "+calledAs()+" schedule-task TASK --wait")
	}
	if s.settings.Backend == backendPostgres {
		line("sql", calledAs()+" sql")
	} else {
		line("sql", "not with this backend, which forgets everything at the end")
	}
}

// calledAs is how the user calls this program: by its name alone where a shell finds it so, else by the
// path that it was called with.
func calledAs() string {
	name := filepath.Base(os.Args[0])
	if found, err := exec.LookPath(name); err == nil && sameFile(found, os.Args[0]) {
		return name
	}
	return os.Args[0]
}

func sameFile(a, b string) bool {
	if found, err := exec.LookPath(b); err == nil {
		b = found
	}
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}
