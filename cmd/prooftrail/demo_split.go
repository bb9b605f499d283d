//go:build !client

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/rewrite"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// demoInterval is how often the demo's monitors look at their log, and gossip. patience is how
// long they may take for all of it.
const (
	demoInterval = time.Second
	demoPatience = 30 * time.Second
)

// split is the last act: the operator shows one monitor the log, and the other one a second history, with
// one entry rewritten and everything above it signed with the real key. It returns what convicted the
// log at both.
func (d *demo) split(ctx context.Context) (convicted bool, err error) {
	victim := d.recorder.victim()
	if victim == nil {
		return false, errors.New("no event was logged")
	}
	server, err := d.serveLog(ctx, d.logDir(), "127.0.0.1:0")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, server.close(context.WithoutCancel(ctx))) }()
	second, err := d.rewrite(ctx, server.url+"/logs/audit", victim)
	if err != nil {
		return false, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return false, err
	}
	web := &http.Server{Handler: second, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = web.Serve(ln) }() // ends with Close below
	defer func() { err = errors.Join(err, web.Close()) }()
	return d.gossip(ctx, server.url+"/logs/audit", "http://"+ln.Addr().String()+"/logs/audit")
}

// rewrite makes the second history.
func (d *demo) rewrite(ctx context.Context, url string, victim *recorded) (*rewrite.History, error) {
	source, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: url, Token: d.readToken})
	if err != nil {
		return nil, err
	}
	receipt, _, err := verifier.FetchReceipt(ctx, source, source, d.policy, victim.index)
	if err != nil {
		return nil, err
	}
	forged, from, to, err := forgeOutcome(receipt.Extra)
	if err != nil {
		return nil, err
	}
	opening, err := seal.ParseOpening(forged)
	if err != nil {
		return nil, err
	}
	skey, err := os.ReadFile(filepath.Join(d.logDir(), "signer.key"))
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(skey)))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(d.env.Stdout, "\nthe operator makes a second history: entry %d says outcome %s instead of %s, all above it is hashed anew and signed with the real key\n",
		victim.index, to, from)
	return rewrite.Of(ctx, source, d.policy.Log(), signer, victim.index, opening.Leaf())
}

// gossip runs two monitors, each of which sees one of the histories, and lets them compare notes.
func (d *demo) gossip(ctx context.Context, first, second string) (convicted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	var north, south demoMonitor
	if err := errors.Join(north.listen(), south.listen()); err != nil {
		return false, err
	}
	// In this order: a monitor closes its book when it has stopped.
	defer func() { err = errors.Join(err, north.close(), south.close()) }()
	for _, m := range []struct {
		*demoMonitor
		name, url string
		peer      *demoMonitor
	}{{&north, "north", first, &south}, {&south, "south", second, &north}} {
		if err := m.open(ctx, filepath.Join(d.dir, "monitor-"+m.name), d.policy, m.url, m.peer); err != nil {
			return false, err
		}
	}
	begin := time.Now()
	north.run(ctx)
	south.run(ctx)
	size, err := north.checked(ctx)
	if err != nil {
		return false, err
	}
	if _, err := south.checked(ctx); err != nil {
		return false, err
	}
	fmt.Fprintf(d.env.Stdout, "one monitor is shown the log, another one that copy: each has re-hashed all of its %d entries or more, and by itself finds nothing wrong\n", size)
	for _, m := range []*demoMonitor{&north, &south} {
		if err := m.evidence(ctx, d.policy); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				fmt.Fprintf(d.env.Stdout, "they have compared the heads that they saw for %s, and found nothing\n", demoPatience)
				return false, nil
			}
			return false, err
		}
	}
	fmt.Fprintf(d.env.Stdout, "they compare the heads that they saw, every second: %.1f s after the start both hold evidence: %s\n",
		time.Since(begin).Seconds(), north.verdict)
	if d.keep {
		fmt.Fprintf(d.env.Stdout, "check it yourself: prooftrail-verify evidence %s --policy %s\n", north.file, filepath.Join(d.logDir(), "policy.txt"))
	}
	return true, nil
}

// demoMonitor is a monitor with what it needs.
type demoMonitor struct {
	listener net.Listener
	book     *store.Book
	monitor  *monitor.Monitor
	stop     func()
	web      *http.Server

	file, verdict string // of the evidence
}

func (m *demoMonitor) listen() (err error) {
	m.listener, err = net.Listen("tcp", "127.0.0.1:0")
	return err
}

func (m *demoMonitor) url() string { return "http://" + m.listener.Addr().String() }

func (m *demoMonitor) open(ctx context.Context, dir string, p *verifier.Policy, url string, peer *demoMonitor) (err error) {
	files := filepath.Join(dir, "evidence")
	if err := os.MkdirAll(files, 0o700); err != nil {
		return err
	}
	if m.book, err = store.OpenBook(filepath.Join(dir, "heads.db"), 0); err != nil {
		return err
	}
	m.monitor, err = monitor.New(ctx, monitor.Config{
		Logs:  []monitor.LogConfig{{Policy: p, URL: url}},
		Peers: []monitor.PeerConfig{{Name: "the other one", URL: peer.url()}},
		Book:  m.book, EvidenceDir: files, Alarms: noAlarms{}, Interval: demoInterval,
	})
	return err
}

// noAlarms: what would ring is what the demo prints.
type noAlarms struct{}

func (noAlarms) Raise(alarm.Alarm)            {}
func (noAlarms) Clear(string, string, string) {}

func (m *demoMonitor) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	m.web = &http.Server{Handler: m.monitor.Handler(), ReadHeaderTimeout: 10 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.web.Serve(m.listener) }) // ends with Close
	wg.Go(func() { _ = m.monitor.Run(ctx) })      // ends with ctx; its error is nil
	m.stop = func() { cancel(); _ = m.web.Close(); wg.Wait() }
}

func (m *demoMonitor) close() error {
	if m.stop != nil {
		m.stop()
	} else if m.listener != nil {
		_ = m.listener.Close()
	}
	if m.book == nil {
		return nil
	}
	return m.book.Close()
}

// checked waits until everything that the log shows is read.
func (m *demoMonitor) checked(ctx context.Context) (size uint64, err error) {
	err = m.until(ctx, func(s *monitor.Status) bool {
		l := &s.Logs[0]
		if l.Checked == nil || l.Served == nil || l.Checked.Size < l.Served.Size {
			return false
		}
		size = l.Checked.Size
		return true
	})
	return size, err
}

// evidence waits for a file, and checks it as anybody would.
func (m *demoMonitor) evidence(ctx context.Context, p *verifier.Policy) error {
	if err := m.until(ctx, func(s *monitor.Status) bool {
		if len(s.Evidence) > 0 {
			m.file = s.Evidence[0].File
		}
		return m.file != ""
	}); err != nil {
		return err
	}
	b, err := os.ReadFile(m.file)
	if err != nil {
		return err
	}
	e, err := verifier.ParseEvidence(b)
	if err != nil {
		return err
	}
	fork, err := e.Check(p)
	if err != nil {
		return err
	}
	m.verdict = fmt.Sprintf("the log signed heads of size %d and %d, and neither extends the other", fork.First.Size, fork.Second.Size)
	return nil
}

func (m *demoMonitor) until(ctx context.Context, so func(*monitor.Status) bool) error {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if s := m.monitor.Status(); so(&s) {
			tick.Stop()
			return nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		case <-tick.C:
		}
	}
}
