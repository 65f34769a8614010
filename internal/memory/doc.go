// Package memory keeps the state of a cluster in maps under one mutex: the
// reference implementation of engine.Backend, and `serve --backend memory`.
//
// It is meant to be obviously right, and to refuse what a database with good
// constraints would refuse. It decides from what was committed alone: a run that
// is loaded is made of its rows, never of something that a writer left behind. It
// forgets everything when the process ends.
package memory
