// Package schema makes JSON Schemas (draft 2020-12) of the four kinds of files
// with definitions, so that an editor with a YAML language server completes and
// checks them. They come from the tables by which package spec reads the files.
//
// A file may hold several documents, each of which is a definition or a list of
// definitions; the schema is that of one document.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/cyclonetix/cyclonetix/internal/spec"
)

//go:generate go run ./write ../../../schemas

// base is where the schemas are known to lie.
const base = "https://raw.githubusercontent.com/cyclonetix/cyclonetix/main/schemas/"

var titles = map[spec.Kind]string{
	spec.KindTask: "Cyclonetix tasks", spec.KindDAG: "Cyclonetix DAGs",
	spec.KindContext: "Cyclonetix contexts", spec.KindParameterSet: "Cyclonetix parameter sets",
}

// Name is the name of a kind's schema file.
func Name(kind spec.Kind) string { return string(kind) + ".schema.json" }

// Of is the schema of the files of a kind: the same bytes each time, with a line
// feed at the end.
func Of(kind spec.Kind) []byte {
	one := map[string]any{"$ref": "#/$defs/" + string(kind)}
	schema := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     base + Name(kind),
		"title":   titles[kind],
		"anyOf":   []any{one, map[string]any{"type": "array", "items": one}, map[string]any{"type": "null"}},
		"$defs":   map[string]any{string(kind): spec.FormOf(kind)},
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		panic(fmt.Sprintf("encode the schema of a %s: %v", kind, err)) // forms hold plain values only
	}
	return text.Bytes()
}
