package agent

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/engine"
)

const (
	// maxChunk bounds the body of a chunk.
	maxChunk = 64 << 10
	// flushEvery is how long output may lie here while its task runs.
	flushEvery = 250 * time.Millisecond
	// sampleEvery is how often a chunk is let through once the head of the log is full.
	sampleEvery = time.Second
	// maxSwitches is how often, between two flushes, a chunk is closed because the other stream
	// speaks. After that each stream fills a chunk of its own: the order within a stream stays
	// exact, and a task that alternates byte by byte does not make a chunk of each.
	maxSwitches = 32
	// maxReady bounds what waits for the log writer; what exceeds it goes to the tail.
	maxReady = 1 << 20
	// maxTail bounds the tail, and so the memory of a task, however large the limit is.
	maxTail = 32 << 20
)

// taskLog keeps the output of one attempt within a limit. The first three eighths
// of the limit are sent as they come; then one chunk a second, up to an eighth;
// the rest goes to the tail, which keeps what came last, half the limit or more,
// and is sent at the end. Chunks of the agent itself say how much is missing,
// and stand where it is missing.
type taskLog struct {
	writer *logWriter
	held   *held
	model  engine.LogChunk // of which all chunks are made
	limit  int

	mu         sync.Mutex
	open       [2]*piece // by stream
	switches   int
	seq        int32
	headLeft   int
	sampleLeft int
	sampled    time.Time
	tail       tail
	gaps       []gap // what the tail dropped, in order; a sample begins a new one

	ready      []engine.LogChunk // for the log writer
	readyBytes int
	told       bool // the log writer knows
	timer      *time.Timer
	armed      bool
	closed     bool

	lastErr []byte // the end of what came on stderr

	redactions [2]*redaction // by stream; nil where nothing is sensitive
}

// gap is what is missing between two samples, or before the first or behind the last.
type gap struct {
	before int32 // the number of the sample behind it; 0 for none
	lost   int64 // bytes
	seq    int32 // the highest number of a chunk that is missing
}

// piece is a chunk that is being filled.
type piece struct {
	chunk engine.LogChunk
	size  int  // of its body, at most
	head  bool // it belongs to the head
}

func newTaskLog(writer *logWriter, t *task, limit int) *taskLog {
	tailSize := min(limit/2+limit/8, maxTail)
	return &taskLog{
		writer: writer, held: t.held, limit: limit,
		model:    engine.LogChunk{Run: t.Run.ID, Node: t.Node, Attempt: t.Attempt},
		headLeft: limit - tailSize, sampleLeft: tailSize / 5, // of the tail, so that the last half stays
		tail: tail{size: tailSize}, gaps: make([]gap, 1),
	}
}

// hide lets the log replace sensitive texts. It is called before anything is written.
func (l *taskLog) hide(sensitive *secrets) {
	if sensitive != nil {
		l.redactions = [2]*redaction{{secrets: sensitive}, {secrets: sensitive}}
	}
}

// write takes output of a stream.
func (l *taskLog) write(stream engine.Stream, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if r := l.redactions[index(stream)]; r != nil {
		data = r.write(data)
	}
	l.keep(stream, data)
}

// keep takes what may be shown.
func (l *taskLog) keep(stream engine.Stream, data []byte) {
	if len(data) == 0 {
		return
	}
	if stream == engine.StreamStderr {
		l.keepLastErr(data)
	}
	if other := 1 - index(stream); l.open[other] != nil && l.switches < maxSwitches {
		l.switches++
		l.seal(other)
	}
	for len(data) > 0 {
		p := l.piece(stream)
		n := min(len(data), p.size-len(p.chunk.Body))
		p.chunk.Body = append(p.chunk.Body, data[:n]...)
		data = data[n:]
		if len(p.chunk.Body) == p.size {
			l.seal(index(stream))
		}
	}
	if !l.armed {
		l.armed = true
		if l.timer == nil {
			l.timer = time.AfterFunc(flushEvery, l.flush)
		} else {
			l.timer.Reset(flushEvery)
		}
	}
}

func index(stream engine.Stream) int { return int(stream - engine.StreamStdout) }

// piece gives the chunk that takes the stream's output now.
func (l *taskLog) piece(stream engine.Stream) *piece {
	p := l.open[index(stream)]
	if p != nil {
		return p
	}
	l.seq++
	p = &piece{chunk: l.model, head: l.headLeft > 0}
	p.chunk.Seq, p.chunk.Stream, p.chunk.Time = l.seq, stream, l.held.at(time.Now())
	if p.head {
		p.size = min(maxChunk, l.headLeft)
		l.headLeft -= p.size
	} else {
		p.size = min(maxChunk, max(l.tail.size/8, 1))
		p.chunk.Body = l.tail.buffer()
	}
	l.open[index(stream)] = p
	return p
}

