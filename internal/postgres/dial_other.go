//go:build !linux

package postgres

import "syscall"

// boundSilence has only Linux: elsewhere the keep-alives notice that the other end is gone, once the connection is quiet.
func boundSilence(string, string, syscall.RawConn) error { return nil }
