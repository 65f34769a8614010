package embedded

import "syscall"

// dieWithParent asks the kernel to send s to the child when the thread that started it dies.
func dieWithParent(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }
