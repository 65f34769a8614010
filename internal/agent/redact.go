package agent

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// redacted stands for what is shown nowhere.
const redacted = "***"

// secrets finds sensitive texts in what a task prints: an Aho-Corasick automaton over their lines. It does
// not change, and is shared by both streams. Nil finds nothing.
type secrets struct {
	nodes []secretNode
	first [256]int32 // children of the root; 0 for none
	exact map[string]bool
}

// secretNode is a beginning of a sensitive text.
type secretNode struct {
	char    byte
	child   int32 // the first child; 0 for none
	sibling int32
	fail    int32 // the longest end of it that is a beginning too
	depth   int32 // its length
	match   int32 // the length of the longest sensitive text that it ends with; 0 for none
}

// newSecrets takes the texts apart into lines, since what prints them may take them apart too. Space around
// a line does not count, so that it is found without it.
func newSecrets(texts []string) *secrets {
	s := &secrets{nodes: make([]secretNode, 1), exact: make(map[string]bool, len(texts))}
	for _, text := range texts {
		s.exact[text] = true
		for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
			if line = strings.TrimSpace(line); line != "" {
				s.insert(line)
			}
		}
	}
	if len(s.nodes) == 1 {
		return nil
	}
	s.link()
	return s
}

// with is the secrets and some more texts.
func (s *secrets) with(texts []string) *secrets {
	if len(texts) == 0 {
		return s
	}
	if s != nil {
		texts = slices.AppendSeq(slices.Clone(texts), maps.Keys(s.exact))
	}
	return newSecrets(texts)
}

// inURLs are the texts as the URL of a repository has them, where that is not as they are.
func (s *secrets) inURLs() (forms []string) {
	if s == nil {
		return nil
	}
	for text := range s.exact {
		path, err := url.PathUnescape(text)
		if err != nil {
			path = text
		}
		for _, form := range []string{(&url.URL{Path: path}).EscapedPath(), strings.ToLower(text)} {
			if form != text {
				forms = append(forms, form)
			}
		}
	}
	return forms
}

func (s *secrets) insert(text string) {
	var at int32
	for i := range len(text) {
		next := s.childOf(at, text[i])
		if next == 0 {
			next = int32(len(s.nodes)) //nolint:gosec // texts are bounded
			node := secretNode{char: text[i], depth: int32(i + 1)}
			if at == 0 {
				s.first[text[i]] = next
			} else {
				node.sibling = s.nodes[at].child
				s.nodes[at].child = next
			}
			s.nodes = append(s.nodes, node)
		}
		at = next
	}
	s.nodes[at].match = s.nodes[at].depth
}

func (s *secrets) childOf(at int32, char byte) int32 {
	if at == 0 {
		return s.first[char]
	}
	next := s.nodes[at].child
	for next != 0 && s.nodes[next].char != char {
		next = s.nodes[next].sibling
	}
	return next
}

// link sets where the search goes on after a mismatch, for shorter beginnings first.
func (s *secrets) link() {
	var queue []int32
	for _, next := range s.first {
		if next != 0 {
			queue = append(queue, next)
		}
	}
	for head := 0; head < len(queue); head++ {
		at := queue[head]
		for next := s.nodes[at].child; next != 0; next = s.nodes[next].sibling {
			node := &s.nodes[next]
			node.fail = s.step(s.nodes[at].fail, node.char)
			if node.match == 0 {
				node.match = s.nodes[node.fail].match
			}
			queue = append(queue, next)
		}
	}
}

// step is the longest beginning that the text ends with after one more byte.
func (s *secrets) step(at int32, char byte) int32 {
	for {
		if next := s.childOf(at, char); next != 0 || at == 0 {
			return next
		}
		at = s.nodes[at].fail
	}
}

// redaction replaces sensitive texts in one stream, however it is cut into pieces. It holds back
// what may be the beginning of one.
type redaction struct {
	secrets *secrets
	state   int32
	held    []byte // from first on
	first   int
	hidden  []span // of held, in order, apart from each other
	inside  bool   // what came out last was hidden
	out     []byte
}

// span is a range of held.
type span struct{ start, end int }

// write gives what may be shown after more of the stream. It is good until the next call.
func (r *redaction) write(data []byte) []byte {
	r.out = r.out[:0]
	for len(data) > 0 {
		if r.state == 0 && len(r.held) == r.first {
			plain := r.secrets.plain(data)
			if plain > 0 {
				r.inside = false
				r.out = append(r.out, data[:plain]...)
				data = data[plain:]
				continue
			}
		}
		r.take(data[0])
		data = data[1:]
	}
	return r.out
}

