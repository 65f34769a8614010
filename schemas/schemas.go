// Package schemas holds the JSON Schemas of the definition files, which are generated (see internal/spec/schema), so that
// a server can serve them to editors.
package schemas

import "embed"

// Files are task.schema.json, dag.schema.json, context.schema.json and parameter_set.schema.json.
//
//go:embed *.schema.json
var Files embed.FS
