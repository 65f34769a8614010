package keeper

import (
	"errors"
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver takes requests from the socket, into memory that it uses again.
type receiver struct {
	request
	system system
	stream bool // not packets: messages may arrive in pieces
	buf    []byte
	oob    [128]byte
	rights [maxFiles]int
	mapped unsafe.Pointer // a body that did not fit
	bad    error          // what is wrong with the request
}

// receive waits for the next request. An error means that there will be no
// more; a request that cannot be read sets r.bad.
func (r *receiver) receive() error {
	first := r.buf
	if r.stream {
		first = first[:requestHeader]
	}
	n, oobn, err := r.system.receive(first, r.oob[:])
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	r.files = parseRights(r.rights[:0], r.oob[:oobn])
	if recvFlags == 0 {
		for _, fd := range r.files {
			syscall.CloseOnExec(fd)
		}
	}
	if n < requestHeader {
		if n, err = r.fill(n, requestHeader); err != nil {
			return err
		}
	}
	if err := r.readHeader(r.buf); err != nil {
		return err
	}
	inline := int(r.size)
	if r.flags&hasBody != 0 {
		inline = 0
	}
	if requestHeader+inline > len(r.buf) {
		return errors.New("request exceeds the buffer")
	}
	if _, err := r.fill(n, requestHeader+inline); err != nil {
		return err
	}
	r.body = r.buf[requestHeader : requestHeader+inline]
	r.bad = r.open()
	return nil
}

// fill reads until the buffer holds want bytes.
func (r *receiver) fill(have, want int) (int, error) {
	for have < want {
		n, err := syscall.Read(requestFD, r.buf[have:want])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return have, err
		}
		if n == 0 {
			return have, io.ErrUnexpectedEOF
		}
		have += n
	}
	return have, nil
}

// open checks the files, fetches a body that did not fit, and splits it.
func (r *receiver) open() error {
	want := 2
	if r.flags&hasScript != 0 {
		want++
	}
	if r.flags&hasBody != 0 {
		want++
	}
	if len(r.files) != want {
		return syscall.EMFILE // the kernel drops rights for which there is no room
	}
	if r.flags&hasBody != 0 {
		p, err := unix.MmapPtr(r.files[want-1], 0, nil, uintptr(r.size), unix.PROT_READ, unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		r.mapped = p
		r.body = unsafe.Slice((*byte)(p), r.size)
	}
	return r.split()
}

// release lets go of all that came with the request.
func (r *receiver) release() {
	for _, fd := range r.files {
		syscall.Close(fd)
	}
	if r.mapped != nil {
		unix.MunmapPtr(r.mapped, uintptr(r.size))
		r.mapped = nil
	}
}

func (r *receiver) badErrno() syscall.Errno {
	if errno, ok := errors.AsType[syscall.Errno](r.bad); ok {
		return errno
	}
	return syscall.EBADMSG
}
