package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// MaxFileBytes is the size of the largest file that is read.
const MaxFileBytes = 32 << 20

// Defaults are what a definition has where it says nothing.
type Defaults struct {
	// Queue is the queue of a task that names none; empty means workflow.DefaultQueue.
	Queue string
}

func (d Defaults) queue() string {
	if d.Queue == "" {
		return workflow.DefaultQueue
	}
	return d.Queue
}

// Parse reads the definitions of one kind in the text of a file: one document,
// several, or lists of definitions. It tells all problems, of which each has a
// position. A definition with a problem is among the definitions as a broken
// one if it has an id; what follows broken YAML is not read.
func Parse(kind Kind, file string, data []byte, defaults Defaults) ([]Definition, []Problem) {
	r := &reader{file: file, defaults: defaults}
	if len(data) > MaxFileBytes {
		r.problem(place{1, 1}, "the file has more than %d MiB", MaxFileBytes>>20)
		return nil, r.problems
	}
	if !r.checkText(data) {
		return nil, r.problems
	}
	var definitions []Definition
	documents, err := yaml.NewLoader(bytes.NewReader(data))
	for err == nil && !r.stopped {
		var document yaml.Node
		err = loadDocument(documents, &document)
		if err == nil {
			definitions = r.document(kind, &document, definitions)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.yamlError(data, err)
	}
	sortProblems(r.problems)
	return definitions, r.problems
}

// loadDocument reads the next document. The library panics where it meets a
// state that it holds to be impossible; that must not take a server down.
func loadDocument(documents *yaml.Loader, document *yaml.Node) (err error) {
	defer func() {
		if trouble := recover(); trouble != nil {
			err = fmt.Errorf("the reader of YAML gave up: %v", trouble)
		}
	}()
	return documents.Load(document)
}

// document reads the definitions of one document.
func (r *reader) document(kind Kind, document *yaml.Node, definitions []Definition) []Definition {
	root := value{reader: r, node: document, what: "a definition"}
	if document.Kind == yaml.DocumentNode {
		if len(document.Content) == 0 {
			return definitions
		}
		root = root.child(document.Content[0], "a "+kind.noun())
	}
	switch {
	case root.null():
	case root.node.Kind == yaml.SequenceNode:
		root.items(func(item value) { definitions = r.definition(kind, item, definitions) })
	case root.isMap():
		definitions = r.definition(kind, root, definitions)
	default:
		root.wrong("a map, or a list of maps")
	}
	return definitions
}

func (r *reader) definition(kind Kind, v value, definitions []Definition) []Definition {
	before := len(r.problems)
	var definition Definition
	switch kind {
	case KindTask:
		definition = readTask(v)
	case KindDAG:
		definition = readDAG(v)
	case KindContext:
		definition = readContext(v)
	default:
		definition = readParameterSet(v)
	}
	definition.File = r.file
	definition.Broken = r.stopped || len(r.problems) > before
	for i := before; i < len(r.problems); i++ {
		r.problems[i].Kind, r.problems[i].ID = kind, definition.ID
	}
	if definition.ID == "" {
		return definitions
	}
	return append(definitions, definition)
}

// checkText tells the first byte that makes the file no text of YAML. The
// library would refuse it too, but without its place.
func (r *reader) checkText(data []byte) bool {
	for i := 0; i < len(data); {
		char, size := rune(data[i]), 1
		if char >= utf8.RuneSelf {
			char, size = utf8.DecodeRune(data[i:])
		}
		switch {
		case char == utf8.RuneError && size == 1:
			r.problem(placeAt(data, i), "the byte 0x%02X is not UTF-8", data[i])
			r.hint("save the file as UTF-8")
			return false
		case char == 0:
			r.problem(placeAt(data, i), "the file holds a NUL byte")
			return false
		case char < ' ' && char != '\t' && char != '\n' && char != '\r', char == 0xFFFE, char == 0xFFFF:
			r.problem(placeAt(data, i), "the file holds the control character U+%04X", char)
			return false
		}
		i += size
	}
	return true
}

// placeAt is the position of a byte.
func placeAt(data []byte, offset int) place {
	before := bytes.ReplaceAll(data[:offset], []byte("\r\n"), []byte("\n"))
	before = bytes.ReplaceAll(before, []byte("\r"), []byte("\n"))
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	return place{int32(1 + bytes.Count(before, []byte("\n"))), int32(1 + utf8.RuneCount(line))} //nolint:gosec // files are bounded
}

// yamlError tells what the library found wrong with the YAML itself.
func (r *reader) yamlError(data []byte, err error) {
	var broken *yaml.LoadError
	if !errors.As(err, &broken) {
		r.problem(place{1, 1}, "broken YAML: %v", err)
		return
	}
	mark := broken.Mark
	if mark.Line == 0 {
		mark = broken.ContextMark
	}
	message := "broken YAML: " + broken.Message
	if broken.ContextMsg != "" && broken.ContextMark.Line > 0 && broken.ContextMark != mark {
		message += fmt.Sprintf(" %s that begins on line %d, column %d", broken.ContextMsg, broken.ContextMark.Line, broken.ContextMark.Column)
	}
	at, end := place{int32(mark.Line), int32(mark.Column)}, placeAt(data, len(data)) //nolint:gosec // files are bounded
	if at.line > end.line {
		at = end
	}
	r.problem(at, "%s", message)
	if strings.HasPrefix(charAt(data, mark.Line, mark.Column), "\t") {
		r.hint("indent with spaces: YAML takes no tabs there")
	}
}

// charAt is the text from a position to the end of its line.
func charAt(data []byte, line, column int) string {
	for ; line > 1; line-- {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			return ""
		}
		data = data[end+1:]
	}
	if end := bytes.IndexByte(data, '\n'); end >= 0 {
		data = data[:end]
	}
	for ; column > 1 && len(data) > 0; column-- {
		_, size := utf8.DecodeRune(data)
		data = data[size:]
	}
	return string(data)
}
