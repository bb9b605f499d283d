package trilliantest

import "syscall"

// dieWithParent has the kernel end the process when the test's ends, however that does.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
