package monitor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// Monitor follows logs and compares notes with peers. It is safe for concurrent use.
type Monitor struct {
	cfg      Config
	logs     []*follower
	byID     map[string]*follower // by gossip.LogID
	peers    []*peer
	evidence *evidenceDir
	limits   *limiter
	started  time.Time
}

// New makes a monitor and reads what it knows: from the book, and evidence from its directory. It
// sends nothing.
func New(ctx context.Context, cfg Config) (*Monitor, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	m := &Monitor{cfg: cfg, byID: map[string]*follower{}, started: cfg.Now(), limits: newLimiter(cfg.Rate, cfg.Now)}
	names := map[string]bool{}
	for _, pc := range cfg.Peers {
		p, err := newPeer(m, pc)
		if err != nil {
			return nil, fmt.Errorf("monitor: %w", err)
		}
		if names[p.cfg.Name] {
			return nil, fmt.Errorf("monitor: two peers %q", p.cfg.Name)
		}
		names[p.cfg.Name] = true
		m.peers = append(m.peers, p)
	}
	for _, lc := range cfg.Logs {
		f, err := newFollower(ctx, m, lc)
		if err != nil {
			return nil, fmt.Errorf("monitor: %w", err)
		}
		if m.byID[f.id] != nil {
			return nil, fmt.Errorf("monitor: two logs %q", f.origin)
		}
		m.byID[f.id] = f
		m.logs = append(m.logs, f)
	}
	if err := m.loadEvidence(); err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	return m, nil
}

// loadEvidence reads the directory. What convicts nobody there is somebody else's file: it is
// named and left alone.
func (m *Monitor) loadEvidence() (err error) {
	m.evidence, err = openEvidenceDir(m.cfg.EvidenceDir, func(origin string) *verifier.Policy {
		if f := m.byID[gossip.LogID(origin)]; f != nil {
			return f.policy
		}
		return nil
	}, m.cfg.Log)
	if err != nil {
		return err
	}
	for _, f := range m.logs {
		f.raiseFork(m.evidence.of(f.origin))
	}
	return nil
}

// Run follows and gossips until the context ends. The error is nil then.
func (m *Monitor) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i, f := range m.logs {
		// Spread over the interval, so that a hundred logs don't come all at once.
		offset := m.cfg.Interval * time.Duration(i) / time.Duration(len(m.logs))
		wg.Go(func() { m.every(ctx, offset, f.look) })
		wg.Go(func() { m.every(ctx, offset, f.recheck) })
		wg.Go(func() { f.readOn(ctx) })
	}
	for _, p := range m.peers {
		wg.Go(func() { m.every(ctx, m.cfg.Interval/2, p.round) })
	}
	wg.Go(func() { m.every(ctx, m.cfg.Interval, m.watch) })
	wg.Wait()
	return nil
}

// every calls f after an offset, and then each interval; if a call takes longer, the next one
// follows at once.
func (m *Monitor) every(ctx context.Context, offset time.Duration, f func(context.Context)) {
	timer := time.NewTimer(offset)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begin := time.Now()
		f(ctx)
		timer.Reset(max(m.cfg.Interval-time.Since(begin), 0))
	}
}

// Observe takes a signed note from outside, such as one that the witness in the same process has
// refused, and says what the monitor makes of it. From says where it was seen. The errors are
// those of [Monitor.Handler]: [ErrUnknownLog], [verifier.ErrNotSigned], [verifier.ErrFailed];
// every other one is the monitor's own.
func (m *Monitor) Observe(ctx context.Context, signedNote []byte, from string) (gossip.Answer, error) {
	origin := originOf(signedNote)
	f := m.byID[gossip.LogID(origin)]
	if f == nil {
		return gossip.Answer{}, fmt.Errorf("%w %q", ErrUnknownLog, clip(origin, 200))
	}
	o, err := f.observe(ctx, signedNote, from, true)
	if err != nil {
		return gossip.Answer{}, err
	}
	return f.answer(o), nil
}

// ErrUnknownLog is matched by the error about a head of a log that isn't followed.
var ErrUnknownLog = errors.New("this monitor doesn't follow the log")

// originOf returns the first line of a note.
func originOf(note []byte) string {
	for i, b := range note {
		if b == '\n' {
			return string(note[:i])
		}
	}
	return ""
}

func (m *Monitor) httpSource(url string, allowHTTP bool, timeout time.Duration) (verifier.Source, error) {
	if timeout <= 0 {
		timeout = 15 * time.Second
	}
	return verifier.NewHTTPLog(verifier.HTTPConfig{
		// The next interval tries again.
		URL: url, AllowHTTP: allowHTTP, Timeout: timeout, Attempts: 2, Backoff: 100 * time.Millisecond,
		Transport: m.cfg.Transport,
	})
}
