package postgres

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// boundSilence bounds the time for which sent data may stay without an answer of the other end's system.
func boundSilence(network, _ string, conn syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	controlErr := conn.Control(func(descriptor uintptr) {
		err = unix.SetsockoptInt(int(descriptor), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silenceLimit.Milliseconds())) //nolint:gosec // a descriptor
	})
	if controlErr != nil {
		return controlErr //nolint:wrapcheck // the dialer says what it did
	}
	return err //nolint:wrapcheck // the dialer says what it did
}