// seal ends the open chunk of a stream.
func (l *taskLog) seal(at int) {
	p := l.open[at]
	l.open[at] = nil
	size := len(p.chunk.Body)
	if p.head {
		l.headLeft += p.size - size
	}
	fits := l.readyBytes+size <= maxReady
	switch {
	case p.head && fits:
		l.send(p)
	case !p.head && fits && l.sampleDue(size):
		l.sampled = time.Now()
		l.sampleLeft -= size
		l.tail.size -= size
		l.gaps[len(l.gaps)-1].before = p.chunk.Seq
		l.gaps = append(l.gaps, gap{})
		l.send(p)
	default:
		l.tail.push(p.chunk)
	}
	l.trim()
}

func (l *taskLog) sampleDue(size int) bool {
	return size <= l.sampleLeft && time.Since(l.sampled) >= sampleEvery
}

func (l *taskLog) send(p *piece) {
	l.ready = append(l.ready, p.chunk)
	l.readyBytes += len(p.chunk.Body)
	if l.readyBytes >= maxChunk {
		l.tell()
	}
}

// tell lets the log writer know that something is ready.
func (l *taskLog) tell() {
	if len(l.ready) > 0 && !l.told {
		l.told = true
		l.writer.notify(l)
	}
}

// trim drops the oldest of the tail until it is within its bounds.
func (l *taskLog) trim() {
	for {
		seq, size := l.tail.trim()
		if size == 0 {
			return
		}
		at := slices.IndexFunc(l.gaps, func(g gap) bool { return g.before == 0 || seq < g.before })
		l.gaps[at].lost += int64(size)
		l.gaps[at].seq = max(l.gaps[at].seq, seq)
	}
}

// flush is called by the timer.
func (l *taskLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	if l.closed {
		return
	}
	l.switches = 0
	waits := false
	first, second := 0, 1
	if l.open[0] != nil && l.open[1] != nil && l.open[1].chunk.Seq < l.open[0].chunk.Seq {
		first, second = 1, 0
	}
	for _, at := range [2]int{first, second} {
		if p := l.open[at]; p != nil {
			if p.head || l.sampleDue(len(p.chunk.Body)) {
				l.seal(at)
			} else {
				waits = waits || l.sampleLeft > 0
			}
		}
	}
	l.tell()
	if waits {
		l.armed = true
		l.timer.Reset(flushEvery)
	}
}

// collect gives what is ready to be written.
func (l *taskLog) collect() []engine.LogChunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	ready := l.ready
	l.ready, l.readyBytes, l.told = nil, 0, false
	return ready
}

// finish ends the log and gives what was not yet given to the log writer, in order.
func (l *taskLog) finish() []engine.LogChunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, r := range l.redactions {
		if r != nil {
			l.keep(engine.StreamStdout+engine.Stream(at), r.end())
		}
	}
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	chunks := l.ready
	l.ready, l.readyBytes = nil, 0
	for at, p := range l.open {
		if p == nil {
			continue
		}
		l.open[at] = nil
		if p.head {
			chunks = append(chunks, p.chunk)
		} else {
			l.tail.push(p.chunk)
		}
	}
	l.trim()
	chunks = append(chunks, l.tail.chunks()...)
	for _, missing := range l.gaps {
		if missing.lost > 0 {
			note := l.model
			note.Stream, note.Seq, note.Time = engine.StreamAgent, missing.seq, l.held.at(time.Now())
			note.Body = fmt.Appendf(nil, "%d bytes of output were dropped here: the log of a task keeps %d bytes\n", missing.lost, l.limit)
			chunks = append(chunks, note)
		}
	}
	slices.SortFunc(chunks, func(a, b engine.LogChunk) int { return int(a.Seq) - int(b.Seq) })
	return chunks
}

// note is a line of the agent after the end of a log that is finished.
func (l *taskLog) note(line string) engine.LogChunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	note := l.model
	note.Stream, note.Seq, note.Time, note.Body = engine.StreamAgent, l.seq, l.held.at(time.Now()), []byte(line+"\n")
	return note
}

// keepLastErr keeps enough of stderr's end to find its last line.
func (l *taskLog) keepLastErr(data []byte) {
	const keep = 2 * maxLastLine
	if len(data) >= keep {
		l.lastErr = append(l.lastErr[:0], data[len(data)-keep:]...)
		return
	}
	if excess := len(l.lastErr) + len(data) - keep; excess > 0 {
		l.lastErr = l.lastErr[:copy(l.lastErr, l.lastErr[excess:])]
	}
	l.lastErr = append(l.lastErr, data...)
}

// forgetLastLine lets only what comes from now on count for lastLine.
func (l *taskLog) forgetLastLine() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastErr = l.lastErr[:0]
}

// lastLine is the last line that came on stderr.
func (l *taskLog) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lastLine(l.lastErr)
}
