//go:build !linux

package embedded

import "syscall"

// dieWithParent does nothing: there is no such signal here. A server whose parent was killed runs
// on until the next start on its data directory stops it (see clearLeftovers).
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
