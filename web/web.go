// Package web holds the templates and static files of the pages. They are part of the program, and
// load nothing from elsewhere.
package web

import "embed"

// Files holds templates/ and static/.
//
//go:embed templates static
var Files embed.FS
