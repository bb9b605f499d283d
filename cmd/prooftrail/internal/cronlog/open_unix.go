//go:build unix

package cronlog

import "syscall"

const noFollow, noBlock = syscall.O_NOFOLLOW, syscall.O_NONBLOCK
