package agent

import "github.com/cyclonetix/cyclonetix/internal/engine"

// tail holds the newest chunks of a log that together have at most size bytes.
type tail struct {
	size  int
	held  []engine.LogChunk // from first on
	first int
	bytes int
	spare []byte // the body of a chunk that was dropped
}

// push adds a chunk; trim makes it fit.
func (t *tail) push(chunk engine.LogChunk) {
	if 2*t.first >= len(t.held) {
		kept := copy(t.held, t.held[t.first:])
		clear(t.held[kept:])
		t.held, t.first = t.held[:kept], 0
	}
	t.held = append(t.held, chunk)
	t.bytes += len(chunk.Body)
}

// trim drops the oldest chunk if there is too much, and gives its number and its size, else 0.
func (t *tail) trim() (seq int32, size int) {
	// Many small chunks cost more than their bytes.
	const smallChunk, fewChunks = 4096, 64
	count := len(t.held) - t.first
	if count == 0 || t.bytes <= t.size && count <= fewChunks+t.size/smallChunk {
		return 0, 0
	}
	chunk := &t.held[t.first]
	t.first++
	seq, size = chunk.Seq, len(chunk.Body)
	t.bytes -= size
	t.spare = chunk.Body
	*chunk = engine.LogChunk{}
	return seq, size
}

// buffer is an empty body for the next chunk.
func (t *tail) buffer() []byte {
	spare := t.spare
	t.spare = nil
	return spare[:0]
}

// chunks are the chunks, oldest first.
func (t *tail) chunks() []engine.LogChunk { return t.held[t.first:] }
