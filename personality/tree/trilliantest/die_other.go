//go:build !linux

package trilliantest

import "syscall"

func dieWithParent(*syscall.SysProcAttr) {}
