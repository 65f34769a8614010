package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
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
// one if it has an id. Broken YAML, and text that is none of YAML, hide the rest of their document, not other
// documents; what looks like an id in such a document is taken for one of a broken definition.
func Parse(kind Kind, file string, data []byte, defaults Defaults) ([]Definition, []Problem) {
	r := &reader{file: file, defaults: defaults}
	if len(data) > MaxFileBytes {
		r.problem(place{1, 1}, "the file has more than %d MiB", MaxFileBytes>>20)
		return nil, r.problems
	}
	definitions, whole := r.documents(kind, data, 0)
	if !whole && !directive.Match(data) && bytes.Count(data, []byte("\n---")) <= maxDocuments {
		r = &reader{file: file, defaults: defaults}
		definitions = nil
		for start, line := 0, 0; start < len(data) && !r.stopped; {
			end := nextDocument(data, start)
			read, whole := r.documents(kind, data[start:end], line)
			definitions = append(definitions, read...)
			if !whole {
				definitions = append(definitions, r.salvage(kind, data[start:end], line)...)
			}
			line += lineEnds(data[start:end])
			start = end
		}
	}
	sortProblems(r.problems)
	return definitions, r.problems
}

// maxDocuments bounds the documents that are looked at one by one where a file is broken: each costs a reader.
const maxDocuments = 10_000

// directive is a line that says something of the document after it, which must then be read with it.
var directive = regexp.MustCompile(`(?m)^%`)

// nextDocument is where the document after the one at start begins.
func nextDocument(data []byte, start int) int {
	for at := start; ; {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			return len(data)
		}
		at += end + 1
		if rest, marked := bytes.CutPrefix(data[at:], []byte("---")); marked && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0) {
			return at
		}
	}
}

// documents reads the definitions of a text that has so many lines before it. It reports whether it could read
// all; what it could not is told.
func (r *reader) documents(kind Kind, data []byte, line int) (definitions []Definition, whole bool) {
	r.before = int32(line) //nolint:gosec // files are bounded
	defer func() { r.before = 0 }()
	if !r.checkText(data) {
		return nil, false
	}
	documents, err := yaml.NewLoader(bytes.NewReader(data))
	for err == nil && !r.stopped {
		var document yaml.Node
		if err = loadDocument(documents, &document); err == nil {
			shift(&document, line)
			definitions = r.document(kind, &document, definitions)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.yamlError(data, err)
		return definitions, false
	}
	return definitions, true
}

// shift moves the places of a document down by some lines.
func shift(node *yaml.Node, lines int) {
	if lines == 0 {
		return
	}
	node.Line += lines
	for _, inner := range node.Content {
		shift(inner, lines)
	}
}

// inFile is the position in the file of one in the text that is looked at now.
func (r *reader) inFile(at place) place { return place{at.line + r.before, at.column} }

var (
	wholeID = regexp.MustCompile(`^(?:\{ *)?["']?id["']? *: *["']?([A-Za-z0-9_.-]{1,200})["']? *(?:[,}#].*)?$`)
	itemID  = regexp.MustCompile(`^(?:- *|  )(?:\{ *)?["']?id["']? *: *["']?([A-Za-z0-9_.-]{1,200})["']? *(?:[,}#].*)?$`)
)

// salvage finds the ids in a document that could not be read, so that they are not taken for unknown: those of
// a list of definitions, or that of the one definition.
func (r *reader) salvage(kind Kind, data []byte, line int) (definitions []Definition) {
	pattern := wholeID
	begun := false
	for text := range bytes.Lines(data) {
		line++
		own := bytes.TrimPrefix(text, []byte("--- "))
		mark := len(text) - len(own)
		text = bytes.TrimRight(own, " \t\r\n")
		if !begun && len(text) > 0 && text[0] != '#' && !bytes.Equal(text, []byte("---")) {
			if begun = true; text[0] == '-' {
				pattern = itemID
			}
		}
		found := pattern.FindSubmatchIndex(text)
		if found == nil {
			continue
		}
		definitions = append(definitions, Definition{
			Kind: kind, ID: string(text[found[2]:found[3]]), File: r.file, Broken: true,
			at: &places{id: place{int32(line), int32(mark + found[2] + 1)}}, //nolint:gosec // files are bounded
		})
		if pattern == wholeID {
			break
		}
	}
	if last := len(r.problems) - 1; len(definitions) == 1 && last >= 0 && r.problems[last].ID == "" {
		r.problems[last].Kind, r.problems[last].ID = kind, definitions[0].ID
	}
	return definitions
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
	r.references = nil
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
	definition.at.references = r.references
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
			r.problem(r.inFile(placeAt(data, i)), "the byte 0x%02X is not UTF-8", data[i])
			r.hint("save the file as UTF-8")
			return false
		case char == 0:
			r.problem(r.inFile(placeAt(data, i)), "the file holds a NUL byte")
			return false
		case char < ' ' && char != '\t' && char != '\n' && char != '\r', char == 0xFFFE, char == 0xFFFF:
			r.problem(r.inFile(placeAt(data, i)), "the file holds the control character U+%04X", char)
			return false
		}
		i += size
	}
	return true
}

// lineEnds counts the lines that end in a text, as placeAt does.
func lineEnds(data []byte) int { return int(placeAt(data, len(data)).line) - 1 }

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
		r.problem(r.inFile(place{1, 1}), "broken YAML: %v", err)
		return
	}
	mark := broken.Mark
	if mark.Line == 0 {
		mark = broken.ContextMark
	}
	message := "broken YAML: " + broken.Message
	if broken.ContextMsg != "" && broken.ContextMark.Line > 0 && broken.ContextMark != mark {
		message += fmt.Sprintf(" %s that begins on line %d, column %d", broken.ContextMsg, broken.ContextMark.Line+int(r.before), broken.ContextMark.Column)
	}
	at, end := place{int32(mark.Line), int32(mark.Column)}, placeAt(data, len(data)) //nolint:gosec // files are bounded
	if at.line > end.line {
		at = end
	}
	r.problem(r.inFile(at), "%s", message)
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
