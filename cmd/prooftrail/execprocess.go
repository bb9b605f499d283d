package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
)

// child is the command while it runs. There is no Pdeathsig: the command outlives an exec that is killed.
type child struct {
	cmd     *exec.Cmd
	began   time.Time
	err     error // why it couldn't be started
	signals <-chan os.Signal
}

// processEnd is how it ended.
type processEnd struct {
	err        error // it wasn't started
	exit       int   // its exit code, unless a signal ended it
	signal     int   // that signal; 0: none
	signalName string
	took       time.Duration
}

// prepare does what takes as long as opening a spool does, at the same time: it has signals caught, unless the command may not be
// started, and then they have their usual effect until it is; and finds out how processes are waited for, which takes a process. A
// signal that comes meanwhile is the command's first one.
func prepare(catch bool) <-chan (<-chan os.Signal) {
	c := make(chan (<-chan os.Signal), 1)
	go func() {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Release()
		}
		if catch {
			c <- catchSignals()
		}
		close(c)
	}()
	return c
}

// catchSignals has the signals that go on to the command come in a channel, for as long as exec lives.
func catchSignals() <-chan os.Signal {
	c := make(chan os.Signal, 16)
	for _, s := range forwarded {
		if !signal.Ignored(s) { // nohup: the command is to ignore it too
			signal.Notify(c, s)
		}
	}
	return c
}

// startChild starts the command with exec's own descriptors.
func startChild(e *cli.Env, command []string, signals <-chan os.Signal) *child {
	p := &child{signals: signals, began: time.Now()}
	p.cmd = newCommand(e, command[0], command[1:])
	p.err = p.cmd.Start()
	if errors.Is(p.err, syscall.ENOEXEC) { // a script without #!: as execvp does
		p.cmd = newCommand(e, "/bin/sh", append([]string{p.cmd.Path}, command[1:]...))
		p.err = p.cmd.Start()
	}
	return p
}

func newCommand(e *cli.Env, name string, args []string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	if errors.Is(cmd.Err, exec.ErrDot) { // PATH has the directory: that is its owner's business
		cmd.Err = nil
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Stdout, e.Stderr // files: handed on as they are
	return cmd
}

// wait passes signals on until the command has ended.
func (p *child) wait() processEnd {
	if p.err != nil {
		return processEnd{err: p.err, took: time.Since(p.began)}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.cmd.Wait() // the state says it
	}()
	for {
		select {
		case s := <-p.signals:
			if !fromTerminal(s) {
				_ = p.cmd.Process.Signal(s) // it may just have ended
			}
		case <-ended:
			return newProcessEnd(p.cmd.ProcessState, time.Since(p.began))
		}
	}
}

// code is exec's exit code.
func (p processEnd) code() int {
	switch {
	case errors.Is(p.err, exec.ErrNotFound) || errors.Is(p.err, fs.ErrNotExist):
		return exitNotFound
	case p.err != nil:
		return exitNotExecutable
	case p.signal != 0:
		return 128 + p.signal
	}
	return p.exit
}
