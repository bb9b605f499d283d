package syslog

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

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
// returns a function that asks it at any time, for after the last one there is nobody to tell.
func countDrops(c *net.UDPConn) (func() uint64, error) {
	if err := control(c, unix.SO_RXQ_OVFL); err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	var statErr error
	if err := raw.Control(func(fd uintptr) { statErr = unix.Fstat(int(fd), &st) }); err != nil || statErr != nil {
		return nil, errors.Join(err, statErr)
	}
	inode := strconv.FormatUint(st.Ino, 10)
	var last atomic.Uint64
	return func() uint64 {
		last.Store(max(last.Load(), tableDrops("/proc/net/udp", inode), tableDrops("/proc/net/udp6", inode)))
		return last.Load()
	}, nil
}

// tableDrops finds a socket's drops in a table of the kernel's, in which they are the last column and the inode is the tenth.
func tableDrops(file, inode string) uint64 {
	table, err := os.ReadFile(file)
	if err != nil { // then only what comes with datagrams is known
		return 0
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 12 && f[9] == inode {
			n, _ := strconv.ParseUint(f[len(f)-1], 10, 64) // 0 if it isn't a number
			return n
		}
	}
	return 0
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
