//go:build !unix

package main

import (
	"os"
	"time"
)

var forwarded = []os.Signal{os.Interrupt}

func newProcessEnd(state *os.ProcessState, took time.Duration) processEnd {
	return processEnd{exit: state.ExitCode(), took: took}
}

func (p processEnd) dieLikewise() {}

func fromTerminal(os.Signal) bool { return true }
