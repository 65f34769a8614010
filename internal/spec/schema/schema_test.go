package schema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/cyclonetix/cyclonetix/internal/spec"
	"github.com/cyclonetix/cyclonetix/internal/spec/schema"
)

const (
	root      = "../../.."
	committed = root + "/schemas"
)

// TestSchemasAreCurrent holds the committed files to what is made of the tables.
func TestSchemasAreCurrent(t *testing.T) {
	t.Parallel()
	for _, kind := range spec.Kinds {
		there, err := os.ReadFile(filepath.Join(committed, schema.Name(kind)))
		if err != nil || !bytes.Equal(there, schema.Of(kind)) {
			t.Errorf("%s is not current: run go generate ./internal/spec/schema (%v)", schema.Name(kind), err)
		}
	}
}

func compiled(t *testing.T, kind spec.Kind) *jsonschema.Schema {
	t.Helper()
	content, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema.Of(kind)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(schema.Name(kind), content); err != nil {
		t.Fatal(err)
	}
	whole, err := compiler.Compile(schema.Name(kind)) // which also holds it to the schema of schemas
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// documents are those of a YAML text, as a language server sees them.
func documents(t *testing.T, text []byte) (all []any) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in %.200s", err, text)
		}
		body, err := json.Marshal(plain(document))
		if err != nil {
			t.Fatal(err)
		}
		document, err = jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, document)
	}
}

// plain brings what the library reads into the core schema of YAML 1.2.
func plain(content any) any {
	switch content := content.(type) {
	case time.Time:
		if content.Equal(content.Truncate(24 * time.Hour)) {
			return content.Format(time.DateOnly)
		}
		return content.Format(time.RFC3339)
	case float64:
		return json.Number(strconv.FormatFloat(content, 'g', -1, 64))
	case []any:
		for i := range content {
			content[i] = plain(content[i])
		}
	case map[string]any:
		for key, item := range content {
			content[key] = plain(item)
		}
	case map[any]any:
		keyed := make(map[string]any, len(content))
		for key, item := range content {
			keyed[strings.TrimSpace(yamlKey(key))] = plain(item)
		}
		return keyed
	}
	return content
}

func yamlKey(key any) string {
	text, err := yaml.Marshal(key)
	if err != nil {
		return ""
	}
	return string(text)
}

// TestGoodFiles holds that the schemas take all good files of the tests and the examples.
func TestGoodFiles(t *testing.T) {
	t.Parallel()
	kinds := map[string]spec.Kind{
		"task.yaml": spec.KindTask, "language.yaml": spec.KindTask, "dag.yaml": spec.KindDAG, "nested.yaml": spec.KindDAG,
		"context.yaml": spec.KindContext, "parameter_set.yaml": spec.KindParameterSet,
	}
	files := map[string]spec.Kind{}
	for name, kind := range kinds {
		files["../testdata/good/"+name] = kind
	}
	folders := map[string]spec.Kind{
		"tasks": spec.KindTask, "dags": spec.KindDAG, "contexts": spec.KindContext, "parameter_sets": spec.KindParameterSet,
	}
	err := filepath.WalkDir(root+"/examples", func(path string, entry fs.DirEntry, err error) error {
		if kind, ok := folders[filepath.Base(filepath.Dir(path))]; ok && err == nil && filepath.Ext(path) == ".yaml" {
			files[path] = kind
		}
		return err
	})
	if err != nil || len(files) < 12 {
		t.Fatal(len(files), err)
	}
	for path, kind := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, problems := spec.Parse(kind, path, data, spec.Defaults{}); len(problems) > 0 {
			t.Error(problems)
		}
		whole := compiled(t, kind)
		for _, document := range documents(t, data) {
			if err := whole.Validate(document); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// TestBadFields holds that the schemas refuse each field with a wrong type, a wrong value or a huge value, but for what
// a schema cannot tell.
func TestBadFields(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../testdata/fields.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Field, Wrong, Text string
		Allowed            bool
	}
	if err := yaml.Unmarshal(data, &all); err != nil || len(all) < 100 {
		t.Fatal(len(all), err)
	}
	schemas := map[string]*jsonschema.Schema{}
	for _, kind := range spec.Kinds {
		schemas[string(kind)] = compiled(t, kind)
	}
	times := regexp.MustCompile(`<<(\d+)\*(.*?)>>`)
	for _, bad := range all {
		if bad.Allowed {
			continue
		}
		text := times.ReplaceAllStringFunc(bad.Text, func(repeat string) string {
			parts := times.FindStringSubmatch(repeat)
			count, _ := strconv.Atoi(parts[1])
			return strings.Repeat(parts[2], count)
		})
		kind, _, _ := strings.Cut(bad.Field, ".")
		for _, document := range documents(t, []byte(text)) {
			if schemas[kind].Validate(document) == nil {
				t.Errorf("the schema takes a wrong %s of %s: %.200s", bad.Wrong, bad.Field, text)
			}
		}
	}
}

// TestUnknownFields holds that what this version does not read is refused everywhere, and what lacks a part.
func TestUnknownFields(t *testing.T) {
	t.Parallel()
	for text, kind := range map[string]spec.Kind{
		"{id: a, command: x, comand: y}":                          spec.KindTask,
		"{id: a, command: x, resources: {cpus: 1}}":               spec.KindTask,
		"{id: a, command: x, parameters: {K: {defaultt: 1}}}":     spec.KindTask,
		"{id: a, command: x, approval: {role: [a]}}":              spec.KindTask,
		"{id: a, command: x, retries: {delay: 1}}":                spec.KindTask,
		"[{id: a, command: x}, {id: b}]":                          spec.KindTask,
		"{id: a, tasks: [{id: b, quue: x}]}":                      spec.KindDAG,
		"{id: a, tasks: [{id: b}], schedule: {cron: x, zone: y}}": spec.KindDAG,
		"{id: a, dags: [{id: b, after: [c]}]}":                    spec.KindDAG,
		"{id: a, triggers: {}}":                                   spec.KindDAG,
		"{id: a, context: c}":                                     spec.KindDAG,
		"{id: a, extend: b}":                                      spec.KindContext,
		"{id: a, variables: {}}":                                  spec.KindParameterSet,
	} {
		for _, document := range documents(t, []byte(text)) {
			if compiled(t, kind).Validate(document) == nil {
				t.Errorf("the schema takes %s", text)
			}
		}
	}
}
