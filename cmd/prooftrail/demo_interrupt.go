//go:build !client

package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interrupts lets SIGINT and SIGTERM end the play while there is one, and the
// whole run otherwise. Once the run was told to end, the next signal has its
// usual effect.
type interrupts struct {
	mu      sync.Mutex
	endPlay context.CancelFunc // nil: no play goes on
}

// watch returns the run's context; stop is to be called when all is cleaned up.
func (i *interrupts) watch(ctx context.Context) (run context.Context, stop context.CancelFunc) {
	run, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-signals:
			case <-run.Done():
				return
			}
			if !i.end() {
				cancel()
			}
		}
	}()
	return run, cancel
}

// end ends the play, if one goes on.
func (i *interrupts) end() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.endPlay == nil {
		return false
	}
	i.endPlay()
	i.endPlay = nil
	return true
}

// play returns the context of a play that begins; end is to be called after it.
func (i *interrupts) play(ctx context.Context) (play context.Context, end context.CancelFunc) {
	play, cancel := context.WithCancel(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.endPlay = cancel
	return play, func() {
		i.end()
		cancel()
	}
}
