//go:build unix

package main

import (
	"bytes"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// forwarded are the signals that go on to the command. Those that stop and continue are left to their usual
// effect.
var forwarded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH,
}

func newProcessEnd(state *os.ProcessState, took time.Duration) processEnd {
	end := processEnd{exit: state.ExitCode(), took: took}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		end.signal, end.signalName = int(status.Signal()), status.Signal().String()
	}
	return end
}

// dieLikewise has this process die by the signal that ended the command, if it is one that ends processes by
// the will of somebody: so that a shell, or whoever waits for exec, sees what it would have seen.
func (p processEnd) dieLikewise() {
	s := syscall.Signal(p.signal)
	if s != syscall.SIGHUP && s != syscall.SIGINT && s != syscall.SIGTERM || signal.Ignored(s) {
		return
	}
	signal.Reset(s)
	if syscall.Kill(os.Getpid(), s) == nil {
		<-time.After(time.Second) // it is on its way
	}
}

// fromTerminal reports whether a signal may have come from the terminal, which sends it to the command as well:
// this process is in the terminal's foreground then. Elsewhere than on Linux nobody says, and it is
// passed on.
func fromTerminal(s os.Signal) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGHUP:
	default:
		return false
	}
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return false
	}
	// pid (name) state ppid pgrp session tty_nr tpgid …; a name may have blanks and brackets.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	return len(f) >= 6 && bytes.Equal(f[2], f[5]) // our group is the terminal's
}
