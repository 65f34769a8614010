package keeper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"
)

// A request is one message: a header of requestHeader bytes, then strings that
// each end in NUL: directory, executable, arguments, environment. The files go
// along as rights, in the order stdout, stderr, then, by its flag, script or
// body. Both sides are the same executable on one machine, so there is no
// version, and numbers are in the machine's own order.
const (
	requestHeader = 32

	hasScript = 1 << 0 // a script comes as descriptor 3 of the command
	hasBody   = 1 << 1 // the strings are in a file, for they exceed maxInline

	maxInline = 64 << 10 // bytes; well below the send buffer of any system
	maxFiles  = 4
)

// request is the decoded form; its strings point into the message.
type request struct {
	id         uint64
	flags      uint32
	argc, envc uint32
	size       uint32 // of the strings
	body       []byte
	files      []int
	dir, path  *byte
	argv, envv []*byte // each ends in nil
}

func putRequestHeader(b []byte, id uint64, flags, argc, envc, size int) {
	binary.NativeEndian.PutUint64(b[0:], id)
	binary.NativeEndian.PutUint32(b[8:], uint32(flags))
	binary.NativeEndian.PutUint32(b[12:], uint32(argc))
	binary.NativeEndian.PutUint32(b[16:], uint32(envc))
	binary.NativeEndian.PutUint32(b[20:], uint32(size))
}

func (r *request) readHeader(b []byte) error {
	if len(b) < requestHeader {
		return fmt.Errorf("request of %d bytes is too short", len(b))
	}
	r.id = binary.NativeEndian.Uint64(b[0:])
	r.flags = binary.NativeEndian.Uint32(b[8:])
	r.argc = binary.NativeEndian.Uint32(b[12:])
	r.envc = binary.NativeEndian.Uint32(b[16:])
	r.size = binary.NativeEndian.Uint32(b[20:])
	return nil
}

// split points dir, path, argv and envv into body. It allocates nothing once
// the slices have grown.
func (r *request) split() error {
	rest := r.body
	next := func() *byte {
		end := bytes.IndexByte(rest, 0)
		if end < 0 {
			return nil
		}
		p := &rest[0]
		rest = rest[end+1:]
		return p
	}
	r.dir, r.path = next(), next()
	ok := r.dir != nil && r.path != nil
	r.argv, r.envv = r.argv[:0], r.envv[:0]
	for range r.argc {
		p := next()
		ok = ok && p != nil
		r.argv = append(r.argv, p)
	}
	for range r.envc {
		p := next()
		ok = ok && p != nil
		r.envv = append(r.envv, p)
	}
	r.argv, r.envv = append(r.argv, nil), append(r.envv, nil)
	if !ok || len(rest) != 0 {
		return errors.New("request does not hold the strings that its header promises")
	}
	return nil
}

type reportKind uint32

const (
	reportReady   reportKind = iota + 1 // the keeper is up
	reportStarted                       // pid; age: since the fork
	reportFailed                        // status: errno; stage
	reportExited                        // status: of wait4; age: since the fork
)

// The stages in which a start can fail.
type stage uint32

const (
	stageRequest stage = iota
	stageFork
	stageDir
	stageSetup
	stageExec
)

// report is what the keeper sends, whole, as it lies in memory.
type report struct {
	id     uint64
	kind   reportKind
	status uint32
	pid    int32
	stage  stage
	age    time.Duration
}

const reportSize = int(unsafe.Sizeof(report{}))

func (r *report) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(r)), reportSize)
}

// order asks the keeper to signal a group; the id guards against a reused pid.
type order struct {
	id     uint64
	pid    int32
	signal int32
}

const orderSize = int(unsafe.Sizeof(order{}))

func (o *order) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(o)), orderSize)
}

// parseRights adds the descriptors in a control message to files. Unlike
// syscall.ParseSocketControlMessage it allocates nothing.
func parseRights(files []int, oob []byte) []int {
	for len(oob) >= syscall.CmsgLen(0) {
		h := (*syscall.Cmsghdr)(unsafe.Pointer(&oob[0]))
		n := int(h.Len)
		if n < syscall.CmsgLen(0) || n > len(oob) {
			break
		}
		if h.Level == syscall.SOL_SOCKET && h.Type == syscall.SCM_RIGHTS {
			for d := oob[syscall.CmsgLen(0):n]; len(d) >= 4; d = d[4:] {
				files = append(files, int(int32(binary.NativeEndian.Uint32(d))))
			}
		}
		oob = oob[min(len(oob), syscall.CmsgSpace(n-syscall.CmsgLen(0))):]
	}
	return files
}
