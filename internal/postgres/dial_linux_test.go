package postgres

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// A connection to a host that is gone without a word breaks in seconds.
func TestConnectionsNoticeSilence(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing follows
	conn, err := dialer().DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()                            //nolint:errcheck // nothing follows
	raw, err := conn.(*net.TCPConn).SyscallConn() //nolint:forcetypeassert // it was asked for
	if err != nil {
		t.Fatal(err)
	}
	limit := int(silenceLimit.Seconds())
	err = raw.Control(func(descriptor uintptr) {
		option := func(name int) int {
			value, err := unix.GetsockoptInt(int(descriptor), unix.IPPROTO_TCP, name) //nolint:gosec // a descriptor
			if err != nil {
				t.Error(err)
			}
			return value
		}
		if got := option(unix.TCP_USER_TIMEOUT); got != 1000*limit {
			t.Errorf("unanswered data is borne for %d ms", got)
		}
		if got := option(unix.TCP_KEEPIDLE) + option(unix.TCP_KEEPINTVL)*option(unix.TCP_KEEPCNT); got > limit {
			t.Errorf("a quiet connection is borne for %d s", got)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if unix, err := dialer().DialContext(t.Context(), "unix", "/nowhere/at/all"); err == nil {
		unix.Close() //nolint:errcheck // it should not be there
		t.Error("there is a server nowhere")
	}
}
