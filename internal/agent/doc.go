// Package agent runs tasks: it claims members of deliveries, runs each in a
// slot, keeps what it prints, and reports how it ended.
//
//	            claim                 take                    add
//	session ───────────▶ waiting ────────────▶ running ──────────────▶ reporter ──▶ session
//	   ▲                    │  order, stop       │  order, stop,          ▲
//	   │ beat               └────────────────────┼─ time-out ─────────────┘
//	   └── life                                  └─ output ──▶ log writer ──▶ session
//
// A life is one registration: one engine.AgentSession. All that an agent holds
// belongs to a life. A life ends when the agent stops, or when it is lost: the
// cluster declared it dead, it could not beat for 2.5 intervals, or the process
// that kept its tasks died. A lost life kills its tasks, forgets them, and the
// agent registers anew. What it held is then the business of the cluster, which
// makes new attempts.
//
// Who runs where:
//
//   - the life's own goroutine claims, beats, and carries out orders; it starts what waits;
//   - a slot's goroutine runs a task from its start to its end, and then the next one that waits;
//   - the reporter sends ends: those that came while a report was under way make up the next;
//   - the log writer sends output of tasks that still run, in the same manner.
//
// Every claimed member leaves exactly once: as an end, as a return (handed back
// because the agent stops, or because it waited for a slot too long), or
// forgotten with its life. A delivery is reported as done exactly once, together
// with the last of its members.
//
// Times are those of the database: the time of the claim, and what this
// machine's monotonic clock counted since its answer came.
package agent
