package agent

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/engine"
	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func (c *cluster) size(m workflow.Member) (kept int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, chunk := range c.sorted(m) {
		if chunk.Stream != engine.StreamAgent {
			kept += len(chunk.Body)
		}
	}
	return kept
}

func TestOutput(t *testing.T) {
	c := newCluster()
	startAgent(t, c)
	members := c.submit(
		shell(`echo 1; echo 2 >&2; printf '\000\377\n'; printf 'no newline'`),
		shell("true"),
	)
	for _, m := range members {
		c.end(t, m)
	}
	if got := c.output(members[0], engine.StreamStdout); string(got) != "1\n\x00\xff\nno newline" {
		t.Errorf("stdout %q", got)
	}
	if got := c.output(members[0], engine.StreamStderr); string(got) != "2\n" {
		t.Errorf("stderr %q", got)
	}
	if c.early != 0 {
		t.Errorf("%d chunks of short tasks came before their end", c.early)
	}
	if got := c.sorted(members[1]); len(got) != 0 {
		t.Errorf("a silent task has a log: %v", got)
	}
	c.checkEmpty(t)
}

// What a task prints can be read while it runs.
func TestOutputWhileRunning(t *testing.T) {
	c := newCluster()
	startAgent(t, c)
	spec, started := waiting(t.TempDir(), "up")
	spec.Command = "echo begun; echo trouble >&2; " + spec.Command
	m := c.submit(spec)[0]
	started(t)
	key := workflow.Member{Run: m.Run, Node: m.Node, Attempt: m.Attempt}
	c.wait(t, "its output", func() bool { return len(c.logs[key]) == 2 })
	if _, ok := c.ends[m]; ok {
		t.Error("it came with the end")
	}
	if got := c.output(m, engine.StreamStdout); string(got) != "begun\n" {
		t.Errorf("stdout %q", got)
	}
	c.kill(m)
	c.end(t, m)
	c.checkEmpty(t)
}

// However much is printed, the head and the tail are kept, what is missing is told where it
// is missing, and the memory stays small.
func TestMuchOutput(t *testing.T) {
	const limit = 1 << 20
	for _, test := range []struct{ name, command string }{
		{"lines", "seq 1 30000000"},
		{"one endless line", "head -c 300000000 /dev/zero | tr '\\0' x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster()
			startAgent(t, c, func(o *Options) { o.LogBytes = limit })
			m := c.submit(shell(test.command + "; printf last"))[0]
			if end := c.end(t, m); end.Status != workflow.TaskCompleted {
				t.Fatalf("ended as %+v", end)
			}
			if kept := c.size(m); kept > limit || kept < limit-2*maxChunk {
				t.Errorf("%d bytes are kept of a limit of %d", kept, limit)
			}
			out := c.output(m, engine.StreamStdout)
			if !bytes.HasSuffix(out, []byte("last")) {
				t.Errorf("it ends in %q", out[len(out)-20:])
			}
			if test.name == "lines" && !bytes.HasPrefix(out, []byte("1\n2\n3\n")) {
				t.Errorf("it begins with %q", out[:20])
			}
			var dropped int64
			for note := range strings.Lines(string(c.output(m, engine.StreamAgent))) {
				var here int64
				if _, err := fmt.Sscan(note, &here); err != nil {
					t.Fatal(err)
				}
				dropped += here
			}
			want := int64(300000004)
			if test.name == "lines" {
				want = 258888901
			}
			if got := int64(c.size(m)) + dropped; got != want {
				t.Errorf("kept and dropped are %d bytes, printed were %d", got, want)
			}
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			if memory.HeapInuse > 64<<20 {
				t.Errorf("the heap has %d MiB", memory.HeapInuse>>20)
			}
			c.checkEmpty(t)
		})
	}
}

