// Package reference writes the tables of fields in docs/workflow-reference.md, from the JSON Schemas in schemas/, which
// come from the tables by which the program reads definitions.
//
//	<!-- fields of task -->              a table of the fields of a task goes here
//	<!-- fields of task.retries -->      of the map that a field may be
//	<!-- end of fields -->
package reference

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:generate go run ./write ../workflow-reference.md ../../schemas

// form is what a schema says of a value.
type form struct {
	Type        kinds           `json:"type"`
	Description string          `json:"description"`
	Default     json.RawMessage `json:"default"`
	Pattern     string          `json:"pattern"`
	Format      string          `json:"format"`
	Enum        []any           `json:"enum"`
	AnyOf       []*form         `json:"anyOf"`
	Items       *form           `json:"items"`
	Minimum     *json.Number    `json:"minimum"`
	Maximum     *json.Number    `json:"maximum"`
	Properties  map[string]form `json:"properties"`
	Required    []string        `json:"required"`
	Additional  json.RawMessage `json:"additionalProperties"` // false, or the form of a map's values
}

// kinds are the types that a value may have: one, or a list.
type kinds []string

// UnmarshalJSON implements json.Unmarshaler.
func (k *kinds) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*k = kinds{one}
		return nil
	}
	var several []string
	err := json.Unmarshal(text, &several)
	*k = several
	return err
}

var region = regexp.MustCompile(`(?s)(<!-- fields of ([a-z_.]+) -->\n).*?(<!-- end of fields -->)`)

// Update gives the page with its tables made anew. The error names the table that cannot be made.
func Update(page []byte, schemas fs.FS) (updated []byte, err error) {
	roots := map[string]*form{}
	updated = region.ReplaceAllFunc(page, func(old []byte) []byte {
		parts := region.FindSubmatch(old)
		table, problem := tableOf(string(parts[2]), roots, schemas)
		if problem != nil && err == nil {
			err = fmt.Errorf("make the table of %s: %w", parts[2], problem)
		}
		return slices.Concat(parts[1], []byte(table), parts[3])
	})
	return updated, err
}

func tableOf(path string, roots map[string]*form, schemas fs.FS) (string, error) {
	kind, below, _ := strings.Cut(path, ".")
	if roots[kind] == nil {
		root, err := load(kind, schemas)
		if err != nil {
			return "", err
		}
		roots[kind] = root
	}
	found := roots[kind]
	for _, name := range strings.FieldsFunc(below, func(char rune) bool { return char == '.' }) {
		field, ok := found.Properties[name]
		if !ok {
			return "", fmt.Errorf("there is no field %s", name)
		}
		if found = field.fields(); found == nil {
			return "", fmt.Errorf("%s has no fields", name)
		}
	}
	return found.table(), nil
}

func load(kind string, schemas fs.FS) (*form, error) {
	text, err := fs.ReadFile(schemas, kind+".schema.json")
	if err != nil {
		return nil, err
	}
	var schema struct {
		Defs map[string]*form `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, fmt.Errorf("read the schema of a %s: %w", kind, err)
	}
	root := schema.Defs[kind]
	if root == nil {
		return nil, fmt.Errorf("the schema of a %s does not define one", kind)
	}
	return root, nil
}

// fields is the form with fields that a value may have: itself, one of a list, one of a map or one of several.
func (f *form) fields() *form {
	if len(f.Properties) > 0 {
		return f
	}
	for _, inner := range append(slices.Clone(f.AnyOf), f.Items, f.values()) {
		if inner == nil {
			continue
		}
		if found := inner.fields(); found != nil {
			return found
		}
	}
	return nil
}

// values is the form of the values of a map with any names, nil where there is none.
func (f *form) values() *form {
	var inner form
	if len(f.Additional) == 0 || f.Additional[0] != '{' || json.Unmarshal(f.Additional, &inner) != nil {
		return nil
	}
	return &inner
}

// table is a row for each field: those that are required first, then by name.
func (f *form) table() string {
	names := make([]string, 0, len(f.Properties))
	for name := range f.Properties {
		names = append(names, name)
	}
	required := func(name string) bool { return slices.Contains(f.Required, name) }
	slices.SortFunc(names, func(one, other string) int {
		if required(one) != required(other) {
			if required(one) {
				return -1
			}
			return 1
		}
		return strings.Compare(one, other)
	})
	var table strings.Builder
	table.WriteString("| field | value | default | meaning |\n|---|---|---|---|\n")
	for _, name := range names {
		field := f.Properties[name]
		preset := ""
		switch {
		case required(name):
			preset = "required"
		case len(field.Default) > 0:
			preset = "`" + strings.Trim(string(field.Default), `"`) + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, cell(field.words()), preset, cell(field.Description))
	}
	return table.String()
}

// cell is a text that stands in a table: a bar would end its column.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// The patterns that have a name.
var patterns = map[string]string{
	`^[A-Za-z0-9_.-]{1,200}$`:                          "id",
	`^[A-Za-z0-9_.-]{1,200}(:[A-Za-z0-9_.-]{1,200})?$`: "id, or id:set",
	`\S`:                      "text",
	`\$\{[^}]+\}`:             "text with a reference",
	`^([0-9]{1,12}[smhdw])+$`: "time with its unit",
}

// words says what the value may be.
func (f *form) words() string {
	is := func(kind string) bool { return slices.Contains(f.Type, kind) }
	switch {
	case len(f.Enum) > 0:
		var choices []string
		for _, one := range f.Enum {
			if text, ok := one.(string); ok {
				choices = append(choices, "`"+text+"`")
			}
		}
		return strings.Join(choices, ", ")
	case len(f.AnyOf) > 0:
		var choices []string
		for _, one := range f.AnyOf {
			if words := one.words(); words != "" {
				choices = append(choices, words)
			}
		}
		return strings.Join(choices, ", or ")
	case patterns[f.Pattern] != "":
		return patterns[f.Pattern]
	case f.Format == "regex":
		return "regular expression"
	case strings.HasPrefix(f.Pattern, "^[0-9]{4}-"):
		return "date"
	case is("array") && is("string"):
		return "any value but a map"
	case is("array"):
		return list(f.Items)
	case is("object") && len(f.Properties) > 0:
		return "map with the fields below"
	case is("object"):
		return mapOf(f.values())
	case is("integer"):
		return "whole number" + f.bounds()
	case is("string"):
		return "text"
	case is("number"):
		return "number" + f.bounds()
	case is("boolean"):
		return "true or false"
	case is("null"):
		return ""
	default:
		return "any value"
	}
}

func list(items *form) string {
	switch {
	case items == nil || items.words() == "any value":
		return "list of any values"
	case len(items.Properties) > 0:
		return "list of maps with the fields below"
	case items.words() == "id":
		return "list of ids"
	case items.words() == "text":
		return "list of texts"
	default:
		return "list, each " + items.words()
	}
}

func mapOf(values *form) string {
	if values == nil || values.words() == "any value" {
		return "map of names to any values"
	}
	if values.words() == "text" {
		return "map of names to texts"
	}
	return "map of names; each " + values.words()
}

func (f *form) bounds() string {
	if f.Minimum == nil || f.Maximum == nil {
		return ""
	}
	return fmt.Sprintf(", %s to %s", grouped(*f.Minimum), grouped(*f.Maximum))
}

// grouped is a whole number with commas between thousands.
func grouped(number json.Number) string {
	text := number.String()
	if _, err := strconv.Atoi(text); err != nil {
		return text
	}
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
