package syslog

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

const (
	forwardLines = 4096    // that may wait
	forwardBytes = 8 << 20 // of them
	forwardWait  = time.Second
)

// Forwarder passes lines on, as they came. It never keeps anybody waiting: what the other side doesn't take in time is
// counted, and lost there.
type Forwarder struct {
	network, address string
	lines            chan []byte
	done             chan struct{}

	closing     atomic.Int64 // when Close was called, in Unix nanoseconds; 0: it was not
	waiting     atomic.Int64
	sent, lost  atomic.Uint64
	lastFailure atomic.Pointer[error]
}

// NewForwarder makes one to unix:PATH, a datagram socket, or udp:ADDRESS. The other side needn't be there yet.
func NewForwarder(spec string) (*Forwarder, error) {
	kind, address, _ := strings.Cut(spec, ":")
	network := map[string]string{"unix": "unixgram", "udp": "udp"}[kind]
	if network == "" || address == "" {
		return nil, fmt.Errorf("%q: expected unix:PATH or udp:ADDRESS", spec)
	}
	if network == "udp" {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("%q: %w", spec, err)
		}
	}
	f := &Forwarder{network: network, address: address, lines: make(chan []byte, forwardLines), done: make(chan struct{})}
	go f.run()
	return f, nil
}

// Send passes a line on. raw is copied.
func (f *Forwarder) Send(raw []byte) {
	if f.waiting.Add(int64(len(raw))) > forwardBytes {
		f.waiting.Add(-int64(len(raw)))
		f.lost.Add(1)
		return
	}
	select {
	case f.lines <- append([]byte(nil), raw...):
	default:
		f.waiting.Add(-int64(len(raw)))
		f.lost.Add(1)
	}
}

// Close passes on what waits, as far as the other side takes it within a second or two, and ends it. Send must not be called any more.
func (f *Forwarder) Close() {
	f.closing.Store(time.Now().UnixNano())
	close(f.lines)
	<-f.done
}

// Counts returns how many lines were passed on and lost, and why the last one was.
func (f *Forwarder) Counts() (sent, lost uint64, last error) {
	if e := f.lastFailure.Load(); e != nil {
		last = *e
	}
	return f.sent.Load(), f.lost.Load(), last
}

func (f *Forwarder) run() {
	defer close(f.done)
	var c net.Conn
	var again time.Time // not to be dialled before
	for raw := range f.lines {
		f.waiting.Add(-int64(len(raw)))
		err := errors.New("the other side isn't there")
		closing := f.closing.Load()
		if closing != 0 && time.Since(time.Unix(0, closing)) > forwardWait {
			f.lost.Add(1)
			continue
		}
		if c == nil && !time.Now().Before(again) && (closing == 0 || again.IsZero()) {
			if c, err = net.DialTimeout(f.network, f.address, forwardWait); err != nil {
				c, again = nil, time.Now().Add(forwardWait)
			}
		}
		if c != nil {
			if err = c.SetWriteDeadline(time.Now().Add(forwardWait)); err == nil {
				_, err = c.Write(raw)
			}
		}
		if err == nil {
			f.sent.Add(1)
			continue
		}
		f.lost.Add(1)
		f.lastFailure.Store(&err)
		if c != nil {
			_ = c.Close() // it is dialled anew
			c, again = nil, time.Now()
		}
	}
	if c != nil {
		_ = c.Close() // all was sent
	}
}
