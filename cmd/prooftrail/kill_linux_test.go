package main

import "syscall"

// endsWithParent has the kernel kill a server whose test is gone, after a timeout say:
// no cleanup runs then. The signal goes by the thread that started the server, which Go
// ends only with a goroutine that is locked to it, and none here is.
func endsWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
