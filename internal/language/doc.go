// Package language gives the definitions of a backend as catalogs, by revision: to whoever plans runs, and
// to the orchestrator for what runs need of them while they run.
package language
