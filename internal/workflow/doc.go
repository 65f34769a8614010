// Package workflow holds the nouns of Cyclonetix and the rules of its engine.
//
// A definition (Task, DAG, Context) is what a user wrote. A Plan is the graph
// that one run executes: nodes with integer numbers, each with a TaskSpec and
// the nodes that it depends on. A Run is the state of that graph in the memory
// of the one writer that owns the run. Advance takes a Run and what happened
// (Events) and says what follows as data (a Change); it knows no clock, no
// random numbers and no I/O, and it does not touch the Run: a backend commits
// the Change, and only then Apply puts it into the Run.
//
//	           Start            all nodes ended
//	pending ──────────▶ running ───────────────▶ completed | failed | cancelled
//	                     │   ▲                       │
//	               pause ▼   │ resume                │ a person retries or skips a task
//	                    paused                       ▼
//	                                              running
//
//	        its rule lets it        claim            report
//	pending ──────────────▶ queued ─────▶ (running) ──────▶ completed | failed
//	   │                      ▲  │                              │ retries left
//	   │                      │  └── cancelled                  ▼
//	   └─▶ upstream_failed    └──────────────────────────── waiting
//	       skipped                                 (retry's delay, approval, pause)
//	       cancelled
//
// "running" is never stored for a task run: a queued task run that an agent has
// claimed is running, and views say so.
//
// The package uses the standard library only.
package workflow
