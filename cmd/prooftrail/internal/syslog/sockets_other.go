//go:build !linux

package syslog

import (
	"errors"
	"net"
)

func truncated(int) bool { return false }

func passCredentials(*net.UnixConn) error { return nil }

func credentialsIn([]byte) (pid, uid int, err error) {
	return 0, 0, errors.New("syslog: no credentials on this system")
}

func countDrops(*net.UDPConn) (func() uint64, error) { return func() uint64 { return 0 }, nil }

func dropsIn([]byte) (uint64, bool) { return 0, false }
