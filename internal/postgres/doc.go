// Package postgres keeps the state of a cluster in PostgreSQL (14 to 18): it
// implements engine.Backend with the statements of package db.
//
// A commit of a writer is one pipelined batch without BEGIN and COMMIT, which
// the protocol makes one transaction and one round trip. Its first statement is
// the fence, which raises when the writer was declared dead, so that nothing
// after it is stored. The statements name the default schemas; the connection
// replaces them for other clusters. No session state is relied on, except on the
// one connection that listens and holds the session locks.
//
// Types of pgx and River stay inside this package.
package postgres
