// Package orchestrator runs the loop of a writer: read mail, let
// workflow.Advance decide, commit what follows, and put queued tasks where agents
// see them.
//
//	mail ─▶ events ─▶ Advance ─▶ changes ─┐
//	            queued members ─▶ window ─┴▶ one commit ─▶ Apply, ring agents
//	                                          └─ reads the next mail
//
// There is one commit in flight, and no timer that gathers: what arrives during
// a commit makes up the next. Memory follows the commit: when a commit fails in a way that leaves doubt,
// everything in memory is thrown away and built anew from what is stored.
package orchestrator