// A database that takes no output neither stops tasks nor costs memory, and the output
// that fits is kept nevertheless.
func TestOutputWhileDown(t *testing.T) {
	c := newCluster()
	c.fault = func(call string) (error, bool) {
		if call == "logs" {
			return errDown, false
		}
		return nil, false
	}
	a := startAgent(t, c)
	m := c.submit(shell("seq 1 200000; sleep 0.5; seq 200001 5000000; echo last"))[0]
	if end := c.end(t, m); end.Status != workflow.TaskCompleted {
		t.Fatalf("ended as %+v", end)
	}
	if out := c.output(m, engine.StreamStdout); !bytes.HasSuffix(out, []byte("5000000\nlast\n")) {
		t.Error("the tail is missing")
	}
	c.setFault(nil)
	a.stop()
	a.wait(t)
	if out := c.output(m, engine.StreamStdout); !bytes.HasPrefix(out, []byte("1\n2\n3\n")) {
		t.Error("the head is missing")
	}
	c.checkEmpty(t)
}

// Output that can never be stored is dropped, and holds up neither other output nor ends.
func TestOutputRefused(t *testing.T) {
	c := newCluster()
	refused := 0
	s := &refusing{session: session{c: c, incarnation: 1}, refused: &refused}
	startAgent(t, c, func(o *Options) {
		o.Open = func(ctx context.Context, info engine.AgentInfo) (engine.AgentSession, error) {
			_, err := c.openSession(ctx, info)
			return s, err
		}
	})
	members := c.submit(shell("echo poison; sleep 0.4; echo poison"), shell("echo fine"))
	for _, m := range members {
		if end := c.end(t, m); end.Status != workflow.TaskCompleted {
			t.Errorf("ended as %+v", end)
		}
	}
	c.mu.Lock()
	if refused < 2 {
		t.Errorf("%d refusals", refused)
	}
	c.mu.Unlock()
	c.checkEmpty(t)
}

type refusing struct {
	session
	refused *int
}

func (s *refusing) poisoned(logs []engine.LogChunk) bool {
	for _, chunk := range logs {
		if strings.Contains(string(chunk.Body), "poison") {
			s.c.mu.Lock()
			*s.refused++
			s.c.mu.Unlock()
			return true
		}
	}
	return false
}

func (s *refusing) WriteLogs(ctx context.Context, logs []engine.LogChunk) error {
	if s.poisoned(logs) {
		return fmt.Errorf("store output: %w", engine.ErrRefused)
	}
	return s.session.WriteLogs(ctx, logs)
}

func (s *refusing) Report(ctx context.Context, report *engine.Report, logs []engine.LogChunk, orders []int64) error {
	if s.poisoned(logs) {
		return fmt.Errorf("store report: %w", engine.ErrRefused)
	}
	return s.session.Report(ctx, report, logs, orders)
}

// For any writes and flushes, of any limit: what is kept is within the limit, in order, and
// together with what is told as dropped it is all.
func TestTaskLogProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 400_000).Draw(t, "limit")
		writer := newLogWriter(nil, nil, nil)
		member := engine.ClaimedTask{Member: workflow.Member{Node: 1, Attempt: 2}, Run: &engine.RunInfo{}}
		log := newTaskLog(writer, &task{ClaimedTask: member, held: &held{claimedAt: time.Now(), received: time.Now()}}, limit)
		var written [2][]byte
		var chunks []engine.LogChunk
		for range rapid.IntRange(0, 60).Draw(t, "writes") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				log.flush()
			case 1:
				chunks = append(chunks, log.collect()...)
			case 2:
				log.mu.Lock()
				log.sampled = time.Time{} // a second went by
				log.mu.Unlock()
			default:
				at := rapid.IntRange(0, 1).Draw(t, "stream")
				data := make([]byte, rapid.IntRange(1, 80_000).Draw(t, "size"))
				for i := range data {
					data[i] = byte((len(written[at]) + i) * 2654435761 >> 13)
				}
				written[at] = append(written[at], data...)
				log.write(engine.StreamStdout+engine.Stream(at), data)
			}
		}
		chunks = append(chunks, log.finish()...)
		kept, dropped := 0, int64(0)
		numbers := map[int32]bool{}
		var got [2][]engine.LogChunk
		for _, chunk := range chunks {
			if numbers[chunk.Seq] || len(chunk.Body) == 0 || len(chunk.Body) > maxChunk || chunk.Node != 1 || chunk.Attempt != 2 {
				t.Fatalf("chunk %d of stream %v has %d bytes, or came twice", chunk.Seq, chunk.Stream, len(chunk.Body))
			}
			numbers[chunk.Seq] = true
			if chunk.Stream == engine.StreamAgent {
				var here int64
				if _, err := fmt.Sscan(string(chunk.Body), &here); err != nil || here == 0 {
					t.Fatalf("a note says %q", chunk.Body)
				}
				dropped += here
				continue
			}
			kept += len(chunk.Body)
			got[index(chunk.Stream)] = append(got[index(chunk.Stream)], chunk)
		}
		if total := len(written[0]) + len(written[1]); kept > limit || kept+int(dropped) != total {
			t.Fatalf("kept %d, dropped %d of %d, limit %d", kept, dropped, total, limit)
		}
		if kept < min(limit, len(written[0])+len(written[1]))/2 {
			t.Fatalf("kept only %d of a limit of %d", kept, limit)
		}
		for at, chunks := range got {
			rest := written[at]
			byNumber := map[int32][]byte{}
			for _, chunk := range chunks {
				byNumber[chunk.Seq] = chunk.Body
			}
			for seq := int32(0); seq <= log.seq; seq++ {
				if body := byNumber[seq]; body != nil {
					place := bytes.Index(rest, body)
					if place < 0 {
						t.Fatalf("chunk %d of stream %d is not in what was written, after the one before", seq, at)
					}
					rest = rest[place+len(body):]
				}
			}
		}
	})
}

