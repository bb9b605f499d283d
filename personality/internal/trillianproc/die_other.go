//go:build !linux

package trillianproc

import "syscall"

func dieWithParent(*syscall.SysProcAttr) {}
