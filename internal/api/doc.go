// Package api is what Cyclonetix does for whoever starts runs and looks at them: the commands of
// the command line, the HTTP server and its client.
//
// Service is that interface, in the words and JSON shapes of the HTTP API. Direct implements it on
// a backend; package client implements it over HTTP. So a command works the same whether it talks
// to a server or to the backend itself.
//
// All errors of a Service that a caller can do something about are an *Error: its code is for
// programs, its message and hint are for people.
package api
