// Package server serves the HTTP API, the page, and the metrics.
//
// Every answer under /api is JSON, errors too: {"error": {"code", "message", "details"}}. There
// are no accounts yet, so what protects a server is where it listens, and that it answers only
// requests that were meant for it: a Host that is not its own (a DNS name that somebody pointed
// here) or an Origin that is not its own (another site's page in the user's browser) is refused.
package server
