package spec

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// FuzzParse holds for any text: the parser does not panic; each problem has a
// place in the text; a text without problems gives whole definitions; these stay
// the same when they are stored and read again; and a catalog takes them.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds: ", err)
	}
	for _, seed := range seeds {
		data, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		for kind := range Kinds {
			f.Add(kind, data)
		}
	}
	f.Fuzz(func(t *testing.T, kind int, data []byte) {
		definitions, problems := Parse(Kinds[uint(kind)%uint(len(Kinds))], "f.yaml", data, Defaults{})
		for _, problem := range problems {
			checkPlace(t, data, problem)
		}
		for i := range definitions {
			if !definitions[i].Broken {
				checkStored(t, &definitions[i])
			} else if len(problems) == 0 {
				t.Errorf("%s is broken without a problem", definitions[i].ID)
			}
		}
		c := NewCatalog(definitions, CatalogOptions{Queues: []string{"default"}})
		for _, problem := range c.Problems() {
			checkPlace(t, data, problem)
		}
		for task := range c.Definitions(KindTask) {
			checkRun(t, task.ID, c.PlanTask)
		}
		for dag := range c.Definitions(KindDAG) {
			checkRun(t, dag.ID, c.PlanDAG)
		}
	})
}

func checkPlace(t *testing.T, data []byte, problem Problem) {
	lines := 1 + bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) +
		bytes.Count(data, []byte("\u0085")) + bytes.Count(data, []byte("\u2028")) + bytes.Count(data, []byte("\u2029"))
	if problem.File != "f.yaml" || problem.Line < 1 || problem.Line > lines || problem.Column < 1 || problem.Column > len(data)+1 {
		t.Errorf("%v is in no place of %d lines", problem, lines)
	}
	if problem.Message == "" || !utf8.ValidString(problem.Message) {
		t.Errorf("bad message %q", problem.Message)
	}
}

func checkStored(t *testing.T, definition *Definition) {
	body := definition.Encode()
	again, err := Decode(definition.Kind, body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*definition, again, cmpopts.IgnoreFields(Definition{}, "File", "at")); diff != "" {
		t.Errorf("a stored definition differs: %s", diff)
	}
	if second := again.Encode(); !bytes.Equal(body, second) {
		t.Errorf("encoded again: %s, not %s", second, body)
	}
}

// checkRun plans a usable definition and resolves the environment of its tasks.
func checkRun(t *testing.T, id string, plan func(string) (*workflow.Plan, error)) {
	planned, err := plan(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range planned.Specs {
		if _, _, err := Environment(spec, &workflow.RunValues{}, Lookups{}); err != nil && len(spec.Checks) == 0 && !specAny(spec, hasReference, hasReference) {
			t.Error(err)
		}
	}
}

// TestSeeds holds that the good seeds are good and the bad ones bad.
func TestSeeds(t *testing.T) {
	t.Parallel()
	for _, seed := range []struct {
		file string
		kind Kind
		good bool
	}{
		{"good/task.yaml", KindTask, true},
		{"good/dag.yaml", KindDAG, true},
		{"good/context.yaml", KindContext, true},
		{"good/parameter_set.yaml", KindParameterSet, true},
		{"good/language.yaml", KindTask, true},
		{"good/nested.yaml", KindDAG, true},
		{"bad/language.yaml", KindTask, false},
		{"bad/schedule.yaml", KindDAG, false},
		{"bad/parameter_set.yaml", KindParameterSet, false},
		{"bad/syntax.yaml", KindTask, false},
		{"bad/tab.yaml", KindTask, false},
		{"bad/task.yaml", KindTask, false},
		{"bad/circle.yaml", KindTask, false},
		{"bad/values.yaml", KindTask, false},
		{"bad/dag.yaml", KindDAG, false},
		{"bad/bytes.yaml", KindContext, false},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", seed.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, problems := Parse(seed.kind, seed.file, data, Defaults{}); (len(problems) == 0) != seed.good {
			t.Errorf("%s: %v", seed.file, problems)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	var text bytes.Buffer
	for i := range 100_000 {
		writeTask(&text, i)
	}
	b.Run("100,000 tasks in a file", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(text.Len()))
		for b.Loop() {
			definitions, problems := Parse(KindTask, "f.yaml", text.Bytes(), Defaults{})
			if len(definitions) != 100_000 || len(problems) != 0 {
				b.Fatal(len(definitions), problems)
			}
		}
	})
	definitions, _ := Parse(KindTask, "f.yaml", text.Bytes(), Defaults{})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			for i := range definitions {
				definitions[i].Encode()
			}
		}
	})
	bodies := make([][]byte, len(definitions))
	for i := range definitions {
		bodies[i] = definitions[i].Encode()
	}
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			for _, body := range bodies {
				if _, err := Decode(KindTask, body); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// writeTask writes a task of some 230 bytes that depends on the three before it.
func writeTask(out *bytes.Buffer, i int) {
	fmt.Fprintf(out, "- id: task_%06d\n  name: Task number %d\n  command: |\n    echo start %d\n    sleep 0\n  dependencies: [", i, i, i)
	for k := max(0, i-3); k < i; k++ {
		fmt.Fprintf(out, "task_%06d, ", k)
	}
	fmt.Fprintf(out, "]\n  queue: default\n  priority: 2\n  parameters:\n    INPUT: /data/in/%d\n    COUNT: %d\n", i, i)
}