// Samples take nothing from the last half, and what is missing between two of them is told there, to the byte.
func TestEachGapIsTold(t *testing.T) {
	t.Parallel()
	const limit, width = 2 << 20, 8
	member := engine.ClaimedTask{Member: workflow.Member{Node: 1, Attempt: 1}, Run: &engine.RunInfo{}}
	log := newTaskLog(newLogWriter(nil, nil, nil), &task{ClaimedTask: member, held: &held{claimedAt: time.Now(), received: time.Now()}}, limit)
	written := 0
	write := func(bytes int) { // each word is its own place
		var text []byte
		for range bytes / width {
			text = fmt.Appendf(text, "%07d ", written/width)
			written += width
		}
		log.write(engine.StreamStdout, text)
	}
	var chunks []engine.LogChunk
	for range 40 {
		write(1 << 20)
		chunks = append(chunks, log.collect()...)
		log.mu.Lock()
		log.sampled = time.Time{} // a second went by
		log.mu.Unlock()
	}
	chunks = append(chunks, log.finish()...)
	slices.SortFunc(chunks, func(a, b engine.LogChunk) int { return int(a.Seq) - int(b.Seq) })
	place, notes, kept, last := 0, 0, 0, 0
	for _, chunk := range chunks {
		var number int
		if _, err := fmt.Sscanf(string(chunk.Body), "%d", &number); err != nil {
			t.Fatal(err)
		}
		if chunk.Stream == engine.StreamAgent {
			place, last = place+number, 0
			notes++
			continue
		}
		if number*width != place {
			t.Fatalf("chunk %d begins at byte %d, told was %d", chunk.Seq, number*width, place)
		}
		place, kept, last = place+len(chunk.Body), kept+len(chunk.Body), last+len(chunk.Body)
	}
	if place != written || kept > limit {
		t.Errorf("kept and told are %d bytes of %d; kept are %d", place, written, kept)
	}
	if notes < 3 || last < limit/2-maxChunk {
		t.Errorf("%d gaps are told, and the last %d bytes are whole", notes, last)
	}
}

func TestLastLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"\n\n":                           "",
		"one\ntwo\n\n":                   "two",
		"progress 1\rprogress 2\r":       "progress 2",
		"\x1b[31mred\x1b[0m\n":           "\ufffd[31mred\ufffd[0m",
		strings.Repeat("é", 300):         strings.Repeat("é", 98) + "…",
		"a\n" + strings.Repeat("x", 200): strings.Repeat("x", 200),
	} {
		if got := lastLine([]byte(text)); got != want || len(got) > maxLastLine {
			t.Errorf("last line of %q is %q, want %q", text, got, want)
		}
	}
}