// plain is the number of bytes at the beginning of the text that begin no sensitive text.
func (s *secrets) plain(data []byte) int {
	for i, char := range data {
		if s.first[char] != 0 {
			return i
		}
	}
	return len(data)
}

func (r *redaction) take(char byte) {
	r.state = r.secrets.step(r.state, char)
	node := &r.secrets.nodes[r.state]
	r.held = append(r.held, char)
	if node.match > 0 {
		r.hide(span{len(r.held) - int(node.match), len(r.held)})
	}
	r.release(len(r.held) - int(node.depth))
}

// hide notes a range that ends where held does.
func (r *redaction) hide(found span) {
	last := len(r.hidden) - 1
	for ; last >= 0 && r.hidden[last].end >= found.start; last-- {
		found.start = min(found.start, r.hidden[last].start)
	}
	r.hidden = append(r.hidden[:last+1], found)
}

// release lets the bytes go before end: no sensitive text can begin with them any more.
func (r *redaction) release(end int) {
	for r.first < end {
		if len(r.hidden) == 0 || r.first < r.hidden[0].start {
			shown := end
			if len(r.hidden) > 0 {
				shown = min(end, r.hidden[0].start)
			}
			r.out = append(r.out, r.held[r.first:shown]...)
			r.first, r.inside = shown, false
			continue
		}
		if !r.inside {
			r.out = append(r.out, redacted...)
			r.inside = true
		}
		r.first = min(end, r.hidden[0].end)
		if r.first == r.hidden[0].end {
			r.hidden = r.hidden[:copy(r.hidden, r.hidden[1:])]
		} else {
			r.hidden[0].start = r.first
		}
	}
	const small = 4096
	if r.first == len(r.held) || 2*r.first > len(r.held) && r.first > small {
		r.held = r.held[:copy(r.held, r.held[r.first:])]
		for i := range r.hidden {
			r.hidden[i].start -= r.first
			r.hidden[i].end -= r.first
		}
		r.first = 0
	}
}

// end gives the rest of the stream.
func (r *redaction) end() []byte {
	r.out = r.out[:0]
	r.release(len(r.held))
	r.state, r.inside = 0, false
	return r.out
}

// redact replaces sensitive texts in a text.
func (s *secrets) redact(text string) string {
	if s == nil || text == "" {
		return text
	}
	r := redaction{secrets: s}
	shown := string(r.write([]byte(text)))
	return shown + string(r.end())
}

// value replaces sensitive texts in a value: in its texts and keys, and numbers that are one.
func (s *secrets) value(value workflow.Value) workflow.Value {
	if s == nil || value == "" {
		return value
	}
	decoder := json.NewDecoder(strings.NewReader(string(value)))
	decoder.UseNumber()
	var content any
	if decoder.Decode(&content) != nil {
		return "null" // it was read from JSON, so this does not happen; if it did, nothing would be shown
	}
	text, err := json.Marshal(s.content(content))
	if err != nil {
		return "null"
	}
	return workflow.Value(text)
}

func (s *secrets) content(content any) any {
	switch content := content.(type) {
	case string:
		return s.redact(content)
	case json.Number:
		if s.exact[content.String()] {
			return redacted
		}
		return content
	case []any:
		for i := range content {
			content[i] = s.content(content[i])
		}
		return content
	case map[string]any:
		shown := make(map[string]any, len(content))
		for key, item := range content {
			shown[s.redact(key)] = s.content(item)
		}
		return shown
	default:
		return content
	}
}

// result replaces sensitive texts in all that a result tells. It says whether there was one in what other tasks get.
func (s *secrets) result(result *workflow.Result) (hid bool) {
	if s == nil {
		return false
	}
	given := func(value workflow.Value) workflow.Value {
		shown := s.value(value)
		hid = hid || strings.Count(string(shown), redacted) > strings.Count(string(value), redacted)
		return shown
	}
	result.Reason, result.Output = s.redact(result.Reason), given(result.Output)
	if evaluation := result.Evaluation; evaluation != nil {
		evaluation.Metadata = s.value(evaluation.Metadata)
		for _, values := range append(slices.Collect(maps.Values(evaluation.Parameters)), evaluation.Variables) {
			for name, value := range values {
				values[name] = given(value)
			}
		}
		evaluation.NextTasks = slices.Clone(evaluation.NextTasks)
		for i, name := range evaluation.NextTasks {
			evaluation.NextTasks[i] = s.redact(name)
		}
	}
	return hid
}
