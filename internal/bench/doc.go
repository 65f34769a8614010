// Package bench measures Cyclonetix on a PostgreSQL server, beside yardsticks
// that are measured in the same run: bare River jobs a second on the same server, and
// raw process starts a second. What each figure means stands in docs/benchmarks.md.
package bench
