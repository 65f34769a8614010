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

// So does a session at the server, whose locks are free then.
func TestServerNoticesSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn, err := w.sql.Acquire(w.ctx)
	w.must(err, "connect")
	defer conn.Release()
	_, err = conn.Exec(w.ctx, keepAlive)
	w.must(err, "set it")
	_, tcp := conn.Conn().PgConn().Conn().(*net.TCPConn)
	for setting, want := range map[string]string{"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "5", "tcp_user_timeout": "10s"} {
		if !tcp {
			want = "0" // on a socket of this host the server sees at once that the other end is gone
		}
		var got string
		w.must(conn.QueryRow(w.ctx, "SHOW "+setting).Scan(&got), "show it")
		if got != want {
			t.Errorf("%s is %s, should be %s", setting, got, want)
		}
	}
}
