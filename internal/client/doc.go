// Package client is api.Service over HTTP: it talks to a running server.
package client
