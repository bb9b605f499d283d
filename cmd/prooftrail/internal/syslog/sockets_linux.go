package syslog

import (
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func truncated(flags int) bool { return flags&unix.MSG_TRUNC != 0 }

// control sets an option of a socket.
func control(c syscall.Conn, option int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) { setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1) })
	return errors.Join(err, setErr)
}

// passCredentials has the kernel say with each datagram whose it is.
func passCredentials(c *net.UnixConn) error { return control(c, unix.SO_PASSCRED) }

func credentialsIn(oob []byte) (pid, uid int, err error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, 0, err
	}
	for i := range messages {
		if messages[i].Header.Level == unix.SOL_SOCKET && messages[i].Header.Type == unix.SCM_CREDENTIALS {
			cred, err := syscall.ParseUnixCredentials(&messages[i])
			if err != nil {
				return 0, 0, err
			}
			return int(cred.Pid), int(cred.Uid), nil
		}
	}
	return 0, 0, errors.New("syslog: no credentials")
}

// countDrops has the kernel say with each datagram how many it had no room for before (SO_RXQ_OVFL), and
// returns a function that asks it at any time (SO_MEMINFO), for after the last one there is nobody to tell.
func countDrops(c *net.UDPConn) (func() uint64, error) {
	if err := control(c, unix.SO_RXQ_OVFL); err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var last atomic.Uint64
	return func() uint64 {
		_ = raw.Control(func(fd uintptr) { // it fails when the socket is closed
			info := make([]byte, 9*4)
			if n, err := getsockopt(int(fd), unix.SO_MEMINFO, info); err == nil && n == len(info) {
				last.Store(max(last.Load(), uint64(binary.NativeEndian.Uint32(info[8*4:]))))
			}
		})
		return last.Load()
	}, nil
}

func dropsIn(oob []byte) (uint64, bool) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for i := range messages {
		if m := &messages[i]; m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_RXQ_OVFL && len(m.Data) >= 4 {
			return uint64(binary.NativeEndian.Uint32(m.Data)), true
		}
	}
	return 0, false
}

// getsockopt reads an option that is an array.
func getsockopt(fd, option int, to []byte) (int, error) {
	n := uint32(len(to))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(option), uintptr(unsafe.Pointer(&to[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
