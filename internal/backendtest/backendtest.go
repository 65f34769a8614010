// Package backendtest is the one conformance suite of engine.Backend. Every
// implementation runs it:
//
//	func TestBackend(t *testing.T) { backendtest.Run(t, newBackend) }
//
// Its subtests read like the specification of the seam. The model test drives
// random graphs with faults, crashes and cancels through a backend, an
// orchestrator and scripted agents, and compares how the runs end with what the
// rules say, and with package memory on the same script. Faulty, the fault
// wrapper, serves other tests as well.
package backendtest

import (
	"testing"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

// Options say what a test needs of its backend.
type Options struct {
	// MaxPendingSubmits is the number of submissions that no writer has taken up, above which new
	// ones are refused; 0 leaves it unbounded.
	MaxPendingSubmits int
}

// Run runs the suite. newBackend makes an empty backend, which lives as long as the test does: it
// registers its own clean-up.
func Run(t *testing.T, newBackend func(t testing.TB, options Options) engine.Backend) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"submit", submitTests},
		{"definitions", definitionTests},
		{"writer", writerTests},
		{"commit", commitTests},
		{"mail", mailTests},
		{"commands", commandTests},
		{"growth", growthTests},
		{"values", valueTests},
		{"waiting", waitingTests},
		{"reopening", reopenTests},
		{"schedules", scheduleTests},
		{"events", eventTests},
		{"queue", queueTests},
		{"resources", resourceTests},
		{"agents", agentTests},
		{"views", viewTests},
		{"jobs", jobTests},
		{"triggers", triggerTests},
		{"orchestrator", orchestratorTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					test.run(newWorld(t, newBackend(t, test.options)))
				})
			}
		})
	}
	t.Run("model", func(t *testing.T) {
		t.Parallel()
		runModel(t, newBackend)
	})
}

// test is one sentence of the specification.
type test struct {
	name    string
	options Options
	run     func(w *world)
}
